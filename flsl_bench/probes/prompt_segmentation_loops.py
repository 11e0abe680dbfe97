"""The compiled loop behind :mod:`flsl_bench.probes.prompt_segmentation`."""

import numpy as np

from flsl_bench.ops.numba_loops import jit


@jit()
def count_reached(similarity, rows, columns, kinds, thresholds, counts):
    """Up-sample a map and count its pixels by how many thresholds they reach.

    Args:
        similarity: [h, w] float64.
        rows: (index [H, t] int64, weight [H, t] float64): a row of the result is the weighted sum of t rows.
        columns: (index [W, t], weight [W, t]), the same for its columns.
        kinds: [H, W] uint8, 0, 1 or 2.
        thresholds: [T] float64, evenly spaced and ascending; a value reaches one that is not larger.
        counts: [3, T + 1] int64 by kind and thresholds reached, added to in place.
    """
    (row_index, row_weight), (column_index, column_weight) = rows, columns
    last = thresholds.size - 1
    per_step = last / (thresholds[last] - thresholds[0]) if last else 0.0
    shift = 1.0 - thresholds[0] * per_step
    blended = np.empty(similarity.shape[1])
    reached = np.empty(kinds.shape[1], np.int32)
    # Two tables: an addition need not wait for the one before it to reach memory.
    table = np.zeros((2, 3 * (last + 2)), np.int64)
    for y in range(kinds.shape[0]):
        blended[:] = 0.0
        for t in range(row_index.shape[1]):
            weight = row_weight[y, t]
            source = similarity[row_index[y, t]]
            for x in range(blended.size):
                blended[x] += weight * source[x]
        for x in range(reached.size):
            value = 0.0
            for t in range(column_index.shape[1]):
                value += column_weight[x, t] * blended[column_index[x, t]]
            k = int(min(max(value * per_step + shift, 0.0), last + 1.0))
            # The division may be off by one rounding; the comparison decides.
            if k <= last and thresholds[k] <= value:
                k += 1
            elif k > 0 and thresholds[k - 1] > value:
                k -= 1
            reached[x] = k
        for x in range(reached.size):
            table[x & 1, kinds[y, x] * (last + 2) + reached[x]] += 1
    for k in range(last + 2):
        for kind in range(3):
            counts[kind, k] += table[0, kind * (last + 2) + k] + table[1, kind * (last + 2) + k]
