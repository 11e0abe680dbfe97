"""DAVIS 2017: its folders, its sequences, and its masks, which are PNGs of object ids with a fixed palette.

    ROOT/ImageSets/2017/{train,val,...}.txt          one sequence name a line
    ROOT/JPEGImages/480p/<sequence>/00000.jpg ...
    ROOT/Annotations/480p/<sequence>/00000.png ...   0 background, 1.. objects, 255 void

A folder of results holds `<sequence>/00000.png ...` in the annotations' format.
"""

import difflib
import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from flsl_bench.errors import DataError
from flsl_bench.files import atomic_path

VOID_ID = 255

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREYSCALE, _PALETTE_TYPE = 0, 3
_COLOUR_TYPES = {2: "RGB", 4: "greyscale with alpha", 6: "RGBA"}
# Above every id in DAVIS and below the grey (38) that object 1's palette colour turns into.
_LARGEST_GREY_ID = 32
_CURE = "save the object ids as an indexed PNG (`write_mask`)"


def _palette() -> np.ndarray:
    """Colours uint8 [256, 3]: bit 3k + c of an id is bit 7 - k of its channel c (VOC devkit, `VOClabelcolormap`)."""
    ids = np.arange(256)[:, None]
    channel = np.arange(3)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for k in range(8):
        colours |= ((ids >> (3 * k + channel) & 1) << (7 - k)).astype(np.uint8)
    return colours


PALETTE = _palette()
"""RGB of each object id, uint8 [256, 3]."""


@dataclass(frozen=True)
class DavisSequence:
    """One sequence of a DAVIS folder. Its methods raise `DataError` for what is missing."""

    root: Path
    name: str
    resolution: str = "480p"

    @property
    def image_folder(self) -> Path:
        return self.root / "JPEGImages" / self.resolution / self.name

    @property
    def mask_folder(self) -> Path:
        return self.root / "Annotations" / self.resolution / self.name

    def images(self) -> list[Path]:
        """The frames in order."""
        return _files(self.image_folder, ".jpg")

    def masks(self) -> list[Path]:
        """The annotated masks in order; if the frames are there too, each must have its mask, each mask its frame."""
        masks = _files(self.mask_folder, ".png")
        if self.image_folder.is_dir():
            self._check_pairs(masks)
        return masks

    def first_mask(self) -> np.ndarray:
        """Object ids uint8 [H, W] of the first frame, in which there must be an object."""
        path = _files(self.mask_folder, ".png")[0]
        ids = read_mask(path)
        if not object_count(ids):
            raise DataError(f"{path}: no object in the first mask; nothing to follow in {self.name}")
        return ids

    def _check_pairs(self, masks: list[Path]) -> None:
        with_mask, with_image = {p.stem for p in masks}, {p.stem for p in self.images()}
        for stem in sorted(with_image - with_mask):
            raise DataError(f"{self.mask_folder / stem}.png: missing, though its frame is there; unpack DAVIS again")
        for stem in sorted(with_mask - with_image):
            raise DataError(f"{self.image_folder / stem}.jpg: missing, though its mask is there; unpack DAVIS again")


def sequences(root: str | os.PathLike, split: str = "val", year: str = "2017") -> list[str]:
    """Names of the sequences of a split, in the order of `ImageSets/<year>/<split>.txt`.

    Raises `DataError` for a root, a list or a name that is not there.
    """
    root = _checked_root(root)
    path = root / "ImageSets" / year / f"{split}.txt"
    try:
        names = path.read_text(encoding="utf-8").split()
    except OSError as error:
        there = sorted(p.stem for p in path.parent.glob("*.txt"))
        raise DataError(f"{path}: no such split ({error.strerror}); there are: {', '.join(there) or 'none'}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; unpack DAVIS again") from None
    if not names:
        raise DataError(f"{path}: no sequence in it; unpack DAVIS again")
    return names


def sequence(root: str | os.PathLike, name: str, resolution: str = "480p") -> DavisSequence:
    """The sequence of that name; raises `DataError` if its folder of masks is not there."""
    root = _checked_root(root)
    found = DavisSequence(root, name, resolution)
    if not name or not found.mask_folder.is_dir():
        parent = root / "Annotations" / resolution
        there = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
        close = difflib.get_close_matches(name, there, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"{len(there)} sequences are there"
        raise DataError(f"{found.mask_folder}: no such sequence {name!r}; {hint}")
    return found


def object_count(ids: np.ndarray, void_id: int = VOID_ID) -> int:
    """The largest object id in a mask [H, W], void left out; 0 if there is no object."""
    largest = int(ids.max(initial=0))
    return int(ids[ids != void_id].max(initial=0)) if largest == void_id else largest


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Object ids uint8 [H, W] of an indexed PNG, or of a greyscale one that holds small ids.

    Raises `DataError` for a file that is missing, truncated or no PNG, for a colour PNG, and for a greyscale PNG
    of grey values: 0 and 255 only, or ids over 32 other than the void 255.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read this mask ({error.strerror}); every frame needs one") from None
    if data[:8] != _PNG_SIGNATURE:
        raise DataError(f"{path}: not a PNG; {_CURE}")
    chunks = _chunks(path, data)
    header = _header(path, chunks)
    ids = _unfiltered_ids(path, header, chunks)
    if ids is None:
        ids = _pillow_ids(path, data)
    if header.colour_type == _GREYSCALE:
        _check_grey_ids(path, ids)
    return ids


def write_mask(path: str | os.PathLike, ids: np.ndarray) -> None:
    """Write object ids [H, W], whole numbers from 0 to 255, as an indexed PNG with the DAVIS palette, in one step.

    Raises `DataError` for any other array.
    """
    ids = np.asarray(ids)
    whole = ids.dtype == bool or np.issubdtype(ids.dtype, np.integer)
    if ids.ndim != 2 or not ids.size or not whole or ids.min() < 0 or ids.max() > 255:
        raise DataError(f"{path}: ids of shape {ids.shape} and type {ids.dtype}; give whole numbers 0..255 as [H, W]")
    image = Image.fromarray(np.ascontiguousarray(ids, dtype=np.uint8))
    image.putpalette(PALETTE.tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def _checked_root(root: str | os.PathLike) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the DAVIS folder, which holds Annotations and ImageSets")
    return root


def _files(folder: Path, suffix: str) -> list[Path]:
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith(suffix) and not n.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot read this folder ({error.strerror})") from None
    if not names:
        raise DataError(f"{folder}: no {suffix} in it; unpack DAVIS again")
    return [folder / n for n in names]


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool


def _chunks(path: Path, data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks (type, content) of a PNG up to its end mark, each checked against its CRC (PNG, section 5)."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        content = data[at + 8 : at + 8 + length]
        kind, crc = data[at + 4 : at + 8], data[at + 8 + length : at + 12 + length]
        if len(crc) < 4 or struct.unpack(">I", crc)[0] != zlib.crc32(content, zlib.crc32(kind)):
            break
        if kind == b"IEND":
            return chunks
        chunks.append((kind, content))
        at += 12 + length
    raise DataError(f"{path}: truncated or damaged PNG; write or copy it again")


def _header(path: Path, chunks: list[tuple[bytes, bytes]]) -> _Header:
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise DataError(f"{path}: damaged PNG, its header is not the first chunk; write or copy it again")
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    if colour_type not in (_GREYSCALE, _PALETTE_TYPE):
        kind = _COLOUR_TYPES.get(colour_type, f"colour type {colour_type}")
        raise DataError(f"{path}: {kind} PNG where one of object ids belongs; {_CURE}")
    if colour_type == _GREYSCALE and depth not in (1, 8):  # readers scale these to the full range of grey
        raise DataError(f"{path}: {depth}-bit greyscale PNG where one of object ids belongs; {_CURE}")
    return _Header(width, height, depth, colour_type, bool(interlace))


def _unfiltered_ids(path: Path, header: _Header, chunks: list[tuple[bytes, bytes]]) -> np.ndarray | None:
    """Ids of the plainest kind of PNG, one byte a pixel and no row filter; None for any other kind.

    DAVIS' own masks and those Pillow writes are of this kind, and reading them so takes about half of Pillow's time.
    """
    if header.depth != 8 or header.interlaced:
        return None
    size = header.height * (header.width + 1)  # each row begins with the number of its filter
    try:
        raw = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"), bufsize=max(size, 1))
    except zlib.error:
        raise DataError(f"{path}: truncated or damaged PNG; write or copy it again") from None
    if len(raw) != size or not size:
        raise DataError(f"{path}: damaged PNG, its pixels do not fill its size; write or copy it again")
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(header.height, header.width + 1)
    return None if rows[:, 0].any() else rows[:, 1:].copy()


def _pillow_ids(path: Path, data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: damaged PNG ({error}); write or copy it again") from None


def _check_grey_ids(path: Path, ids: np.ndarray) -> None:
    largest = object_count(ids)
    if largest > _LARGEST_GREY_ID:
        raise DataError(f"{path}: greyscale PNG with grey {largest} where object ids belong; {_CURE}")
    if not largest and ids.any():
        raise DataError(f"{path}: greyscale PNG of 0 and 255 only, which would all be void; write 1 for the object")
