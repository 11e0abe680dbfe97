"""What the tensors of a ViT say of its architecture, and where the rest comes from."""

from __future__ import annotations

import argparse
import difflib
import math
import numbers
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from flsl_bench.checkpoints.layouts import is_square
from flsl_bench.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


class Size(NamedTuple):
    """A named ViT size: width, number of blocks, attention heads."""

    embed_dim: int
    depth: int
    num_heads: int


ARCHITECTURES: dict[str, Size] = {
    "vit_tiny": Size(192, 12, 3),
    "vit_small": Size(384, 12, 6),
    "vit_base": Size(768, 12, 12),
    "vit_large": Size(1024, 24, 16),
}
"""The sizes of DeiT and ViT, 64 channels a head (table 1 of Touvron et al. 2021 and of Dosovitskiy et al. 2021)."""


@dataclass(frozen=True)
class Architecture:
    """Everything needed to build the ViT.

    `class_token`: a CLS token is part of the sequence; `class_token_position`: it has an entry in `pos_embed`.
    `position_grid`: (rows, columns) of the patches in `pos_embed`. `mlp_ratio`: hidden width / `embed_dim`.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    mlp_ratio: float
    class_token: bool
    class_token_position: bool
    num_registers: int
    layer_scale: bool
    qkv_bias: bool
    position_grid: tuple[int, int]
    norm_eps: float

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches in the sequence."""
        return int(self.class_token) + self.num_registers

    @property
    def name(self) -> str:
        """'vit_small' and the like if width and depth are those of a named size, else 'vit_<width>x<depth>'."""
        return named_size(self.embed_dim, self.depth) or f"vit_{self.embed_dim}x{self.depth}"


def named_size(embed_dim: int, depth: int) -> str | None:
    """The name of the size with this width and depth, or None."""
    return next((name for name, size in ARCHITECTURES.items() if size[:2] == (embed_dim, depth)), None)


@dataclass(frozen=True)
class Shape:
    """What the tensors say: `Architecture` but for the tokens and the heads."""

    embed_dim: int
    depth: int
    patch_size: int
    hidden: int
    layer_scale: bool
    qkv_bias: bool
    num_registers: int


UNSUPPORTED = {
    r"dist_token$": "a distillation token (distilled DeiT)",
    r"blocks\.\d+\.mlp\.(w12|w3|w1|w2|fc1_g|fc1_x)\.": "a SwiGLU feed-forward (DINOv2 giant)",
    r"blocks\.\d+\.attn\.[qk]_norm\.": "normalised queries and keys",
    r"(norm_pre|pre_norm)\.": "a LayerNorm before the first block (CLIP)",
    r"(rope_embed\.|rope\.|storage_tokens$)": "rotary positions (DINOv3)",
    r"(blocks\.\d+\..*|encoder\.)?(rel_pos|relative_position)": "relative positions (BEiT, SAM)",
    r"patch_embed\.(proj\.\d+\.|backbone\.)": "a convolutional stem (MoCo v3 vit_conv, hybrid ViT)",
}
INSIDE_BLOCK = re.compile(r"(blocks|layers|encoder\.layer)\.\d+\.")


def refuse_unsupported(names: Iterable[str], where: str) -> None:
    """Raise CheckpointError if a (translated) name belongs to a part that the plain ViT does not have."""
    for name in names:
        for pattern, what in UNSUPPORTED.items():
            if re.match(pattern, name):
                raise CheckpointError(f"{where}: {name!r} means {what}, which this ViT does not have; not supported")


def shape_of(tensors: Mapping[str, Tensor], where: str) -> Shape:
    """Read width, depth, patch and options from canonical tensors; every key and every shape is checked.

    Raises CheckpointError with the missing keys, or with the keys whose shape contradicts the others.
    """
    blocks = {int(match.group(1)) for key in tensors if (match := re.match(r"blocks\.(\d+)\.", key))}
    depth = max(blocks, default=0) + 1
    layer_scale = any(".ls1.gamma" in key or ".ls2.gamma" in key for key in tensors)
    qkv_bias = any(key.endswith("attn.qkv.bias") for key in tensors)
    _refuse_missing(tensors, _expected_keys(depth, layer_scale, qkv_bias), where)
    patch, hidden = tensors["patch_embed.proj.weight"], tensors["blocks.0.mlp.fc1.weight"]
    if patch.ndim != 4 or patch.shape[1] != 3 or patch.shape[2] != patch.shape[3]:
        raise CheckpointError(f"{where}: patch_embed.proj.weight is {list(patch.shape)}, not [C, 3, patch, patch]")
    registers = tensors["register_tokens"].shape[1] if _is_tokens(tensors.get("register_tokens")) else 0
    shape = Shape(patch.shape[0], depth, patch.shape[2], hidden.shape[0], layer_scale, qkv_bias, registers)
    _check_shapes(tensors, shape, where)
    return shape


def _is_tokens(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim == 3


def _expected_keys(depth: int, layer_scale: bool, qkv_bias: bool) -> list[str]:
    parts = ["norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.proj.weight", "attn.proj.bias"]
    parts += ["norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]
    parts += ["attn.qkv.bias"] * qkv_bias + ["ls1.gamma", "ls2.gamma"] * layer_scale
    keys = ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"]
    return keys + [f"blocks.{index}.{part}" for index in range(depth) for part in parts]


def _refuse_missing(tensors: Mapping[str, Tensor], expected: list[str], where: str) -> None:
    missing = [key for key in expected if key not in tensors]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise CheckpointError(
            f"{where}: {len(missing)} of {len(expected)} backbone keys are missing (canonical names): "
            f"{', '.join(missing[:8])}{more}"
        )


def _expected_shape(key: str, shape: Shape) -> tuple[int | None, ...]:
    """The shape of a canonical tensor; None where it is free."""
    width, hidden = shape.embed_dim, shape.hidden
    special = {
        "cls_token": (1, 1, width),
        "register_tokens": (1, None, width),
        "pos_embed": (1, None, width),
        "patch_embed.proj.weight": (width, 3, shape.patch_size, shape.patch_size),
        "qkv.weight": (3 * width, width),
        "qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "fc1.weight": (hidden, width),
        "fc1.bias": (hidden,),
        "fc2.weight": (width, hidden),
    }
    return next((value for ending, value in special.items() if key.endswith(ending)), (width,))


def _check_shapes(tensors: Mapping[str, Tensor], shape: Shape, where: str) -> None:
    wrong = []
    for key, tensor in tensors.items():
        expected, found = _expected_shape(key, shape), tuple(tensor.shape)
        fits = len(expected) == len(found) and all(a in (None, b) for a, b in zip(expected, found, strict=True))
        if not fits:
            wanted = "[" + ", ".join("?" if size is None else str(size) for size in expected) + "]"
            wrong.append(f"{key} is {list(found)} where {wanted} is expected")
    if wrong:
        more = f", and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise CheckpointError(f"{where}: shapes do not fit each other: {'; '.join(wrong[:4])}{more}")


@dataclass(frozen=True)
class Tokens:
    """Which tokens the sequence has and which of them `pos_embed` covers."""

    class_token: bool
    class_token_position: bool
    grid: tuple[int, int]


def tokens_of(
    tensors: Mapping[str, Tensor],
    *,
    layout_says: bool | None,
    asked: bool | None,
    grid: tuple[int, int] | None,
    where: str,
) -> Tokens:
    """Decide on the CLS token from `pos_embed` [1, N, C], the tokens present, the layout and the caller.

    `grid` is known for files of our own only; otherwise patches form a square.
    Raises CheckpointError if N fits no square, if the caller contradicts the file, or if the tensors leave it open.
    """
    count, present = tensors["pos_embed"].shape[1], "cls_token" in tensors
    covered, grid = _covered(count, tensors, grid, where)
    if asked and not present:
        raise CheckpointError(f"{where}: class_token=True was asked for, but the file has no cls_token")
    if covered:
        if not present:
            raise CheckpointError(
                f"{where}: pos_embed has {count} entries, one for a CLS token, but cls_token is missing"
            )
        if asked is False:
            raise CheckpointError(
                f"{where}: class_token=False was asked for, but pos_embed has {count} entries, one of them for CLS"
            )
        return Tokens(True, True, grid)
    if not present:
        return Tokens(False, False, grid)
    if asked and layout_says is False:
        raise CheckpointError(
            f"{where}: class_token=True was asked for, but by its layout this checkpoint has no CLS in the sequence"
        )
    if asked is None and layout_says is None and "register_tokens" not in tensors:
        raise CheckpointError(
            f"{where}: pos_embed has {count} entries, one a patch, and there is a cls_token besides: the sequence may "
            "have no CLS token (FLSL leaves an unused one) or one without position (DeiT-3); say which: class_token="
        )
    first_said = next((said for said in (asked, layout_says) if said is not None), True)
    return Tokens(first_said, False, grid)


def _covered(
    count: int, tensors: Mapping[str, Tensor], grid: tuple[int, int] | None, where: str
) -> tuple[bool, tuple[int, int]]:
    """Whether `count` positions include one for CLS, and the grid of the others."""
    if grid is not None and count - math.prod(grid) in (0, 1):
        return count != math.prod(grid), grid
    for covered in (False, True):
        patches = count - covered
        if is_square(patches):
            return covered, (math.isqrt(patches), math.isqrt(patches))
    registers = tensors["register_tokens"].shape[1] if "register_tokens" in tensors else 0
    if registers and (is_square(count - registers) or is_square(count - registers - 1)):
        raise CheckpointError(f"{where}: pos_embed covers the {registers} registers; such a ViT is not supported")
    raise CheckpointError(
        f"{where}: pos_embed has {count} entries, neither a square number of patches nor that and one for CLS; "
        "resample it to a square grid first"
    )


@dataclass(frozen=True)
class Statement:
    """A number of heads that the file itself gives, and where it does."""

    num_heads: int
    source: str


@dataclass(frozen=True)
class Heads:
    """The number of attention heads, where it is from, and what should be known about it."""

    num_heads: int
    source: str
    notes: tuple[str, ...] = ()


def stated_heads(
    entries: Mapping[str, Any], shape: Shape, layout: str, metadata: Mapping[str, str] | None = None
) -> tuple[Statement | None, tuple[str, ...]]:
    """The number of heads by the file's own metadata (`args`, `config`, `arch`), and notes on what there was not used.

    An arch name counts only if width and depth of the tensors are that size's. MoCo v3's vit_small has 12 heads
    (vits.py of facebookresearch/moco-v3), everyone else's 6.
    """
    notes: list[str] = []
    tables = list(_metadata_tables(entries, metadata or {}))
    for where, table in tables:
        for key in ("num_heads", "num_attention_heads"):
            value = _as_int(table.get(key))
            if value is not None:
                return Statement(value, f"{key} in {where}"), tuple(notes)
    if layout == "mocov3" and named_size(shape.embed_dim, shape.depth) in ("vit_small", "vit_base"):
        return Statement(12, "MoCo v3's vits.py, 12 heads for vit_small and vit_base"), ()
    for where, table in tables:
        for key in ("arch", "architecture", "model", "model_name"):
            name = table.get(key)
            size = size_by_name(name) if isinstance(name, str) else None
            if size is None:
                continue
            if ARCHITECTURES[size][:2] == (shape.embed_dim, shape.depth):
                return Statement(ARCHITECTURES[size].num_heads, f"{key} {name!r} in {where}"), tuple(notes)
            notes.append(
                f"{key} {name!r} in {where} is not used: it means {_dimensions(*ARCHITECTURES[size][:2])}, "
                f"the tensors have {_dimensions(shape.embed_dim, shape.depth)}"
            )
    return None, tuple(notes)


def _metadata_tables(
    entries: Mapping[str, Any], metadata: Mapping[str, str]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for name in ("args", "config", "cfg", "model_args", "hyper_parameters"):
        value = entries.get(name)
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            yield f"the checkpoint's {name}", value
    yield "the checkpoint", {key: value for key, value in entries.items() if isinstance(value, str | int)}
    yield "the safetensors header", metadata


def _as_int(value: Any) -> int | None:
    """A positive whole number, given as such or in digits (safetensors headers hold strings); else None."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return int(value) if is_whole(value) and value > 0 else None


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer of Python or numpy, and no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def size_by_name(name: str) -> str | None:
    """'vit_small' for 'vit_small', 'deit_small_patch16_224', 'mae_vit_small', 'ViT-S/16'; None if no size is named."""
    match = re.search(r"(?:^|[_-])(?:vit|deit3?)[_-]?(tiny|small|base|large)(?![a-z])", name, re.IGNORECASE)
    if match:
        return f"vit_{match.group(1).lower()}"
    match = re.search(r"(?:^|[_-])(?:vit|deit)[_-]?([tsbl])(?![a-z])", name, re.IGNORECASE)
    return (
        {"t": "vit_tiny", "s": "vit_small", "b": "vit_base", "l": "vit_large"}[match.group(1).lower()]
        if match
        else None
    )


def heads_of(shape: Shape, stated: Statement | None, asked: int | None, *, force: bool, where: str) -> Heads:
    """Choose the number of heads: the file's own statement, else the caller's, else 64 channels each for named sizes.

    Raises CheckpointError if caller and file disagree (unless `force`), if nobody knows, or if it does not divide C.
    """
    named = named_size(shape.embed_dim, shape.depth)
    if asked is not None and not (is_whole(asked) and asked > 0):
        raise CheckpointError(f"{where}: num_heads must be a positive whole number, not {asked!r}")
    if stated and asked is not None and asked != stated.num_heads:
        if not force:
            raise CheckpointError(
                f"{where}: num_heads={asked} was asked for, but the file says {stated.num_heads} ({stated.source}); "
                "to use yours all the same, force the number of heads (force_heads=True)"
            )
        note = f"{asked} heads forced by the caller against {stated.num_heads} of the file ({stated.source})"
        heads = Heads(asked, f"the caller, forced against {stated.num_heads} ({stated.source})", (note,))
    elif stated:
        heads = Heads(stated.num_heads, stated.source)
    elif asked is not None:
        usual = ARCHITECTURES[named].num_heads if named else asked
        note = f"{asked} heads given by the caller where {named} has {usual} by the convention of 64 channels a head"
        heads = Heads(asked, "the caller", (note,) if asked != usual else ())
    elif named:
        heads = Heads(ARCHITECTURES[named].num_heads, "convention of 64 channels a head")
    else:
        raise CheckpointError(
            f"{where}: the number of attention heads is not in the file, and no named size has "
            f"{_dimensions(shape.embed_dim, shape.depth)}; give num_heads="
        )
    if shape.embed_dim % heads.num_heads:
        raise CheckpointError(
            f"{where}: embed_dim {shape.embed_dim} is not divisible by {heads.num_heads} heads ({heads.source})"
        )
    return heads


def _dimensions(embed_dim: int, depth: int) -> str:
    return f"embed_dim {embed_dim}, depth {depth}"


def check_asked(shape: Shape, arch: str | None, patch_size: int | None, where: str) -> None:
    """Raise CheckpointError if the architecture or the patch size asked for is not what the tensors have."""
    asked, found = [], []
    if arch is not None:
        size = arch if arch in ARCHITECTURES else size_by_name(arch)
        if size is None:
            close = difflib.get_close_matches(arch, ARCHITECTURES, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise CheckpointError(f"{where}: unknown arch {arch!r}; known are {', '.join(ARCHITECTURES)}{hint}")
        if ARCHITECTURES[size][:2] != (shape.embed_dim, shape.depth):
            asked.append(f"{arch} ({_dimensions(*ARCHITECTURES[size][:2])})")
            found.append(_dimensions(shape.embed_dim, shape.depth))
    if patch_size is not None and patch_size != shape.patch_size:
        asked.append(f"patch size {patch_size}")
        found.append(f"patch size {shape.patch_size}")
    if asked:
        raise CheckpointError(f"{where}: asked for {' and '.join(asked)}; found {' and '.join(found)}")


def assemble(shape: Shape, tokens: Tokens, num_heads: int, norm_eps: float) -> Architecture:
    """Put the parts together."""
    return Architecture(
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=int(num_heads),
        patch_size=shape.patch_size,
        mlp_ratio=shape.hidden / shape.embed_dim,
        class_token=tokens.class_token,
        class_token_position=tokens.class_token_position,
        num_registers=shape.num_registers,
        layer_scale=shape.layer_scale,
        qkv_bias=shape.qkv_bias,
        position_grid=tokens.grid,
        norm_eps=norm_eps,
    )


def architecture_to_dict(architecture: Architecture) -> dict[str, Any]:
    """The fields as plain JSON types, and the derived `name` and `prefix_tokens`."""
    fields = asdict(architecture) | {"position_grid": list(architecture.position_grid)}
    return fields | {"name": architecture.name, "prefix_tokens": architecture.prefix_tokens}
