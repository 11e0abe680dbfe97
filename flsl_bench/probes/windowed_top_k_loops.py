"""The compiled loop behind :class:`flsl_bench.probes.windowed_top_k.TiledMemory`; see there for the layout."""

import math

import numpy as np

from flsl_bench.ops.numba_loops import _jit


@_jit()
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
    height = scores.shape[2] // (band_end - band_begin)
    width = reach.max()
    largest = np.empty(top_k, np.float32)
    capacity = scores.shape[0] * scores.shape[2]
    found = np.empty((capacity, 2), np.int64)
    cosines = np.empty(capacity, np.float32)
    for t in range(scores.shape[1]):
        x, y = first_column + t // height, block * height + t % height
        if y >= rows:
            continue
        begin, end = max(0, x - width), min(columns, x + width + 1)
        window = y - first_block * height, x - begin, rows - first_block * height, height
        near = scores[:, t, (begin - band_begin) * height : (end - band_begin) * height]
        floor = _kth_largest(near, keys.shape[1], used, window, reach, largest) - slack
        count = _collect(near, keys.shape[1], used, window, reach, floor, found)
        for n in range(count):
            found[n, 1] += begin * height
            key = found[n]
            cosines[n] = _cosine(query[t], keys[key[0] // keys.shape[1], key[0] % keys.shape[1], key[1]])
        _blend(cosines[:count], found, labels, largest, temperature, out[y, x])


@_jit()
def _kth_largest(near, slots, used, window, reach, largest):
    """The len(largest)-th largest score of a target's window, -inf if it has fewer patches."""
    y, x, rows, height = window
    largest[:] = -np.inf
    for n in range(near.shape[0]):
        if n % slots >= used or not _any_above(near[n], largest[-1]):
            continue
        for j in range(near.shape[1]):
            row = n // slots * height + j % height
            above = near[n, j] > largest[-1]
            if above and row < rows and abs(j // height - x) <= reach[abs(row - y)]:
                _insert(near[n, j], largest)
    return largest[-1]


@_jit()
def _collect(near, slots, used, window, reach, floor, found):
    """Write the positions (n, j) of a window's scores at or above ``floor`` to ``found``; returns their number."""
    y, x, rows, height = window
    count = 0
    below = np.nextafter(np.float32(floor), np.float32(-np.inf))
    for n in range(near.shape[0]):
        if n % slots >= used or not _any_above(near[n], below):
            continue
        for j in range(near.shape[1]):
            row = n // slots * height + j % height
            if near[n, j] >= floor and row < rows and abs(j // height - x) <= reach[abs(row - y)]:
                found[count, 0], found[count, 1] = n, j
                count += 1
    return count


@_jit()
def _any_above(values, floor):
    """Whether a value is above ``floor``; a sum without branches, which vectorises."""
    above = np.int32(0)
    for j in range(values.size):
        above += np.int32(values[j] > floor)
    return above > 0


@_jit()
def _insert(value, largest):
    """Put ``value`` in its place in the descending ``largest``, whose last one goes."""
    at = largest.size - 1
    while at > 0 and largest[at - 1] < value:
        largest[at] = largest[at - 1]
        at -= 1
    largest[at] = value


@_jit(fastmath={"reassoc", "contract"})
def _cosine(a, b):
    """The product of two unit vectors, rounded once: equal features give equal cosines wherever they are."""
    total = 0.0
    for c in range(a.size):
        total += np.float64(a[c]) * np.float64(b[c])
    return np.float32(total)


@_jit()
def _blend(cosines, found, labels, largest, temperature, out):
    """Mean of the labels at ``found``, weighted by exp(cosine / temperature), of the largest cosines and all their ties."""
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
