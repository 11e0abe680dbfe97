"""The page as a document: complete, traceable, self-contained, escaped, and the same each time."""

import re
from itertools import pairwise

import pytest

from flsl_bench.cli import app
from flsl_bench.errors import ConfigError, DataError
from flsl_bench.pictures.panels import add_panel
from flsl_bench.report import write_report
from flsl_bench.results.reported import load_reported
from flsl_bench.results.specs import TABLES
from flsl_bench.results.store import Store
from flsl_bench.results.tables import make_table
from tests.report.conftest import DINO, FLSL, _picture, sample_panels, sample_records
from tests.report.html_tree import parse
from tests.results.conftest import build_record


@pytest.fixture(scope="module")
def tree(page):
    return parse(page.read_text(encoding="utf-8"))


def rendered(tmp_path, *records):
    for record in records:
        Store(tmp_path / "results").save(record)
    return parse(write_report(tmp_path, tmp_path / "results").read_text(encoding="utf-8"))


def table_below(tree, heading_id):
    return tree.one("div", **{"aria-labelledby": heading_id}).one("table")


def rows_of(table):
    return [[cell.text for cell in row.children if getattr(cell, "tag", None)] for row in table.one("tbody").all("tr")]


def test_the_page_lies_in_the_work_dir_or_where_it_is_asked_for(page, work_dir, tmp_path):
    assert page == work_dir / "report.html"
    elsewhere = write_report(work_dir, work_dir / "results", tmp_path / "new" / "page.html")
    assert elsewhere == tmp_path / "new" / "page.html"
    assert elsewhere.read_bytes() == page.read_bytes()


def test_the_same_records_and_panels_give_the_same_bytes_in_any_order_of_writing(page, work_dir, tmp_path):
    results = tmp_path / "results"
    for record in reversed(list(sample_records())):
        Store(results).save(record)
    sample_panels(tmp_path)
    again = write_report(tmp_path, results).read_text(encoding="utf-8")
    assert again.replace(str(tmp_path), str(work_dir)) == page.read_text(encoding="utf-8")


def test_nothing_is_fetched_and_links_lead_to_papers_or_into_the_page(tree):
    ids = {node.get("id") for node in tree.all() if node.get("id")}
    assert len(ids) == sum(bool(node.get("id")) for node in tree.all()), "an id stands twice"
    assert not list(tree.all("iframe")) + list(tree.all("object"))
    for node in tree.all():
        assert node.get("src").startswith("data:image/jpeg;base64,") or not node.get("src")
        assert not node.get("srcset") and not node.get("action")
        if node.tag == "a" and node.get("href").startswith("#"):
            assert node.get("href")[1:] in ids
        elif node.get("href"):
            assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}|data:,", node.get("href"))
    assert "url(" not in tree.one("style").text and "@import" not in tree.one("style").text
    assert "default-src 'none'" in tree.one("meta", **{"http-equiv": "Content-Security-Policy"}).get("content")


def test_the_header_tells_what_was_measured_when_and_by_which_code(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    first, second = build_record(minute=1), build_record(seed=1)
    packages = second.environment.model_copy(update={"packages": {"flsl-bench": "0.9.1"}})
    later = {"git_commit": f"{commit}-dirty", "environment": packages}
    later["finished"] = second.finished.replace(month=3)
    told = rendered(tmp_path, first, second.model_copy(update=later)).one("dl", class_="summary").text
    for words in ("flsl_vits16-aaaaaaaa", "Records2", "2026-01-02 to 2026-03-02", "0.9.1", "0123456789-dirty"):
        assert words in told


@pytest.mark.parametrize("name", TABLES)
def test_every_section_of_every_table_is_there_with_all_its_rows(tree, work_dir, name):
    table = make_table(name, load_reported(), list(Store(work_dir / "results").records()))
    shown = {True: iter(range(1, 99)), False: iter(range(1, 99))}
    for section in table.sections:
        kind = "measured" if section.measured else "reported"
        rows = rows_of(table_below(tree, f"{name}-{kind}-{next(shown[section.measured])}"))
        assert [row[0] for row in rows] == [" ".join(row.cells[0].split()) for row in section.rows]
        for row, cells in zip(section.rows, rows, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                assert (cell if isinstance(cell, str) else cell.text + cell.remark).split()[0] in text
    words = tree.one("main").text
    assert all(" ".join(note.split()) in words for note in table.footnotes)


def test_reported_and_measured_rows_stand_apart_with_the_difference(tree):
    table = table_below(tree, "coco-measured-1")
    measured = [row.text for row in table.all("tr", class_="measured")]
    assert [FLSL in measured[1], DINO in measured[0], len(measured)] == [True, True, 2]
    assert "45.0± 0.2 (+0.1)" in measured[1] and "3 seeds" in measured[1]
    assert any(row.text.startswith("DINO+SelfPatch") for row in table.all("tr", class_="reported"))


def test_every_measured_score_leads_to_the_records_it_is_made_of(tree):
    scores = [
        cell
        for row in tree.all("tr", class_="measured")
        for cell in row.all("td", class_="number")
        if cell.get("data-value")
    ]
    assert len(scores) > 30
    for cell in scores:
        target = tree.one("div", id=cell.one("a").get("href")[1:])
        assert target.parent.tag == "details"
        assert list(target.all("article"))
    rows = table_below(tree, "coco-measured-1").all("tr", class_="measured")
    link = next(row for row in rows if "3 seeds" in row.text).all("a")
    run = tree.one("div", id=next(iter(link)).get("href")[1:])
    assert [article.one("h4").text for article in run.all("article")] == ["Seed 0", "Seed 1", "Seed 2"]


def test_a_record_tells_all_that_its_numbers_come_from(tree, work_dir):
    for record in Store(work_dir / "results").records():
        told = tree.one("article", id=f"{record.model}--{record.task}--{record.key}").text
        path = Store(work_dir / "results").path(record.model, record.task, record.key)
        assert str(path) in told and path.is_file()
        split = record.data.splits["train"]
        expected = [
            *(record.key, record.protocol.name, f"version {record.protocol.version}", *record.protocol.deviations),
            *(record.weights.file, record.weights.sha256, record.weights.arch, record.weights.heads_source),
            *(f"{split.images:,} images", split.annotations_sha256, "a processor", "fp32", "12.5 s", "torch 2.8.0"),
            *("numba", "pycocotools 2.0.10", "tools/train.py config.py", "3.11.0 on Linux"),
        ]
        assert [words for words in expected if words not in told] == []


def test_a_changed_protocol_never_stands_beside_papers_and_a_smoke_run_in_no_table(tree):
    changed = [row for row in tree.all("tr") if "image_scale_factor=0.5" in row.text]
    assert len(changed) == 1
    (table,) = [node for node in changed[0].above("table")][:1]
    assert not list(table.all("tr", class_="reported"))
    assert "smoke run, no measurement" in tree.one("main").text
    assert not [row for row in tree.all("tr", class_="measured") if "smoke" in row.text]
    assert not [row for row in table_below(tree, "overview").one("tbody").all("tr") if "changed" in row.text]


def test_only_smoke_runs_leave_no_row_beside_the_papers(tmp_path):
    tree = rendered(tmp_path, build_record(deviations={"smoke": True}))
    assert "none stands beside the papers' figures" in tree.one("main").text
    assert not list(tree.all("tr", class_="measured"))
    assert len(list(tree.all("article"))) == 1


def test_tables_and_protocols_that_only_papers_fill_are_folded(tmp_path):
    tree = rendered(tmp_path, build_record())
    assert not list(tree.one("h3", id="coco").above("details"))
    assert not list(tree.one("h4", id="coco-measured-1").above("details"))
    for node in (
        tree.one("h3", id="davis"),
        tree.one("h4", id="coco-reported-1"),
        tree.one("h4", id="others-reported-1"),
    ):
        assert "open" not in next(node.above("details")).attributes


def test_every_column_has_a_button_that_sorts_and_every_table_its_own_scroller(tree):
    heads = list(tree.all("th", scope="col"))
    assert heads and all(head.one("button").get("type") == "button" for head in heads)
    for table in tree.all("table"):
        assert table.parent.get("class") == "scroll"
        assert table.parent.get("tabindex") == "0"
        assert table.parent.get("aria-label") or table.parent.get("aria-labelledby")
        for row in table.one("tbody").all("tr"):
            assert row.one("th", scope="row")


def test_headings_come_in_order_and_landmarks_are_there(tree):
    levels = [int(node.tag[1]) for node in tree.all() if re.fullmatch(r"h\d", node.tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tree.one("main").get("id") == "content"
    assert next(iter(tree.one("body").all("a"))).get("href") == "#content"
    assert tree.one("header") and tree.one("nav").get("aria-label")
    assert all(image.get("alt") for image in tree.one("main").all("img"))


def test_curves_and_parts(tree):
    charts = list(tree.all("figure", class_="chart"))
    by_title = {chart.one("figcaption").text: chart for chart in charts}
    assert sorted(by_title) == ["Similarity of patch pairs", "mIoU by threshold"] and len(charts) == 2
    assert [item.text for item in by_title["Similarity of patch pairs"].one("ul").all("li")] == [
        "pairs within one object",
        "pairs of two objects",
        "pairs of object and background",
    ]
    classes = next(
        table for table in tree.all("table", class_="parts") if "chandelier" not in table.text and "wall" in table.text
    )
    assert [head.text for head in classes.one("thead").all("th")] == ["part", "IoU", "Acc"]
    assert ["flag", "—", "—"] in rows_of(classes) and ["clock", "31.5", "40.0"] in rows_of(classes)


def test_pictures_by_model_task_and_title_with_what_is_left_out(tree, work_dir):
    section = tree.one("section", **{"aria-labelledby": "pictures"})
    assert [node.text for node in section.all("h3")] == [FLSL]
    assert [node.text for node in section.all("h4")] == [
        "davis: Masks",
        "similarity-coco: PCA of the patch tokens",
        "uavdt: Boxes",
    ]
    counts = [len(list(gallery.all("figure"))) for gallery in section.all("div", class_="gallery")]
    assert counts == [6, 6, 24]
    assert f"2 more in {work_dir / FLSL / 'uavdt' / 'seed0-bbdd7e9b' / 'panels'}" in section.text
    assert all(image.get("loading") == "lazy" for image in section.all("img"))


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_text_from_records_and_panels_is_escaped(tmp_path):
    record = build_record(breakdowns={HOSTILE: {HOSTILE: 1.0}, f"x by {HOSTILE}": {f"{k}": 1.0 for k in range(9)}})
    changes = {"command": [HOSTILE], "git_commit": HOSTILE, "seconds": {HOSTILE: 1.0}, "artifacts": {HOSTILE: HOSTILE}}
    changes["weights"] = record.weights.model_copy(update={"file": HOSTILE, "heads_source": HOSTILE})
    changes["environment"] = record.environment.model_copy(update={"device": HOSTILE, "packages": {HOSTILE: HOSTILE}})
    add_panel(tmp_path / "<script>model" / "coco" / "run" / "panels", HOSTILE, HOSTILE, _picture(0, 8, 8))
    tree = rendered(tmp_path, record.model_copy(update=changes))
    assert len(list(tree.all("script"))) == 1
    assert not [node for node in tree.all() if any(name.startswith("on") for name in node.attributes)]
    assert tree.text.count("alert(1)") >= 12
    assert [node.text for node in tree.one("section", **{"aria-labelledby": "pictures"}).all("h3")] == ["<script>model"]


def test_a_model_with_markup_for_a_name_is_text(tmp_path, monkeypatch):
    record = build_record().model_copy(update={"model": "<script>x</script>"})
    monkeypatch.setattr(Store, "records", lambda store: iter([record]))
    tree = parse(write_report(tmp_path, tmp_path).read_text(encoding="utf-8"))
    assert len(list(tree.all("script"))) == 1
    assert "<script>x</script>" in table_below(tree, "overview").text


def test_a_picture_that_cannot_be_read_is_told_in_its_place(tmp_path):
    folder = tmp_path / "model" / "coco" / "run" / "panels"
    path = add_panel(folder, "Boxes", "broken", _picture(0, 8, 8))
    add_panel(folder, "Boxes", "whole", _picture(1, 8, 8))
    path.write_bytes(path.read_bytes()[:200])
    figures = list(rendered(tmp_path, build_record()).one("div", class_="gallery").all("figure"))
    assert f"{path}: not readable as a picture" in figures[0].one("p", class_="caution").text
    assert figures[0].one("figcaption").text == "broken"
    assert figures[1].one("img")


def test_a_damaged_index_of_panels_is_an_error_that_names_it(tmp_path):
    (tmp_path / "panels").mkdir()
    (tmp_path / "panels" / "panels.json").write_text("{")
    with pytest.raises(DataError, match=r"panels\.json: not readable as JSON"):
        rendered(tmp_path, build_record())


def test_no_record_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"measured: no records to report on; evaluate a checkpoint or name another"):
        write_report(tmp_path, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_command_prints_where_the_page_is(tmp_path, capsys):
    Store(tmp_path / "results").save(build_record())
    app(["report", "--work-dir", str(tmp_path), "--results-dir", str(tmp_path / "results")], standalone_mode=False)
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert parse((tmp_path / "report.html").read_text(encoding="utf-8")).one("main")
