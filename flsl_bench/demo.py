"""The demo: from a checkpoint in FLSL's release layout to COCO's AP and DAVIS's J&F, in minutes, on a laptop."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

MODEL = "flsl-demo"


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
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
    return path


def run_demo(work_dir: Path, overwrite: bool = False) -> None:
    """Make data and a checkpoint, evaluate it as the tools do, print the tables. A killed demo goes on where it was.

    Nothing is written outside `work_dir`; its records do not go to the checkout's results.
    """
    from rich.console import Console

    from flsl_bench.datasets.miniature import make_coco, make_davis

    console = Console(highlight=False)
    console.rule("1. Miniatures of COCO and DAVIS in their real layouts")
    coco_root, davis_root = make_coco(work_dir / "data/coco"), make_davis(work_dir / "data/DAVIS")
    console.print(f"{coco_root}\n{davis_root}")

    console.rule("2. A checkpoint in FLSL's release layout, random weights")
    checkpoint = _checkpoint(work_dir / "checkpoints/flsl_demo.pth", console)

    console.rule("3. COCO: Mask R-CNN is trained on it")
    _coco(work_dir, coco_root, checkpoint, overwrite, console)

    console.rule("4. DAVIS: the first masks are propagated by its features")
    _davis(work_dir, davis_root, checkpoint, overwrite, console)
    console.print("The weights were random and the data tiny: the figures say that the machinery works, no more.")


def _checkpoint(path: Path, console: "Console") -> Path:
    from flsl_bench.checkpoints import load_checkpoint

    if not path.is_file():
        write_checkpoint(path, embed_dim=192, depth=4, num_heads=3, patch_size=16)
    for name, value in load_checkpoint(path).facts.describe():
        console.print(f"{name:<14}{value}", soft_wrap=True)
    return path


def _coco(work_dir: Path, data: Path, checkpoint: Path, overwrite: bool, console: "Console") -> None:
    from flsl_bench.results.reported import load_reported
    from flsl_bench.results.store import Store
    from flsl_bench.results.tables import coco_table
    from flsl_bench.results.terminal import print_record, terminal_table
    from flsl_bench.tasks import openmmlab

    job = openmmlab.prepare_training(
        "mmconfigs/maskrcnn_vitt16_flsl_miniature.py",
        options={"data_root": str(data), "init_checkpoint": str(checkpoint), "model_name": MODEL},
        work_dir=str(work_dir / "coco"),
        resume=None if overwrite else "auto",
        results=work_dir / "results",
        overwrite=overwrite,
        command=["flsl-bench", "demo"],
        progress=True,
    )
    record = openmmlab.train(job)
    print_record(record, job.results, console)
    console.print(terminal_table(coco_table(load_reported(), list(Store(job.results).records()))))


def _davis(work_dir: Path, data: Path, checkpoint: Path, overwrite: bool, console: "Console") -> None:
    from flsl_bench.progress import bar
    from flsl_bench.results.terminal import print_record
    from flsl_bench.tasks import davis
    from flsl_bench.tasks.davis_scoring import text_table

    job = davis.prepare(
        checkpoint,
        data,
        out=work_dir / "davis",
        model=MODEL,
        results=work_dir / "results",
        overwrite=overwrite,
        command=["flsl-bench", "demo"],
    )
    with bar("propagate") as report:
        outcome, record = davis.evaluate(job, report)
    console.print(text_table(outcome.scores), soft_wrap=True)
    print_record(record, job.results, console)
