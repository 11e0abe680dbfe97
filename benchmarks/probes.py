"""What the probes without training add to a forward pass: images a second of the ViT alone and with each probe.

    python benchmarks/probes.py                                   # 640x480 pictures composed by the script
    python benchmarks/probes.py --coco-root data/coco --images 64 # COCO's own
    python benchmarks/probes.py --arch vit_base --device cuda

Of the probes of single images, an image's time is the median over the rounds, the figures are means over the images.
Decoding of pictures runs beside the ViT and is in its time; decoding of masks is in the probe's. The probes take turns
on the features of one pass, as they do in a run of several.

Of the probes with a bank or a head, which learn from training images, the whole probe is timed on features that are
there, and divided by all its images, training images among them. What a search costs grows with the bank.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from flsl_bench.backbones.vit import VisionTransformer
from flsl_bench.checkpoints import ARCHITECTURES
from flsl_bench.datasets.boxed_images import voc_boxes
from flsl_bench.datasets.miniature import make_coco, make_voc
from flsl_bench.datasets.objects import ObjectImages, coco_objects
from flsl_bench.datasets.semantic import voc_segmentation
from flsl_bench.errors import FlslBenchError
from flsl_bench.probes import box_knn, dense_retrieval, linear_segmentation
from flsl_bench.probes.image_features import FeatureOptions, ImageFeatures, PatchFeatures, Resize, View
from flsl_bench.probes.object_similarity import SimilarityCounter
from flsl_bench.probes.prompt_segmentation import PromptSegmenter

PROBES = {"prompt segmentation": PromptSegmenter, "object similarity": SimilarityCounter}
GOAL = 20
"""Percent of the forward pass that a probe may add."""


def measure(features: ImageFeatures, images: ObjectImages, rounds: int) -> dict[str, list[float]]:
    """Seconds of each image, by step: the ViT and each probe."""
    times = {step: [[] for _ in images.paths] for step in ("ViT", *PROBES)}
    for _ in range(rounds):
        probes = {name: make() for name, make in PROBES.items()}
        patches = features.many(images.paths)
        for i, image in enumerate(images):
            taken, seconds = _timed(features.device, next, patches)
            times["ViT"][i].append(seconds)
            for name, probe in probes.items():
                _, seconds = _timed(features.device, probe.add, taken, image)
                times[name][i].append(seconds)
    return {step: [statistics.median(values) for values in by_image] for step, by_image in times.items()}


def _timed(device: torch.device, call: Callable, *arguments: object) -> tuple[object, float]:
    began = time.perf_counter()
    result = call(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - began


def report(times: dict[str, list[float]]) -> None:
    """Print a row a step."""
    alone = statistics.fmean(times["ViT"])
    print(f"{'':22}{'ms an image':>12}{'images/s':>10}{'added':>9}")
    for step, values in times.items():
        own = statistics.fmean(values)
        together, added = (alone, "") if step == "ViT" else (alone + own, f"{100 * own / alone:.1f} %")
        print(f"{step:22}{1000 * own:12.1f}{1 / together:10.2f}{added:>9}")
    print(f"goal: a probe adds less than {GOAL} %")


class Kept:
    """Features that are there: the probe alone is timed."""

    def __init__(self, features: ImageFeatures, paths: list[Path]):
        self.options, self.device = features.options, features.device
        self.patch_size, self.vit = features.patch_size, features.vit
        self._kept = dict(zip(paths, features.many(paths), strict=True))

    def many(self, paths: list[Path]) -> Iterator[PatchFeatures]:
        return (self._kept[path] for path in paths)


def measure_learners(options: argparse.Namespace, root: Path) -> None:
    """Print a row a probe: the ViT's time an image at the probe's own view, and what the whole probe adds to it."""
    make_voc(root, train_images=options.images, val_images=options.images, size=(640, 480))
    boxes = [voc_boxes(root, split, 2007) for split in ("trainval", "test")]
    labels = [voc_segmentation(root, split) for split in ("train", "val")]
    images = [[image.path for image in (*one.images, *other.images)] for one, other in (boxes, labels)]
    whole, cut = Resize(options.short_side), box_knn.VIEW
    steps = {
        "box k-NN": (cut, images[0], lambda kept: box_knn.box_knn(kept, *boxes)),
        "dense retrieval": (whole, images[1], lambda kept: dense_retrieval.dense_retrieval(kept, *labels)),
        "linear segmentation": (whole, images[1], lambda kept: linear_segmentation.linear_segmentation(kept, *labels)),
    }
    print(f"{'':22}{'ViT, ms':>12}{'probe, ms':>10}{'added':>9}")
    for name, (view, paths, probe) in steps.items():
        features = image_features(options, view)
        features.one(paths[0])
        kept, vit = _timed(features.device, Kept, features, paths)
        own = statistics.median(_timed(features.device, probe, kept)[1] for _ in range(options.rounds))
        print(f"{name:22}{1000 * vit / len(paths):12.1f}{1000 * own / len(paths):10.1f}{100 * own / vit:7.1f} %")
    print(f"{options.images} training and {options.images} validation images of 640x480")


def image_features(options: argparse.Namespace, view: View) -> ImageFeatures:
    vit = backbone(options.arch, options.patch_size)
    taken = FeatureOptions(view=view)
    return ImageFeatures(vit, "random weights", taken, device=options.device, batch=options.batch)


def backbone(arch: str, patch_size: int) -> VisionTransformer:
    torch.manual_seed(0)
    side = 224 // patch_size
    return VisionTransformer(*ARCHITECTURES[arch], patch_size=patch_size, position_grid=(side, side))


def run(options: argparse.Namespace, root: Path) -> None:
    images = coco_objects(root)
    number = min(options.images, len(images))
    images = ObjectImages(images.paths[:number], images.load)
    features = image_features(options, Resize(options.short_side))
    measure(features, ObjectImages(images.paths[:2], images.load), 1)  # compiles the loops
    objects = statistics.fmean(len(image.objects) for image in images)
    sizes = sorted({image.size for image in images})
    print(
        f"{options.arch}, patch {options.patch_size}, short side {options.short_side}; {number} images of "
        f"{sizes[0][0]}x{sizes[0][1]} to {sizes[-1][0]}x{sizes[-1][1]}, {objects:.1f} objects each; "
        f"{options.rounds} rounds; load {os.getloadavg()[0]:.1f}"
    )
    report(measure(features, images, options.rounds))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vit_small", choices=ARCHITECTURES, help="of the random backbone")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--short-side", type=int, default=448, help="pixels the ViT sees")
    parser.add_argument("--coco-root", type=Path, help="folder in COCO's layout; its val split is taken")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="by default 1 on the CPU, 8 elsewhere")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if min(options.images, options.rounds) < 1:
        parser.error("give 1 image and 1 round, or more")
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads; torch {torch.__version__}")
    try:
        if options.coco_root:
            run(options, options.coco_root)
        else:
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "coco"
                run(options, make_coco(root, train_images=1, val_images=options.images, size=(640, 480)))
                measure_learners(options, Path(folder) / "voc")
    except FlslBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
