"""The layouts of released checkpoints: one function each, which tells its own files by their keys.

A layout function takes the `Content` of a file and returns `Found`, or None if the file is not of its kind. They are
asked in the order of their registration, the telling marks first and the plain dicts last; file names play no part.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flsl_bench.checkpoints.reading import Content

if TYPE_CHECKING:
    from torch import Tensor

Rename = Callable[[str], str]

BRANCHES = ("teacher", "student", "momentum_encoder", "base_encoder")
MOCOV3_ARCHITECTURES = ("vit_small", "vit_base", "vit_conv_small", "vit_conv_base")
BLOCK = r"blocks\.(?:\d+\.)?\d+\."  # DINOv2 saves chunks of blocks: blocks.<chunk>.<block>.
LINEAR_HEAD = r"head\.(weight|bias)$|head_dist\.|fc_norm\.|reg_token$|attn_pool\."
CLASS_ATTENTION = r"((backbone|head)\.)?[a-z_]*(cls|class|ca|token_only)_?\w*\.\d+\..*(attn\.[qkv]|gamma_[12])"


@dataclass(frozen=True)
class Branch:
    """One set of weights in the file: tensors by the file's own name, and the canonical name each translates to.

    A canonical name may end in `#0`, `#1`, `#2`: parts to be concatenated in that order (query, key, value).
    """

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """What a layout function makes of a file.

    `default` is the branch to use when none is asked for; `class_token` is what the layout says of a CLS token (None:
    see the tensors); `rest` are the entries of the file beside the weights.
    """

    branches: Mapping[str | None, Branch]
    default: str | None
    rest: tuple[str, ...]
    class_token: bool | None = None
    norm_eps: float = 1e-6
    notes: tuple[str, ...] = ()


Layout = Callable[[Content], "Found | None"]
LAYOUTS: dict[str, Layout] = {}


def layout(name: str) -> Callable[[Layout], Layout]:
    """Register a layout function under `name`; the order of registration is the order of detection.

    Raises ValueError if the name is taken.
    """

    def register(function: Layout) -> Layout:
        if name in LAYOUTS:
            raise ValueError(f"a checkpoint layout named {name!r} is registered already")
        LAYOUTS[name] = function
        return function

    return register


def detect(content: Content) -> tuple[str, Found] | None:
    """The first registered layout that recognises the file, with what it found; None if none does."""
    for name, function in LAYOUTS.items():
        found = function(content)
        if found is not None:
            return name, found
    return None


@layout("flsl_bench")
def flsl_bench(content: Content) -> Found | None:
    """What `convert` writes: safetensors with canonical names and the architecture in the header."""
    if content.metadata.get("format") != "flsl_bench":
        return None
    branch = content.metadata.get("source_branch") or None
    return Found({branch: _branch(content.entries)}, branch, ())


@layout("openmmlab_finetuned")
def openmmlab_finetuned(content: Content) -> Found | None:
    """A detector or segmentor that this project trained: canonical names after `backbone.vit.`; necks and heads."""
    wrapped = _wrapped(content, "state_dict")
    if wrapped is None or not _any(wrapped, rf"backbone\.vit\.{BLOCK}"):
        return None
    return _single(content, "state_dict", prefix=r"backbone\.vit\.", notes=("weights after fine-tuning in OpenMMLab",))


@layout("selfpatch")
def selfpatch(content: Content) -> Found | None:
    """SelfPatch: DINO's layout, no CLS in the sequence, class-attention blocks that make one for the head."""
    pair = _pair(content)
    if pair is None and _any(_bare(content), CLASS_ATTENTION) and _any(_bare(content), BLOCK):
        return _single(content, None, class_token=_class_token_by_positions(_bare(content)))
    if pair is None or not _any_branch(pair, CLASS_ATTENTION):
        return None
    return _pair_found(content, pair, class_token=_class_token_by_positions(*pair.values()))


@layout("ibot")
def ibot(content: Content) -> Found | None:
    """iBOT: teacher and student with patch heads or a mask embedding, or `checkpoint_teacher.pth` with `state_dict`."""
    pair = _pair(content)
    if pair is not None:
        marked = "ibot_loss" in content.entries or _any_branch(pair, r"masked_embed$|head\.(last_layer2|mlp2)\.")
        return _pair_found(content, pair) if marked and not _any_branch(pair, r"mask_token$") else None
    wrapped = _wrapped(content, "state_dict")
    if wrapped is None or not _any(wrapped, BLOCK) or _any(wrapped, rf"{LINEAR_HEAD}|mask_token$|decoder_"):
        return None
    if _any(wrapped, rf"{BLOCK}(ls1|gamma_)") or _class_token_by_positions(wrapped) is False:
        return None
    return _single(content, "state_dict")


@layout("dinov2")
def dinov2(content: Content) -> Found | None:
    """DINOv2: a bare dict with LayerScale and `mask_token`, or its training's `teacher` with `dino_head`."""
    pair = _pair(content)
    if pair is not None:
        return _pair_found(content, pair) if _any_branch(pair, r"mask_token$|dino_head\.") else None
    tensors = _bare(content)
    if not _any(tensors, BLOCK) or not _any(tensors, r"mask_token$") or _any(tensors, r"decoder_"):
        return None
    return _single(content, None)


@layout("flsl")
def flsl(content: Content) -> Found | None:
    """FLSL: teacher and student whose sequence has no CLS token; a `cls_token` that takes no part is left behind."""
    pair = _pair(content)
    if pair is None:
        return None
    class_token = _class_token_by_positions(*pair.values())
    if "flsl_loss" not in content.entries and class_token is not False:
        return None
    return _pair_found(content, pair, class_token=class_token)


@layout("dino")
def dino(content: Content) -> Found | None:
    """DINO's full checkpoint: teacher and student with a CLS token that has a position."""
    pair = _pair(content)
    return None if pair is None else _pair_found(content, pair)


@layout("mocov3")
def mocov3(content: Content) -> Found | None:
    """MoCo v3: `base_encoder` and `momentum_encoder` in `state_dict`, or its linear evaluation (`best_acc1` beside it).

    Its own evaluation reads `base_encoder` (main_lincls.py of facebookresearch/moco-v3), so that is the default.
    """
    wrapped = _wrapped(content, "state_dict")
    if wrapped is None:
        return None
    encoders = [name for name in ("base_encoder", "momentum_encoder") if _any(wrapped, rf"{name}\.{BLOCK}")]
    if not encoders:
        linear = "best_acc1" in content.entries and content.entries.get("arch") in MOCOV3_ARCHITECTURES
        note = "MoCo v3's linear evaluation: the base encoder with a trained classifier"
        return _single(content, "state_dict", notes=(note,)) if linear and _any(wrapped, BLOCK) else None
    branches = {name: _branch(wrapped, prefix=rf"{name}\.", only=True) for name in encoders}
    inside = {key for branch in branches.values() for key in branch.tensors}
    outside = [f"state_dict.{key}" for key in wrapped if key not in inside]
    rest = (*_rest(content, "state_dict"), *_non_tensors(content, "state_dict"), *outside)
    note = "base_encoder by default, as MoCo v3's own evaluation; its teacher is momentum_encoder (branch=...)"
    return Found(branches, encoders[0], rest, notes=(note,) if len(encoders) == 2 else ())


@layout("mae")
def mae(content: Content) -> Found | None:
    """MAE: `model` with `decoder_*` and `mask_token` (pre-training) or the encoder alone; or the same, bare."""
    wrapped = _wrapped(content, "model")
    if wrapped is not None:
        other = _any(wrapped, rf"{LINEAR_HEAD}|{BLOCK}(ls1|gamma_)|dist_token$")
        other = other or (_class_token_by_positions(wrapped) is False and not _any(wrapped, r"decoder_"))
        return _single(content, "model") if _any(wrapped, BLOCK) and not other else None
    tensors = _bare(content)
    return _single(content, None) if _any(tensors, BLOCK) and _any(tensors, r"decoder_(embed|blocks)\.") else None


@layout("huggingface_vit")
def huggingface_vit(content: Content) -> Found | None:
    """transformers' ViT, with and without the `vit.` prefix; query, key and value apart; LayerNorm epsilon 1e-12.

    Its DINOv2 has the same frame with `norm1`, `layer_scale1` and an epsilon of 1e-6.
    """
    prefix = r"(vit|deit|dinov2|base_model)\."
    for wrapper in (None, "state_dict", "model"):
        tensors = _wrapped(content, wrapper) if wrapper else _bare(content)
        if tensors and _any(tensors, rf"({prefix})?encoder\.layer\.\d+\."):
            second = _any(tensors, rf"({prefix})?encoder\.layer\.\d+\.(norm1|layer_scale1)\.")
            eps = 1e-6 if second else 1e-12
            return _single(content, wrapper, prefix=prefix, rename=_from_huggingface, norm_eps=eps)
    return None


@layout("openmmlab_vit")
def openmmlab_vit(content: Content) -> Found | None:
    """mmpretrain's and mmseg's VisionTransformer: `layers.N.ln1`, `ffn.layers.0.0`, in `state_dict` or bare."""
    mark = r"(backbone\.)?layers\.\d+\.(ln1|norm1|attn\.qkv|attn\.attn|ffn\.layers)"
    for wrapper in ("state_dict", None):
        tensors = _wrapped(content, wrapper) if wrapper else _bare(content)
        if tensors and _any(tensors, mark):
            return _single(content, wrapper, rename=_from_openmmlab)
    return None


@layout("timm")
def timm(content: Content) -> Found | None:
    """timm's VisionTransformer (and DeiT's), bare or wrapped: told by classifier, `fc_norm`, `reg_token`, scales."""
    mark = rf"{LINEAR_HEAD}|{BLOCK}(ls1\.|gamma_1)|dist_token$"
    for wrapper in (None, "state_dict", "model"):
        tensors = _wrapped(content, wrapper) if wrapper else _bare(content)
        if tensors and _any(tensors, BLOCK) and _any(tensors, mark):
            notes = ("the final norm is fc_norm, which was trained on the mean of the tokens",)
            only_fc_norm = _any(tensors, r"fc_norm\.") and not _any(tensors, r"norm\.")
            rename = _fc_norm_as_norm if only_fc_norm else _from_vit
            return _single(content, wrapper, rename=rename, notes=notes if only_fc_norm else ())
    return None


@layout("dino_backbone")
def dino_backbone(content: Content) -> Found | None:
    """DINO's backbone alone: a bare dict with a CLS token that has a position. Others share these very names."""
    tensors = _bare(content)
    if not _any(tensors, BLOCK) or _class_token_by_positions(tensors) is not True:
        return None
    return _single(content, None, notes=("a bare backbone dict: which method trained it is not in the file",))


@layout("bare_backbone")
def bare_backbone(content: Content) -> Found | None:
    """A backbone alone in any wrapper, whose positions do not cover a CLS token (FLSL, SelfPatch, DeiT-3, ...)."""
    for wrapper in (None, "state_dict", "model"):
        tensors = _wrapped(content, wrapper) if wrapper else _bare(content)
        if tensors and _any(tensors, BLOCK):
            return _single(content, wrapper, notes=("a backbone dict: which method trained it is not in the file",))
    return None


def _from_vit(name: str) -> str:
    """Canonical names of what DINO's and timm's ViT family calls a little differently."""
    name = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)
    name = re.sub(r"^(blocks\.\d+\.)gamma_([12])$", r"\1ls\2.gamma", name)
    return "register_tokens" if name == "reg_token" else name


def _fc_norm_as_norm(name: str) -> str:
    return _from_vit(re.sub(r"^fc_norm\.", "norm.", name))


_HUGGINGFACE = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+\.)attention\.attention\.query\.(weight|bias)$", r"\1attn.qkv.\2#0"),
    (r"^(blocks\.\d+\.)attention\.attention\.key\.(weight|bias)$", r"\1attn.qkv.\2#1"),
    (r"^(blocks\.\d+\.)attention\.attention\.value\.(weight|bias)$", r"\1attn.qkv.\2#2"),
    (r"^(blocks\.\d+\.)attention\.output\.dense\.", r"\1attn.proj."),
    (r"^(blocks\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
    (r"^(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
    (r"^(blocks\.\d+\.)layernorm_before\.", r"\1norm1."),
    (r"^(blocks\.\d+\.)layernorm_after\.", r"\1norm2."),
    (r"^(blocks\.\d+\.)layer_scale([12])\.lambda1$", r"\1ls\2.gamma"),
    (r"^(blocks\.\d+\.)mlp\.weights_in\.", r"\1mlp.w12."),
    (r"^layernorm\.", "norm."),
)

_OPENMMLAB = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^(ln1|norm1)\.", "norm."),
    (r"^layers\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+\.)ln([12])\.", r"\1norm\2."),
    (r"^(blocks\.\d+\.)attn\.attn\.in_proj_(weight|bias)$", r"\1attn.qkv.\2"),
    (r"^(blocks\.\d+\.)attn\.attn\.out_proj\.", r"\1attn.proj."),
    (r"^(blocks\.\d+\.)ffn\.layers\.0\.0\.", r"\1mlp.fc1."),
    (r"^(blocks\.\d+\.)ffn\.layers\.1\.", r"\1mlp.fc2."),
    (r"^(blocks\.\d+\.)attn\.gamma1\.(weight|scale)$", r"\1ls1.gamma"),
    (r"^(blocks\.\d+\.)ffn\.gamma2\.(weight|scale)$", r"\1ls2.gamma"),
)


def _from_huggingface(name: str) -> str:
    return _substitute(name, _HUGGINGFACE)


def _from_openmmlab(name: str) -> str:
    return _substitute(name, _OPENMMLAB)


def _substitute(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _tensors(value: Any) -> dict[str, Tensor]:
    """The tensors of a dict by name; {} for anything else."""
    import torch

    if not isinstance(value, Mapping):
        return {}
    return {str(key): item for key, item in value.items() if isinstance(item, torch.Tensor)}


def _bare(content: Content) -> dict[str, Tensor]:
    return _tensors(content.entries)


def _wrapped(content: Content, wrapper: str) -> dict[str, Tensor] | None:
    return _tensors(content.entries.get(wrapper)) or None


def _pair(content: Content) -> dict[str, dict[str, Tensor]] | None:
    """Teacher and student, as many as there are, if either holds transformer blocks."""
    pair = {name: _tensors(content.entries.get(name)) for name in ("teacher", "student")}
    pair = {name: tensors for name, tensors in pair.items() if _any(tensors, BLOCK)}
    return pair or None


def strip(key: str, prefix: str = r"backbone\.") -> str:
    """`key` without the wrappers of DistributedDataParallel and torch.compile and without the network's prefix."""
    return re.sub(rf"^(?:{prefix})", "", re.sub(r"^(?:module\.|_orig_mod\.)+", "", key))


def _any(tensors: Mapping[str, Tensor] | None, pattern: str) -> bool:
    """Whether the name of any tensor, freed of wrappers and of `backbone.`, begins with the pattern."""
    wanted = re.compile(pattern)
    return any(wanted.match(strip(key, "")) or wanted.match(strip(key)) for key in tensors or ())


def _any_branch(pair: Mapping[str, Mapping[str, Tensor]], pattern: str) -> bool:
    return any(_any(tensors, pattern) for tensors in pair.values())


def _class_token_by_positions(*several: Mapping[str, Tensor]) -> bool | None:
    """Whether `pos_embed` [1, N, C] covers a CLS token: False if N is a square, True if N - 1 is; None if neither."""
    for tensors in several:
        for key, tensor in tensors.items():
            if strip(key) == "pos_embed" and tensor.ndim == 3:
                count = tensor.shape[1]
                return False if is_square(count) else True if is_square(count - 1) else None
    return None


def is_square(number: int) -> bool:
    """Whether `number` is the square of a positive integer."""
    return number > 0 and math.isqrt(number) ** 2 == number


def _branch(
    tensors: Mapping[str, Tensor], prefix: str = r"backbone\.", rename: Rename = _from_vit, only: bool = False
) -> Branch:
    """Name the tensors; with `only`, keep those alone that carry the prefix."""
    if only:
        tensors = {key: tensor for key, tensor in tensors.items() if strip(key, prefix) != strip(key, "")}
    return Branch(tensors, {key: rename(strip(key, prefix)) for key in tensors})


def _pair_found(content: Content, pair: Mapping[str, dict[str, Tensor]], class_token: bool | None = None) -> Found:
    """Teacher first: it is the one the papers evaluate."""
    rest = [*_rest(content, *pair), *(item for name in pair for item in _non_tensors(content, name))]
    branches = {name: _branch(tensors) for name, tensors in pair.items()}
    notes = () if "teacher" in pair else ("the file has no teacher, which is the branch the papers evaluate",)
    return Found(branches, next(iter(pair)), tuple(rest), class_token, notes=notes)


def _single(
    content: Content,
    wrapper: str | None,
    prefix: str = r"backbone\.",
    rename: Rename = _from_vit,
    class_token: bool | None = None,
    norm_eps: float = 1e-6,
    notes: tuple[str, ...] = (),
) -> Found:
    """The one network of the file, inside `wrapper` or bare."""
    tensors = _tensors(content.entries.get(wrapper)) if wrapper else _bare(content)
    rest = _rest(content, *([wrapper] if wrapper else tensors)) + (_non_tensors(content, wrapper) if wrapper else ())
    return Found({None: _branch(tensors, prefix, rename)}, None, rest, class_token, norm_eps, notes)


def _rest(content: Content, *used: str) -> tuple[str, ...]:
    taken = set(used)
    return tuple(key for key in content.entries if key not in taken)


def _non_tensors(content: Content, wrapper: str) -> tuple[str, ...]:
    """Entries beside the tensors inside a wrapper."""
    inside = content.entries[wrapper]
    tensors = _tensors(inside)
    return tuple(f"{wrapper}.{key}" for key in inside if str(key) not in tensors)
