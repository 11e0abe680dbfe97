"""Everything is found out before anything runs, and every problem is told."""

import pytest

from flsl_bench.errors import ConfigError
from flsl_bench.suite import make_units
from flsl_bench.suite.evaluation import plan_table


def test_a_unit_a_seed_and_one_for_a_task_without_chance(tasks, wish):
    tasks("drawn"), tasks("fixed", seeded=False)
    units = make_units(wish("drawn", "fixed", seeds=(0, 2, 0)))
    assert [unit.name for unit in units] == ["drawn, seed 0", "drawn, seed 2", "fixed"]
    assert len({unit.request.work_dir for unit in units}) == 3


def test_nothing_is_written(tasks, wish, tmp_path):
    tasks("one")
    before = set(tmp_path.rglob("*"))
    make_units(wish("one"))
    assert set(tmp_path.rglob("*")) == before


def test_all_problems_are_in_one_list(tasks, wish, tmp_path):
    tasks("bad", problem="no images"), tasks("worse", problem="no annotations")
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError) as caught:
        make_units(wish("bad", "worse", "wrose", "coco", configs={"davis": "x.py"}))
    first, *problems = str(caught.value).splitlines()
    assert first == "several problems:"
    assert problems[:4] == [
        "unknown task 'wrose': did you mean worse?",
        "--config davis=...: none of what is to run: bad, worse, coco",
        "bad: no images",
        "worse: no annotations",
    ]
    assert problems[4].startswith(f"coco: {tmp_path / 'data'}: ") and "--data coco=DIR" in problems[4]


def test_data_are_looked_at_although_the_checkpoint_is_bad(tasks, wish, tmp_path):
    tasks("one")
    with pytest.raises(ConfigError) as caught:
        make_units(wish("coco", data={}, arch="vit_large"))
    problems = str(caught.value).splitlines()[1:]
    assert len(problems) == 2 and "vit_large" in problems[0] and problems[1].startswith("coco: ")


def test_an_architecture_without_config_names_the_option(wish, tmp_path):
    from flsl_bench.datasets.miniature import make_coco

    data = make_coco(tmp_path / "data/coco", train_images=2, val_images=2)
    with pytest.raises(ConfigError, match=r"a vit_24x2 with patch 16, for which coco has no config; .*--config coco"):
        make_units(wish("coco", data={"coco": data}))


def test_data_of_no_task_are_a_mistake(tasks, wish, tmp_path):
    tasks("one")
    with pytest.raises(ConfigError, match=r"--data coco=\.\.\.: none of what is to run: fake"):
        make_units(wish("one", data={"fake": tmp_path, "coco": tmp_path}))


def test_the_plan_tells_what_is_done(tasks, wish, tmp_path):
    task = tasks("one")
    units = make_units(wish("one", seeds=(0, 1, 2)))
    record = task.record(units[0].request)
    units[0].plan.record.parent.mkdir(parents=True)
    units[0].plan.record.write_text(record.to_json())
    units[1].request.work_dir.mkdir(parents=True)
    again = make_units(wish("one", seeds=(0, 1, 2)))
    assert [unit.state for unit in again] == ["finished", "half done", "to do"]
    assert plan_table(again).row_count == 3


def test_overwriting_makes_a_finished_unit_one_to_do(tasks, wish):
    task = tasks("one")
    (unit,) = make_units(wish("one"))
    unit.plan.record.parent.mkdir(parents=True)
    unit.plan.record.write_text(task.record(unit.request).to_json())
    assert make_units(wish("one"))[0].state == "finished"
    assert make_units(wish("one", overwrite=True))[0].state == "to do"
