"""From a weight file to a clean backbone and the facts about it."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flsl_bench import files
from flsl_bench.checkpoints import architecture as arch_of
from flsl_bench.checkpoints.architecture import Architecture, Heads, Shape, Statement
from flsl_bench.checkpoints.layouts import BRANCHES, LAYOUTS, Branch, Found, detect
from flsl_bench.checkpoints.reading import Content, one_line, read
from flsl_bench.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

CANONICAL = re.compile(
    r"(cls_token|register_tokens|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm[12]\.(weight|bias)|attn\.(qkv|proj)\.(weight|bias)|ls[12]\.gamma|mlp\.fc[12]\.(weight|bias)))"
)
FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Facts:
    """What is known of a checkpoint, for a record.

    `path` and `sha256` (64 hexadecimal digits) are the file's; `format` is the layout's name; `branch` the set of
    weights taken, None where there is one only. `heads_source` says where the number of heads is from. `matched_keys`
    counts the file's tensors that went into the backbone, `left_over` names all else in groups, `notes` says what a
    reader of a result should know.
    """

    path: str
    sha256: str
    format: str
    branch: str | None
    architecture: Architecture
    heads_source: str
    matched_keys: int
    left_over: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        plain = asdict(self) | {"left_over": list(self.left_over), "notes": list(self.notes)}
        return plain | {"architecture": arch_of.architecture_to_dict(self.architecture)}

    def describe(self) -> list[tuple[str, str]]:
        """The facts as pairs of a label and a text, for people."""
        architecture = self.architecture
        rows, columns = architecture.position_grid
        pairs = [
            ("file", self.path),
            ("format", self.format + (f", {self.branch}" if self.branch else "")),
            ("arch", f"{architecture.name}: width {architecture.embed_dim}, depth {architecture.depth}"),
            ("patch", f"{architecture.patch_size}, positions {rows}x{columns}"),
            ("prefix tokens", str(architecture.prefix_tokens)),
            ("heads", f"{architecture.num_heads} ({self.heads_source})"),
            ("keys", f"all {self.matched_keys} of the backbone found"),
            ("left over", ", ".join(self.left_over) or "nothing"),
            ("sha256", self.sha256),
        ]
        return pairs + [("note", note) for note in self.notes]


@dataclass(frozen=True)
class Checkpoint:
    """A backbone's weights under canonical names (those of DINO's and timm's ViT), fp32 on the CPU, and their facts.

    With width C, hidden width D, patch p, N positions: cls_token [1, 1, C], register_tokens [1, R, C], pos_embed
    [1, N, C], patch_embed.proj.weight [C, 3, p, p], norm [C], and in blocks.I: attn.qkv.weight [3C, C] (query, key,
    value), attn.proj [C, C], norm1 and norm2 [C], mlp.fc1 [D, C] and fc2 [C, D], ls1.gamma and ls2.gamma [C].
    """

    state_dict: dict[str, Tensor]
    facts: Facts


def load_checkpoint(
    path: str | os.PathLike,
    *,
    branch: str | None = None,
    num_heads: int | None = None,
    arch: str | None = None,
    patch_size: int | None = None,
    class_token: bool | None = None,
    force_heads: bool = False,
) -> Checkpoint:
    """Read a released checkpoint: find its layout by its keys, check every backbone key and shape, translate the names.

    `branch` selects among several networks (default: the teacher; MoCo v3's base encoder). `num_heads` is needed where
    neither the file nor a named size tells it; `force_heads` lets it overrule the file. `arch` and `patch_size` are
    expectations to be checked. `class_token` says whether the sequence has a CLS token where the tensors leave it open.

    Raises CheckpointError, in one line: an unreadable, unsafe or unknown file; missing, unexpected, misshapen or
    non-finite weights; an unknown or absent branch; an expectation or a number of heads that contradicts the file.
    """
    path = Path(path)
    content = read(path)
    name, found = _detect(content)
    branch = _choose_branch(found, branch, name, path)
    tensors, unused = _collect(found.branches[branch], str(path))
    shape = arch_of.shape_of(tensors, str(path))
    arch_of.check_asked(shape, arch, patch_size, str(path))
    header = _header(content, str(path)) if name == "flsl_bench" else None
    stated, heads_notes = _stated(content, shape, name, header)
    heads = arch_of.heads_of(shape, stated, num_heads, force=force_heads, where=str(path))
    tokens = arch_of.tokens_of(
        tensors,
        layout_says=header.class_token if header else found.class_token,
        asked=class_token,
        grid=header.position_grid if header else None,
        where=str(path),
    )
    if not tokens.class_token and tensors.pop("cls_token", None) is not None:
        unused += [key for key, target in found.branches[branch].names.items() if target == "cls_token"]
    eps = header.norm_eps if header else found.norm_eps
    architecture = arch_of.assemble(shape, tokens, heads.num_heads, eps)
    if header and architecture != replace(header, num_heads=heads.num_heads):
        raise CheckpointError(
            f"{path}: header and tensors disagree ({header}; {architecture}); convert the source again"
        )
    facts = _facts(content, name, found, branch, architecture, heads, unused, heads_notes)
    return Checkpoint(_finish(tensors, str(path)), facts)


def convert(path: str | os.PathLike, out: str | os.PathLike, **options: Any) -> Facts:
    """Read `path` as `load_checkpoint` does (same options) and write the backbone to `out` as safetensors, in one step.

    The header keeps the architecture, the source's name, SHA-256, layout and branch, where the heads are from, what was
    left over and the notes; the file is read back to the identical `Architecture`. Returns the facts of the source.

    Raises CheckpointError as `load_checkpoint` does, or if `out` cannot be written.
    """
    from safetensors.torch import save_file

    checkpoint = load_checkpoint(path, **options)
    try:
        with files.atomic_path(out) as temporary:
            save_file(checkpoint.state_dict, str(temporary), metadata=_to_metadata(checkpoint.facts))
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {one_line(error)}") from None
    return checkpoint.facts


def _detect(content: Content) -> tuple[str, Found]:
    result = detect(content)
    if result is None:
        keys = sorted(content.entries)
        more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
        raise CheckpointError(
            f"{content.path}: no known layout of a ViT ({', '.join(LAYOUTS)}); the top-level keys are "
            f"{', '.join(one_line(key, 60) for key in keys[:12]) or 'none'}{more}"
        )
    return result


def _choose_branch(found: Found, asked: str | None, layout: str, path: Path) -> str | None:
    if asked is None:
        return found.default
    if asked not in BRANCHES:
        raise CheckpointError(f"{path}: unknown branch {asked!r}; branches are {', '.join(BRANCHES)}")
    if asked not in found.branches:
        existing = ", ".join(name for name in found.branches if name) or "none, it holds a single network"
        raise CheckpointError(f"{path}: no branch {asked!r} in this {layout} checkpoint; its branches: {existing}")
    return asked


def _collect(branch: Branch, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """Canonical tensors as they are in the file (parts concatenated), and the file's keys that have no place in a ViT.

    Raises CheckpointError if a part the ViT does not have would change what it computes.
    """
    arch_of.refuse_unsupported(branch.names.values(), where)
    tensors: dict[str, Tensor] = {}
    unused, origin = [], {}
    for key, name in branch.names.items():
        if not CANONICAL.fullmatch(name.partition("#")[0]):
            unused.append(key)
        elif name in tensors:
            raise CheckpointError(f"{where}: both {origin[name]!r} and {key!r} are the backbone's {name}")
        else:
            tensors[name], origin[name] = branch.tensors[key], key
    foreign = [key for key in unused if arch_of.INSIDE_BLOCK.match(branch.names[key])]
    if foreign:
        raise CheckpointError(
            f"{where}: the blocks have {len(foreign)} parameters that this ViT does not: {', '.join(foreign[:8])}"
        )
    return _joined(tensors, where), unused


def _joined(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Concatenate `name#0`, `name#1`, `name#2` along the first axis; a missing part leaves the whole missing."""
    import torch

    whole = {name: tensor for name, tensor in tensors.items() if "#" not in name}
    for stem in {name.partition("#")[0]: None for name in tensors if "#" in name}:
        parts = [tensors[f"{stem}#{index}"] for index in range(3) if f"{stem}#{index}" in tensors]
        if len(parts) < 3:
            continue
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str(list(part.shape)) for part in parts)
            raise CheckpointError(f"{where}: query, key and value of {stem} differ in shape: {shapes}")
        whole[stem] = torch.cat([part.detach().to(torch.float32) for part in parts])
    return whole


def _stated(
    content: Content, shape: Shape, layout: str, header: Architecture | None
) -> tuple[Statement | None, tuple[str, ...]]:
    if header:
        return Statement(header.num_heads, f"{content.metadata.get('heads_source')} (kept in the header)"), ()
    return arch_of.stated_heads(content.entries, shape, layout, content.metadata)


def _facts(
    content: Content,
    layout: str,
    found: Found,
    branch: str | None,
    architecture: Architecture,
    heads: Heads,
    unused: Iterable[str],
    heads_notes: tuple[str, ...],
) -> Facts:
    within = f"{branch}." if branch in content.entries else ""
    others = [
        f"{name}.{key}" if name in content.entries else key
        for name, other in found.branches.items()
        if name != branch
        for key in other.tensors
    ]
    unused = list(unused)
    return Facts(
        path=str(content.path),
        sha256=files.sha256(content.path),
        format=layout,
        branch=branch,
        architecture=architecture,
        heads_source=heads.source,
        matched_keys=len(found.branches[branch].tensors) - len(unused),
        left_over=_grouped([*(within + key for key in unused), *others, *found.rest]),
        notes=(*found.notes, *heads_notes, *heads.notes, *_earlier_notes(content)),
    )


def _grouped(keys: Iterable[str]) -> tuple[str, ...]:
    """Sum up keys that share their beginning: `teacher.head.* (8 keys)`; a single key stays as it is."""
    groups = defaultdict(list)
    for key in keys:
        parts = [part for part in key.split(".") if part not in ("module", "_orig_mod")]
        depth = 2 if parts[0] in (*BRANCHES, "backbone", "state_dict", "model") else 1
        groups[".".join(parts[:depth])].append(key)
    return tuple(
        members[0] if len(members) == 1 else f"{group}.* ({len(members)} keys)"
        for group, members in sorted(groups.items())
    )


def _finish(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """fp32 copies in memory, independent of the file; raises CheckpointError for weights that are no finite numbers."""
    import torch

    finished = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{where}: {name} is no dense floating-point tensor ({tensor.dtype}, {tensor.layout})"
            )
        copy = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        if not bool(torch.isfinite(copy).all()):
            raise CheckpointError(
                f"{where}: {name} holds values that are not finite; the training run or the file is broken"
            )
        finished[name] = copy
    return finished


def _to_metadata(facts: Facts) -> dict[str, str]:
    return {
        "format": "flsl_bench",
        "format_version": FORMAT_VERSION,
        "architecture": json.dumps(asdict(facts.architecture)),
        "num_heads": str(facts.architecture.num_heads),
        "heads_source": facts.heads_source,
        "source_file": Path(facts.path).name,
        "source_sha256": facts.sha256,
        "source_format": facts.format,
        "source_branch": facts.branch or "",
        "left_over": json.dumps(facts.left_over),
        "notes": json.dumps(facts.notes),
    }


def _header(content: Content, where: str) -> Architecture:
    """The architecture that `convert` wrote; raises CheckpointError if it is of a later version or malformed."""
    version = content.metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{where}: format_version is {version!r}, this version reads {FORMAT_VERSION!r}")
    try:
        fields = json.loads(content.metadata["architecture"])
        rows, columns = fields.pop("position_grid")
        if not arch_of.is_whole(fields["num_heads"]) or fields["num_heads"] < 1:
            raise ValueError(f"num_heads is {fields['num_heads']!r}")
        return Architecture(**fields, position_grid=(int(rows), int(columns)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: the header's architecture is malformed: {one_line(repr(error))}") from None


def _earlier_notes(content: Content) -> tuple[str, ...]:
    """For a file of our own: where it is from, and the notes on its source."""
    if content.metadata.get("format") != "flsl_bench":
        return ()
    about = content.metadata
    source = f"{about.get('source_format')} checkpoint {about.get('source_file')}, sha256 {about.get('source_sha256')}"
    try:
        notes = json.loads(about.get("notes", "[]"))
    except ValueError:
        notes = []
    earlier = (note for note in notes if isinstance(note, str)) if isinstance(notes, list) else ()
    return (f"converted from {source}", *earlier)
