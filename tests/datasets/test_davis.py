"""DAVIS' layout and masks: what is read, what is written, and what every error says."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.davis import PALETTE, object_count, read_mask, sequence, sequences, write_mask
from flsl_bench.errors import DataError


def ids_of_everything():
    return np.arange(256, dtype=np.uint8).reshape(8, 32)


@pytest.fixture
def root(tmp_path):
    """A DAVIS folder with sequences `bear` (3 frames) and `boat` (its frames without images)."""
    for name in ("bear", "boat"):
        for t in range(3):
            write_mask(tmp_path / "Annotations/480p" / name / f"{t:05d}.png", np.eye(6, 8, dtype=np.uint8))
    images = tmp_path / "JPEGImages/480p/bear"
    images.mkdir(parents=True)
    for t in range(3):
        Image.new("RGB", (8, 6)).save(images / f"{t:05d}.jpg")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("boat\nbear\n")
    return tmp_path


def save(path, image, **options):
    image.save(path, **options)
    return path


def saved_with(path, ids, **options):
    image = Image.fromarray(ids)
    image.putpalette(PALETTE.tobytes())
    return save(path, image, **options)


def hand_made_png(path, ids, filter_type, colour_type=3, depth=8, interlace=0, row_bytes=None):
    """A PNG put together byte by byte, with one filter for all rows."""
    h, w = ids.shape
    rows = ids if row_bytes is None else row_bytes
    rows = rows.astype(np.int64)
    if filter_type == 1:
        rows[:, 1:] -= rows[:, :-1].copy()
    if filter_type == 2:
        rows[1:] -= rows[:-1].copy()
    raw = np.hstack([np.full((h, 1), filter_type), rows % 256]).astype(np.uint8).tobytes()

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour_type, 0, 0, interlace))]
    if colour_type == 3:
        parts.append(chunk(b"PLTE", PALETTE[: 2**depth].tobytes()))
    packed = zlib.compress(raw)
    parts += [chunk(b"IDAT", packed[:9]), chunk(b"IDAT", packed[9:]), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_palette_is_the_published_one():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128)}
    assert PALETTE.shape == (256, 3) and PALETTE.dtype == np.uint8
    for k, colour in known.items():
        assert tuple(PALETTE[k]) == colour
    assert tuple(PALETTE[255]) == (224, 224, 192)
    assert len(np.unique(PALETTE, axis=0)) == 256


def test_palette_is_that_of_the_real_masks(shared):
    with Image.open(shared / "data/davis2017/Annotations/480p/tennis/00000.png") as image:
        assert np.array_equal(np.reshape(image.getpalette(), (-1, 3)), PALETTE)


def test_real_masks_read_as_pillow_reads_them(shared):
    folder = shared / "data/davis2017/Annotations/480p"
    for path in sorted(folder.glob("*/00000.png")):
        with Image.open(path) as image:
            assert np.array_equal(read_mask(path), np.array(image)), path


def test_written_masks_read_back_and_have_the_palette(tmp_path):
    path = tmp_path / "new" / "0.png"
    write_mask(path, ids_of_everything().astype(np.int64))
    assert np.array_equal(read_mask(path), ids_of_everything())
    with Image.open(path) as image:
        assert image.mode == "P" and image.getpalette() == PALETTE.ravel().tolist()
    assert [p.name for p in path.parent.iterdir()] == ["0.png"]


@pytest.mark.parametrize(
    "ids",
    [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.full((2, 2), 256), np.full((2, 2), -1), np.zeros((0, 2), int)],
)
def test_what_is_not_a_mask_is_not_written(tmp_path, ids):
    with pytest.raises(DataError, match=r"0.png: ids of shape .* give whole numbers 0..255 as \[H, W\]"):
        write_mask(tmp_path / "0.png", ids)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 13), (480, 854)])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_every_size_and_depth_is_read(tmp_path, shape, depth):
    ids = np.random.default_rng(0).integers(0, 2**depth, shape, dtype=np.uint8)
    mask = read_mask(saved_with(tmp_path / "0.png", ids, bits=depth))
    assert np.array_equal(mask, ids)
    assert mask.dtype == np.uint8 and mask.flags.c_contiguous and mask.flags.writeable


@pytest.mark.parametrize("filter_type", [0, 1, 2])
def test_row_filters_and_split_data_are_read(tmp_path, filter_type):
    path = hand_made_png(tmp_path / "0.png", ids_of_everything(), filter_type)
    assert np.array_equal(read_mask(path), ids_of_everything())


def test_greyscale_ids_are_read(tmp_path):
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    assert np.array_equal(read_mask(save(tmp_path / "0.png", Image.fromarray(ids))), ids)
    bits = save(tmp_path / "1.png", Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"))
    assert read_mask(bits).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGB", (4, 4)), "RGB PNG where one of object ids belongs; save the object ids as an indexed PNG"),
        (Image.new("RGBA", (4, 4)), "RGBA PNG where"),
        (Image.new("LA", (4, 4)), "greyscale with alpha PNG where"),
        (Image.new("I;16", (4, 4)), "16-bit greyscale PNG where"),
        (Image.new("L", (4, 4), 38), "greyscale PNG with grey 38 where object ids belong; save"),
        (Image.new("L", (4, 4), 255), "greyscale PNG of 0 and 255 only, .*; write 1 for the object"),
    ],
)
def test_a_png_of_colours_is_refused(tmp_path, image, message):
    path = save(tmp_path / "0.png", image)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read_mask(path)


def test_files_that_are_no_masks_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none.png: cannot read this mask \(No such file"):
        read_mask(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder.png: cannot read this mask \(Is a directory"):
        read_mask(tmp_path / "folder.png")
    with pytest.raises(DataError, match=r"0.png: not a PNG; save"):
        read_mask(save(tmp_path / "0.png", Image.new("L", (4, 4)), format="JPEG"))


def test_a_png_cut_anywhere_is_refused_in_one_line(tmp_path):
    path = tmp_path / "0.png"
    write_mask(path, ids_of_everything())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"0.png: (not a PNG|truncated or damaged PNG)") as caught:
            read_mask(path)
        assert "\n" not in str(caught.value)


def test_a_flipped_byte_is_found(tmp_path):
    path = tmp_path / "0.png"
    write_mask(path, ids_of_everything())
    whole = bytearray(path.read_bytes())
    whole[-30] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="truncated or damaged PNG"):
        read_mask(path)


def test_pixels_that_do_not_fill_the_size_are_refused(tmp_path):
    path = hand_made_png(tmp_path / "0.png", np.zeros((4, 4), np.uint8), 0, row_bytes=np.zeros((4, 3), np.uint8))
    with pytest.raises(DataError, match="its pixels do not fill its size"):
        read_mask(path)
    path = hand_made_png(tmp_path / "0.png", np.zeros((4, 4), np.uint8), 1, depth=4, row_bytes=np.zeros((4, 1)))
    with pytest.raises(DataError, match="damaged PNG"):
        read_mask(path)


def test_object_count_leaves_void_out():
    assert object_count(np.array([[0, 255, 3]], np.uint8)) == 3
    assert object_count(np.array([[0, 255]], np.uint8)) == 0
    assert object_count(np.zeros((0, 4), np.uint8)) == 0


def test_sequences_keep_the_order_of_their_list(root):
    assert sequences(root) == ["boat", "bear"]


def test_a_sequence_lists_its_files_in_order(root):
    bear = sequence(root, "bear")
    (bear.mask_folder / "._00000.png").touch()
    assert [p.name for p in bear.masks()] == ["00000.png", "00001.png", "00002.png"]
    assert [p.name for p in bear.images()] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert bear.first_mask().shape == (6, 8)
    assert len(sequence(root, "boat").masks()) == 3


def test_real_sequences(shared):
    root = shared / "data/davis2017"
    assert "blackswan" in sequences(root, "osvos")
    assert len(sequence(root, "blackswan").masks()) == len(sequence(root, "blackswan").images()) == 50
    assert object_count(sequence(root, "tennis").first_mask()) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: sequences(root / "none"), "none: no such folder; give the DAVIS folder"),
        (lambda root: sequence(root / "none", "bear"), "none: no such folder; give the DAVIS folder"),
        (lambda root: sequences(root, "test"), r"2017/test.txt: no such split \(.*\); there are: val"),
        (lambda root: sequences(root, year="2016"), r"2016/val.txt: no such split \(.*\); there are: none"),
        (lambda root: sequence(root, "baer"), "no such sequence 'baer'; did you mean 'bear'"),
        (lambda root: sequence(root, "xyz"), "no such sequence 'xyz'; 2 sequences are there"),
        (lambda root: sequence(root, ""), "no such sequence ''"),
        (lambda root: sequence(root, "boat").images(), r"JPEGImages/480p/boat: cannot read this folder \(No such file"),
    ],
)
def test_what_is_not_there_is_named(root, call, message):
    with pytest.raises(DataError, match=message):
        call(root)


def test_lists_that_hold_no_names_are_refused(root):
    path = root / "ImageSets/2017/val.txt"
    path.write_text("\n")
    with pytest.raises(DataError, match=r"val.txt: no sequence in it"):
        sequences(root)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val.txt: not a text file"):
        sequences(root)


def test_a_frame_without_its_mask_is_named(root):
    bear = sequence(root, "bear")
    (bear.mask_folder / "00001.png").unlink()
    with pytest.raises(DataError, match=r"bear/00001.png: missing, though its frame is there"):
        bear.masks()


def test_a_mask_without_its_frame_is_named(root):
    bear = sequence(root, "bear")
    (bear.image_folder / "00001.jpg").unlink()
    with pytest.raises(DataError, match=r"bear/00001.jpg: missing, though its mask is there"):
        bear.masks()


def test_an_empty_folder_is_named(root):
    (root / "Annotations/480p/empty").mkdir()
    with pytest.raises(DataError, match=r"480p/empty: no .png in it"):
        sequence(root, "empty").masks()


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(DataError, match=r"480p/bear: cannot read this folder \(Permission denied\)"):
        sequence(root, "bear").masks()


def test_a_first_mask_without_an_object_is_refused(root):
    bear = sequence(root, "bear")
    write_mask(bear.mask_folder / "00000.png", np.full((6, 8), 255))
    with pytest.raises(DataError, match=r"00000.png: no object in the first mask; nothing to follow in bear"):
        bear.first_mask()
