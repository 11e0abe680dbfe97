"""Annotation files in PASCAL VOC's XML, which ImageNet's boxes use too."""

import math
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from flsl_bench.errors import DataError

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class XmlObject:
    """One `<object>`."""

    name: str
    box: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax as written: where pixels begin to count differs between data sets."""
    difficult: bool


@dataclass(frozen=True)
class XmlAnnotation:
    """One file."""

    size: tuple[int, int]
    """Width and height of the picture that was annotated; the image file's can differ (ImageNet)."""
    objects: tuple[XmlObject, ...]


def read_box_xml(path: str | os.PathLike) -> XmlAnnotation:
    """The boxes of an annotation file.

    Raises `DataError` for a file that is missing, malformed or has a DOCTYPE (which could expand entities without
    bound), and for a field that is missing or no number; the message names it.
    """
    path = Path(path)
    root = _parse(path)
    size = _number(path, root, "size/width"), _number(path, root, "size/height")
    if not all(side >= 1 and side == int(side) for side in size):
        raise DataError(f"{path}: field size is {size[0]:g}x{size[1]:g}, no size in pixels; fetch the file again")
    objects = (_object(path, node, f"object[{i}]/") for i, node in enumerate(root.findall("object")))
    return XmlAnnotation((int(size[0]), int(size[1])), tuple(objects))


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, name, pubid, system):
        # Called before any entity of it is expanded, whatever the file's encoding.
        raise ValueError(f"it declares a DOCTYPE {name}, which annotations have no use for")


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_Builder()))
    except OSError as error:
        raise DataError(f"{path}: annotation file cannot be read ({error.strerror}); fetch it again") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: malformed XML ({error}); fetch the file again") from error


def _object(path: Path, node: ElementTree.Element, where: str) -> XmlObject:
    name = _text(path, node, "name", where)
    box = tuple(_number(path, node, f"bndbox/{side}", where) for side in _SIDES)
    return XmlObject(name, box, (node.findtext("difficult") or "").strip() == "1")


def _text(path: Path, node: ElementTree.Element, field: str, where: str = "") -> str:
    text = (node.findtext(field) or "").strip()
    if not text:
        raise DataError(f"{path}: field {where}{field} is missing or empty; fetch the file again")
    return text


def _number(path: Path, node: ElementTree.Element, field: str, where: str = "") -> float:
    text = _text(path, node, field, where)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: field {where}{field} is {text!r}, no number; fetch the file again")
    return value
