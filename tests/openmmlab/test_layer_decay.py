"""Layer-wise learning rates, as mmengine builds the optimizer from a config."""

import pytest

pytest.importorskip("mmdet")

from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from torch import nn

from flsl_bench.openmmlab.backbone import PlainViT

DEPTH = 4
LAYERS = DEPTH + 2
RATE, LR, DECAY = 0.5, 0.01, 0.05


class Detector(nn.Module):
    """A backbone and a head."""

    def __init__(self, **options):
        super().__init__()
        self.backbone = PlainViT(
            arch=dict(embed_dim=8, depth=DEPTH, num_heads=2),
            taps=range(DEPTH),
            norm_taps=True,
            num_registers=1,
            position_grid=(2, 2),
            **options,
        )
        self.head = nn.Linear(8, 3)


def groups(model, paramwise_cfg=None, constructor="ViTLayerDecayConstructor"):
    """The optimizer's group of every parameter, by the parameter's name."""
    wrapper = build_optim_wrapper(
        model,
        ConfigDict(
            type="OptimWrapper",
            optimizer=dict(type="AdamW", lr=LR, weight_decay=DECAY),
            constructor=constructor,
            paramwise_cfg=dict(layer_decay_rate=RATE) if paramwise_cfg is None else paramwise_cfg,
        ),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in wrapper.optimizer.param_groups for p in group["params"]}


def layer_of(name):
    """Layer of a parameter, told from its name independently."""
    if any(part in name for part in ("pos_embed", "cls_token", "register_tokens", "patch_embed")):
        return 0
    parts = name.split(".")
    return int(parts[3]) + 1 if parts[2] == "blocks" else LAYERS - 1


def test_rate_falls_from_the_last_layer_to_the_embeddings():
    model = Detector()
    found = {name: group["lr"] for name, group in groups(model).items() if name.startswith("backbone.")}
    assert found.keys() == {name for name, _ in model.named_parameters() if name.startswith("backbone.")}
    assert found == pytest.approx({name: LR * RATE ** (LAYERS - 1 - layer_of(name)) for name in found})
    assert len(set(found.values())) == LAYERS


def test_head_and_pyramid_keep_the_full_rate():
    found = groups(Detector())
    assert {group["lr"] for name, group in found.items() if name.startswith(("head.", "backbone.pyramid."))} == {LR}


def test_parameter_rules_are_kept():
    custom_keys = {"pos_embed": dict(decay_mult=0.0), "norm": dict(decay_mult=0.0)}
    found = groups(Detector(), dict(layer_decay_rate=RATE, custom_keys=custom_keys))
    spared = {name for name, group in found.items() if group["weight_decay"] == 0}
    assert spared == {name for name in found if "pos_embed" in name or "norm" in name}
    assert {group["weight_decay"] for name, group in found.items() if name not in spared} == {DECAY}
    assert found["backbone.vit.pos_embed"]["lr"] == pytest.approx(LR * RATE ** (LAYERS - 1))


def test_a_rules_own_rate_is_decayed_too():
    found = groups(Detector(), dict(layer_decay_rate=RATE, custom_keys={"blocks.3": dict(lr_mult=0.1)}))
    assert found["backbone.vit.blocks.3.attn.proj.weight"]["lr"] == pytest.approx(0.1 * LR * RATE)


def test_frozen_parameters_are_left_out():
    found = groups(Detector(frozen_stages=2))
    assert not [name for name in found if name.startswith(("backbone.vit.blocks.0", "backbone.vit.pos_embed"))]
    assert found["backbone.vit.blocks.2.mlp.fc1.weight"]["lr"] == pytest.approx(LR * RATE**2)


@pytest.mark.parametrize("paramwise_cfg", [dict(), dict(layer_decay_rate=1.0)])
def test_without_a_rate_nothing_is_decayed(paramwise_cfg):
    assert {group["lr"] for group in groups(Detector(), paramwise_cfg).values()} == {LR}


def test_groups_are_mmengines_own_but_for_the_rate():
    model = Detector()
    rules = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
    own = groups(model, dict(layer_decay_rate=RATE, **rules))
    plain = groups(model, rules, constructor="DefaultOptimWrapperConstructor")
    assert {name: group["weight_decay"] for name, group in own.items()} == {
        name: group["weight_decay"] for name, group in plain.items()
    }
