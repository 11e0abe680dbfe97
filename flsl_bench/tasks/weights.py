"""The weights that are evaluated: the network they make, and what a record says of them."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flsl_bench.checkpoints import Checkpoint, Facts, load_checkpoint
from flsl_bench.errors import ConfigError
from flsl_bench.results.record import FOLDER_NAME, NAMING, Weights

if TYPE_CHECKING:
    from flsl_bench.backbones.vit import VisionTransformer


def weights_of(facts: Facts) -> Weights:
    """The record's account of a checkpoint."""
    architecture = facts.architecture
    return Weights(
        file=Path(facts.path).name,
        sha256=facts.sha256,
        format=facts.format,
        branch=facts.branch,
        arch=architecture.name,
        patch_size=architecture.patch_size,
        num_heads=architecture.num_heads,
        heads_source=facts.heads_source,
        prefix_tokens=architecture.prefix_tokens,
    )


def model_name(weights: Weights, given: str | None = None) -> str:
    """Folder name of a model's records: as given, or the file's stem and digits of its hash, as `checkpoint` recurs.

    Raises `ConfigError` for a given name that is none.
    """
    if given is not None:
        if not FOLDER_NAME.fullmatch(given):
            raise ConfigError(f"--model-name {given}: cannot be a folder's name; {NAMING}")
        return given
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", Path(weights.file).stem).strip("._-+") or "model"
    return f"{stem}-{weights.sha256[:8]}"


def load_vit(facts: Facts, reading: Mapping[str, Any], **options: Any) -> "VisionTransformer":
    """The network of the checkpoint that `facts` were read from; `reading` is how it was asked to be read.

    Raises `ConfigError` if the file has changed since.
    """
    checkpoint = load_checkpoint(facts.path, **reading)
    if checkpoint.facts.sha256 != facts.sha256:
        raise ConfigError(f"{facts.path}: changed since the run began; start again")
    return vit_of(checkpoint, **options)


def vit_of(checkpoint: Checkpoint, **options: Any) -> "VisionTransformer":
    """The network of a checkpoint; `options` are those of `VisionTransformer` that no checkpoint knows."""
    import torch

    from flsl_bench.backbones.vit import VisionTransformer

    torch.backends.cudnn.allow_tf32 = False  # the patch embedding too is fp32 where a record says so
    vit = VisionTransformer(**asdict(checkpoint.facts.architecture), **options)
    vit.load_state_dict(checkpoint.state_dict)
    return vit
