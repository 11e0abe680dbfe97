"""Every layout gives the same backbone under canonical names, whatever surrounds it."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from flsl_bench.checkpoints import LAYOUTS, load_checkpoint
from flsl_bench.checkpoints.layouts import layout
from flsl_bench.errors import CheckpointError
from tests.checkpoints import checkpoint_builders as build

STRAY = {"class_token": True, "positions": build.GRID**2}  # FLSL: a cls_token, but positions for the patches only
SCALED = {"layer_scale": True}

# layout, builder, how the tensors differ from a plain ViT with CLS, branch
CASES = {
    "flsl": ("flsl", build.flsl, STRAY, "teacher"),
    "dino": ("dino", build.dino, {}, "teacher"),
    "dino_backbone": ("dino_backbone", build.dino_backbone, {}, None),
    "selfpatch": ("selfpatch", build.selfpatch, STRAY, "teacher"),
    "selfpatch without cls_token": ("selfpatch", build.selfpatch, {"class_token": False}, "teacher"),
    "ibot": ("ibot", build.ibot, {}, "teacher"),
    "ibot teacher": ("ibot", build.ibot_teacher, {}, None),
    "mocov3": ("mocov3", build.mocov3, {}, "base_encoder"),
    "mocov3 linear": ("mocov3", build.mocov3_linear, {}, None),
    "mae": ("mae", build.mae, {}, None),
    "mae encoder": ("mae", build.mae_encoder, {}, None),
    "mae bare": ("mae", lambda tensors: build.mae(tensors)["model"], {}, None),
    "dinov2": ("dinov2", build.dinov2, SCALED, None),
    "dinov2 registers": ("dinov2", build.dinov2, SCALED | {"registers": 4}, None),
    "dinov2 teacher": ("dinov2", build.dinov2_teacher, SCALED, "teacher"),
    "timm": ("timm", build.timm, {}, None),
    "timm scaled": ("timm", build.timm, SCALED, None),
    "timm registers": ("timm", build.timm, SCALED | {"registers": 4, "positions": build.GRID**2}, None),
    "timm without class token": ("timm", build.timm, {"class_token": False}, None),
    "huggingface": ("huggingface_vit", build.huggingface, {}, None),
    "huggingface bare": ("huggingface_vit", lambda tensors: build.huggingface(tensors, ""), {}, None),
    "huggingface no bias": ("huggingface_vit", build.huggingface, {"qkv_bias": False}, None),
    "mmpretrain": ("openmmlab_vit", build.openmmlab, {}, None),
    "mmpretrain norm1": ("openmmlab_vit", lambda tensors: build.openmmlab(tensors, norm="norm"), {}, None),
    "mmseg": ("openmmlab_vit", lambda tensors: build.openmmlab(tensors, mmcv_attention=True), {}, None),
    "mmseg bare": ("openmmlab_vit", lambda tensors: build.openmmlab(tensors, wrapped=False), {}, None),
    "finetuned": ("openmmlab_finetuned", build.openmmlab_finetuned, {}, None),
    "finetuned FLSL": ("openmmlab_finetuned", build.openmmlab_finetuned, {"class_token": False}, None),
    "bare without class token": ("bare_backbone", build.dino_backbone, {"class_token": False}, None),
}


def expected_tensors(tensors, options):
    """Without the `cls_token` that takes no part."""
    stray = options.get("positions") is not None and not options.get("registers")
    return {key: value for key, value in tensors.items() if not (stray and key == "cls_token")}


def assert_same(found, expected):
    """Equal names, values and type."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == torch.float32 and torch.equal(found[key], value), key


@pytest.mark.parametrize("case", CASES)
def test_layout(case, tmp_path):
    """Format, branch, values and architecture; and nothing of the file is left unmentioned."""
    name, builder, options, branch = CASES[case]
    tensors = build.canonical(**options)
    torch.save(builder(tensors), tmp_path / "weights.pth")
    checkpoint = load_checkpoint(tmp_path / "weights.pth", num_heads=build.HEADS)
    facts = checkpoint.facts
    expected = expected_tensors(tensors, options)
    assert (facts.format, facts.branch) == (name, branch)
    assert_same(checkpoint.state_dict, expected)
    architecture = facts.architecture
    assert (architecture.embed_dim, architecture.depth, architecture.num_heads) == (8, 2, 2)
    assert (architecture.patch_size, architecture.mlp_ratio, architecture.position_grid) == (4, 4.0, (3, 3))
    assert architecture.class_token == ("cls_token" in expected)
    assert architecture.class_token_position == ("cls_token" in expected and "positions" not in options)
    assert architecture.num_registers == options.get("registers", 0)
    assert architecture.prefix_tokens == architecture.class_token + architecture.num_registers
    assert architecture.layer_scale == options.get("layer_scale", False)
    assert architecture.qkv_bias == options.get("qkv_bias", True)
    assert architecture.norm_eps == (1e-12 if name == "huggingface_vit" else 1e-6)
    assert architecture.name == "vit_8x2"


def test_detection_is_by_keys_not_by_name(tmp_path):
    """A file named after one release and filled with another is what it holds."""
    tensors = build.canonical()
    for name in ("flsl.pth", "mae_vit.bin", "model.safetensors", "vit-s-300ep.pth.tar", "noname"):
        torch.save(build.dino(tensors), tmp_path / name)
        assert load_checkpoint(tmp_path / name, num_heads=2).facts.format == "dino"
    save_file(build.huggingface(tensors), tmp_path / "pytorch_model.bin")
    assert load_checkpoint(tmp_path / "pytorch_model.bin", num_heads=2).facts.format == "huggingface_vit"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.sampled_from(sorted(CASES)),
    heads=st.integers(1, 3),
    channels=st.integers(1, 5),
    depth=st.integers(1, 12),
    hidden=st.integers(1, 20),
    patch=st.integers(1, 5),
    grid=st.integers(2, 5),
)
def test_any_size_gives_the_same_canonical_dict(case, heads, channels, depth, hidden, patch, grid, tmp_path):
    """The layout changes names only, at any size; past nine blocks names do not sort as numbers."""
    _, builder, options, _ = CASES[case]
    options = options | ({"positions": grid**2} if "positions" in options else {})
    tensors = build.canonical(heads * channels, depth, hidden, patch, grid, **options)
    torch.save(builder(tensors), tmp_path / "weights.pth")
    checkpoint = load_checkpoint(tmp_path / "weights.pth", num_heads=heads, patch_size=patch)
    assert_same(checkpoint.state_dict, expected_tensors(tensors, options))
    assert checkpoint.facts.architecture.mlp_ratio == hidden / (heads * channels)


def test_huggingface_concatenation_order(tmp_path):
    """Query, key and value are the first, second and last third of qkv."""
    content = build.huggingface(build.canonical(depth=1))
    for value, part in enumerate(("query", "key", "value")):
        content[f"vit.encoder.layer.0.attention.attention.{part}.weight"].fill_(value)
    torch.save(dict(reversed(content.items())), tmp_path / "model.bin")
    weight = load_checkpoint(tmp_path / "model.bin", num_heads=2).state_dict["blocks.0.attn.qkv.weight"]
    assert weight[:, 0].tolist() == [0.0] * 8 + [1.0] * 8 + [2.0] * 8


def test_student_and_momentum_encoder_on_request(tmp_path):
    """`branch` selects the other network, and the first is then left over."""
    tensors = build.canonical()
    torch.save(build.dino(tensors), tmp_path / "dino.pth")
    torch.save(build.mocov3(tensors), tmp_path / "moco.pth.tar")
    student = load_checkpoint(tmp_path / "dino.pth", branch="student", num_heads=2)
    assert_same(student.state_dict, build.other(tensors))
    assert any(item.startswith("teacher.backbone.*") for item in student.facts.left_over)
    momentum = load_checkpoint(tmp_path / "moco.pth.tar", branch="momentum_encoder", num_heads=2)
    assert_same(momentum.state_dict, build.other(tensors))
    assert any("base_encoder by default" in note for note in momentum.facts.notes)


def test_left_over_hides_nothing(tmp_path):
    """Heads, the other branch, the stray token and the training state are all named."""
    torch.save(build.flsl(build.canonical(**STRAY)), tmp_path / "flsl.pth")
    facts = load_checkpoint(tmp_path / "flsl.pth", num_heads=2).facts
    assert facts.left_over == (
        "args",
        "epoch",
        "flsl_loss",
        "fp16_scaler",
        "optimizer",
        "student.backbone.* (30 keys)",
        "student.head.* (6 keys)",
        "teacher.backbone.cls_token",
        "teacher.head.* (6 keys)",
    )
    assert facts.matched_keys == 29


def test_deit3_needs_a_word_about_its_class_token(tmp_path):
    """A CLS token without a position looks like FLSL's stray one."""
    tensors = build.canonical(layer_scale=True, **STRAY)
    torch.save(build.deit3(tensors), tmp_path / "deit3.pth")
    with pytest.raises(CheckpointError, match=r"one without position \(DeiT-3\); say which: class_token="):
        load_checkpoint(tmp_path / "deit3.pth", num_heads=2)
    checkpoint = load_checkpoint(tmp_path / "deit3.pth", num_heads=2, class_token=True)
    assert_same(checkpoint.state_dict, tensors)
    architecture = checkpoint.facts.architecture
    assert architecture.class_token and not architecture.class_token_position


@pytest.mark.parametrize("wrap", [dict, lambda t: {"state_dict": t}, lambda t: {"model": t}])
def test_backbone_with_a_stray_class_token_is_ambiguous(wrap, tmp_path):
    """FLSL's backbone taken out of its checkpoint: refused until the caller decides."""
    tensors = build.canonical(**STRAY)
    torch.save(wrap(tensors), tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="say which: class_token="):
        load_checkpoint(tmp_path / "bare.pth", num_heads=2)
    without = load_checkpoint(tmp_path / "bare.pth", num_heads=2, class_token=False)
    assert without.facts.format == "bare_backbone"
    assert "cls_token" not in without.state_dict
    assert any(item.endswith("cls_token") for item in without.facts.left_over)


def test_fc_norm_serves_as_the_final_norm_with_a_note(tmp_path):
    """timm's average-pooled models have `fc_norm` in place of `norm`."""
    tensors = build.canonical()
    content = {key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: t for key, t in tensors.items()}
    torch.save(build.timm(content), tmp_path / "timm.pth")
    checkpoint = load_checkpoint(tmp_path / "timm.pth", num_heads=2)
    assert_same(checkpoint.state_dict, tensors)
    assert any("fc_norm" in note for note in checkpoint.facts.notes)
    torch.save(build.timm(tensors | {"fc_norm.weight": torch.zeros(8)}), tmp_path / "both.pth")
    both = load_checkpoint(tmp_path / "both.pth", num_heads=2)
    assert_same(both.state_dict, tensors)
    assert "fc_norm.weight" in both.facts.left_over


def test_half_precision_becomes_fp32(tmp_path):
    """Values survive exactly."""
    tensors = {key: value.half() for key, value in build.canonical().items()}
    torch.save(tensors, tmp_path / "half.pth")
    checkpoint = load_checkpoint(tmp_path / "half.pth", num_heads=2)
    assert_same(checkpoint.state_dict, {key: value.float() for key, value in tensors.items()})


def test_weights_do_not_depend_on_the_file_afterwards(tmp_path):
    """Tensors are mapped from disk while reading only."""
    tensors = build.canonical()
    path = tmp_path / "weights.pth"
    torch.save(tensors, path)
    checkpoint = load_checkpoint(path, num_heads=2)
    path.write_bytes(bytes(path.stat().st_size))
    assert_same(checkpoint.state_dict, tensors)


def test_registering_a_layout_twice_raises():
    """A second function under a name would silently shadow the first."""
    with pytest.raises(ValueError, match="'dino' is registered already"):
        layout("dino")(lambda content: None)
    assert "dino" in LAYOUTS
