"""Panels as pictures of a page: grouped, bounded, the same each time."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from flsl_bench.pictures.panels import LONG_SIDE, add_panel
from flsl_bench.report.gallery import MOST, picture_groups
from tests.results.conftest import build_record


def picture(height=8, width=12):
    return np.full((height, width, 3), 90, np.uint8)


def decoded(one):
    return Image.open(io.BytesIO(base64.b64decode(one.uri.removeprefix("data:image/jpeg;base64,"))))


def test_groups_are_by_model_task_and_title(tmp_path):
    for place in ("b/coco/run", "a/davis/run", "a/coco/run"):
        add_panel(tmp_path / place / "panels", "Boxes", "x", picture())
    add_panel(tmp_path / "a/coco/run/panels", "Masks", "x", picture())
    add_panel(tmp_path / "panels", "Boxes", "x", picture())
    add_panel(tmp_path / "a/panels", "Boxes", "x", picture())
    assert [(group.model, group.task, group.title) for group in picture_groups(tmp_path)] == [
        ("", "", "Boxes"),
        ("a", "", "Boxes"),
        ("a", "coco", "Boxes"),
        ("a", "coco", "Masks"),
        ("a", "davis", "Boxes"),
        ("b", "coco", "Boxes"),
    ]
    assert picture_groups(tmp_path / "nothing") == []


def test_pictures_of_several_runs_tell_their_run(tmp_path):
    for run in ("seed0-aa", "seed1-bb"):
        add_panel(tmp_path / "m/coco" / run / "panels", "Boxes", "frame 1", picture())
    (group,) = picture_groups(tmp_path)
    assert [one.caption for one in group.pictures] == ["frame 1 (seed0-aa)", "frame 1 (seed1-bb)"]
    assert group.folder == tmp_path / "m/coco"


def test_a_large_group_is_cut_and_says_how_much_is_left_out(tmp_path):
    for number in range(MOST + 3):
        add_panel(tmp_path / "m/coco/run/panels", "Boxes", str(number), picture())
    (group,) = picture_groups(tmp_path)
    assert [one.caption for one in group.pictures] == [str(number) for number in range(MOST)]
    assert (group.more, group.folder) == (3, tmp_path / "m/coco/run/panels")


def test_a_picture_is_a_jpeg_of_bounded_size_and_the_same_each_time(tmp_path):
    path = add_panel(tmp_path / "panels", "Boxes", "x", picture())
    Image.new("RGBA", (3000, 1500), (10, 200, 30, 255)).save(path, format="PNG")
    one, again = (picture_groups(tmp_path)[0].pictures[0] for _ in range(2))
    assert one == again
    assert decoded(one).format == "JPEG"
    assert decoded(one).size == (one.width, one.height) == (LONG_SIDE, LONG_SIDE // 2)
    assert np.abs(np.asarray(decoded(one)).reshape(-1, 3).mean(axis=0) - (10, 200, 30)).max() < 4


def test_files_that_are_no_pictures_are_told(tmp_path):
    path: Path = add_panel(tmp_path / "panels", "Boxes", "x", picture())
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)):
        path.write_bytes(content)
        (one,) = picture_groups(tmp_path)[0].pictures
        assert one.uri == "" and one.problem.startswith(f"{path}: not readable as a picture (")


def test_pictures_of_a_run_that_did_not_follow_its_protocol_say_so(tmp_path):
    records = [build_record(), build_record(deviations={"smoke": True}), build_record(deviations={"layer": 3})]
    for record in records:
        picture = np.zeros((8, 8, 3), np.uint8)
        add_panel(tmp_path / "m/coco" / f"seed0-{record.key[:8]}" / "panels", record.key, "a.jpg", picture)
    captions = {group.title: group.pictures[0].caption for group in picture_groups(tmp_path, records)}
    assert [captions[record.key] for record in records] == ["a.jpg", "a.jpg (smoke run)", "a.jpg (protocol changed)"]
