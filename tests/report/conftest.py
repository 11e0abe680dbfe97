"""A work dir as evaluations leave it: records of several models on several tasks, breakdowns, panels."""

import math
from pathlib import Path

import numpy as np
import pytest

from flsl_bench.pictures.panels import add_panel
from flsl_bench.report import write_report
from flsl_bench.results.store import Store
from tests.results.conftest import build_record

FLSL, DINO = "flsl_vits16-7982aa65", "dino_vits16-1c9c2a08"
CLASSES = ("wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "grass", "cabinet", "person", "earth")
SEQUENCES = ("bike-packing", "blackswan", "camel", "dogs-jump", "gold-fish", "libby", "parkour", "soapbox")


def sample_records():
    """COCO with three seeds, two models on DAVIS, ADE20K, UAVDT, two probes, a changed protocol and a smoke run."""
    dino = {"model": DINO, "layout": "dino", "digits": "d"}
    coco = {"box_AP50": 66.1, "box_AP75": 49.2, "mask_AP50": 63.0, "mask_AP75": 43.9, "box_AR100": 57.3}
    for seed, (box, mask) in enumerate([(44.9, 40.8), (45.2, 41.0), (44.8, 40.7)]):
        yield build_record(model=FLSL, seed=seed, minute=seed, scores={"box_AP": box, "mask_AP": mask} | coco)
    yield build_record(**dino, scores={"box_AP": 43.5, "mask_AP": 39.6} | coco)
    yield _davis(model=FLSL, level=61.2)
    yield _davis(**dino, level=61.8)
    yield build_record(
        model=FLSL,
        task="ade20k",
        benchmark="ade20k_semfpn_40k",
        scores={"mIoU": 42.9, "mAcc": 54.0, "aAcc": 80.2, "mIoU_150": 42.9},
        breakdowns={
            "IoU by class": {name: _wave(n, 60) for n, name in enumerate(CLASSES)} | {"flag": None, "clock": 31.5},
            "Acc by class": {name: _wave(n, 72) for n, name in enumerate(CLASSES)} | {"flag": None, "clock": 40.0},
        },
    )
    yield build_record(
        model=FLSL,
        task="uavdt",
        benchmark="uavdt_fasterrcnn_vit_fpn_1x",
        scores={"box_AP": 17.9, "box_AP50": 30.4, "box_AP75": 18.8, "box_APs": 9.0, "box_APl": None, "official_AP": 39},
        breakdowns={"official AP by occlusion": {"none": 47.1, "large": 8.2, "medium": 21.0, "small": 35.5}},
    )
    yield build_record(
        model=FLSL,
        task="prompt-seg-coco",
        benchmark="mmc_style_prompt_seg_coco",
        scores={"mIoU": 38.4, "mIoU-oracle": 52.0, "AUC": 24.6, "threshold": 0.62},
        breakdowns={
            "mIoU by class": {"bus": 61.0, "cat": 57.5, "person": 33.2},
            "mIoU by size": {"small": 11.9, "medium": 33.0, "large": 51.4},
            "mIoU by threshold": {f"{t / 50:.2f}": 38.4 * math.exp(-((t / 50 - 0.62) ** 2) / 0.08) for t in range(51)},
        },
    )
    yield build_record(
        model=FLSL,
        task="similarity-coco",
        benchmark="object_similarity_coco",
        scores={"AUROC": 78.2, "overlap": 51.3, "gap": 0.2134},
        breakdowns={
            "pairs within one object": _histogram(0.55, 0.18),
            "pairs of two objects": _histogram(0.34, 0.17),
            "pairs of object and background": _histogram(0.21, 0.14),
        },
    )
    yield build_record(model=FLSL, deviations={"image_scale_factor": 0.5, "train_cfg.max_epochs": 3}, minute=8)
    yield build_record(model=FLSL, deviations={"smoke": True}, scores={"box_AP": 0.1, "mask_AP": None}, minute=9)


def _davis(*, level, **identity):
    scores = {"J&F-Mean": level, "J-Mean": level - 2, "J-Decay": 16.1, "F-Mean": level + 2, "F-Decay": 18.3}
    parts = {
        f"{metric} by sequence": {name: _wave(n, level + shift) for n, name in enumerate(SEQUENCES)}
        for metric, shift in (("J&F-Mean", 0), ("J-Mean", -2), ("F-Mean", 2))
    }
    return build_record(
        **identity, task="davis", benchmark="davis2017_val_label_prop", scores=scores, breakdowns=parts, minute=5
    )


def _wave(n, level):
    return level + 22 * math.sin(1.7 * n)


def _histogram(mean, width):
    bins = [round(-1 + 0.05 * k, 2) for k in range(40)]
    shares = {f"{x:.4g}": math.exp(-(((x - mean) / width) ** 2) / 2) for x in bins}
    total = sum(shares.values())
    return {x: 100 * share / total for x, share in shares.items() if share > 1e-3}


def sample_panels(work_dir: Path):
    """A dozen pictures of two tasks, and one group that is too large to show."""
    for n in range(6):
        add_panel(work_dir / FLSL / "davis" / "seed0-502a6caf" / "panels", "Masks", SEQUENCES[n], _picture(n, 90, 160))
    for n in range(6):
        folder = work_dir / FLSL / "similarity-coco" / "seed0-11aa22bb" / "panels"
        add_panel(folder, "PCA of the patch tokens", f"{17905 + 7 * n:012d}.jpg", _picture(n + 6, 120, 160))
    for n in range(26):
        add_panel(work_dir / FLSL / "uavdt" / "seed0-bbdd7e9b" / "panels", "Boxes", f"frame {n}", _picture(n, 24, 32))


def _picture(n, height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    disc = np.hypot(rows - height / 2, columns - width * (n % 5 + 1) / 6) < height / 4
    colours = np.random.default_rng(n).integers(40, 230, (2, 3))
    return np.where(disc[..., None], colours[0], colours[1]).astype(np.uint8)


@pytest.fixture(scope="session")
def work_dir(tmp_path_factory) -> Path:
    """Panels below it, records in its folder `results`."""
    folder = tmp_path_factory.mktemp("work")
    store = Store(folder / "results")
    for record in sample_records():
        store.save(record)
    sample_panels(folder)
    return folder


@pytest.fixture(scope="session")
def page(work_dir) -> Path:
    """The page of `work_dir`."""
    return write_report(work_dir, work_dir / "results")
