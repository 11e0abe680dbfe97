"""Exact nearest neighbours by inner product in a bank that fits in memory, where the product with the bank does not."""

import importlib.util

import torch
from torch import Tensor

from flsl_bench.errors import ConfigError

ENGINES = ("faiss", "torch")

# Inner products that are held at a time: 256 MB in float32 on a GPU; the CPU is fastest where they stay in its caches.
_PRODUCTS = {"cpu": 1 << 23}
_PRODUCTS_ELSEWHERE = 1 << 26
_QUERIES = 4096


class ExactIndex:
    """The nearest rows of a bank [M, C] by inner product.

    Args:
        bank: float32; the index of engine "torch" refers to it, that of "faiss" holds a copy.
        engine: "faiss" (its `IndexFlatIP`, CPU only) or "torch"; by default faiss where it is installed and the bank
            is on the CPU, which is 1.5 times as fast. Both are exact; of equal products at the last place any may stay.

    Raises `ConfigError` for an engine that is unknown, not installed, or not for the bank's device.
    """

    def __init__(self, bank: Tensor, engine: str | None = None):
        self.size, on_cpu = len(bank), bank.device.type == "cpu"
        installed = importlib.util.find_spec("faiss") is not None
        self.engine = engine or ("faiss" if installed and on_cpu else "torch")
        if self.engine not in ENGINES:
            raise ConfigError(f"engine={engine!r} is none of {', '.join(ENGINES)}")
        if self.engine == "torch":
            self._bank = bank
        elif not (installed and on_cpu):
            cure = "install faiss-cpu" if not installed else f"the bank is on {bank.device}"
            raise ConfigError(f'engine="faiss" cannot be used: {cure}, or use engine="torch"')
        else:
            import faiss

            self._faiss = faiss.IndexFlatIP(bank.shape[1])
            self._faiss.add(bank.numpy())

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k largest inner products [Q, k] of queries [Q, C], descending, and the rows int64 [Q, k] they are with.

        Raises `ConfigError` for a k that is not within 1 and the size of the bank.
        """
        if not 1 <= k <= self.size:
            raise ConfigError(f"k={k} neighbours of a bank of {self.size} patches; give 1 to {self.size}")
        if self.engine == "torch":
            return nearest(queries, self._bank, k)
        values, rows = self._faiss.search(queries.numpy(), k)
        return torch.from_numpy(values), torch.from_numpy(rows)


def nearest(queries: Tensor, bank: Tensor, k: int, products: int | None = None) -> tuple[Tensor, Tensor]:
    """As `ExactIndex.search`, by products of parts of the queries with parts of the bank and a running top k.

    `products`: how many inner products are held at a time, about.
    """
    products = products or _PRODUCTS.get(bank.device.type, _PRODUCTS_ELSEWHERE)
    parts = [_nearest_of_few(part, bank, k, products) for part in queries.split(min(_QUERIES, products))]
    values, rows = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(rows)


def _nearest_of_few(queries: Tensor, bank: Tensor, k: int, products: int) -> tuple[Tensor, Tensor]:
    values = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    step = max(1, products // max(1, len(queries)))
    for start in range(0, len(bank), step):
        found = (queries @ bank[start : start + step].t()).topk(min(k, step, len(bank) - start), dim=1)
        values = torch.cat([values, found.values], dim=1)
        rows = torch.cat([rows, found.indices + start], dim=1)
        values, kept = values.topk(min(k, values.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return values, rows
