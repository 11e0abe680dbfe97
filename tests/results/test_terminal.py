"""What is printed after a run and by the overviews."""

import io

import pytest
from rich.console import Console

from flsl_bench.results.comparison import compare
from flsl_bench.results.reported import load_reported
from flsl_bench.results.store import Store
from flsl_bench.results.tables import DEVIATING_TITLE, make_table
from flsl_bench.results.terminal import print_record, results_overview, terminal_table


def printed(renderable=None, width=100, call=None):
    console = Console(file=io.StringIO(), width=width)
    call(console) if call else console.print(renderable)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_record_with_box_and_mask_scores(tmp_path, build_record):
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
    scores = {f"{kind}_{name}": None if name == "APs" else 40.06 for kind in ("box", "mask") for name in names}
    record = build_record(scores=scores)
    lines = printed(call=lambda console: print_record(record, tmp_path, console))
    assert lines[0] == "flsl_vits16-aaaaaaaa on coco, seed 0"
    assert [line.split() for line in lines if "AP50" in line] == [["%", "AP", "AP50", "AP75", "APs", "APm", "APl"]]
    for kind in ("box", "mask"):
        assert [kind, "40.1", "40.1", "40.1", "—", "40.1", "40.1"] in [line.split() for line in lines]
    assert not any("not comparable" in line for line in lines)
    assert lines[-1] == f"record: {Store(tmp_path).path(record.model, 'coco', record.key)}"


def test_record_of_another_task_lists_its_metrics(tmp_path, build_record):
    record = build_record(task="davis2017", scores={"J&F-Mean": 61.83, "J-Decay": None})
    lines = [line.split() for line in printed(call=lambda console: print_record(record, tmp_path, console))]
    assert ["J&F-Mean", "61.8", "%"] in lines and ["J-Decay", "—"] in lines


def test_record_says_how_it_deviates(tmp_path, build_record):
    deviations = {f"key{n}": n for n in range(5)} | {"text": "[bold]"}
    text = " ".join(printed(call=lambda console: print_record(build_record(deviations=deviations), tmp_path, console)))
    assert "not comparable with the papers: key0=0, key1=1, key2=2, key3=3, key4=4, text=[bold]" in text


def test_record_names_the_extremes_of_its_breakdowns(tmp_path, build_record):
    classes = {f"class {n}": 10.0 * n for n in range(8)} | {"absent": None}
    record = build_record(breakdowns={"IoU by class": classes, "AP by level": {"large": 1.0, "none": 3.0}, "no": {}})
    lines = printed(call=lambda console: print_record(record, tmp_path, console))
    start = lines.index("IoU by class, 9 entries, 1 not defined")
    assert lines[start + 1 : -1] == [
        "  highest: class 7 70.0, class 6 60.0, class 5 50.0",
        "  lowest: class 0 0.0, class 1 10.0, class 2 20.0",
        "AP by level, 2 entries",
        "  none 3.0, large 1.0",
        "no, 0 entries",
    ]


def test_a_breakdown_of_one_undefined_entry(tmp_path, build_record):
    record = build_record(breakdowns={"IoU by class": {"wall": None}})
    lines = printed(call=lambda console: print_record(record, tmp_path, console))
    assert lines[-2] == "IoU by class, 1 entry, 1 not defined"


def test_the_path_of_the_record_is_not_broken(tmp_path, build_record):
    record = build_record()
    lines = printed(call=lambda console: print_record(record, tmp_path, console), width=40)
    assert lines[-1].endswith(f"{record.key}.json") and lines[-1].startswith(f"record: {tmp_path}")


def test_overview(build_record):
    records = [build_record(), build_record(deviations={"a": 1}, seed=3, scores={"box_AP": None})]
    lines = [line.split() for line in printed(results_overview(records))]
    model = "flsl_vits16-aaaaaaaa"
    assert [model, "coco", "box_AP", "44.9", "%", "yes", "0", "2026-01-02", "03:00", records[0].key] in lines
    assert [model, "coco", "box_AP", "—", "no", "3", "2026-01-02", "03:00", records[1].key] in lines


def test_terminal_table_fits_100_columns(build_record):
    seeds = [build_record(seed=n, scores={"box_AP": 44.0 + n, "mask_AP": 40.0}) for n in range(3)]
    deviating = build_record(model="miniature", deviations={"data.train_images": 16})
    lines = printed(terminal_table(make_table("coco", load_reported(), [*seeds, deviating])))
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "the protocol this suite runs" in text and DEVIATING_TITLE in text
    assert "Cascade" not in text and "ResNet-50" not in text
    first = lines.index(next(line for line in lines if line.strip().startswith("flsl_vits16-aaaaaaaa (FLSL)")))
    assert lines[first].split()[-6:] == ["45.0", "—", "—", "40.0", "—", "—"]
    assert "± 1.0" in lines[first + 1] and "(+0.1)" in lines[first + 2]
    assert "data.train_images=16" in text and "117,266 train / 5,000 val images" in text


METRICS = {
    "coco": ("box_AP", "box_AP50", "box_AP75", "mask_AP", "mask_AP50", "mask_AP75"),
    "uavdt": ("box_AP", "box_AP50", "box_AP75", "box_APs", "box_APm", "box_APl", "official_AP"),
    "ade20k": ("mIoU", "mAcc", "aAcc", "mIoU_150"),
    "davis": ("J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"),
    "others": ("top1",),
}
BENCHMARKS = {
    "coco": "coco_maskrcnn_vit_fpn_1x",
    "uavdt": "uavdt_fasterrcnn_vit_fpn_1x",
    "ade20k": "ade20k_upernet_160k",
    "davis": "davis2017_val_label_prop",
    "others": "imagenet_knn",
}


def seeds_of(build_record, name, model="flsl_vits16-aaaaaaaa", layout="flsl"):
    scores = [dict.fromkeys(METRICS[name], 40.0 + seed) for seed in range(2)]
    about = {"task": name, "benchmark": BENCHMARKS[name], "model": model, "layout": layout}
    return [build_record(seed=seed, scores=values, **about) for seed, values in enumerate(scores)]


@pytest.mark.parametrize("name", METRICS)
def test_every_table_fits_100_columns(build_record, name):
    lines = printed(terminal_table(make_table(name, load_reported(), seeds_of(build_record, name))))
    assert max(map(len, lines)) <= 100
    assert any("measured, 2 seeds" in line for line in lines)
    scores = next(line for line in lines if line.count("40.5") == len(METRICS[name]))
    assert scores and sum(line.count("± 0.7") for line in lines) == len(METRICS[name])


def test_a_comparison_fits_100_columns(build_record):
    records = [record for name in METRICS for record in seeds_of(build_record, name)]
    other = "dino_vits16_with_a_long_name-bbbbbbbb"
    records += [r for name in ("coco", "davis") for r in seeds_of(build_record, name, other, "dino")]
    lines = printed(terminal_table(compare(records, "flsl_vits16-aaaaaaaa", other)))
    assert max(map(len, lines)) <= 100
    assert lines[0] == f"A = flsl_vits16-aaaaaaaa, B = {other}"
    # sample deviation of 40 and 41: 0.7; Welch: 4.303 * sqrt(0.5 / 2 + 0.5 / 2) = 3.04
    first = next(number for number, line in enumerate(lines) if line.split()[:1] == ["box_AP"])
    assert lines[first].split() == ["box_AP", "within", "noise", "40.5", "40.5", "0.0", "3.1"]
    assert lines[first + 1].split() == ["±", "0.7", "±", "0.7"]
    assert "Not compared" in lines and any("no record of this task" in line for line in lines)
