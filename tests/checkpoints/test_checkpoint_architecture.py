"""What the tensors do not say, and every contradiction, by its message."""

import json
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from flsl_bench.checkpoints import ARCHITECTURES, convert, load_checkpoint
from flsl_bench.checkpoints.architecture import size_by_name
from flsl_bench.errors import CheckpointError
from tests.checkpoints import checkpoint_builders as build

SMALL = {"embed": 384, "depth": 12, "hidden": 4, "patch": 1, "grid": 1}  # the width and depth that name a size


def small(**options):
    """A ViT-S by width and depth; each tensor repeats one number, so that its file is small."""
    tensors = build.canonical(**SMALL, **options)
    return {key: tensor.flatten()[:1].clone().expand(tensor.shape) for key, tensor in tensors.items()}


def load(content, tmp_path, **options):
    """Save and load."""
    torch.save(content, tmp_path / "weights.pth")
    return load_checkpoint(tmp_path / "weights.pth", **options)


def fails(content, message, tmp_path, **options):
    """Loading raises CheckpointError with `message`, in one line that names the file."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load(content, tmp_path, **options)
    assert "weights.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_named_sizes():
    """64 channels a head each."""
    assert ARCHITECTURES["vit_small"] == (384, 12, 6)
    assert all(size.embed_dim == 64 * size.num_heads for size in ARCHITECTURES.values())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_small", "vit_small"),
        ("vit_small_patch16", "vit_small"),
        ("vit_small_patch16_224.dino", "vit_small"),
        ("deit_small", "vit_small"),
        ("deit_tiny_patch16_224", "vit_tiny"),
        ("mae_vit_base_patch16", "vit_base"),
        ("vit_large", "vit_large"),
        ("ViT-S/16", "vit_small"),
        ("dino_vitb8", "vit_base"),
        ("vit_huge_patch14", None),
        ("swin_tiny", None),
        ("resnet50", None),
    ],
)
def test_size_by_name(name, size):
    """Names as the repositories write them."""
    assert size_by_name(name) == size


def test_heads_by_convention_by_args_and_by_arch(tmp_path):
    """The source is recorded."""
    tensors = small()
    bare = load(tensors, tmp_path).facts
    assert (bare.architecture.num_heads, bare.heads_source) == (6, "convention of 64 channels a head")
    assert bare.architecture.name == "vit_small"
    arch = load(build.dino(tensors, arch="vit_small"), tmp_path).facts
    assert (arch.architecture.num_heads, arch.heads_source) == (6, "arch 'vit_small' in the checkpoint's args")
    args = load(build.dino(tensors, arch="vit_small", num_heads=8), tmp_path).facts
    assert (args.architecture.num_heads, args.heads_source) == (8, "num_heads in the checkpoint's args")
    config = load({"state_dict": tensors, "config": {"num_attention_heads": 4}}, tmp_path).facts
    assert (config.architecture.num_heads, config.heads_source) == (4, "num_attention_heads in the checkpoint's config")
    top = load({"state_dict": build.timm(small()), "arch": "vit_small_patch16_224"}, tmp_path).facts
    assert top.heads_source == "arch 'vit_small_patch16_224' in the checkpoint"
    caller = load(tensors, tmp_path, num_heads=8).facts
    assert caller.heads_source == "the caller" and any("convention" in note for note in caller.notes)


def test_mocov3_small_has_twelve_heads(tmp_path):
    """As in its vits.py, with both encoders or as linear evaluation."""
    tensors = small()
    for content in (build.mocov3(tensors), build.mocov3_linear(tensors)):
        facts = load(content, tmp_path).facts
        assert facts.architecture.num_heads == 12 and "MoCo v3" in facts.heads_source
        fails(content, r"num_heads=6 was asked for, but the file says 12", tmp_path, num_heads=6)


def test_contradicted_heads_unless_forced(tmp_path):
    """The variant with 8 heads as FLSL released its detection configs."""
    content = build.flsl(small(positions=1), arch="vit_small")
    message = r"num_heads=8 was asked for, but the file says 6 \(arch 'vit_small' in the checkpoint's args\).*force"
    fails(content, message, tmp_path, num_heads=8)
    assert load(content, tmp_path, num_heads=6).facts.heads_source.startswith("arch 'vit_small'")
    forced = load(content, tmp_path, num_heads=8, force_heads=True).facts
    assert forced.architecture.num_heads == 8
    assert any("8 heads forced by the caller against 6" in note for note in forced.notes)


def test_arch_that_does_not_describe_the_tensors(tmp_path):
    """It is not used, which is said; then the caller has to know."""
    content = build.dino(build.canonical(), arch="vit_small")
    fails(content, r"not in the file, and no named size has embed_dim 8, depth 2; give num_heads=", tmp_path)
    facts = load(content, tmp_path, num_heads=2).facts
    assert any("arch 'vit_small' in the checkpoint's args is not used" in note for note in facts.notes)


@pytest.mark.parametrize("heads", [0, -1, 2.0, True, "2"])
def test_heads_that_are_no_number(heads, tmp_path):
    """Whole and positive."""
    fails(build.canonical(), "num_heads must be a positive whole number", tmp_path, num_heads=heads)


@pytest.mark.parametrize("odd", [0, True, "six", None, 1.5])
def test_nonsense_in_args_is_no_number_of_heads(odd, tmp_path):
    """Only positive whole numbers count."""
    content = build.dino(build.canonical(), num_heads=odd)
    assert load(content, tmp_path, num_heads=2).facts.heads_source == "the caller"


@given(heads=st.integers(1, 40))
def test_heads_must_divide_the_width(heads, tmp_path_factory):
    """24 channels."""
    tensors = build.canonical(embed=24, depth=1, patch=1, grid=1)
    tmp_path = tmp_path_factory.mktemp("heads")
    if 24 % heads:
        fails(tensors, rf"embed_dim 24 is not divisible by {heads} heads", tmp_path, num_heads=heads)
    else:
        assert load(tensors, tmp_path, num_heads=heads).facts.architecture.num_heads == heads


def test_expectations_of_the_caller(tmp_path):
    """`arch` and `patch_size` are compared with the tensors; both sides are in the message."""
    tensors = small()
    assert load(tensors, tmp_path, arch="vit_small", patch_size=1).facts.architecture.name == "vit_small"
    load(tensors, tmp_path, arch="deit_small_patch16_224")
    message = (
        r"asked for vit_base \(embed_dim 768, depth 12\) and patch size 16; found embed_dim 384, depth 12 and patch"
    )
    fails(tensors, message, tmp_path, arch="vit_base", patch_size=16)
    fails(tensors, r"asked for patch size 8; found patch size 1", tmp_path, patch_size=8)
    fails(tensors, r"unknown arch 'vit_smal'; known are .*did you mean vit_small\?", tmp_path, arch="vit_smal")


def test_missing_keys_are_listed(tmp_path):
    """Eight of them and how many more."""
    tensors = build.canonical()
    del tensors["blocks.1.mlp.fc1.bias"], tensors["norm.weight"]
    fails(tensors, r"2 of 29 backbone keys are missing .*: norm.weight, blocks.1.mlp.fc1.bias$", tmp_path, num_heads=2)
    tensors = {key: value for key, value in build.canonical().items() if not key.startswith("blocks.0.")}
    fails(tensors, r"12 of 29 .* and 4 more", tmp_path, num_heads=2)
    tensors = build.canonical()
    del tensors["pos_embed"]
    fails(build.dino(tensors), "missing .*: pos_embed", tmp_path, num_heads=2)
    content = build.huggingface(build.canonical())
    del content["vit.encoder.layer.1.attention.attention.key.weight"]
    fails(content, "missing .*: blocks.1.attn.qkv.weight", tmp_path, num_heads=2)
    tensors = build.canonical()
    del tensors["cls_token"]
    fails(tensors, "10 entries, one for a CLS token, but cls_token is missing", tmp_path, num_heads=2)


def test_wrong_shapes_are_listed(tmp_path):
    """Against those that the patch embedding and the first block set."""
    tensors = build.canonical() | {"blocks.1.attn.proj.weight": torch.zeros(8, 9), "norm.bias": torch.zeros(7)}
    message = r"blocks.1.attn.proj.weight is \[8, 9\] where \[8, 8\] is expected; norm.bias is \[7\]"
    fails(tensors, message, tmp_path, num_heads=2)
    fails(build.canonical() | {"pos_embed": torch.zeros(1, 10, 9)}, r"where \[1, \?, 8\] is expected", tmp_path)
    flat = build.canonical() | {"patch_embed.proj.weight": torch.zeros(8, 48)}
    fails(flat, r"patch_embed.proj.weight is \[8, 48\], not \[C, 3, patch, patch\]", tmp_path)
    content = build.huggingface(build.canonical())
    content["vit.encoder.layer.0.attention.attention.key.bias"] = torch.zeros(7)
    fails(content, "query, key and value of blocks.0.attn.qkv.bias differ in shape", tmp_path)


def test_weights_that_are_no_finite_floats(tmp_path):
    """The key is named."""
    for value in (float("nan"), float("inf")):
        tensors = build.canonical()
        tensors["blocks.1.norm2.bias"][3] = value
        fails(tensors, "blocks.1.norm2.bias holds values that are not finite", tmp_path, num_heads=2)
    tensors = build.canonical()
    tensors["norm.weight"] = torch.ones(8, dtype=torch.int64)
    fails(tensors, "norm.weight is no dense floating-point tensor", tmp_path, num_heads=2)
    content = build.dino(build.canonical())
    content["student"]["module.backbone.norm.weight"][0] = float("nan")
    load(content, tmp_path, num_heads=2)  # the other branch is not looked into


def test_branches(tmp_path):
    """Unknown, absent, and of a layout without any."""
    content = build.dino(build.canonical())
    fails(content, r"unknown branch 'ema'; branches are teacher, student", tmp_path, branch="ema")
    message = r"no branch 'base_encoder' in this dino checkpoint; its branches: teacher, student"
    fails(content, message, tmp_path, branch="base_encoder")
    del content["student"]
    fails(content, r"no branch 'student' .*its branches: teacher$", tmp_path, branch="student")
    fails(build.mae(build.canonical()), "its branches: none, it holds a single network", tmp_path, branch="teacher")
    content = build.dino(build.canonical())
    del content["teacher"]
    facts = load(content, tmp_path, num_heads=2).facts
    assert facts.branch == "student" and any("no teacher" in note for note in facts.notes)


def test_positions(tmp_path):
    """Squares only, and no contradiction with what the caller says of CLS."""
    fails(build.canonical(positions=12), "12 entries, neither a square number", tmp_path, num_heads=2)
    fails(
        build.canonical(),
        "class_token=False was asked for, but pos_embed has 10",
        tmp_path,
        num_heads=2,
        class_token=False,
    )
    bare = build.canonical(class_token=False)
    fails(
        bare, "class_token=True was asked for, but the file has no cls_token", tmp_path, num_heads=2, class_token=True
    )
    flsl = build.flsl(build.canonical(positions=9))
    fails(flsl, "by its layout this checkpoint has no CLS", tmp_path, num_heads=2, class_token=True)
    registers = build.canonical(positions=14, registers=4, layer_scale=True)
    fails(build.timm(registers), "pos_embed covers the 4 registers", tmp_path, num_heads=2)


@pytest.mark.parametrize(
    ("builder", "extra", "message"),
    [
        (build.timm, "dist_token", "distillation token"),
        (build.huggingface, "vit.embeddings.distillation_token", "distillation token"),
        (build.dinov2, "blocks.0.mlp.w12.weight", r"SwiGLU feed-forward \(DINOv2 giant\)"),
        (build.timm, "norm_pre.weight", "LayerNorm before the first block"),
        (build.dino_backbone, "rope_embed.periods", "rotary positions"),
        (build.dino_backbone, "blocks.0.attn.q_norm.weight", "normalised queries and keys"),
        (build.dino_backbone, "blocks.0.attn.relative_position_bias_table", "relative positions"),
        (build.dino_backbone, "patch_embed.proj.0.weight", "convolutional stem"),
        (build.dino_backbone, "blocks.0.adapter.weight", "the blocks have 1 parameters that this ViT does not"),
    ],
)
def test_parts_that_would_change_the_output_are_refused(builder, extra, message, tmp_path):
    """To leave them over would give other features than the model's, silently."""
    content = builder(build.canonical()) | {extra: torch.zeros(8)}
    fails(content, message, tmp_path, num_heads=2)


def test_swiglu_in_place_of_the_mlp_is_named_rather_than_missing(tmp_path):
    """DINOv2 giant has no fc1 at all."""
    tensors = build.canonical(layer_scale=True)
    content = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for key, value in tensors.items()}
    fails(build.dinov2(content), "SwiGLU", tmp_path, num_heads=2)


def test_two_keys_for_one_tensor(tmp_path):
    """Which of them counts is not for us to guess."""
    content = {"state_dict": build.canonical() | {"backbone.norm.bias": torch.zeros(8)}}
    fails(content, "both 'norm.bias' and 'backbone.norm.bias' are the backbone's norm.bias", tmp_path, num_heads=2)


CONVERTED = {
    "flsl": (build.flsl, {"positions": 9}, {}),
    "dino student": (build.dino, {}, {"branch": "student"}),
    "huggingface": (build.huggingface, {}, {}),
    "dinov2": (build.dinov2, {"layer_scale": True, "registers": 4}, {}),
    "deit3": (build.deit3, {"layer_scale": True, "positions": 9}, {"class_token": True}),
    "no bias": (build.huggingface, {"qkv_bias": False, "hidden": 12}, {}),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_convert_and_read_back(case, tmp_path):
    """The identical architecture and weights, and where they came from, without any option."""
    builder, options, asked = CONVERTED[case]
    source, out = tmp_path / "source.pth", tmp_path / "folder" / "backbone.safetensors"
    torch.save(builder(build.canonical(**options)), source)
    facts = convert(source, out, num_heads=2, **asked)
    expected, read = load_checkpoint(source, num_heads=2, **asked), load_checkpoint(out)
    assert facts == expected.facts
    assert read.facts.architecture == facts.architecture
    assert set(read.state_dict) == set(expected.state_dict)
    assert all(torch.equal(read.state_dict[key], value) for key, value in expected.state_dict.items())
    assert (read.facts.format, read.facts.branch) == ("flsl_bench", facts.branch)
    assert read.facts.heads_source == "the caller (kept in the header)"
    assert any(facts.sha256 in note for note in read.facts.notes) and set(facts.notes) < set(read.facts.notes)
    assert [file.name for file in out.parent.iterdir()] == ["backbone.safetensors"]
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["source_sha256"] == facts.sha256 and metadata["num_heads"] == "2"
    assert str(tmp_path) not in json.dumps(metadata)


def test_converted_file_against_its_header(tmp_path):
    """Heads of the header bind as args do; a header that does not fit the tensors is refused."""
    torch.save(build.canonical(), tmp_path / "source.pth")
    out = tmp_path / "out.safetensors"
    convert(tmp_path / "source.pth", out, num_heads=2)
    with pytest.raises(CheckpointError, match="num_heads=4 was asked for, but the file says 2"):
        load_checkpoint(out, num_heads=4)
    assert load_checkpoint(out, num_heads=4, force_heads=True).facts.architecture.num_heads == 4
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    fields = json.loads(metadata["architecture"])
    for wrong, message in (
        ({"architecture": json.dumps(fields | {"patch_size": 99})}, "header and tensors disagree"),
        ({"architecture": json.dumps(fields | {"num_heads": "two"})}, "the header's architecture is malformed"),
        ({"architecture": "{}"}, "the header's architecture is malformed"),
        ({"format_version": "9"}, "format_version is '9', this version reads '1'"),
    ):
        save_file(build.canonical(), out, metadata=metadata | wrong)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(out)


def test_a_failed_conversion_leaves_nothing(tmp_path):
    """Neither a new file nor a changed old one."""
    torch.save(build.canonical(), tmp_path / "source.pth")
    out = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="give num_heads="):
        convert(tmp_path / "source.pth", out)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        convert(tmp_path / "source.pth", tmp_path / "file" / "out.safetensors", num_heads=2)


def test_facts_are_plain_json(tmp_path):
    """They go into a record."""
    facts = load(build.flsl(build.canonical(positions=9)), tmp_path, num_heads=2).facts
    plain = json.loads(json.dumps(facts.to_dict()))
    assert plain == facts.to_dict()
    assert plain["architecture"]["position_grid"] == [3, 3]
    assert plain["architecture"]["name"] == "vit_8x2" and len(plain["sha256"]) == 64
    assert replace(facts, path="x").to_dict()["path"] == "x"


@pytest.mark.parametrize(
    ("name", "layout", "branch", "prefix_tokens"),
    [
        ("flsl_tiny_checkpoint", "flsl", "teacher", 0),
        ("dino_tiny_checkpoint", "dino", "teacher", 1),
        ("dino_tiny_backbone", "dino_backbone", None, 1),
    ],
)
def test_checkpoints_of_the_reference_code(shared, name, layout, branch, prefix_tokens):
    """The args say vit_small, which these tensors are not; so the caller gives the heads."""
    path = shared / "golden" / "vit" / f"{name}.pth"
    with pytest.raises(CheckpointError, match="give num_heads="):
        load_checkpoint(path)
    checkpoint = load_checkpoint(path, num_heads=2)
    facts = checkpoint.facts
    assert (facts.format, facts.branch, facts.architecture.prefix_tokens) == (layout, branch, prefix_tokens)
    assert facts.architecture.position_grid == (14, 14)
    with torch.serialization.safe_globals([Namespace]):
        raw = torch.load(path, weights_only=True)
    raw = {key.removeprefix("backbone."): value for key, value in raw.get("teacher", raw).items() if "head" not in key}
    assert all(torch.equal(value, raw.pop(key)) for key, value in checkpoint.state_dict.items())
    assert set(raw) == ({"cls_token"} if layout == "flsl" else set())


def test_dino_full_and_bare_are_the_same_backbone(shared):
    """Both were saved from one model."""
    folder = shared / "golden" / "vit"
    full = load_checkpoint(folder / "dino_tiny_checkpoint.pth", num_heads=2)
    bare = load_checkpoint(folder / "dino_tiny_backbone.pth", num_heads=2)
    assert all(torch.equal(full.state_dict[key], value) for key, value in bare.state_dict.items())
    assert full.facts.architecture == bare.facts.architecture
