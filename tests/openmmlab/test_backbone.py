"""PlainViT as OpenMMLab sees it: found, filled with weights wholly or not at all, frozen, safe to distribute."""

import logging
from argparse import Namespace

import pytest
import torch

pytest.importorskip("mmdet")

import mmdet.registry
import mmengine.registry
from mmengine.logging import MMLogger
from mmengine.model import BaseModule

from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.errors import CheckpointError, ConfigError
from flsl_bench.openmmlab.backbone import PlainViT, architecture_sizes

TINY = dict(embed_dim=8, depth=4, num_heads=2)
SMALL_TABLE = dict(class_token=False, position_grid=(3, 3))


def tiny(**options):
    torch.manual_seed(0)
    return PlainViT(**{"arch": TINY, "taps": (0, 1, 2, 3), **SMALL_TABLE, **options})


def random_images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def weights():
    """A backbone's state dict, other than any that a freshly built one has."""
    torch.manual_seed(7)
    return {k: torch.randn_like(v) for k, v in VisionTransformer(**TINY, **SMALL_TABLE).state_dict().items()}


@pytest.fixture
def saved(tmp_path):
    """A function that saves a state dict, with a training script's `args` beside it, and gives the `init_cfg`."""

    def save(tensors, **args):
        path = tmp_path / "checkpoint.pth"
        torch.save({"teacher": {f"backbone.{k}": v for k, v in tensors.items()}, "args": Namespace(**args)}, path)
        return dict(type="Pretrained", checkpoint=str(path))

    return save


@pytest.fixture
def log():
    """Every record that goes to mmengine's current logger."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


class TestRegistration:
    @pytest.mark.parametrize("library", ["mmengine", "mmdet", "mmseg"])
    def test_every_library_finds_it(self, library):
        if library == "mmseg":
            registry = pytest.importorskip("mmseg.registry").MODELS
        else:
            registry = {"mmengine": mmengine, "mmdet": mmdet}[library].registry.MODELS
        assert registry.get("PlainViT") is PlainViT

    def test_is_built_from_a_config(self):
        config = dict(type="PlainViT", arch=TINY, taps=(0, 1, 2, 3), **SMALL_TABLE)
        assert isinstance(mmengine.registry.MODELS.build(config), PlainViT)

    @pytest.mark.parametrize("name", ["small", "vit_small"])
    def test_architectures_have_a_short_and_a_long_name(self, name):
        assert architecture_sizes(name) == dict(embed_dim=384, depth=12, num_heads=6)

    def test_unknown_architecture_is_refused(self):
        with pytest.raises(ConfigError, match="unknown architecture 'huge': use one of tiny, small, base, large, or a"):
            tiny(arch="huge")

    def test_number_of_heads_overrides_the_architectures(self):
        assert tiny(num_heads=4).vit.num_heads == 4


class TestWeights:
    def test_are_those_of_the_checkpoint(self, saved, weights):
        backbone = tiny(init_cfg=saved(weights))
        backbone.init_weights()
        loaded = backbone.vit.state_dict()
        assert loaded.keys() == weights.keys()
        assert all(torch.equal(loaded[name], weights[name]) for name in weights)

    def test_are_those_of_the_checkpoint_inside_a_detector(self, saved, weights):
        detector = BaseModule()
        detector.backbone = tiny(init_cfg=saved(weights))
        detector.init_weights()
        loaded = detector.backbone.vit.state_dict()
        assert all(torch.equal(loaded[name], weights[name]) for name in weights)

    def test_are_said_to_be_loaded(self, saved, weights, log):
        tiny(init_cfg=saved(weights)).init_weights()
        (record,) = log
        assert f"{len(weights)} weights, heads 2 from the caller" in record.getMessage()

    def test_are_loaded_once_only(self, saved, weights):
        backbone = tiny(init_cfg=saved(weights))
        backbone.init_weights()
        with torch.no_grad():
            backbone.vit.norm.weight.fill_(5)
        backbone.init_weights()
        assert (backbone.vit.norm.weight == 5).all()

    def test_random_ones_are_warned_of(self, log):
        tiny().init_weights()
        (record,) = log
        assert record.levelno == logging.WARNING
        assert record.getMessage() == "PlainViT starts from random weights: no init_cfg was given"

    @pytest.mark.parametrize("init_cfg", [dict(type="Pretrained"), dict(type="Kaiming", checkpoint="x.pth")])
    def test_another_init_cfg_is_refused(self, init_cfg):
        with pytest.raises(ConfigError, match=r"use dict\(type='Pretrained', checkpoint=FILE\)"):
            tiny(init_cfg=init_cfg).init_weights()


class TestCheckpointThatDoesNotFit:
    def test_missing_weights_are_listed(self, saved, weights):
        init_cfg = saved(weights)
        with pytest.raises(CheckpointError) as caught:
            tiny(arch={**TINY, "depth": 5}, init_cfg=init_cfg).init_weights()
        path, message = str(caught.value).split(": ", maxsplit=1)
        assert path == init_cfg["checkpoint"]
        assert message.startswith("does not fit the config's backbone: missing blocks.4.norm1.weight; missing blocks.4")
        assert message.count("missing") == 6
        assert "and 6 more; set arch, patch_size and prefix tokens in model.backbone as" in message

    def test_left_over_weights_are_listed(self, saved, weights):
        with pytest.raises(CheckpointError, match=r"backbone: left over blocks\.3\.norm1.* and 6 more; set arch"):
            tiny(arch={**TINY, "depth": 3}, taps=(0, 1, 2), pyramid="none", init_cfg=saved(weights)).init_weights()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(patch_size=8), r"patch_embed.proj.weight is \[8, 3, 16, 16\] where the config needs \[8, 3, 8, 8\]"),
            (dict(position_grid=(4, 4)), r"pos_embed is \[1, 9, 8\] where the config needs \[1, 16, 8\]"),
        ],
    )
    def test_misshapen_weights_are_listed(self, saved, weights, options, message):
        with pytest.raises(CheckpointError, match=message):
            tiny(init_cfg=saved(weights), **options).init_weights()

    def test_leaves_the_backbone_as_it_was(self, saved, weights):
        backbone = tiny(init_cfg=saved(weights), position_grid=(4, 4))
        before = {name: tensor.clone() for name, tensor in backbone.vit.state_dict().items()}
        with pytest.raises(CheckpointError):
            backbone.init_weights()
        assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.vit.state_dict().items())
        assert not backbone.is_init

    def test_heads_that_contradict_it_are_refused(self, saved, weights):
        with pytest.raises(CheckpointError, match="num_heads=4 was asked for, but the file says 2"):
            tiny(num_heads=4, init_cfg=saved(weights, num_heads=2)).init_weights()

    def test_heads_that_contradict_it_can_be_forced(self, saved, weights):
        backbone = tiny(num_heads=4, force_heads=True, init_cfg=saved(weights, num_heads=2))
        backbone.init_weights()
        assert torch.equal(backbone.vit.norm.weight, weights["norm.weight"])
        assert backbone.vit.blocks[0].attn.num_heads == 4


class TestTaps:
    def test_are_the_outputs_of_those_blocks(self):
        backbone = tiny(taps=(0, 2), pyramid="none").eval()
        images = random_images(2, 3, 48, 32)
        expected = backbone.vit(images, [0, 2], norm=False)
        assert all(torch.equal(a, b) for a, b in zip(backbone(images), expected, strict=True))

    def test_are_normed_on_request(self):
        backbone = tiny(taps=(0, 2), pyramid="none", norm_taps=True).eval()
        images = random_images(2, 3, 48, 32)
        expected = backbone.vit(images, [0, 2], norm=True)
        assert all(torch.equal(a, b) for a, b in zip(backbone(images), expected, strict=True))

    @pytest.mark.parametrize("taps", [(), (0, 1, 2, 4), (3, 2, 1, 0)])
    def test_that_do_not_exist_are_refused(self, taps):
        with pytest.raises(ConfigError, match=r"must be ascending indices within 0\.\.3"):
            tiny(taps=taps)


class TestPyramids:
    @pytest.mark.parametrize(
        ("name", "strides"), [("rescale", (4, 8, 16, 32)), ("simple", (4, 8, 16, 32, 64)), ("none", (16, 16, 16, 16))]
    )
    @pytest.mark.parametrize("size", [(64, 96), (33, 50), (16, 16), (5, 131)])
    def test_levels_are_cropped_to_the_image(self, name, strides, size):
        levels = tiny(pyramid=name).eval()(random_images(1, 3, *size))
        assert [tuple(level.shape[-2:]) for level in levels] == [(-(-size[0] // s), -(-size[1] // s)) for s in strides]

    @pytest.mark.parametrize("patch_size", [8, 14])
    def test_simple_one_works_for_other_patches(self, patch_size):
        levels = tiny(pyramid="simple", patch_size=patch_size).eval()(random_images(1, 3, 40, 61))
        strides = [patch_size / scale for scale in (4, 2, 1, 0.5, 0.25)]
        assert [tuple(level.shape[-2:]) for level in levels] == [(-(-40 // s), -(-61 // s)) for s in strides]

    def test_unknown_one_is_refused(self):
        with pytest.raises(ConfigError, match=r"model\.backbone\.pyramid 'fpn' is none of rescale, simple, none"):
            tiny(pyramid="fpn")

    def test_rescale_takes_four_taps(self):
        with pytest.raises(ConfigError, match=r"the 'rescale' pyramid takes four taps, not \[1, 3\]"):
            tiny(taps=(1, 3))


class TestGradients:
    @pytest.mark.parametrize("pyramid", ["rescale", "simple", "none"])
    @pytest.mark.parametrize(
        "options",
        [
            dict(),
            dict(norm_taps=True),
            dict(frozen_stages=2),
            dict(class_token=True, num_registers=2),
            dict(layer_scale=True),
            dict(recompute=True),
            dict(positions="fixed"),
            dict(arch={**TINY, "depth": 6}),
        ],
        ids=str,
    )
    def test_reach_every_trainable_parameter(self, pyramid, options):
        backbone = tiny(pyramid=pyramid, **options).train()
        sum(level.square().sum() for level in backbone(random_images(2, 3, 16, 32))).backward()
        trainable = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        assert trainable
        assert [name for name, p in trainable.items() if p.grad is None] == []
        assert [name for name, p in backbone.named_parameters() if not p.requires_grad and p.grad is not None] == []

    def test_are_not_asked_of_blocks_after_the_last_tap(self):
        backbone = tiny(arch={**TINY, "depth": 6}, frozen_stages=0)
        frozen = {
            name.split(".")[2] for name, p in backbone.named_parameters() if "blocks" in name and not p.requires_grad
        }
        assert frozen == {"4", "5"}


class TestFrozenStages:
    @staticmethod
    def frozen(backbone):
        """Which of the parts have no trainable parameter."""
        parts = {"patch_embed": backbone.vit.patch_embed, **{i: block for i, block in enumerate(backbone.vit.blocks)}}
        return [name for name, part in parts.items() if not any(p.requires_grad for p in part.parameters())]

    def test_none_by_default(self):
        backbone = tiny(class_token=True)
        assert self.frozen(backbone) == []
        assert backbone.vit.pos_embed.requires_grad
        assert backbone.vit.cls_token.requires_grad

    @pytest.mark.parametrize(("stages", "expected"), [(0, ["patch_embed"]), (2, ["patch_embed", 0, 1])])
    def test_are_the_embeddings_and_the_first_blocks(self, stages, expected):
        backbone = tiny(frozen_stages=stages, class_token=True, num_registers=2)
        assert self.frozen(backbone) == expected
        tokens = (backbone.vit.cls_token, backbone.vit.register_tokens, backbone.vit.pos_embed)
        assert not any(token.requires_grad for token in tokens)

    def test_stay_in_evaluation_mode(self):
        backbone = tiny(frozen_stages=2, drop_path=0.5).train()
        assert [block.training for block in backbone.vit.blocks] == [False, False, True, True]
        assert not backbone.vit.patch_embed.training
        assert backbone.pyramid.training

    def test_keep_their_weights_in_training(self):
        backbone = tiny(frozen_stages=2).train()
        before = {name: p.clone() for name, p in backbone.named_parameters()}
        optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
        sum(level.square().sum() for level in backbone(random_images(1, 3, 48, 64))).backward()
        optimizer.step()
        changed = {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}
        assert not [
            name for name in changed if name.startswith(("vit.blocks.0", "vit.blocks.1", "vit.patch", "vit.pos"))
        ]
        assert any(name.startswith("vit.blocks.2") for name in changed)


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("vit.pos_embed", 0),
        ("vit.cls_token", 0),
        ("vit.register_tokens", 0),
        ("vit.patch_embed.proj.weight", 0),
        ("vit.blocks.0.norm1.weight", 1),
        ("vit.blocks.3.mlp.fc1.weight", 4),
        ("vit.norm.weight", 5),
        ("pyramid.levels.0.0.weight", 5),
    ],
)
def test_depth_of_parameters(name, depth):
    assert tiny().get_layer_depth(name) == (depth, 6)
