"""Scoring a results folder: the official numbers, the official tables, and one broken sequence among others."""

import json
import os
import sys
from pathlib import Path
from shutil import copy
from subprocess import run

import numpy as np
import pytest
from PIL import Image

from flsl_bench.datasets.davis import write_mask
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.tasks.davis_scoring import Scores, score


def squares(*corners, size=6, shape=(40, 50)):
    """Ids [40, 50] with object k + 1 a square at corners[k]; None leaves the object out."""
    ids = np.zeros(shape, np.uint8)
    for k, corner in enumerate(corners):
        if corner is not None:
            ids[corner[0] : corner[0] + size, corner[1] : corner[1] + size] = k + 1
    return ids


@pytest.fixture
def davis(tmp_path):
    """A DAVIS folder of two clips, `ant` (6 frames, 2 objects) and `bee` (12 frames, 1 object), with their results."""
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("ant\nbee\n")
    for t in range(6):
        write(tmp_path, "ant", t, squares((5, 5 + t), (20, 20)), squares((5, 6 + t), (20, 20)))
    for t in range(12):
        write(tmp_path, "bee", t, squares((5 + t, 9)), squares((5, 9)))
    return tmp_path


def write(root, name, t, truth, result=None):
    write_mask(truth_path(root, name, t), truth)
    if result is not None:
        write_mask(result_path(root, name, t), result)


def truth_path(root, name, t):
    return root / "Annotations/480p" / name / f"{t:05d}.png"


def result_path(root, name, t):
    return root / "results" / name / f"{t:05d}.png"


def scored(root, **options):
    return score(root / "results", root, **options)


def only_failure(root, name="ant"):
    """The message of `name`, the only sequence that failed; the other one was scored."""
    scores = scored(root, workers=2)
    assert list(scores.failures) == [name]
    assert set(scores.per_sequence()) == {"ant", "bee"} - {name}
    assert "\n" not in scores.failures[name]
    return scores.failures[name]


def test_osvos_results_equal_the_official_numbers(shared):
    root = shared / "data/davis2017"
    expected = json.loads((shared / "golden/davis/osvos_expected.json").read_text())["objects"]
    scores = score(root / "results_osvos", root, split="osvos")
    assert not scores.failures
    assert {f"{o.sequence}_{o.object}" for o in scores.objects} == set(expected)
    for o in scores.objects:
        for measure in "JF":
            found, official = getattr(o, measure), expected[f"{o.sequence}_{o.object}"][measure]
            for statistic in ("mean", "recall", "decay"):
                assert getattr(found, statistic) == pytest.approx(official[statistic], abs=1e-9)
            assert found.mean == pytest.approx(official["mean_official_site"], abs=5.01e-5)


def test_several_objects_equal_the_official_numbers(shared, tmp_path):
    golden = shared / "golden/davis"
    expected = json.loads((golden / "jf_dino_against_flsl.json").read_text())
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/480p").symlink_to(golden / "expected_masks/flsl")
    names = ["libby", "blackswan_two"]
    scores = score(golden / "expected_masks/dino", tmp_path, sequences=names)
    summary = scores.summary()
    for measure in "JF":
        for statistic in ("mean", "recall", "decay"):
            column = f"{measure}-{statistic.capitalize()}"
            assert summary[column] == pytest.approx(expected[measure][statistic], abs=1e-9)
        found = {f"{o.sequence}_{o.object}": getattr(o, measure).mean for o in scores.objects}
        assert found == pytest.approx(expected[measure]["per_object"], abs=1e-9)
    assert summary["J&F-Mean"] == pytest.approx((expected["J"]["mean"] + expected["F"]["mean"]) / 2, abs=1e-9)


def test_first_and_last_frame_are_not_scored(davis):
    before = scored(davis)
    result_path(davis, "ant", 0).unlink()
    write_mask(result_path(davis, "ant", 5), squares())
    assert scored(davis) == before


def test_perfect_results_score_one(davis):
    scores = score(davis / "Annotations/480p", davis)
    expected = {"mean": 1, "recall": 1, "decay": 0}
    assert scores.summary() == {
        "J&F-Mean": 1, **{f"{m}-{s.capitalize()}": v for m in "JF" for s, v in expected.items()}
    }  # fmt: skip


def test_means_are_over_objects_and_not_over_sequences(davis):
    scores = scored(davis)
    assert [(o.sequence, o.object) for o in scores.objects] == [("ant", 1), ("ant", 2), ("bee", 1)]
    J = [o.J.mean for o in scores.objects]
    assert J[:2] == [30 / 42, 1]
    assert scores.summary()["J-Mean"] == pytest.approx(sum(J) / 3)
    assert scores.per_sequence()["ant"]["J-Mean"] == pytest.approx(sum(J[:2]) / 2)


def test_workers_do_not_change_the_numbers(davis):
    assert scored(davis, workers=1) == scored(davis, workers=2) == scored(davis, workers=7)


def test_progress_ends_at_all_frames(davis):
    told = []
    scored(davis, progress=lambda done, total: told.append((done, total)))
    assert told == [(6, 18), (18, 18)]


def test_sequences_are_scored_as_asked(davis):
    assert [o.sequence for o in scored(davis, sequences=["bee", "ant", "bee"]).objects] == ["bee", "ant", "ant"]


def test_an_object_that_the_result_lacks_is_empty(davis):
    for t in range(6):
        write_mask(result_path(davis, "ant", t), squares((5, 5 + t)))
    assert [o.J.mean for o in scored(davis).objects[:2]] == [1, 0]


def test_an_object_may_enter_late_and_leave_early(davis):
    for t in range(6):
        truth = squares((5, 5), (20, 20) if t in (2, 3) else None)
        write(davis, "ant", t, truth, squares((5, 5), (20, 20) if t == 2 else None))
    late = scored(davis).objects[1]
    assert (late.object, late.J.mean, late.F.mean) == (2, 0.75, 0.75)


def test_void_and_255_in_a_result(davis):
    for t in range(6):
        truth, result = squares((5, 5), (20, 20)), squares((5, 5), (20, 20))
        truth[30:, :] = 255
        result[32:, :9] = 1
        result[0, :] = 255
        write(davis, "ant", t, truth, result)
    assert [o.J.mean for o in scored(davis).objects[:2]] == [1, 1]


def test_more_than_255_frames(tmp_path):
    truth = squares((1, 1), size=2, shape=(5, 5))
    write(tmp_path, "long", 0, truth, truth)
    write(tmp_path, "long", 401, truth, np.zeros_like(truth))
    for t in range(1, 401):
        copy(truth_path(tmp_path, "long", 0), truth_path(tmp_path, "long", t))
        copy(result_path(tmp_path, "long", 0 if t < 300 else 401), result_path(tmp_path, "long", t))
    found = scored(tmp_path, sequences=["long"]).objects[0]
    assert found.J.decay == found.F.decay == 1
    assert found.J.recall == pytest.approx(299 / 400)


def test_a_missing_result_frame_is_named(davis):
    result_path(davis, "ant", 3).unlink()
    assert str(result_path(davis, "ant", 3)) + ": cannot read this mask" in only_failure(davis)


def test_the_first_of_several_errors_is_told(davis):
    for t in (9, 3, 10):
        result_path(davis, "bee", t).unlink()
    assert "bee/00003.png" in only_failure(davis, "bee")


def test_a_missing_result_folder_is_named(davis):
    (davis / "results/ant").rename(davis / "results/ants")
    assert "results/ant: no results of this sequence; write its masks there" in only_failure(davis)


def test_a_sequence_of_the_split_without_annotations_is_named(davis):
    (davis / "Annotations/480p/ant").rename(davis / "Annotations/480p/antler")
    assert "Annotations/480p/ant: no such sequence 'ant'; did you mean 'antler'" in only_failure(davis)


def test_a_truncated_result_is_named(davis):
    path = result_path(davis, "ant", 2)
    path.write_bytes(path.read_bytes()[:-20])
    assert only_failure(davis) == f"{path}: truncated or damaged PNG; write or copy it again"


def test_a_colour_result_is_named(davis):
    Image.new("RGB", (50, 40)).save(result_path(davis, "ant", 2))
    assert "ant/00002.png: RGB PNG where one of object ids belongs" in only_failure(davis)


def test_a_grey_annotation_is_named(davis):
    Image.fromarray(squares((5, 5)) * 255).save(truth_path(davis, "ant", 2))
    assert "Annotations/480p/ant/00002.png: greyscale PNG of 0 and 255 only" in only_failure(davis)


def test_a_result_of_another_size_is_named(davis):
    write_mask(result_path(davis, "ant", 2), squares((5, 5), shape=(40, 49)))
    assert "ant/00002.png: 49x40, its annotation is 50x40; write it in that size" in only_failure(davis)


def test_an_object_that_the_truth_lacks_is_named(davis):
    write_mask(result_path(davis, "ant", 2), squares((5, 5), (20, 20), (30, 30)))
    assert "ant/00002.png: object 3, the last in the annotations is 2" in only_failure(davis)


def test_a_first_mask_without_an_object_is_named(davis):
    write_mask(truth_path(davis, "ant", 0), squares())
    assert "ant/00000.png: no object in the first mask; nothing to score" in only_failure(davis)


def test_too_short_a_sequence_is_named(davis):
    for t in range(2, 6):
        truth_path(davis, "ant", t).unlink()
    assert "ant: 2 masks; the first and the last are not scored, give 3" in only_failure(davis)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "test"}, DataError, r"test.txt: no such split \(.*\); there are: val"),
        ({"sequences": ["and"]}, DataError, "no such sequence 'and'; did you mean 'ant'"),
        ({"workers": 0}, ConfigError, "workers=0: give 1 or more"),
    ],
)
def test_what_cannot_be_scored_at_all_is_an_error(davis, options, error, message):
    with pytest.raises(error, match=message):
        scored(davis, **options)


def test_missing_folders_are_named(davis):
    with pytest.raises(DataError, match="nothing: no such folder of results"):
        score(davis / "nothing", davis)
    with pytest.raises(DataError, match="nothing: no such folder; give the DAVIS folder"):
        score(davis / "results", davis / "nothing")


def test_the_benchmark_finds_the_port_equal(davis):
    command = [sys.executable, "benchmarks/davis_scoring.py", davis, davis / "results", "--repeats", "1"]
    root = Path(__file__).resolve().parents[2]
    told = run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "2 sequences, 3 objects, 18 frames" in told.stdout
    assert "equal to 1e-09" in told.stdout and "NOT EQUAL" not in told.stdout


def test_tables_have_the_official_layout(davis, tmp_path):
    for t in range(12):
        write_mask(result_path(davis, "bee", t), squares())
    whole, each = scored(davis).to_csv(tmp_path / "tables")
    assert whole.name == "global_results-val.csv"
    header, values = whole.read_text().splitlines()
    assert header == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert values == "0.619,0.571,0.667,0.000,0.667,0.667,0.000"
    assert each.name == "per-sequence_results-val.csv"
    assert each.read_text() == "Sequence,J-Mean,F-Mean\nant_1,0.714,1.000\nant_2,1.000,1.000\nbee_1,0.000,0.000\n"
    assert len(list(each.parent.iterdir())) == 2


def test_tables_that_lack_a_sequence_are_written_only_on_request(davis, tmp_path):
    result_path(davis, "bee", 3).unlink()
    scores = scored(davis)
    with pytest.raises(DataError, match=r"1 sequences could not be scored, 'bee' for one: .*00003.png"):
        scores.to_csv(tmp_path / "tables")
    assert not (tmp_path / "tables").exists()
    _, each = scores.to_csv(tmp_path / "tables", partial=True)
    assert "bee" not in each.read_text()


def test_nothing_scored_has_no_summary():
    with pytest.raises(DataError, match=r"no sequence of split 'val' could be scored; the first: x.png is broken"):
        Scores("val", [], {"ant": "x.png is broken"}).summary()
