"""Predictions that tools/test.py dumped, read without running code, and drawn."""

import io
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flsl_bench.datasets.ade20k_classes import CLASSES
from flsl_bench.errors import DataError
from flsl_bench.pictures import annotations, canvas

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def _load_storage(content: bytes) -> Any:
    """torch's own would unpickle whatever is in the bytes."""
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


def _latin1(text: str, _codec: str) -> bytes:
    """Pickle's protocol 2 writes bytes as text."""
    return text.encode("latin1")


_REPLACED = {
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): bytes,  # protocol 2's name
}


class _Unknown:
    """Stands for an object of a class that is of no interest here, such as the truth's polygons."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _SafeUnpickler(pickle.Unpickler):
    """Builds containers, numbers, arrays and tensors only; all else becomes an empty object, no code of it is run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _REPLACED:
            return _REPLACED[module, name]
        return super().find_class(module, name) if (module, name) in _ALLOWED else _Unknown


def read_predictions(path: str | os.PathLike, kind: str) -> list[dict[str, Any]]:
    """The images of a dump, each with `img_path` and the field `kind`, "pred_instances" or "pred_sem_seg".

    Raises `DataError` for a file that cannot be read or lacks these fields.
    """
    try:
        with open(path, "rb") as file:
            samples = _SafeUnpickler(file).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not readable as predictions ({reason}); write it by tools/test.py --out") from None
    if not isinstance(samples, list) or not all(isinstance(one, dict) for one in samples):
        raise DataError(f"{path}: not a list of images' predictions; write it by tools/test.py --out")
    for one in samples:
        missing = [field for field in ("img_path", kind) if field not in one]
        if missing:
            raise DataError(f"{path}: field {missing[0]} is missing in an image; write it by tools/test.py --out")
    return samples


def category_names(annotation_file: str | os.PathLike) -> list[str]:
    """Names of a COCO JSON's categories in the order of the labels, which is that of their ids.

    Raises `DataError` for a file that is no COCO JSON.
    """
    try:
        categories = json.loads(Path(annotation_file).read_text(encoding="utf-8"))["categories"]
        return [category["name"] for category in sorted(categories, key=lambda category: category["id"])]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{annotation_file}: no categories in it; give the annotations in COCO's format") from None


def draw_detections(sample: dict[str, Any], names: Sequence[str], threshold: float) -> np.ndarray:
    """Boxes, classes, scores and masks of an image at or above `threshold`, over it."""
    found = sample["pred_instances"]
    kept = found["scores"] >= threshold
    height, width = sample["ori_shape"][:2]
    return annotations.draw_instances(
        canvas.read_picture(sample["img_path"]),
        found["bboxes"][kept].numpy(),
        found["labels"][kept].tolist(),
        scores=found["scores"][kept].tolist(),
        masks=found["masks"][kept].numpy() if "masks" in found else None,
        names=names,
        image_size=(width, height),
    )


def draw_segmentation(sample: dict[str, Any]) -> np.ndarray:
    """The label map of ADE20K's classes over its image, with a legend."""
    labels = sample["pred_sem_seg"]["data"].squeeze(0).numpy()
    picture = annotations.draw_label_map(canvas.read_picture(sample["img_path"]), labels, len(CLASSES))
    return annotations.with_label_legend(picture, [labels], CLASSES)
