"""A released weight file in, a clean backbone state dict and the facts about it out.

>>> checkpoint = load_checkpoint("checkpoint.pth")  # doctest: +SKIP
>>> checkpoint.facts.architecture.name, checkpoint.facts.format  # doctest: +SKIP
('vit_small', 'flsl')
"""

from flsl_bench.checkpoints.architecture import ARCHITECTURES, Architecture
from flsl_bench.checkpoints.layouts import BRANCHES, LAYOUTS
from flsl_bench.checkpoints.loading import Checkpoint, Facts, convert, load_checkpoint

__all__ = ["ARCHITECTURES", "BRANCHES", "LAYOUTS", "Architecture", "Checkpoint", "Facts", "convert", "load_checkpoint"]
