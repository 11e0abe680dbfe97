"""Training that is the same whether it was interrupted or not, and whatever the number of data workers.

OpenMMLab seeds its random numbers once. A run that is resumed therefore draws others than one that was not, and so
does one with more data workers. Here every sample and every iteration has a seed of its own, which follows from the
run's seed and from how many came before. On a GPU, some of PyTorch's kernels add in another order each time; there,
equal means equal up to that. Gradients that a config accumulates over several steps are lost, as in mmengine, where a
checkpoint lies between two of them.
"""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, DATASETS

_SAMPLE, _ITERATION = 0, 1


class Seeded(int):
    """The index of a sample, with the seed for its augmentation; everything else takes it for the index."""

    seed: int


@DATA_SAMPLERS.register_module()
class SeededSampler(torch.utils.data.Sampler):
    """Another sampler whose indices carry seeds that follow from the run's seed, rank, epoch and place in the epoch."""

    def __init__(self, sampler: dict, dataset: Any, seed: int | None = None):
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        self.dataset = dataset
        self._seed, self._epoch, self._first = seed or 0, 0, 0
        if hasattr(self.sampler, "skip"):  # mmengine steps through the batches where there is none
            self.skip = self._skip

    def __iter__(self) -> Iterator[Seeded]:
        for place, index in enumerate(self.sampler, start=self._first):
            seeded = Seeded(index)
            seeded.seed = _seed(_SAMPLE, self._seed, get_rank(), self._epoch, place)
            yield seeded

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """As PyTorch's distributed samplers have it."""
        self._epoch = epoch
        self.sampler.set_epoch(epoch)

    def _skip(self, samples: int) -> None:
        """Go on behind the first `samples`, for a resumed run that counts iterations."""
        self._first = samples
        self.sampler.skip(samples)


@DATASETS.register_module()
class SeededDataset(torch.utils.data.Dataset):
    """Another data set, whose samples draw all their random numbers from the seeds that their indices carry."""

    def __init__(self, dataset: dict):
        self.dataset = DATASETS.build(dataset)

    def __getitem__(self, index: int) -> Any:
        seed = getattr(index, "seed", None)
        if seed is not None:
            _seed_all(seed)
        return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # while it is being unpickled in a worker
            raise AttributeError(name)
        return getattr(self.dataset, name)


class SeedIterationHook(Hook):
    """The random numbers of each step (drop path, sampled regions) follow from the run's seed and the step's number."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int):
        self._seed = seed

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        _seed_all(_seed(_ITERATION, self._seed, get_rank(), runner.iter))


def make_repeatable(config: Config) -> None:
    """Have the training data of `config` seeded sample by sample, in place."""
    loader = config.train_dataloader
    loader.sampler = dict(type="SeededSampler", sampler=loader.sampler)
    loader.dataset = dict(type="SeededDataset", dataset=loader.dataset)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
