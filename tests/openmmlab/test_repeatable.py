"""Random numbers that follow from a sample's place in the training, not from what ran before it."""

import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner

from flsl_bench.openmmlab.repeatable import SeedIterationHook, make_repeatable

EPOCHWISE = dict(type="DefaultSampler", shuffle=True)
ENDLESS = dict(type="InfiniteSampler", shuffle=True)
IMAGES = 7


@pytest.fixture(scope="module", autouse=True)
def registered():
    """A data set whose samples are a random number of each generator."""

    class Numbers(BaseDataset):
        def load_data_list(self):
            return [{"number": number} for number in range(IMAGES)]

    def draw(results):
        drawn = (random.random(), np.random.rand(), torch.rand(()).item())
        return {"inputs": torch.tensor([results["sample_idx"], *drawn], dtype=torch.float64)}

    class Draw:
        def __call__(self, results):
            return draw(results)

    DATASETS.register_module(name="NumbersOfTest", module=Numbers)
    TRANSFORMS.register_module(name="DrawOfTest", module=Draw)
    yield
    DATASETS.module_dict.pop("NumbersOfTest")
    TRANSFORMS.module_dict.pop("DrawOfTest")


def loader(sampler: dict, seed: int = 0, workers: int = 0, wrapped: bool = False):
    dataset = dict(type="NumbersOfTest", pipeline=[dict(type="DrawOfTest")])
    if wrapped:
        dataset = dict(type="RepeatDataset", times=1, dataset=dataset)
    config = Config(dict(train_dataloader=dict(batch_size=2, num_workers=workers, sampler=sampler, dataset=dataset)))
    make_repeatable(config)
    return Runner.build_dataloader(config.train_dataloader.to_dict(), seed=seed)


def epoch(built, number: int) -> np.ndarray:
    built.sampler.set_epoch(number)
    return np.concatenate([torch.stack(list(batch["inputs"])).numpy() for batch in built])


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_samples_do_not_depend_on_workers_nor_on_what_was_drawn_before(workers, wrapped):
    first, second = (epoch(loader(EPOCHWISE, wrapped=wrapped), number) for number in (0, 1))
    assert len(first) == IMAGES and len(np.unique(first[:, 1:])) == 3 * IMAGES
    assert set(first[:, 0]) == set(range(IMAGES)) and not np.isin(first[:, 1:], second[:, 1:]).any()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    resumed = loader(EPOCHWISE, workers=workers, wrapped=wrapped)
    np.testing.assert_array_equal(epoch(resumed, 1), second)
    assert not np.isin(epoch(loader(EPOCHWISE, seed=1), 0)[:, 1:], first[:, 1:]).any()


def test_a_run_that_counts_iterations_goes_on_behind_what_it_had():
    def take(built, samples):
        batches = iter(built)
        return np.concatenate([torch.stack(next(batches)["inputs"]).numpy() for _ in range(samples // 2)])

    whole = take(loader(ENDLESS), 20)
    resumed = loader(ENDLESS)
    resumed.sampler.skip(6)
    np.testing.assert_array_equal(take(resumed, 14), whole[6:])


def test_the_data_set_within_answers_as_ever():
    dataset = loader(EPOCHWISE).dataset
    assert len(dataset) == IMAGES and dataset.get_data_info(2)["number"] == 2
    with pytest.raises(AttributeError, match="nothing"):
        _ = dataset.nothing


def test_each_step_has_its_numbers():
    class Stand:
        iter = 3

    hook = SeedIterationHook(seed=0)
    hook.before_train_iter(Stand, 0)
    drawn = torch.rand(4)
    hook.before_train_iter(Stand, 0)
    assert torch.equal(torch.rand(4), drawn)
    Stand.iter = 4
    hook.before_train_iter(Stand, 0)
    assert not torch.equal(torch.rand(4), drawn)
