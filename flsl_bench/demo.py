"""The demo: from a checkpoint in FLSL's release layout to all tables and the report, in minutes, on a laptop."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MODEL = "flsl-demo"
TASKS = ("coco", "uavdt", "ade20k", "davis", "prompt-seg", "similarity", "box-knn", "dense-nn")
CONFIGS = {
    "coco": "mmconfigs/maskrcnn_vitt16_flsl_miniature.py",
    "uavdt": "mmconfigs/fasterrcnn_vitt16_flsl_uavdt_miniature.py",
    "ade20k": "mmconfigs/semfpn_vitt16_flsl_ade20k_miniature.py",
}


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
        head = {"head.mlp.0.weight": 0.02 * torch.randn(embed_dim, embed_dim)}
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
    with atomic_path(path) as temporary, open(temporary, "wb") as file:  # by name, the bytes would depend on the name
        torch.save(content, file)
    return path


def run_demo(work_dir: Path, overwrite: bool = False) -> bool:
    """Make data and a checkpoint, evaluate it on every benchmark as `flsl-bench run` does, write the report.

    Returns whether all went well.
    A killed demo goes on where it was. Nothing is written outside `work_dir`; its records do not go to the checkout's
    results.
    """
    from rich.console import Console

    from flsl_bench.datasets.miniature import make_ade20k, make_coco, make_davis, make_uavdt, make_voc
    from flsl_bench.report import write_report
    from flsl_bench.suite import Wish, execute

    console = Console(highlight=False)
    console.rule("1. Miniatures of COCO, UAVDT, ADE20K, DAVIS and VOC in their real layouts")
    makers = {"coco": make_coco, "uavdt": make_uavdt, "ade20k": make_ade20k, "DAVIS": make_davis, "VOC": make_voc}
    for name, make in makers.items():
        console.print(str(make(work_dir / "data" / name)), soft_wrap=True)

    console.rule("2. A checkpoint in FLSL's release layout, random weights")
    checkpoint = _checkpoint(work_dir / "checkpoints/flsl_demo.pth", console)

    console.rule("3. Every benchmark on it with small configs, and the probes of its features")
    command = f"flsl-bench run --checkpoint {checkpoint} --data-root {work_dir / 'data'} ..."
    console.print(command, soft_wrap=True)
    wish = Wish(
        checkpoint=checkpoint,
        tasks=TASKS,
        data_root=work_dir / "data",
        work_dir=work_dir,
        results=work_dir / "results",
        configs=CONFIGS,
        model=MODEL,
        overwrite=overwrite,
    )
    _, failures = execute(wish, console)
    console.print("The weights were random and the data tiny: the figures say that the machinery works, no more.")
    console.rule("4. Everything on one page")
    console.print(str(write_report(work_dir, work_dir / "results")), soft_wrap=True)
    return not failures


def _checkpoint(path: Path, console: "Console") -> Path:
    from flsl_bench.checkpoints import load_checkpoint

    if not path.is_file():
        write_checkpoint(path, embed_dim=192, depth=4, num_heads=3, patch_size=16)
    for name, value in load_checkpoint(path).facts.describe():
        console.print(f"{name:<14}{value}", soft_wrap=True)
    return path
