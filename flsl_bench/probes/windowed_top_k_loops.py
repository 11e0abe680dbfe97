"""The compiled loop behind :class:`flsl_bench.probes.windowed_top_k.TiledMemory`; see there for the layout."""

import math

import numpy as np

from flsl_bench.ops.numba_loops import jit


@jit()
def read_tile(
    scores, query, keys, labels, used, rows, columns, band, block, first_column, reach, top_k, temperature, slack, out
):
    """Propagate labels to the patches of one tile.

    Args:
        scores: [blocks * F, T, columns of the band * rows of a block] cosines of the T targets, each within
            ``slack`` / 2 of `_cosine`'s.
        query: [T, C] unit features of the targets.
        keys, labels: [blocks of the band, F, columns of the map * rows of a block, C or O + 1] of the context.
        used: context frames there are, of F slots.
        rows, columns: of the map.
        band: first block, first column and end column of the context in ``scores``.
        block, first_column: where the tile begins.
        reach: [rows] the largest |dx| at each |dy|, -1 where the window ends.
        top_k, temperature, slack: scalars.
        out: [rows, columns, O + 1], filled in place.
    """
    first_block, band_begin, band_end = band
    slots, height = keys.shape[1], scores.shape[2] // (band_end - band_begin)
    width = reach.max()
    largest = np.empty(top_k, np.float32)
    found = np.empty((scores.shape[0] * scores.shape[2], 2), np.int64)
    cosines = np.empty(len(found), np.float32)
    for t in range(scores.shape[1]):
        x, y = first_column + t // height, block * height + t % height
        if y >= rows:
            continue
        begin, end = max(0, x - width), min(columns, x + width + 1)
        near = scores[:, t, (begin - band_begin) * height : (end - band_begin) * height]
        largest[:] = -np.inf
        count = 0
        for m in range(len(near)):
            # The target's own rows first: their cosines are the largest, so that little of the rest is looked at.
            n = (m + (block - first_block) * slots) % len(near)
            if n % slots < used:
                top = (first_block + n // slots) * height
                window = y - top, x - begin, min(height, rows - top), height
                count = _collect(near[n], n, window, reach, slack, largest, found, count)
        kept = 0
        for i in range(count):
            n, j = found[i]
            if near[n, j] >= largest[-1] - slack:
                j += begin * height
                found[kept, 0], found[kept, 1] = n, j
                cosines[kept] = _cosine(query[t], keys[n // slots, n % slots, j])
                kept += 1
        _blend(cosines[:kept], found, labels, largest, temperature, out[y, x])


@jit()
def _collect(near, n, window, reach, slack, largest, found, count):
    """Append to ``found`` the positions (n, j) of scores that may yet be among the largest; returns their number.

    ``window``: the target's row and column as seen from the first score, rows of the block in the map, and rows.
    """
    y, x, rows, height = window
    floor = largest[-1] - slack
    if not _any_from(near, floor):
        return count
    for column in range(near.size // height):
        for row in range(rows):
            j = column * height + row
            value = near[j]
            if value >= floor and abs(column - x) <= reach[abs(row - y)]:
                found[count, 0], found[count, 1] = n, j
                count += 1
                if value > largest[-1]:
                    _insert(value, largest)
                    floor = largest[-1] - slack
    return count


@jit()
def _any_from(values, floor):
    """Whether a value is ``floor`` or more; a sum without branches, which vectorises."""
    count = np.int32(0)
    for j in range(values.size):
        count += np.int32(values[j] >= floor)
    return count > 0


@jit()
def _insert(value, largest):
    """Put ``value`` in its place in the descending ``largest``, whose last one goes."""
    at = largest.size - 1
    while at > 0 and largest[at - 1] < value:
        largest[at] = largest[at - 1]
        at -= 1
    largest[at] = value


@jit(fastmath={"reassoc", "contract"})
def _cosine(a, b):
    """The product of two unit vectors, rounded once: equal features give equal cosines wherever they are."""
    total = 0.0
    for c in range(a.size):
        total += np.float64(a[c]) * np.float64(b[c])
    return np.float32(total)


@jit()
def _blend(cosines, found, labels, largest, temperature, out):
    """Mean of the labels of the largest cosines and all their ties, weighted by exp(cosine / temperature)."""
    largest[:] = -np.inf
    for value in cosines:
        if value > largest[-1]:
            _insert(value, largest)
    total = 0.0
    blended = np.zeros(out.size)
    slots = labels.shape[1]
    for n in range(cosines.size):
        if cosines[n] >= largest[-1]:
            # Relative to the largest, so that no temperature overflows.
            weight = math.exp((np.float64(cosines[n]) - np.float64(largest[0])) / temperature)
            label = labels[found[n, 0] // slots, found[n, 0] % slots, found[n, 1]]
            total += weight
            for k in range(out.size):
                blended[k] += weight * label[k]
    for k in range(out.size):
        out[k] = blended[k] / total
