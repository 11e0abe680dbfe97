"""Downstream evaluation of dense self-supervised checkpoints: COCO, UAVDT, ADE20K, DAVIS."""

__version__ = "0.1.0"
