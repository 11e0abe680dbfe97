"""Labels of a frame's patches from the most similar patches near them in the frames before: one class a device.

Both remember a fixed number of context frames and read from them exactly, without the dense product of all patches with
all context patches: at patch size 8 a target has 625 neighbours in each frame of 6240 patches.
"""

import functools
import importlib
import math
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flsl_bench.ops.numba_kernels import share

# A block's window then reaches over 30 rows of which 25 are wanted, in a product large enough for BLAS.
_BLOCK_ROWS = 6
_TILE_COLUMNS = 8
# Scores that a band of target rows may have at a time: 256 MB in float32.
_BAND_SCORES = 1 << 26


class TiledMemory:
    """Context frames on the CPU, in blocks of rows: [blocks, slots, columns * rows of a block, C].

    The context that a tile of targets can reach is then one strided batch of matrices, multiplied by BLAS in one
    thread a tile. The products only choose candidates: those within their rounding of the top k are computed again in
    a fixed order, so that ties are ties and the result is the same for any number of threads and any BLAS.

    Args:
        slots: context frames at most.
        grid: rows and columns of the map.
        channels, classes: of features and of labels.
        reach: [rows] the largest |dx| at each |dy|, -1 where the window ends.
        top_k: context patches a target takes, and all that tie with the last of them.
        temperature: of exp(cosine / temperature).
    """

    def __init__(
        self,
        slots: int,
        grid: tuple[int, int],
        channels: int,
        classes: int,
        reach: Tensor,
        top_k: int,
        temperature: float,
    ):
        self.grid, self.slots, self.used = grid, slots, 0
        self.reach, self.top_k, self.temperature = reach, top_k, temperature
        self.blocks = -(-grid[0] // _BLOCK_ROWS)
        size = self.blocks, slots, grid[1] * _BLOCK_ROWS
        self.keys = torch.zeros(*size, channels)
        self.labels = torch.zeros(*size, classes)

    def write(self, slot: int, features: Tensor, labels: Tensor) -> None:
        """Keep unit features [h, w, C] and labels [h, w, O + 1] in a slot; slots are filled in ascending order."""
        self.keys[:, slot] = self._in_blocks(features)
        self.labels[:, slot] = self._in_blocks(labels)
        self.used = max(self.used, slot + 1)

    def read(self, features: Tensor) -> Tensor:
        """Labels [h, w, O + 1] of the patches with unit features [h, w, C]."""
        query = self._in_blocks(features)
        out = torch.empty(*self.grid, self.labels.shape[-1])
        threads = torch.get_num_threads()
        try:
            share(self._read_tiles, self.blocks * self._tiles_a_block(), query, out)
        finally:
            torch.set_num_threads(threads)  # what a worker sets is also the default of threads made later
        return out

    def _tiles_a_block(self) -> int:
        return -(-self.grid[1] // _TILE_COLUMNS)

    def _read_tiles(self, first: int, last: int, query: Tensor, out: Tensor) -> None:
        torch.set_num_threads(1)  # of this thread: the tiles are what is shared among threads
        scratch = torch.empty(0)
        for tile in range(first, last):
            block, column = divmod(tile, self._tiles_a_block())
            scratch = self._read_tile(block, column * _TILE_COLUMNS, query[block], scratch, out)

    def _read_tile(self, block: int, column: int, query: Tensor, scratch: Tensor, out: Tensor) -> Tensor:
        (rows, columns), window = self.grid, int(self.reach.max())
        reached = int((self.reach >= 0).sum()) - 1
        begin, end = max(0, column - window), min(columns, column + _TILE_COLUMNS + window)
        first = max(0, block * _BLOCK_ROWS - reached) // _BLOCK_ROWS
        last = min(rows - 1, (block + 1) * _BLOCK_ROWS - 1 + reached) // _BLOCK_ROWS + 1
        query = query[column * _BLOCK_ROWS : (column + _TILE_COLUMNS) * _BLOCK_ROWS]  # [T, C]
        keys, labels = self.keys[first:last], self.labels[first:last]
        nearby = keys.flatten(0, 1)[:, begin * _BLOCK_ROWS : end * _BLOCK_ROWS]
        shape = len(nearby), len(query), nearby.shape[1]
        scratch = scratch if scratch.numel() >= math.prod(shape) else torch.empty(math.prod(shape))
        scores = scratch[: math.prod(shape)].view(shape)
        torch.bmm(query.expand(len(nearby), -1, -1), nearby.transpose(1, 2), out=scores)
        _loops().read_tile(
            *(tensor.numpy() for tensor in (scores, query, keys, labels)),
            *(self.used, rows, columns, (first, begin, end), block, column),
            *(self.reach.numpy(), self.top_k, self.temperature, np.float32(_slack(query.shape[1])), out.numpy()),
        )
        return scratch

    def _in_blocks(self, values: Tensor) -> Tensor:
        """[h, w, D] as [blocks, w * rows of a block, D], zeros below the last row."""
        padded = F.pad(values, (0, 0, 0, 0, 0, self.blocks * _BLOCK_ROWS - self.grid[0]))
        return padded.unflatten(0, (self.blocks, _BLOCK_ROWS)).transpose(1, 2).flatten(1, 2).contiguous()


class BandedMemory:
    """Context frames on a GPU, [slots, h, w, C]: a band of target rows against the context rows within its window.

    The arguments are those of `TiledMemory`, and `device`. Ties are those of the device's own float32 product.
    """

    def __init__(
        self,
        slots: int,
        grid: tuple[int, int],
        channels: int,
        classes: int,
        reach: Tensor,
        top_k: int,
        temperature: float,
        device: torch.device | None = None,
    ):
        self.grid, self.used = grid, 0
        self.reach, self.top_k, self.temperature = reach.to(device), top_k, temperature
        self.rows_reached = int((reach >= 0).sum()) - 1
        self.keys = torch.zeros(slots, *grid, channels, device=device)
        self.labels = torch.zeros(slots, *grid, classes, device=device)

    def write(self, slot: int, features: Tensor, labels: Tensor) -> None:
        """As `TiledMemory.write`."""
        self.keys[slot] = features
        self.labels[slot] = labels
        self.used = max(self.used, slot + 1)

    def read(self, features: Tensor) -> Tensor:
        """As `TiledMemory.read`."""
        step = self._band_rows()
        return torch.cat([self._read_band(y, features[y : y + step]) for y in range(0, self.grid[0], step)])

    def _band_rows(self) -> int:
        rows, columns = self.grid
        reached = min(rows, 2 * self.rows_reached + _BLOCK_ROWS)
        return max(1, min(_BLOCK_ROWS, _BAND_SCORES // (self.used * reached * columns * columns)))

    def _read_band(self, y: int, features: Tensor) -> Tensor:
        rows, columns = self.grid
        first, last = max(0, y - self.rows_reached), min(rows, y + len(features) + self.rows_reached)
        keys = self.keys[: self.used, first:last].flatten(0, 2)  # [F * context rows * w, C]
        labels = self.labels[: self.used, first:last].flatten(0, 2)
        scores = features.flatten(0, 1) @ keys.t()  # [T, F * context rows * w]
        outside = ~self._window(y, len(features), first, last)
        scores.view(len(scores), self.used, -1).masked_fill_(outside[:, None], -math.inf)
        largest = scores.topk(min(self.top_k, scores.shape[1]), dim=1).values
        scores.masked_fill_(scores < largest[:, -1:], -math.inf)  # ties with the last of the top k stay
        weights = scores.sub_(largest[:, :1]).div_(self.temperature).exp_()
        weights /= weights.sum(dim=1, keepdim=True)
        return (weights @ labels).view(len(features), columns, -1)

    def _window(self, y: int, rows: int, first: int, last: int) -> Tensor:
        """Whether a context patch is in a target's window: [rows * w, context rows * w]."""
        device = self.reach.device
        column = torch.arange(self.grid[1], device=device)
        distance = (torch.arange(y, y + rows, device=device)[:, None] - torch.arange(first, last, device=device)).abs()
        sideways = (column[:, None] - column).abs()  # [w, w]
        inside = sideways[None, :, None] <= self.reach[distance][:, None, :, None]  # [rows, w, context rows, w]
        return inside.flatten(2).flatten(0, 1)


def window_reach(rows: int, columns: int, window: int, shape: str) -> Tensor:
    """The largest |dx| of a window at each |dy| of a map, int64 [rows], -1 where the window ends.

    `shape`: "square" (|dx| and |dy| up to `window`) or "circle" (distance up to `window`), in patches.
    """
    dy = torch.arange(rows)
    inside = dy <= window
    if shape == "circle":
        reach = torch.tensor([math.isqrt(window**2 - y**2) if y <= window else -1 for y in range(rows)])
    else:
        reach = torch.full((rows,), window)
    return torch.where(inside, reach.clamp(max=columns - 1), -1)


def _slack(channels: int) -> float:
    """Twice the bound on the rounding of a product of unit vectors in float32, in any order of summation.

    n u |a| |b| with u = 2**-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), and a few u for
    the lengths of the vectors and for the comparison's own rounding.
    """
    return 2 * (channels + 4) * 2.0**-24


@functools.cache
def _loops() -> ModuleType:
    return importlib.import_module("flsl_bench.probes.windowed_top_k_loops")
