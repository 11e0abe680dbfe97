"""UAVDT's text files to COCO JSON: counts against a plain loop, and every way the files can be wrong."""

import contextlib
import io
import json
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from flsl_bench.datasets import uavdt
from flsl_bench.datasets.uavdt import SkippedBox, convert, read_attributes
from flsl_bench.errors import DataError

CAR, BUS = 1, 3


@pytest.fixture
def folder(tmp_path):
    """A folder of ground truth with one sequence of each split: three frames, one of them with a region only."""
    root = tmp_path / "GT"
    root.mkdir()
    write(root, "M0101", ["1,7,10,20,30,40,1,1,1", "2,7,12,20,30,40,2,3,1", "2,8,500,300,50,60,3,4,3"])
    write(root, "M0203", ["5,1,10,20,30,40,1,1,2"], ["5,9,100,100,200,150,1,-1,-1", "6,9,100,100,200,150,1,-1,-1"])
    return root


def write(root, name, boxes, regions=()):
    (root / f"{name}_gt_whole.txt").write_text("".join(f"{line}\n" for line in boxes))
    (root / f"{name}_gt_ignore.txt").write_text("".join(f"{line}\n" for line in regions))


def converted(root, out, split="train", **options):
    report = getattr(convert(root, out, **options), split)
    return report, json.loads(report.path.read_text())


def score(path, detections):
    """AP, AP50 ... of pycocotools for the detections."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def perfect(content):
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.5}
        for a in content["annotations"]
        if not a["iscrowd"]
    ]


def test_the_real_sequences_are_counted_as_by_a_plain_loop(shared, tmp_path):
    root = shared / "data/uavdt"
    conversion = convert(root / "GT", tmp_path)
    for split in ("train", "test"):
        names = (root / f"{split}_sequences.txt").read_text().split()
        assert tuple(names) == uavdt.SEQUENCES[split]
        frames, categories, regions = set(), Counter(), 0
        present = [name for name in names if (root / f"GT/{name}_gt_whole.txt").exists()]
        for name in present:
            for line in (root / f"GT/{name}_gt_whole.txt").read_text().splitlines():
                frames.add((name, line.split(",")[0]))
                categories[line.split(",")[8]] += 1
            regions += len((root / f"GT/{name}_gt_ignore.txt").read_text().splitlines())
        report = getattr(conversion, split)
        assert report.sequences == tuple(present)
        assert set(report.missing_sequences) == set(names) - set(present)
        assert report.frames == len(frames)
        assert report.boxes == sum(categories.values())
        assert report.boxes_per_category == {"car": categories["1"], "truck": categories["2"], "bus": categories["3"]}
        assert report.ignore_regions == regions
        assert report.skipped == ()
        content = json.loads(report.path.read_text())
        assert len(content["images"]) == report.frames
        assert Counter(a["iscrowd"] for a in content["annotations"]) == {0: report.boxes, 1: 3 * regions}
        assert not report.matches_official_counts()


def test_pycocotools_gives_the_real_truth_full_marks(shared, tmp_path):
    report, content = converted(shared / "data/uavdt/GT", tmp_path)
    assert score(report.path, perfect(content))[0] == pytest.approx(1.0)


def test_a_report_tells_the_official_counts(folder, tmp_path):
    train, test = convert(folder, tmp_path).train, convert(folder, tmp_path).test
    assert (train.official_frames, train.official_boxes) == (23_829, 422_911)
    assert (test.official_frames, test.official_boxes) == (16_580, 375_884)
    complete = replace(train, frames=23_829, boxes_per_category={"car": 394_633, "truck": 17_491, "bus": 10_787})
    assert complete.matches_official_counts()
    assert not replace(complete, frames=23_828).matches_official_counts()
    assert not train.matches_official_counts()


def test_the_official_split_is_of_50_sequences():
    assert len(set(uavdt.SEQUENCES["train"] + uavdt.SEQUENCES["test"])) == 50


def test_the_json_in_full(folder, tmp_path):
    report, content = converted(folder, tmp_path / "out", "test")
    assert content["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "truck"}, {"id": 3, "name": "bus"}]
    assert content["images"] == [
        {
            "id": 2030005,
            "file_name": "M0203/img000005.jpg",
            "width": 1024,
            "height": 540,
            "sequence": "M0203",
            "frame": 5,
        }
    ]
    box, *regions = content["annotations"]
    assert box == {
        "id": 1,
        "image_id": 2030005,
        "category_id": 2,
        "bbox": [10, 20, 30, 40],
        "area": 1200,
        "iscrowd": 0,
        "sequence": "M0203",
        "track_id": 1,
        "occlusion": 1,
        "out_of_view": 1,
    }
    assert [(a["id"], a["category_id"], a["iscrowd"], a["bbox"], a["area"]) for a in regions] == [
        (i + 1, i, 1, [100, 100, 200, 150], 30000) for i in (1, 2, 3)
    ]
    assert content["info"]["sequences"] == ["M0203"]
    assert len(content["info"]["missing_sequences"]) == 19
    assert (report.ignore_regions, report.frames_without_boxes) == (1, 1)


def test_levels_go_to_their_own_fields(folder, tmp_path):
    _, content = converted(folder, tmp_path / "out")
    assert [(a["out_of_view"], a["occlusion"]) for a in content["annotations"]] == [(1, 1), (2, 3), (3, 4)]


def test_boxes_and_regions_are_clipped_to_the_image(folder, tmp_path):
    write(
        folder,
        "M0101",
        ["1,1,1000,500,25,41,1,1,1", "1,2,-1,-1,11,21,1,1,3", "1,3,994,510,30,30,1,1,1"],
        ["1,9,-5,530,15,20,1,-1,-1"],
    )
    _, content = converted(folder, tmp_path / "out")
    boxes = [a["bbox"] for a in content["annotations"]]
    assert boxes[:3] == [[1000, 500, 24, 40], [0, 0, 10, 20], [994, 510, 30, 30]]
    assert boxes[3:] == [[0, 530, 10, 10]] * 3
    assert [a["area"] for a in content["annotations"][:2]] == [960, 200]


def test_what_cannot_be_a_box_is_skipped_and_reported_while_its_frame_stays(folder, tmp_path):
    write(
        folder,
        "M0101",
        ["1,1,1024,5,10,10,1,1,1", "2,2,5,5,0,10,1,1,1", "3,3,5,5,10,10,1,1,4", "", "3,4,5,5,10,10,1,1,2"],
        ["1,9,5,540,10,10,1,-1,-1"],
    )
    report, content = converted(folder, tmp_path / "out")
    assert report.skipped == (
        SkippedBox("M0101_gt_whole.txt", 1, uavdt.EMPTY_BOX),
        SkippedBox("M0101_gt_whole.txt", 2, uavdt.EMPTY_BOX),
        SkippedBox("M0101_gt_whole.txt", 3, uavdt.UNKNOWN_CATEGORY),
        SkippedBox("M0101_gt_ignore.txt", 1, uavdt.EMPTY_REGION),
    )
    assert report.skipped_per_reason == {uavdt.EMPTY_BOX: 2, uavdt.UNKNOWN_CATEGORY: 1, uavdt.EMPTY_REGION: 1}
    assert (report.frames, report.boxes, report.ignore_regions, len(content["annotations"])) == (3, 1, 0, 1)


def test_decimals_carriage_returns_and_a_missing_last_line_end_are_read(folder, tmp_path):
    (folder / "M0101_gt_whole.txt").write_bytes(b"1,1,10.5,20,30,40.25,1,1,1\r\n2,1,1,2,3,4,1,1,1")
    _, content = converted(folder, tmp_path / "out")
    assert [a["bbox"] for a in content["annotations"]] == [[10.5, 20, 30, 40.25], [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,7,1,2,3,4,1,1", "8 fields instead of 9"),
        ("2,7,1,2,3,4,1,1,1,1", "10 fields instead of 9"),
        ("2,7,1,2,x,4,1,1,1", "field 5 is 'x', no number"),
        ("2,7,1,2,,4,1,1,1", "field 5 is '', no number"),
        ("2,7,nan,2,3,4,1,1,1", "field 3 is 'nan', no number"),
        ("2,7,1,2,3,inf,1,1,1", "field 6 is 'inf', no number"),
        ("1.5,7,1,2,3,4,1,1,1", "field 1 is '1.5', no number"),
        ("0,7,1,2,3,4,1,1,1", "frame 0; frames count from 1"),
        ("10000,7,1,2,3,4,1,1,1", "frame 10000; frames count from 1 to 9999"),
    ],
)
@pytest.mark.parametrize("kind", ["whole", "ignore"])
def test_a_malformed_line_is_named_and_nothing_is_written(folder, tmp_path, kind, line, message):
    (folder / f"M0203_gt_{kind}.txt").write_text(f"1,7,1,2,3,4,1,1,1\n{line}\n")
    with pytest.raises(DataError) as caught:
        convert(folder, tmp_path / "out")
    assert f"M0203_gt_{kind}.txt:2: {message}" in str(caught.value)
    assert list((tmp_path / "out/annotations").iterdir()) == []


def test_a_failed_conversion_leaves_earlier_files_alone(folder, tmp_path):
    report, before = converted(folder, tmp_path / "out")
    (folder / "M0101_gt_whole.txt").write_text("3,1,1,2,3,4,1,1,1\n")
    (folder / "M0203_gt_whole.txt").write_text("rubbish\n")
    with pytest.raises(DataError, match="1 fields instead of 9"):
        convert(folder, tmp_path / "out")
    assert json.loads(report.path.read_text()) == before


def test_a_missing_folder_an_unknown_folder_and_a_missing_ignore_file_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected this layout: GT_DIR/ M0101_gt_whole"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    write(empty, "S0101", [])
    with pytest.raises(DataError, match=r"empty: no <sequence>_gt_whole\.txt of a UAVDT sequence"):
        convert(empty, tmp_path / "out")
    (folder / "M0101_gt_ignore.txt").unlink()
    with pytest.raises(DataError, match=r"M0101_gt_ignore\.txt: file is missing; UAVDT has it for every sequence"):
        convert(folder, tmp_path / "out")


def test_sequences_of_neither_split_are_reported_and_not_converted(folder, tmp_path):
    write(folder, "M9999", ["rubbish"])
    conversion = convert(folder, tmp_path / "out")
    assert conversion.unknown_sequences == ("M9999",)
    assert conversion.train.sequences == ("M0101",)


def test_a_split_without_a_sequence_has_no_images(folder, tmp_path):
    (folder / "M0203_gt_whole.txt").unlink()
    report, content = converted(folder, tmp_path / "out", "test")
    assert (report.frames, content["images"], content["annotations"]) == (0, [], [])


def test_images_are_checked_and_their_size_is_read(folder, tmp_path):
    images = tmp_path / "UAV-benchmark-M"
    for name, frame in (("M0101", 1), ("M0101", 2), ("M0203", 5)):
        (images / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (520, 330)).save(images / f"{name}/img{frame:06d}.jpg")
    _, content = converted(folder, tmp_path / "out", images_dir=images)
    assert {(image["width"], image["height"]) for image in content["images"]} == {(520, 330)}
    assert content["annotations"][2]["bbox"] == [500, 300, 20, 30]
    (images / "M0101/img000002.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"M0101/img000002\.jpg: annotated frame is no readable image"):
        convert(folder, tmp_path / "out", images_dir=images)
    (images / "M0101/img000002.jpg").unlink()
    with pytest.raises(DataError, match=r"M0101/img000002\.jpg: annotated frame is missing; expected this layout"):
        convert(folder, tmp_path / "out", images_dir=images)


def test_progress_counts_sequences(folder, tmp_path):
    calls = []
    convert(folder, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [("M0101", 1, 2), ("M0203", 2, 2)]


def test_the_output_is_the_same_each_time_and_ids_do_not_depend_on_the_other_sequences(folder, tmp_path):
    first, _ = converted(folder, tmp_path / "a")
    second, content = converted(folder, tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()
    write(folder, "M0201", ["1,1,1,2,3,4,1,1,1"])
    _, more = converted(folder, tmp_path / "c")
    assert [image for image in more["images"] if image["sequence"] == "M0101"] == content["images"]
    assert [a["id"] for a in more["annotations"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("category", [1, 2, 3])
def test_pycocotools_counts_no_false_positive_in_an_ignore_region(folder, tmp_path, category):
    write(folder, "M0203", [f"5,{i},{20 * i},20,15,15,1,1,{i}" for i in (1, 2, 3)], ["5,9,100,100,200,150,1,-1,-1"])
    report, content = converted(folder, tmp_path / "out", "test")
    extra = {"image_id": 2030005, "category_id": category, "score": 0.9}
    inside, outside = {**extra, "bbox": [120, 120, 30, 30]}, {**extra, "bbox": [420, 120, 30, 30]}
    assert score(report.path, [*perfect(content), inside])[0] == pytest.approx(1.0)
    assert score(report.path, [*perfect(content), outside])[0] < 0.9


class TestAttributes:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "sequence_attributes.json"

    def test_are_read(self, path):
        path.write_text('{"M0203": ["daylight", "high-alt"], "M0205": []}')
        assert read_attributes(path, {"M0203"}) == {"M0203": ["daylight", "high-alt"], "M0205": []}

    def test_need_not_be_there(self, path):
        assert read_attributes(path, {"M0203"}) is None

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", r"cannot be read as JSON \(.*\); write \{sequence: \[attribute, \.\.\.\]\}"),
            ("[]", "holds no mapping"),
            ('{"M0203": "daylight"}', "field M0203 is no list of attributes"),
            ('{"M0203": [1]}', "field M0203 is no list of attributes"),
            ('{"M0205": []}', "sequence M0203 is missing; give it an empty list"),
        ],
    )
    def test_that_are_wrong_are_refused(self, path, text, message):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"sequence_attributes\.json: {message}"):
            read_attributes(path, {"M0203"})
