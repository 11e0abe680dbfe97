"""Nearest neighbours: equal to sorting all products, whatever the parts, and never more products held than said."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from flsl_bench.errors import ConfigError
from flsl_bench.probes import nearest as module
from flsl_bench.probes.nearest import ExactIndex, nearest


def integers(rng, *shape):
    """Small integers, so that products are exact and ties are many."""
    return torch.from_numpy(rng.integers(-3, 4, shape).astype(np.float32))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 9),
    bank=st.integers(1, 30),
    k=st.integers(1, 30),
    products=st.integers(1, 300),
)
def test_running_top_k_equals_sorting_everything(seed, queries, bank, k, products):
    rng, k = np.random.default_rng(seed), min(k, bank)
    q, b = integers(rng, queries, 4), integers(rng, bank, 4)
    values, rows = nearest(q, b, k, products)
    every = q.numpy() @ b.numpy().T
    assert np.array_equal(values.numpy(), -np.sort(-every, axis=1)[:, :k])
    assert np.array_equal(np.take_along_axis(every, rows.numpy(), axis=1), values.numpy())
    assert all(len(set(row)) == k for row in rows.tolist())


class Largest(TorchDispatchMode):
    """The most elements that any operation gave."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("products", [3_000, 50_000])
def test_no_more_products_are_held_than_said(products):
    q, b = torch.randn(300, 8), torch.randn(7_000, 8)
    with Largest() as largest:
        nearest(q, b, 5, products)
    assert 0 < largest.elements <= products  # all together are 2,100,000


def test_index_of_torch_refers_to_the_bank():
    bank = torch.randn(10, 4)
    index = ExactIndex(bank, "torch")
    assert index._bank.data_ptr() == bank.data_ptr()
    torch.testing.assert_close(index.search(bank[:2], 3)[0], nearest(bank[:2], bank, 3)[0])


def test_faiss_equals_torch():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    bank, queries = (torch.from_numpy(rng.normal(size=(n, 16)).astype(np.float32)) for n in (500, 40))
    faiss, plain = (ExactIndex(bank, engine).search(queries, 20) for engine in ("faiss", "torch"))
    torch.testing.assert_close(faiss[0], plain[0])
    assert torch.equal(faiss[1], plain[1])
    assert ExactIndex(bank).engine == "faiss"


def test_without_faiss_the_default_is_torch(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert ExactIndex(torch.zeros(1, 2)).engine == "torch"
    with pytest.raises(ConfigError, match='engine="faiss" cannot be used: install faiss-cpu, or use engine="torch"'):
        ExactIndex(torch.zeros(1, 2), "faiss")


@pytest.mark.parametrize("k", [0, 4])
def test_refuses_neighbours_that_are_not_there(k):
    with pytest.raises(ConfigError, match=f"k={k} neighbours of a bank of 3 patches; give 1 to 3"):
        ExactIndex(torch.zeros(3, 2), "torch").search(torch.zeros(1, 2), k)


def test_refuses_an_unknown_engine():
    with pytest.raises(ConfigError, match="engine='annoy' is none of faiss, torch"):
        ExactIndex(torch.zeros(3, 2), "annoy")
