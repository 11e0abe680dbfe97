"""The tables: expectations are worked out by hand, from figures that are easy to reckon with."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flsl_bench import tasks
from flsl_bench.paths import CHECKOUT
from flsl_bench.results.rendering import MISSING, Row, Score, Section, Table, to_csv, to_latex, to_markdown
from flsl_bench.results.reported import Figure, load_reported
from flsl_bench.results.rows import backbone_label, mark_best, noise, short_deviations
from flsl_bench.results.specs import COCO, OTHERS, TABLES, UAVDT, spec_of
from flsl_bench.results.store import Store
from flsl_bench.results.tables import DEVIATING_TITLE, make_table, render_tables, stale_files, write_tables

SUITE = "coco_maskrcnn_vit_fpn_1x"
CASCADE = "coco_cascade_maskrcnn_vit_1x"


def figure(value, **fields):
    defaults = dict(
        paper="FLSL",
        arxiv="2306.06203",
        benchmark=SUITE,
        method="FLSL",
        backbone="ViT-S/16",
        metric="box_AP",
        table="abstract",
        source_kind="primary",
        source="the abstract",
    )
    return Figure(value=value, **(defaults | fields))


def texts(row):
    """The row's cells as they would be read."""
    return [cell if isinstance(cell, str) else " ".join(filter(None, (cell.text, cell.remark))) for cell in row.cells]


def section(table, title):
    (found,) = [section for section in table.sections if section.title == title]
    return found


def coco_table(figures, records):
    return make_table("coco", figures, records)


def suite(table):
    """The section of the protocol that the suite runs, without the rows that lack a source."""
    found = section(table, COCO.sections[SUITE])
    return replace(found, rows=sourced(found))


def sourced(section):
    """The rows that have a source or were measured."""
    return tuple(row for row in section.rows if row.cells[-1] != MISSING)


def bold(values, metric="box_AP"):
    """Which of `values` is marked as the best of its column."""
    rows = [Row(("method", "ViT-S/16", Score(value), "source")) for value in values]
    return [row.cells[2].best for row in mark_best(rows, [metric])]


def test_reported_row():
    figures = [
        figure(44.9),
        figure(40.8, metric="mask_AP"),
        figure(66.04, metric="box_AP50"),
        figure(1.0, metric="APx"),
    ]
    (row,) = suite(coco_table(figures, [])).rows
    assert texts(row) == ["FLSL", "ViT-S/16", "44.9", "66.0", "—", "40.8", "—", "—", "FLSL, abstract; primary"]


def test_what_tells_rows_apart_stands_in_brackets():
    figures = [
        figure(40.0, pretrain_epochs=200, pretrain_data="COCO", batch_size=4096, detector="Faster R-CNN"),
        figure(41.0, pretrain_epochs=800),
        figure(42.0, source_kind="secondary", table="Table 2"),
    ]
    rows = suite(coco_table(figures, [])).rows
    assert [row.cells[0] for row in rows] == [
        "FLSL (200 epochs, on COCO, batch 4096, Faster R-CNN)",
        "FLSL (800 epochs)",
        "FLSL",
    ]
    assert rows[2].cells[-1] == "FLSL, Table 2; secondary"


def test_protocols_never_share_a_section():
    table = coco_table([figure(50.0 + n, benchmark=name) for n, name in enumerate(COCO.sections)], [])
    assert [section.title for section in table.sections] == list(COCO.sections.values())
    assert [[texts(row)[2] for row in sourced(section)] for section in table.sections] == [
        [f"{50.0 + n:.1f}"] for n in range(len(COCO.sections))
    ]


def test_rows_go_from_small_to_large_and_weak_to_strong():
    figures = [
        figure(50.0, method="c", backbone="ViT-B/16"),
        figure(46.5, method="b", backbone="ViT-S/8"),
        figure(44.9, method="b"),
        figure(42.1, method="a"),
    ]
    rows = suite(coco_table(figures, [])).rows
    assert [(row.cells[0], row.cells[1]) for row in rows] == [
        ("a", "ViT-S/16"),
        ("b", "ViT-S/16"),
        ("b", "ViT-S/8"),
        ("c", "ViT-B/16"),
    ]


def test_mean_deviation_and_difference_over_seeds(build_record):
    # box: mean (44.0 + 45.0 + 46.0) / 3 = 45.0, sample deviation sqrt((1 + 0 + 1) / 2) = 1.0, 45.0 - 44.9 = +0.1
    # mask: mean 40.0, sample deviation sqrt((0.04 + 0 + 0.04) / 2) = 0.2, 40.0 - 40.8 = -0.8
    scores = [(44.0, 39.8), (45.0, 40.0), (46.0, 40.2)]
    records = [build_record(seed=n, scores={"box_AP": b, "mask_AP": m}) for n, (b, m) in enumerate(scores)]
    table = coco_table([figure(44.9), figure(40.8, metric="mask_AP")], records)
    assert texts(suite(table).rows[1]) == [
        "flsl_vits16-aaaaaaaa (FLSL)",
        "ViT-S/16",
        "45.0 ± 1.0 (+0.1)",
        "—",
        "—",
        "40.0 ± 0.2 (−0.8)",
        "—",
        "—",
        "measured, 3 seeds",
    ]


def test_one_seed_has_no_deviation(build_record):
    (row,) = suite(coco_table([], [build_record()])).rows
    assert texts(row)[2] == "44.9" and row.cells[-1] == "measured, 1 seed"


def test_the_same_seed_counts_once(build_record):
    old, new = build_record(scores={"box_AP": 40.0}), build_record(scores={"box_AP": 41.0}, minute=9)
    (row,) = suite(coco_table([], [new, old])).rows
    assert texts(row)[2] == "41.0" and row.cells[-1] == "measured, 1 seed"


def test_a_score_that_one_seed_lacks_has_no_mean(build_record):
    records = [build_record(seed=n, scores={"box_AP": value}) for n, value in enumerate([40.0, None])]
    table = coco_table([], records)
    assert texts(suite(table).rows[0])[2] == "—"
    assert any("not defined on these data" in note for note in table.footnotes)


@pytest.mark.parametrize(
    ("layout", "arch", "patch", "difference"),
    [
        ("flsl", "vit_small", 16, "(+10.0)"),
        ("dino", "vit_small", 16, "(+20.0)"),
        ("selfpatch", "vit_small", 16, "(+15.0)"),
        ("mae", "vit_small", 16, ""),
        ("flsl", "vit_small", 8, ""),
        ("flsl", "vit_base", 16, ""),
    ],
)
def test_difference_is_to_the_same_method_and_backbone(build_record, layout, arch, patch, difference):
    figures = [figure(40.0), figure(30.0, method="DINO"), figure(35.0, method="DINO+SelfPatch")]
    figures.append(figure(1.0, benchmark=CASCADE, backbone="ViT-S/8"))
    record = build_record(layout=layout, arch=arch, patch=patch, scores={"box_AP": 50.0})
    assert suite(coco_table(figures, [record])).rows[3].cells[2].remark == difference


def test_sources_that_disagree_give_no_difference(build_record):
    figures = [figure(40.0), figure(40.5, table="Table 1")]
    assert suite(coco_table(figures, [build_record()])).rows[2].cells[2].difference is None
    figures[1] = figure(40.5, table="Table 1", source_kind="reproduction")
    assert suite(coco_table(figures, [build_record()])).rows[2].cells[2].remark == "(+4.9)"


def test_questions_are_not_averaged(build_record):
    records = [
        build_record(scores={"box_AP": 40.0}),
        build_record(heads=8, scores={"box_AP": 41.0}),
        build_record(version="2", scores={"box_AP": 42.0}),
    ]
    rows = suite(coco_table([], records)).rows
    assert [row.cells[0] for row in rows] == [
        "flsl_vits16-aaaaaaaa, 6 heads, protocol 1 (FLSL)",
        "flsl_vits16-aaaaaaaa, 8 heads, protocol 1 (FLSL)",
        "flsl_vits16-aaaaaaaa, 6 heads, protocol 2 (FLSL)",
    ]
    assert all(row.cells[-1] == "measured, 1 seed" for row in rows)


def test_a_protocol_nobody_reported_gets_its_own_section(build_record):
    table = coco_table([figure(44.9)], [build_record(benchmark="coco_new_1x")])
    assert [section.title for section in table.sections] == [COCO.sections[SUITE], "coco_new_1x (nothing reported)"]


def test_records_of_other_tasks_are_left_out(build_record):
    table = coco_table([], [build_record(task="uavdt")])
    assert len(table.sections) == 1 and not table.sections[0].measured and suite(table).rows == ()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([44.9, 44.6], [False, False]),  # 0.3 is noise
        ([44.9, 44.5], [True, False]),
        ([44.5, 44.9, 40.0], [False, True, False]),
        ([44.9, 44.9], [False, False]),
        ([57.996, 57.6677], [False, False]),  # read as 58.0 and 57.7
        ([44.9, None], [False, False]),  # the best of one says nothing
        ([None, 44.9, 44.0], [False, True, False]),
        ([None], [False]),
        ([], []),
    ],
)
def test_bold_only_above_noise(values, expected):
    assert bold(values) == expected


@given(st.lists(st.none() | st.floats(0, 100), max_size=6), st.sampled_from(["box_AP", "mIoU", "J&F-Mean", "top1"]))
def test_bold_is_alone_and_leads_by_more_than_noise(values, metric):
    tenths = [None if value is None else int(f"{value:.1f}".replace(".", "")) for value in values]

    def leads(own):
        others = [other for n, other in enumerate(tenths) if n != own and other is not None]
        return bool(others) and all(tenths[own] - other > 10 * noise(metric) for other in others)

    assert bold(values, metric) == [value is not None and leads(n) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5.0, 5.4], [True, False]), ([5.0, 5.3], [False, False]), ([9.0, None, 5.0], [False, False, True])],
)
def test_bold_where_lower_is_better(values, expected):
    rows = [Row(("a", "b", Score(value, higher_is_better=False), "c")) for value in values]
    assert [row.cells[2].best for row in mark_best(rows, ["some AP"])] == expected


def test_noise_by_metric():
    assert (noise("box_AP"), noise("mask_AP75"), noise("mIoU"), noise("J&F_m")) == (0.3, 0.3, 0.3, 0.1)
    assert bold([60.0, 59.8], "J&F-Mean") == [True, False] and bold([60.0, 59.8], "mIoU") == [False, False]
    assert bold([90.0, 10.0], "of unknown noise") == [False, False]


def test_a_measured_row_can_be_the_best(build_record):
    rows = suite(coco_table([figure(44.9)], [build_record(scores={"box_AP": 45.3})])).rows
    assert [row.cells[2].best for row in rows] == [False, True]


def test_deviating_records_stand_apart(build_record):
    deviations = {"data.val_images": 50, "data.train_images": 200, "precision": "fp32", "sizes": [1, 2], "lr": None}
    records = [build_record(), build_record(deviations=deviations, seed=1), build_record(deviations=deviations)]
    table = coco_table([figure(44.9)], records)
    assert [section.title for section in table.sections] == [COCO.sections[SUITE], DEVIATING_TITLE]
    assert [row.cells[-1] for row in suite(table).rows] == ["FLSL, abstract; primary", "measured, 1 seed"]
    apart = table.sections[-1]
    assert not apart.comparable
    assert apart.columns == (
        *("Model", "Backbone", "box AP", "box AP50", "box AP75", "mask AP", "mask AP50", "mask AP75"),
        *("Deviations", "Protocol", "Data", "Runs"),
    )
    assert texts(apart.rows[0]) == [
        *("flsl_vits16-aaaaaaaa", "ViT-S/16", "44.9 ± 0.0", "—", "—", "40.8 ± 0.0", "—", "—"),
        "data.train_images=200, data.val_images=50, lr=null and 2 more",
        SUITE,
        "117,266 train / 5,000 val images",
        "measured, 2 seeds",
    ]


def test_deviating_records_of_tasks_with_other_metrics_have_sections_and_columns_of_their_own(build_record):
    scores = {"prompt-seg": {"mIoU": 30.0, "mIoU-small": None}, "similarity": {"AUROC": 70.0}}
    tasks = ["similarity-davis", "prompt-seg-coco", "prompt-seg-davis"]
    records = [
        build_record(task=task, benchmark=task, scores=scores[task.rpartition("-")[0]], deviations={"a": 1})
        for task in tasks
    ]
    sections = make_table("probes", [], records).sections
    assert [section.title for section in sections] == [
        f"{DEVIATING_TITLE}: prompt-seg-coco, prompt-seg-davis",
        f"{DEVIATING_TITLE}: similarity-davis",
    ]
    assert [section.columns[2:-4] for section in sections] == [("mIoU",), ("AUROC",)]
    assert [len(section.rows) for section in sections] == [2, 1]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8)),
    st.sampled_from([*COCO.sections, "another"]),
    st.floats(0, 100),
)
def test_a_deviation_never_stands_beside_papers(build_record, deviations, benchmark, value):
    record = build_record(
        deviations=deviations, benchmark=benchmark, model="mine", layout="x", scores={"box_AP": value}
    )
    table = coco_table([figure(44.9, benchmark=name) for name in COCO.sections], [record])
    beside = [s.comparable for s in table.sections for row in s.rows if row.cells[0] == "mine"]
    assert beside == [not deviations]
    if deviations:
        assert not any(score.best or score.difference is not None for s in table.sections for score in s.scores())


def test_short_deviations():
    assert short_deviations({"b": 1, "a": "x"}) == "a=x, b=1"
    assert short_deviations(dict(a=1, b=2, c=3)) == "a=1, b=2, c=3"
    assert short_deviations(dict(a=1, b=2, c=3, d=4)) == "a=1, b=2, c=3 and 1 more"
    assert short_deviations(dict(a=1, b=2, c=3, d=4), most=None) == "a=1, b=2, c=3, d=4"
    assert short_deviations({"a": "x" * 60}) == f"a={'x' * 39}…"


def test_backbone_label():
    assert backbone_label("vit_small", 16) == "ViT-S/16"
    assert backbone_label("vit_base", 8) == "ViT-B/8"
    assert backbone_label("vit_400x10", 14) == "vit_400x10/14"


def tricky_table():
    row = Row(("50% a_b & c|d", Score(44.94, spread=0.25, difference=-0.96, best=True), "{#$~^\\} <x>"), ("see [a]",))
    other = Row(("_plain_", Score(None), "two\nlines, and a comma"))
    return Table("A & B", (Section("Part_1", ("Method", "box AP", "Source"), (row, other)),), ("100 % sure",))


def test_markdown():
    assert to_markdown(tricky_table()) == (
        "# A & B\n\n"
        "## Part_1\n\n"
        "| Method | box AP | Source |\n"
        "| --- | --: | --- |\n"
        "| 50% a_b & c\\|d | **44.9** ± 0.2 (−1.0) | {#$~^\\\\} \\<x> [1] |\n"
        "| \\_plain\\_ | — | two lines, and a comma |\n\n"
        "- 100 % sure\n"
        "- [1] see [a]\n"
    )


def test_latex():
    assert to_latex(tricky_table()) == (
        "% A & B. Needs \\usepackage{booktabs}.\n\n"
        "\\begin{table}[tp]\n"
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
        "\\caption{Part\\_1}\n"
        "\\begin{tabular}{lrl}\n"
        "\\toprule\n"
        "Method & box AP & Source \\\\\n"
        "\\midrule\n"
        "50\\% a\\_b \\& c\\textbar{}d & \\textbf{44.9} $\\pm$ 0.2 ($-$1.0) & "
        "\\{\\#\\$\\textasciitilde{}\\textasciicircum{}\\textbackslash{}\\} \\textless{}x\\textgreater{} {[}1] \\\\\n"
        "\\_plain\\_ & --- & two lines, and a comma \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\par\\smallskip{\\footnotesize {[}1] see {[}a]}\n"
        "\\end{table}\n\n"
        "\\par\\noindent{\\footnotesize\n"
        "100 \\% sure\\par}\n"
    )


def test_csv_parses_back():
    first, second = csv.DictReader(io.StringIO(to_csv(tricky_table())))
    assert first == {
        "Section": "Part_1",
        "Method": "50% a_b & c|d",
        "box AP": "44.9",
        "box AP std": "0.2",
        "box AP difference": "-1.0",
        "Source": "{#$~^\\} <x>",
        "Notes": "see [a]",
    }
    assert (second["box AP"], second["box AP std"], second["Source"]) == ("—", "", "two\nlines, and a comma")


def test_csv_of_sections_with_different_columns(build_record):
    table = coco_table([figure(44.9)], [build_record(), build_record(deviations={"a": 1})])
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [line["Method"] or line["Model"] for line in lines] == [
        "FLSL",
        "FLSL",
        "flsl_vits16-aaaaaaaa (FLSL)",
        "flsl_vits16-aaaaaaaa",
    ]
    assert [line["box AP"] for line in lines] == ["44.9", "—", "44.9", "44.9"]
    assert [line["Deviations"] for line in lines] == ["", "", "", "a=1"]


def test_a_missing_figure_is_explained_only_where_one_is_missing():
    figures = [figure(50.0, benchmark="new"), figure(40.0, benchmark="new", method="b", metric="mIoU")]
    explained = "no source for this figure was found"
    assert explained not in to_markdown(make_table("others", figures[:1], []))
    assert explained in to_markdown(make_table("others", figures, []))


def test_notes_are_numbered_in_the_order_of_the_rows():
    figures = [figure(41.0, method="b", note="second"), figure(40.0, method="a", note="first")]
    figures.append(figure(39.0, method="b", metric="mask_AP", note="second"))
    text = to_markdown(coco_table(figures, []))
    assert "| a | ViT-S/16 | 40.0 | — | — | — | — | — | FLSL, abstract; primary [1] |" in text
    assert "FLSL, abstract; primary [2] |" in text
    assert text.endswith("- [1] first\n- [2] second\n- [3] No source for FLSL's ViT-B/16 figures was found.\n")


GOLDEN_DAVIS = """\
# DAVIS 2017: video object segmentation by label propagation, J and F in % on val

## Label propagation with frozen features (the protocol this suite runs)

| Method | Backbone | J&F-Mean | J-Mean | F-Mean | J-Decay | Source |
| --- | --- | --: | --: | --: | --: | --- |
| DINO (on ImageNet) | ViT-S/16 | 61.8 | 60.2 | 63.4 | — | DINO, Table 5; primary |
| DINO+SelfPatch | — | — | — | — | — | — [1] |
| FLSL | — | — | — | — | — | — [2] |
| mine (DINO) | ViT-S/16 | **62.0** (+0.2) | 61.0 (+0.8) | 63.0 (−0.4) | 20.0 | measured, 1 seed |

- —: no source for this figure was found.
- primary: the authors' own paper, repository or log; secondary: another work that quotes the figure; \
reproduction: somebody's re-run. Each figure's source is in results/reported.
- In brackets behind a measured value: difference to the reported figure of the same protocol and backbone, \
for the method whose checkpoint layout the weights have.
- Bold: the best of its column in its section, if it leads the second by more than 0.1 J&F, \
which seeds alone can give a trained model.
- STM is trained on the masks of videos; the other methods see no mask but the first frame's.
- [1] No source for SelfPatch's DAVIS figures was found.
- [2] No source for FLSL's DAVIS figures was found.
"""


def test_davis_figures_meet_records_under_one_name(build_record):
    about = {"paper": "DINO", "method": "DINO", "benchmark": "davis2017_val_label_prop", "table": "Table 5"}
    values = {"J&F_m": 61.8, "J_m": 60.2, "F_m": 63.4}
    figures = [figure(v, metric=name, pretrain_data="ImageNet", **about) for name, v in values.items()]
    scores = {"J&F-Mean": 62.0, "J-Mean": 61.0, "J-Decay": 20.0, "F-Mean": 63.0}
    benchmark = "davis2017_val_label_prop"
    record = build_record(model="mine", task="davis", benchmark=benchmark, layout="dino", scores=scores)
    assert to_markdown(make_table("davis", figures, [record])) == GOLDEN_DAVIS


def test_uavdt_has_its_row_without_a_source_and_its_demo(build_record):
    (only,) = make_table("uavdt", load_reported(), []).sections
    assert only.title == UAVDT.sections["uavdt_fasterrcnn_vit_fpn_1x"]
    names = ("box AP", "box AP50", "box AP75", "box APs", "box APm", "box APl", "official AP")
    assert only.columns == ("Method", "Backbone", *names, "Source")
    assert [texts(row) for row in only.rows] == [["FLSL", *["—"] * 9]]
    assert only.rows[0].notes == ("No source for FLSL's UAVDT figures was found.",)
    record = build_record(task="uavdt", benchmark="miniature_uavdt_fasterrcnn", scores={"official_AP": 12.0})
    demo = make_table("uavdt", [], [record]).sections[1]
    assert demo.title == "The demo: miniature UAVDT, a small Faster R-CNN; not UAVDT and not comparable with it"
    assert texts(demo.rows[0])[-2:] == ["12.0", "measured, 1 seed"]


def test_ade20k_shows_further_columns_where_they_were_measured(build_record):
    about = {"task": "ade20k", "benchmark": "ade20k_semfpn_40k", "layout": "selfpatch"}
    record = build_record(scores={"mIoU": 40.9, "mAcc": 52.0, "aAcc": 80.0, "mIoU_150": 40.5}, **about)
    table = make_table("ade20k", load_reported(), [record])
    first = table.sections[0]
    assert [s.columns[2:-1] for s in table.sections] == [("mIoU", "mAcc", "aAcc", "mIoU 150"), *[("mIoU",)] * 3]
    assert [row.cells[0] for row in first.rows[:3]] == ["DINO", "DINO+SelfPatch", "FLSL"]
    assert first.rows[2].notes == ("No source with an ADE20K figure for FLSL was found.",)
    assert texts(first.rows[3])[2:] == ["40.9 (−0.3)", "52.0", "80.0", "40.5", "measured, 1 seed"]
    assert any("divided by 150" in note for note in table.footnotes)


def test_every_task_of_the_registry_has_a_table_with_its_metrics():
    for name in tasks.names():
        task, spec = tasks.get(name), spec_of(name)
        assert spec is not OTHERS and task.protocol[0] in spec.sections
        names = {metric.name for metric in task.metrics}
        if spec.metrics:
            assert task.metrics[0].name == spec.metrics[0] and {*spec.metrics, *spec.more} <= names
        else:
            assert task.metrics[0].name in spec.more


def test_every_demo_says_that_it_is_not_the_real_thing():
    titles = [title for spec in TABLES.values() for name, title in spec.sections.items() if "miniature" in name]
    assert [title.split(";")[1] for title in titles] == [
        f" not {data} and not comparable with it" for data in ("COCO", "UAVDT", "ADE20K")
    ]
    assert all(title.startswith("The demo: miniature ") for title in titles)


def test_no_reported_figure_is_lost_or_shown_twice():
    figures = load_reported()
    tables = [make_table(name, figures, []) for name in TABLES]
    scores = [score for table in tables for section in table.sections for score in section.scores()]
    shown = [score.text for score in scores if score.value is not None]
    assert sorted(shown) == sorted(f"{figure.value:.1f}" for figure in figures)


def test_every_reported_benchmark_has_a_title():
    titles = {name: title for spec in TABLES.values() for name, title in spec.sections.items()}
    assert {figure.benchmark for figure in load_reported()} <= titles.keys()
    assert len(set(titles.values())) == len(titles)


def test_what_no_table_knows_is_among_the_others(build_record):
    figures = [figure(1.0, benchmark="new_figures", metric="new_metric"), figure(2.0, metric="box_APs")]
    about = {"task": "new_task", "benchmark": "new_protocol"}
    records = [build_record(scores={"b": 2.0, "a": None, "c": 3.0}, **about)]
    records.append(build_record(scores={"b": 2.0}, deviations={"x": 1}, **about))
    found = make_table("others", figures, records).sections
    assert [(s.title, s.columns[2:-1]) for s in found[:3]] == [
        (SUITE, ("box APs",)),
        ("new_figures", ("new metric",)),
        ("new_protocol (nothing reported)", ("b", "c")),
    ]
    assert found[3].title == DEVIATING_TITLE
    assert OTHERS.heading("new_protocol") == "new_protocol"


def test_same_bytes_from_any_order(build_record):
    figures = load_reported()
    records = [build_record(seed=n, scores={"box_AP": 40.0 + n / 7}) for n in range(3)]
    records += [build_record(deviations={"lr": n}, model=f"m{n}") for n in range(2)]
    records.append(build_record(task="davis", benchmark="davis2017_val_label_prop", scores={"J&F-Mean": 60.0}))
    rendered, again = render_tables(figures, records), render_tables(iter(figures), iter(records[::-1]))
    assert list(rendered.items()) == list(again.items())
    assert list(rendered)[:4] == ["coco.md", "coco.csv", "coco.tex", "uavdt.md"]
    models = ("flsl_vits16-aaaaaaaa", "m0", "m1")
    assert list(rendered)[-6:] == [f"models/{model}.{suffix}" for model in models for suffix in ("md", "csv")]


def test_only_changed_files_are_written(tmp_path, build_record):
    rendered = render_tables([figure(44.9)], [build_record(model="mine")])
    files = write_tables(rendered, tmp_path)
    before = [path.stat().st_mtime_ns for path in files]
    assert write_tables(rendered, tmp_path) == []
    assert [path.stat().st_mtime_ns for path in files] == before
    files[1].write_text("touched")
    assert write_tables(rendered, tmp_path) == [files[1]]
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == rendered.keys()


def test_stale_tables_are_named_and_kept(tmp_path, build_record):
    rendered = render_tables([figure(44.9)], [build_record(model="mine")])
    write_tables(rendered, tmp_path)
    assert stale_files(rendered, tmp_path) == []
    (tmp_path / "notes.txt").write_text("a user's own")
    (tmp_path / "old.tex").write_text("")
    fewer = {name: text for name, text in rendered.items() if not name.startswith("models")}
    stale = [tmp_path / "models" / "mine.csv", tmp_path / "models" / "mine.md", tmp_path / "old.tex"]
    assert stale_files(fewer, tmp_path) == stale
    assert all(path.exists() for path in stale)


def test_committed_tables_are_up_to_date():
    results = CHECKOUT / "results"
    rendered = render_tables(load_reported(), Store(results).records())
    kept = {name: (results / "tables" / name).read_bytes().decode() for name in rendered}
    assert kept == rendered, "run tools/make_tables.py"
    assert stale_files(rendered, results / "tables") == []


def test_smoke_runs_stand_in_no_table_beside_papers(build_record):
    smoke = build_record(deviations={"smoke": True})
    assert make_table("coco", load_reported(), [smoke]) == make_table("coco", load_reported(), [])
    texts = render_tables([], [smoke])
    assert "smoke" in texts["models/flsl_vits16-aaaaaaaa.md"] and "44.9" not in texts["coco.md"]
