"""The pyramids' strides and shapes, and batch normalisation over processes against PyTorch's over one batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from flsl_bench.backbones.pyramids import RescalePyramid, SimplePyramid, SyncBatchNorm
from flsl_bench.errors import ConfigError

# What two processes get: other numbers of images of other sizes.
SHAPES = ((2, 6, 3, 5), (1, 6, 4, 2))


def random_maps(count, *shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def sizes(levels):
    return [tuple(level.shape[-2:]) for level in levels]


class TestRescalePyramid:
    @pytest.mark.parametrize("patch_size", [8, 16])
    def test_strides_are_4_to_32(self, patch_size):
        levels = RescalePyramid(8, patch_size)(random_maps(4, 1, 8, 128 // patch_size, 192 // patch_size))
        assert sizes(levels) == [(32, 48), (16, 24), (8, 12), (4, 6)]
        assert all(level.shape[1] == 8 for level in levels)

    @pytest.mark.parametrize(
        ("patch_size", "expected"),
        [(16, [(20, 28), (10, 14), (5, 7), (3, 4)]), (8, [(10, 14), (5, 7), (3, 4), (2, 2)])],
    )
    def test_odd_grids_keep_their_last_row_and_column(self, patch_size, expected):
        assert sizes(RescalePyramid(8, patch_size)(random_maps(4, 1, 8, 5, 7))) == expected

    def test_each_level_is_of_its_own_tap(self):
        pyramid = RescalePyramid(8, 16).eval()
        maps = random_maps(4, 1, 8, 4, 4)
        levels = pyramid(maps)
        assert levels[2] is maps[2]
        assert torch.equal(levels[3], nn.functional.max_pool2d(maps[3], 2))

    def test_patch_16_has_the_published_layers(self):
        kinds = [type(layer) for layer in RescalePyramid(8, 16).levels[0]]
        assert kinds == [nn.ConvTranspose2d, SyncBatchNorm, nn.GELU, nn.ConvTranspose2d]

    def test_patch_14_is_refused(self):
        with pytest.raises(ConfigError, match="defined for patch 16 and 8, not 14: use 'simple'"):
            RescalePyramid(8, 14)


class TestSimplePyramid:
    @pytest.mark.parametrize(("patch_size", "strides"), [(16, (4, 8, 16, 32, 64)), (8, (2, 4, 8, 16, 32))])
    def test_five_levels_of_the_last_map(self, patch_size, strides):
        pyramid = SimplePyramid(16, patch_size, out_channels=12)
        *others, last = random_maps(3, 1, 16, 4, 8)
        levels = pyramid([*others, last])
        assert pyramid.strides == strides
        assert sizes(levels) == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
        assert all(level.shape[1] == pyramid.out_channels == 12 for level in levels)
        assert all(torch.equal(a, b) for a, b in zip(levels, pyramid([last]), strict=True))

    def test_odd_grids_keep_their_last_row_and_column(self):
        levels = SimplePyramid(16, 16)(random_maps(1, 1, 16, 5, 7))
        assert sizes(levels) == [(20, 28), (10, 14), (5, 7), (3, 4), (2, 2)]

    def test_levels_are_layer_normed_over_their_channels(self):
        for level in SimplePyramid(16, 16)(random_maps(1, 1, 16, 4, 4)):
            torch.testing.assert_close(level.mean(1), torch.zeros_like(level[:, 0]), atol=1e-5, rtol=0)


def normalisation(kind):
    """A batch normalisation of six channels with weights and running statistics that are not the initial ones."""
    torch.manual_seed(1)
    norm = kind(6)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand(6) + 0.5)
    return norm


def process_inputs():
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(shape, generator=generator) * 3 + 7 for shape in SHAPES]


def loss_of(y, x):
    return (y.sin() * x.detach()).sum()


def run(norm, x):
    """Output, input gradient, parameter gradients and running statistics of one training step."""
    x = x.clone().requires_grad_()
    y = norm(x)
    loss_of(y, x).backward()
    return dict(
        y=y.detach(),
        x=x.grad,
        weight=norm.weight.grad,
        bias=norm.bias.grad,
        mean=norm.running_mean,
        var=norm.running_var,
        batches=norm.num_batches_tracked,
    )


def flat(x):
    """[B, C, H, W] to [1, C, 1, B * H * W], which batch normalisation treats the same."""
    return x.transpose(0, 1).flatten(1)[None, :, None]


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        norm = normalisation(SyncBatchNorm)
        x = process_inputs()[rank]
        result = run(norm, x)
        result["evaluated"] = norm.eval()(x).detach()
        torch.save(result, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


class TestSyncBatchNormInOneProcess:
    def test_training_equals_pytorchs(self):
        (x,) = random_maps(1, 4, 6, 3, 5)
        own, expected = (run(normalisation(kind), x) for kind in (SyncBatchNorm, nn.BatchNorm2d))
        assert all(torch.equal(own[name], expected[name]) for name in expected)

    def test_evaluation_equals_pytorchs(self):
        (x,) = random_maps(1, 4, 6, 3, 5)
        assert torch.equal(normalisation(SyncBatchNorm).eval()(x), normalisation(nn.BatchNorm2d).eval()(x))

    def test_state_dict_is_that_of_pytorchs(self):
        assert SyncBatchNorm(6).state_dict().keys() == nn.BatchNorm2d(6).state_dict().keys()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of two processes computed."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(one_of_two, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def expected():
    """What PyTorch computes for their joint batch."""
    return run(normalisation(nn.BatchNorm2d), torch.cat([flat(x) for x in process_inputs()], dim=3))


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no process groups")
class TestSyncBatchNormInTwoProcesses:
    @pytest.mark.parametrize("name", ["y", "x"])
    def test_output_and_input_gradient_are_those_over_the_joint_batch(self, results, expected, name):
        joint = torch.cat([flat(result[name]) for result in results], dim=3)
        torch.testing.assert_close(joint, expected[name], atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("name", ["weight", "bias"])
    def test_parameter_gradients_add_up_to_those_over_the_joint_batch(self, results, expected, name):
        torch.testing.assert_close(results[0][name] + results[1][name], expected[name], atol=1e-3, rtol=1e-4)

    @pytest.mark.parametrize("name", ["mean", "var", "batches"])
    def test_running_statistics_are_those_over_the_joint_batch(self, results, expected, name):
        for result in results:
            torch.testing.assert_close(result[name], expected[name], atol=1e-5, rtol=1e-5)

    def test_evaluation_uses_the_running_statistics(self, results, expected):
        norm = normalisation(nn.BatchNorm2d).eval()
        norm.running_mean.copy_(expected["mean"])
        norm.running_var.copy_(expected["var"])
        for result, x in zip(results, process_inputs(), strict=True):
            torch.testing.assert_close(result["evaluated"], norm(x).detach(), atol=1e-5, rtol=1e-5)
