"""The probes as tasks: what a record says, what changes its key, and what a second probe costs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flsl_bench import tasks
from flsl_bench.datasets.discovery import find_dataset
from flsl_bench.datasets.miniature import make_ade20k, make_coco, make_davis, make_voc
from flsl_bench.demo import write_checkpoint
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.results.store import Store
from flsl_bench.tasks import base
from flsl_bench.tasks.base import Request
from flsl_bench.tasks.probes import TASKS, probe_task

ROOT = Path(__file__).resolve().parents[2]
NAMES = [task.name for task in TASKS if task.dataset != "imagenet"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A checkpoint and a root with a miniature of each data set."""
    folder = tmp_path_factory.mktemp("places")
    checkpoint = write_checkpoint(folder / "flsl.pth", embed_dim=24, depth=2, num_heads=3, patch_size=16)
    make_coco(folder / "data/coco", train_images=6, val_images=4)
    make_ade20k(folder / "data/ade20k", train_images=4, val_images=3)
    make_voc(folder / "data/voc")
    make_davis(folder / "data/DAVIS")
    return checkpoint, folder / "data"


@pytest.fixture
def job(places, tmp_path):
    """A function that prepares a probe."""
    checkpoint, data = places

    def prepare(name: str, **options):
        task = probe_task(name)
        places = {"results": tmp_path / "results", "work_dir": tmp_path / name}
        return task, task.prepare_job(checkpoint, find_dataset(task.dataset, data), **{**places, **options})

    return prepare


@pytest.mark.parametrize("name", NAMES)
def test_every_probe_leaves_a_record_that_is_found_again(job, name, tmp_path):
    small = {} if name.startswith("box-knn") else {"short_side": 64}
    task, prepared = job(name, features=small)
    assert task.check(prepared) == [] and base.finished(task, prepared) is None
    told = []
    record = base.keep(task, prepared, task.run(prepared, lambda *progress: told.append(progress)))
    assert [metric.name for metric in record.metrics] == [spec.name for spec in task.metrics]
    assert record.metrics[0].value is not None and record.breakdowns and all(record.breakdowns.values())
    assert list(record.data.splits) == list(task.data.splits) and told
    assert all(split.images > 0 and split.bytes > 0 for split in record.data.splits.values())
    assert {f"data.{split}_images" for split in task.data.splits} <= record.protocol.deviations.keys()
    assert base.finished(task, job(name, features=small)[1]) == record
    assert base.finished(task, job(name, features={"layer": 0})[1]) is None


def test_whatever_differs_from_the_protocol_is_told_and_is_another_question(job):
    task, usual = job("prompt-seg-davis")
    assert usual.options.prompt_frame == "first" and usual.deviations == {"data.val_images": 48}
    _, changed = job(
        "prompt-seg-davis", options={"prompt": "random", "points": 3}, features={"facet": "key", "short_side": 64}
    )
    assert changed.deviations == {
        "prompt": "random",
        "points": 3,
        "features.facet": "key",
        "features.view": {"type": "Resize", "short_side": 64},
        "data.val_images": 48,
    }
    assert task.plan(usual).record != task.plan(changed).record
    _, short = job("prompt-seg-davis", smoke=True)
    assert short.deviations == {"data.val_images": 48, "smoke": True} and short.splits["val"].images == 8


def test_images_that_are_scored_and_learned_from_are_told(places, tmp_path):
    checkpoint, _ = places
    lists = make_voc(tmp_path / "voc") / "VOC2007/ImageSets/Main"
    task = probe_task("box-knn-voc")
    assert "data.images_in_both_splits" not in task.prepare_job(checkpoint, tmp_path / "voc").deviations
    learned = (lists / "trainval.txt").read_text().splitlines()
    with (lists / "test.txt").open("a") as file:
        file.writelines(f"{name}\n" for name in learned[:3])
    assert task.prepare_job(checkpoint, tmp_path / "voc").deviations["data.images_in_both_splits"] == 3


def test_a_seed_is_no_deviation_and_another_record(job):
    task, first = job("dense-nn-voc")
    second = task.with_seed(first, 1)
    assert second.seed == 1 and second.deviations == first.deviations
    assert task.plan(first).record != task.plan(second).record


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"treshold": 1}}, r"prompt-seg-coco: no option 'treshold'; there are prompt, points, seed"),
        ({"options": {"points": "many"}}, r"prompt-seg-coco: points=many: input should be a valid integer"),
        ({"options": {"points": 5.5}}, r"prompt-seg-coco: points=5.5: input should be a valid integer"),
        ({"features": {"layer": "x"}}, r"prompt-seg-coco: layer=x: input should be a valid integer"),
        ({"features": {"short_side": "abc"}}, r"prompt-seg-coco: short_side=abc: input should be a valid integer"),
        ({"device": "cuda:99"}, r"--device cuda:99: "),
        ({"features": {"layer": 7}}, r"layer=7: the ViT has 2 blocks"),
        ({"features": {"facet": "values"}}, r"facet='values' is none of token"),
    ],
)
def test_an_option_that_cannot_be_is_one_clear_error(job, options, message):
    with pytest.raises(ConfigError, match=message):
        task, prepared = job("prompt-seg-coco", **options)
        task.run(prepared)


def test_a_second_probe_over_the_same_images_costs_no_forward_pass(job, tmp_path):
    cache = {"cache": tmp_path / "features", "features": {"short_side": 64}}
    passes = []
    for name in ("prompt-seg-ade20k", "similarity-ade20k", "dense-nn-ade20k", "linear-seg-ade20k"):
        task, prepared = job(name, **cache)
        passes.append(task.run(prepared).forward_passes)
    assert passes == [3, 0, 4, 0]


def test_an_image_that_is_missing_is_found_before_anything_runs(places, tmp_path):
    checkpoint, _ = places
    data = make_coco(tmp_path / "coco", train_images=2, val_images=3)
    missing = sorted((data / "val2017").iterdir())[0]
    missing.unlink()
    with pytest.raises(DataError, match=f"{missing.name}: missing"):
        probe_task("similarity-coco").prepare_job(checkpoint, data)


def test_a_data_set_of_one_image_without_objects_gives_a_record_without_scores(places, tmp_path):
    checkpoint, _ = places
    root = tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        for kind, name in (("images", "a.jpg"), ("annotations", "a.png")):
            path = root / kind / split / name
            path.parent.mkdir(parents=True)
            Image.fromarray(np.zeros((48, 64) if kind == "annotations" else (48, 64, 3), np.uint8)).save(path)
    for name in ("prompt-seg-ade20k", "similarity-ade20k"):
        task = probe_task(name)
        prepared = task.prepare_job(checkpoint, root, results=tmp_path / "results")
        record = task.collect(prepared, task.run(prepared))
        assert record.metrics[0].value is None and "NaN" not in record.to_json()
    task = probe_task("dense-nn-ade20k")
    with pytest.raises(DataError, match="no patch of the 1 training images has a class"):
        task.run(task.prepare_job(checkpoint, root))


@pytest.mark.parametrize("name", ["prompt-seg-coco", "dense-nn-voc"])
def test_the_command_asks_the_tool_for_the_same_job(name, places, tmp_path):
    checkpoint, data = places
    task = probe_task(name)
    reading = {"num_heads": 3, "class_token": False, "branch": "teacher"}
    request = Request(
        checkpoint=checkpoint,
        data=find_dataset(task.dataset, data),
        work_dir=tmp_path / "work/m" / name / "abc",
        results=tmp_path / "results",
        model="m",
        seed=2,
        reading=reading,
        cache=tmp_path / "features",
        smoke=True,
    )
    spec = importlib.util.spec_from_file_location("tools_probe", ROOT / "tools/probe.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    python, script, *words = task.command(request, "python")
    assert (python, Path(script)) == ("python", ROOT / "tools/probe.py")
    arguments = tool.parse_args(words)
    asked = task.prepare_job(
        arguments.checkpoint,
        arguments.data,
        reading={key: getattr(arguments, key) for key in reading},
        options=tool.settings("--option", arguments.option),
        features=tool.settings("--feature", arguments.feature),
        smoke=arguments.smoke,
        cache=arguments.cache,
        model=arguments.model_name,
        results=arguments.results_dir,
    )
    assert task.plan(asked).record == task.plan(task.prepare(request)).record
    assert asked.seed == (2 if task.seeded else 0) and asked.cache == tmp_path / "features"


def test_a_probe_is_told_from_other_tasks():
    with pytest.raises(ConfigError, match=r"coco is no probe; there are prompt-seg-coco"):
        probe_task("coco")
    with pytest.raises(ConfigError, match=r"unknown task 'prompt-segs': did you mean prompt-seg"):
        probe_task("prompt-segs")
    assert [task.name for task in tasks.members("box-knn")] == ["box-knn-imagenet", "box-knn-voc", "box-knn-coco"]
    assert tasks.members("") == tasks.members("coco") == []


def test_a_number_may_be_written_as_the_shell_gives_it(job):
    _, prepared = job("linear-seg-voc", options={"learning_rate": "1e-4", "epochs": "3"})
    assert (prepared.options.learning_rate, prepared.options.epochs) == (1e-4, 3)
    _, prepared = job("prompt-seg-coco", options={"threshold": 0.4, "sweep": [0, 0.5, 0.1]})
    assert prepared.options.threshold == 0.4 and prepared.options.sweep == (0.0, 0.5, 0.1)
    assert prepared.deviations["sweep"] == [0.0, 0.5, 0.1]


def test_a_record_is_kept_though_its_pictures_cannot_be_made(places, tmp_path, capsys, monkeypatch):
    checkpoint, data = places
    spec = importlib.util.spec_from_file_location("tools_probe", ROOT / "tools/probe.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    panels = tmp_path / "work/panels"
    panels.mkdir(parents=True)
    (panels / "panels.json").write_text("[")
    words = ["probe.py", "similarity-voc", "--checkpoint", str(checkpoint), "--data", str(data / "voc")]
    words += ["--work-dir", str(tmp_path / "work"), "--results-dir", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", words)
    assert tool.main() == 0
    assert "no pictures: " in capsys.readouterr().err
    assert len(list(Store(tmp_path / "results").records())) == 1


def test_every_question_has_a_folder_of_its_own(places, tmp_path):
    checkpoint, data = places
    task = probe_task("similarity-voc")
    usual, other = (task.prepare_job(checkpoint, data / "voc", features=f, model="m") for f in ({}, {"layer": 0}))
    assert usual.work_dir == Path("work_dirs/probes/m/similarity-voc") / task.plan(usual).record.stem[:8]
    assert usual.work_dir != other.work_dir
