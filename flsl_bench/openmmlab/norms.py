"""The suite's batch normalisation under a name for `norm_cfg`, since mmcv's SyncBN refuses the CPU."""

from mmengine.registry import MODELS

from flsl_bench.backbones.pyramids import SyncBatchNorm

MODELS.register_module(module=SyncBatchNorm)
