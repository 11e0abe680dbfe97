"""The compiled loop behind :mod:`flsl_bench.probes.object_similarity`."""

import numpy as np

from flsl_bench.ops.numba_loops import jit


@jit()
def count_pairs(similarity, ends, objects_end, counts, sums):
    """Histograms of the similarities of patch pairs; patches are in the order of their objects, background last.

    Args:
        similarity: [P, N] float32 of the P patches of objects to all N patches.
        ends: [P] int64, the first patch after those of the same object.
        objects_end: P.
        counts: [3, bins] int64 over [-1, 1], added to in place: pairs within one object, of two objects, of an object
            and the background. Each pair is counted once; values beyond the ends are in the outermost bins.
        sums: [3] float64, sums of the similarities, added to in place.
    """
    bins = counts.shape[1]
    scale = np.float32(bins / 2.0)
    for i in range(similarity.shape[0]):
        row = similarity[i]
        bounds = (i + 1, ends[i], objects_end, row.size)
        for kind in range(3):
            total = 0.0
            for j in range(bounds[kind], bounds[kind + 1]):
                place = int((row[j] + np.float32(1.0)) * scale)
                counts[kind, min(max(place, 0), bins - 1)] += 1
                total += row[j]
            sums[kind] += total
