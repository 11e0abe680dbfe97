"""Everything is found out before anything runs, and every problem is told."""

from dataclasses import replace

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
        "--config davis=...: none of what is to run: coco",
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


def test_of_two_copies_one_has_to_be_chosen_for_a_group_too(wish, tmp_path):
    from flsl_bench.datasets.miniature import make_davis

    for name in ("one", "two"):
        make_davis(tmp_path / "data" / name)
    with pytest.raises(ConfigError, match=r"DAVIS 2017 lies in several folders; choose one by --data davis=DIR"):
        make_units(wish("prompt-seg", data={}))


def test_nothing_to_run_is_a_mistake(tasks, wish):
    tasks("one")
    with pytest.raises(ConfigError, match="no task is given"):
        make_units(wish())
    with pytest.raises(ConfigError, match="no seed is given"):
        make_units(wish("one", seeds=()))


@pytest.mark.parametrize("name", ["my model", "a/b", "../out"])
def test_a_name_that_is_no_folder_is_refused_before_anything_runs(tasks, wish, name):
    tasks("one")
    with pytest.raises(ConfigError, match="cannot be a folder's name; use letters"):
        make_units(wish("one", model=name))


def test_a_config_is_for_the_task_it_says(wish, tmp_path):
    from flsl_bench.datasets.miniature import make_ade20k
    from flsl_bench.demo import write_checkpoint

    data = make_ade20k(tmp_path / "data/ade20k", train_images=2, val_images=2)
    vits16 = write_checkpoint(tmp_path / "s.pth", embed_dim=384, depth=12, num_heads=6, patch_size=16)
    options = {"data": {"ade20k": data}, "model": "m"}
    asked = replace(wish("ade20k", **options), checkpoint=vits16)
    for config, told in (
        ("mmconfigs/upernet_vits16_flsl_ade20k.py", "is a config for ade20k-upernet"),
        ("mmconfigs/maskrcnn_vits16_flsl.py", "is a config for coco"),
    ):
        with pytest.raises(ConfigError, match=told):
            make_units(replace(asked, configs={"ade20k": config}))
    with pytest.raises(ConfigError, match=r"OpenMMLab's options cannot carry such a model_name"):
        make_units(replace(asked, model="2024"))
