"""Panels: what is added is found, in order, and damage is named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flsl_bench.errors import DataError
from flsl_bench.pictures.panels import INDEX, LONG_SIDE, Panel, _file_name, add_panel, find_panels


def plain(colour, height=20, width=30):
    return np.full((height, width, 3), colour, np.uint8)


def test_panels_are_found_below_a_folder_in_a_fixed_order(tmp_path):
    later = add_panel(tmp_path / "b" / "panels", "PCA", "x.jpg", plain(10))
    first = add_panel(tmp_path / "a" / "panels", "PCA", "y.jpg", plain(20))
    second = add_panel(tmp_path / "a" / "panels", "Masks", "bike-packing, frame 40", plain(30))
    assert find_panels(tmp_path) == [
        Panel(first, "PCA", "y.jpg"),
        Panel(second, "Masks", "bike-packing, frame 40"),
        Panel(later, "PCA", "x.jpg"),
    ]
    assert find_panels(tmp_path / "nowhere") == []


def test_a_panel_of_the_same_title_and_caption_is_replaced(tmp_path):
    for colour in (10, 200):
        add_panel(tmp_path, "PCA", "x.jpg", plain(colour))
    (panel,) = find_panels(tmp_path)
    assert abs(int(np.asarray(Image.open(panel.file)).mean()) - 200) < 3
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".jpg", ".json"]


@pytest.mark.parametrize(("height", "width", "size"), [(800, 1600, (1000, 500)), (1600, 800, (500, 1000))])
def test_the_long_side_is_limited_and_the_aspect_kept(tmp_path, height, width, size):
    assert Image.open(add_panel(tmp_path, "t", "c", plain(0, height, width))).size == size
    assert Image.open(add_panel(tmp_path, "t", "small", plain(0, 20, LONG_SIDE))).size == (LONG_SIDE, 20)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=2, max_size=5, unique=True))
def test_file_names_are_valid_and_differ(pairs):
    names = [_file_name(*pair) for pair in pairs]
    assert len(set(names)) == len(names)
    assert all(len(name) < 110 and "/" not in name and name.isascii() for name in names)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not readable as JSON"),
        ("{}", "not a list of panels"),
        ('[{"file": "x.jpg"}]', "panel 0: needs the texts caption, file, title"),
        ('[{"file": "../x.jpg", "title": "t", "caption": "c"}]', "panel 0: file: '../x.jpg' is not a file name"),
        ('[{"file": "gone.jpg", "title": "t", "caption": "c"}]', "field file: gone.jpg is not there"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, text, told):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(DataError, match=r"panels\.json") as error:
        find_panels(tmp_path)
    assert told in str(error.value)


def test_the_index_is_plain_json(tmp_path):
    path = add_panel(tmp_path, "Größe", "c", plain(0))
    assert json.loads((tmp_path / INDEX).read_text(encoding="utf-8")) == [
        {"file": path.name, "title": "Größe", "caption": "c"}
    ]
