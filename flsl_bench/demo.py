"""The demo: from a checkpoint in FLSL's release layout to a COCO table, in minutes, on a laptop."""

import argparse
from pathlib import Path


def write_checkpoint(path: Path, *, embed_dim: int, depth: int, num_heads: int, patch_size: int, seed: int = 0) -> Path:
    """Write a random ViT in the layout of FLSL's release: student, teacher, optimizer, epoch, args.

    As in the release the sequence has no CLS token, positions are fixed sin-cos, and a stray `cls_token` remains.
    """
    import torch

    from flsl_bench.backbones.vit import VisionTransformer
    from flsl_bench.files import atomic_path

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = VisionTransformer(
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            patch_size=patch_size,
            class_token=False,
            position_grid=(224 // patch_size, 224 // patch_size),
            positions="fixed",
        )
        head = {"head.mlp.0.weight": torch.randn(embed_dim, embed_dim) * 0.02, "head.mlp.0.bias": torch.zeros(embed_dim)}
    backbone = {"cls_token": torch.zeros(1, 1, embed_dim), **vit.state_dict()}
    backbone = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    content = {
        "student": {f"module.{name}": tensor for name, tensor in {**backbone, **head}.items()},
        "teacher": {**backbone, **head},
        "optimizer": {},
        "epoch": 0,
        "args": argparse.Namespace(
            embed_dim=embed_dim, depth=depth, num_heads=num_heads, patch_size=patch_size, seed=seed
        ),
        "flsl_loss": {},
        "fp16_scaler": None,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return path
