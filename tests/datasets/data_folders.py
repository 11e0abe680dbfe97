"""The least that makes a sound folder of each data set: a few files of a few bytes in the published layouts."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from flsl_bench.datasets.davis import write_mask


def touch(*paths: Path, content: bytes = b"x") -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_list(path: Path, names) -> None:
    touch(path, content="".join(f"{name}\n" for name in names).encode())


def instances(path: Path, images: Path, names) -> None:
    """A COCO JSON with one box and one crowd an image, and the images."""
    box = {"category_id": 1, "bbox": [0, 0, 2, 2], "area": 4}
    ids = range(1, len(names) + 1)
    content = {
        "images": [{"id": i, "file_name": name, "width": 8, "height": 6} for i, name in zip(ids, names, strict=True)],
        "annotations": [{"id": 2 * i + crowd, "image_id": i, "iscrowd": crowd, **box} for i in ids for crowd in (0, 1)],
        "categories": [{"id": 1, "name": "person"}],
    }
    touch(path, content=json.dumps(content).encode())
    touch(*(images / name for name in names))


def coco(folder: Path) -> Path:
    for split in ("train2017", "val2017"):
        instances(folder / f"annotations/instances_{split}.json", folder / split, ["1.jpg", "2.jpg"])
    return folder


def uavdt(folder: Path) -> Path:
    for split, sequence in (("train", "M0101"), ("test", "M0203")):
        names = [f"{sequence}/img000001.jpg", f"{sequence}/img000002.jpg"]
        instances(folder / f"annotations/uavdt_{split}.json", folder / "UAV-benchmark-M", names)
    return folder


def ade20k(folder: Path) -> Path:
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        touch(folder / f"images/{split}/{name}.jpg", folder / f"annotations/{split}/{name}.png")
        Image.new("RGB", (8, 6)).save(folder / f"images/{split}/{name}.jpg")
        Image.new("L", (8, 6), 3).save(folder / f"annotations/{split}/{name}.png")
    return folder


def davis(folder: Path) -> Path:
    for split, name in (("train", "bear"), ("val", "libby")):
        write_list(folder / f"ImageSets/2017/{split}.txt", [name])
        for frame in ("00000", "00001"):
            touch(folder / f"JPEGImages/480p/{name}/{frame}.jpg")
            write_mask(folder / f"Annotations/480p/{name}/{frame}.png", np.ones((6, 8), np.uint8))
    return folder


def voc(folder: Path) -> Path:
    for year, splits in (("VOC2007", ("trainval", "test")), ("VOC2012", ("trainval",))):
        for split in splits:
            name = f"{year}_{split}"
            write_list(folder / year / f"ImageSets/Main/{split}.txt", [name])
            touch(folder / year / f"JPEGImages/{name}.jpg", folder / year / f"Annotations/{name}.xml")
    segmented = folder / "VOC2012"
    write_list(segmented / "ImageSets/Segmentation/trainval.txt", ["VOC2012_trainval"])
    touch(*(segmented / f"Segmentation{kind}/VOC2012_trainval.png" for kind in ("Class", "Object")))
    return folder


def imagenet(folder: Path) -> Path:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n02084071"):
            touch(folder / split / wnid / f"{split}_{wnid}.JPEG")
    touch(folder / "Annotations/CLS-LOC/train/n01440764/train_n01440764.xml")
    touch(folder / "Annotations/CLS-LOC/val/val_n01440764.xml")
    return folder


BUILDERS = {"coco": coco, "uavdt": uavdt, "ade20k": ade20k, "davis": davis, "voc": voc, "imagenet": imagenet}
