"""What a record says of the weights that were evaluated."""

import re
from pathlib import Path

from flsl_bench.checkpoints import Facts
from flsl_bench.results.record import Weights


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


def model_name(weights: Weights) -> str:
    """Folder name of a model's records: the file's stem, and digits of its hash since names like `checkpoint` recur."""
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", Path(weights.file).stem).strip("._-+") or "model"
    return f"{stem}-{weights.sha256[:8]}"
