"""The pages of the models: which sections in which order, and every number where it belongs."""

import csv
import io

from flsl_bench.results.model_pages import by_model, model_page, model_scores, run_summary
from flsl_bench.results.rendering import Score, to_csv, to_markdown
from flsl_bench.results.reported import load_reported
from flsl_bench.results.specs import COCO, DAVIS


def some_records(build_record):
    records = [build_record(model="mine", seed=n, scores={"box_AP": 44.0 + n, "box_APs": None}) for n in range(3)]
    records.append(build_record(model="mine", scores={"box_AP": 20.0}, deviations={"precision": "fp32"}))
    davis = {"task": "davis", "benchmark": "davis2017_val_label_prop"}
    records.append(build_record(model="mine", scores={"J&F-Mean": 61.0}, **davis))
    records.append(build_record(model="mine", scores={"box_AP": 1.0}, benchmark="miniature_coco_maskrcnn"))
    return records


def page_of(build_record, records=None):
    records = records or some_records(build_record)
    return model_page(load_reported(), by_model(records)["mine"])


def test_what_followed_its_protocol_comes_first(build_record):
    page = page_of(build_record)
    suite = COCO.heading("coco_maskrcnn_vit_fpn_1x")
    assert [section.title for section in page.sections] == [
        "Weights",
        suite,
        COCO.sections["miniature_coco_maskrcnn"],
        DAVIS.heading("davis2017_val_label_prop"),
        f"{suite}; changed, not comparable with the papers",
        "Records",
    ]
    assert [section.comparable for section in page.sections] == [True, True, True, True, False, True]
    assert page == page_of(build_record, some_records(build_record)[::-1])


def test_the_page_as_it_is_read(build_record):
    records = [r for r in some_records(build_record) if r.protocol.name == "coco_maskrcnn_vit_fpn_1x"]
    paths = [f"measured/mine/coco/{record.key}.json" for record in records]
    lines = to_markdown(page_of(build_record, records)).splitlines()
    assert lines[:7] == [
        "# mine",
        "",
        "## Weights",
        "",
        "| File | SHA-256 | Format | Branch | Architecture | Patch size | Heads | Number of heads from "
        "| Prefix tokens |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| weights.pth | aaaaaaaaaaaa | flsl | teacher | vit_small | 16 | 6 | the number of channels | 0 |",
    ]
    start = lines.index(f"## {COCO.heading('coco_maskrcnn_vit_fpn_1x')}")
    assert lines[start + 2 : start + 8] == [
        "coco_maskrcnn_vit_fpn_1x, version 1. 117,266 train / 5,000 val images. Seeds 0, 1, 2.",
        "",
        "| Metric | Measured | Reported: FLSL ViT-S/16 |",
        "| --- | --: | --: |",
        "| box_AP | 45.0 ± 1.0 (+0.1) | 44.9 |",
        "| box_APs | — | — |",
    ]
    changed = next(line for line in lines if "Changed:" in line)
    assert changed.endswith("Seed 0. Changed: precision=fp32.")
    listed = [line.split(" | ") for line in lines if "measured/mine" in line]
    assert [(cells[3], cells[4], cells[6].rstrip(" |")) for cells in listed] == [
        *(("yes", str(seed), path) for seed, path in enumerate(paths[:3])),
        ("no", "0", paths[3]),
    ]


def test_a_changed_run_and_a_demo_have_no_reported_figure(build_record):
    by_title = {section.title: section for section in page_of(build_record).sections}
    demo, *_ = (section for title, section in by_title.items() if title.startswith("The demo"))
    changed, *_ = (section for title, section in by_title.items() if "changed" in title)
    assert demo.columns == changed.columns == ("Metric", "Measured")
    assert all(score.difference is None for section in (demo, changed) for score in section.scores())


def test_weights_of_one_model_are_told_apart(build_record):
    records = [build_record(model="mine", scores={"box_AP": 40.0})]
    records.append(build_record(model="mine", scores={"box_AP": 41.0}, heads=8, digits="b"))
    page = page_of(build_record, records)
    assert [row.cells[1] for row in page.sections[0].rows] in (["a" * 12, "b" * 12], ["b" * 12, "a" * 12])
    suite = COCO.heading("coco_maskrcnn_vit_fpn_1x")
    scores = {section.title: section.rows[0].cells[1].value for section in page.sections[1:3]}
    assert scores == {f"{suite}, 6 heads, file aaaaaaaa": 40.0, f"{suite}, 8 heads, file bbbbbbbb": 41.0}


def test_csv_has_a_line_a_metric(build_record):
    records = by_model(some_records(build_record))["mine"]
    lines = list(csv.DictReader(io.StringIO(to_csv(model_scores(load_reported(), records)))))
    assert [(line["Task"], line["Metric"], line["Measured"], line["Changed"]) for line in lines] == [
        ("coco", "box_AP", "45.0", ""),
        ("coco", "box_APs", "—", ""),
        ("coco", "box_AP", "1.0", ""),
        ("davis", "J&F-Mean", "61.0", ""),
        ("coco", "box_AP", "20.0", "precision=fp32"),
    ]
    first = lines[0]
    assert (first["Measured std"], first["Measured difference"], first["Reported"]) == ("1.0", "0.1", "44.9")
    assert (first["Seeds"], len(first["Records"].split())) == ("0, 1, 2", 3)


def test_models_have_pages_of_their_own(build_record):
    models = by_model([build_record(model="b"), build_record(model="a"), build_record(model="b", seed=1)])
    assert {model: [record.seed for record in own] for model, own in models.items()} == {"a": [0], "b": [0, 1]}
    assert list(models) == ["a", "b"]
    scores = [cell for cell in model_page([], models["b"]).sections[1].rows[0].cells if isinstance(cell, Score)]
    assert [score.text for score in scores] == ["44.9", "—"]


def test_a_run_in_one_table(build_record):
    smoke = build_record(
        model="mine",
        scores={"mIoU": 3.0, "aAcc": 9.0},
        task="ade20k",
        deviations={"a": 1, "b": 2, "c": 3, "smoke": True},
    )
    (section,) = run_summary(load_reported(), by_model([*some_records(build_record), smoke])["mine"]).sections
    rows = [[cell.text if isinstance(cell, Score) else cell for cell in row.cells] for row in section.rows]
    assert rows[0] == ["coco", "box AP", "45.0", "44.9", "coco_maskrcnn_vit_fpn_1x", "seeds 0, 1, 2"]
    assert ["davis", "J&F-Mean", "61.0", "—", "davis2017_val_label_prop", "seed 0"] in rows
    assert ["ade20k", "mIoU", "3.0", "—", "coco_maskrcnn_vit_fpn_1x, a smoke run", "seed 0"] in rows
    assert not any("aAcc" in row for row in rows)  # no column of ADE20K's table that every row has
