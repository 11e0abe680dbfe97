"""Two models side by side: never across conditions, and no lead within the noise."""

import math
from statistics import stdev

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flsl_bench.errors import ConfigError
from flsl_bench.results.comparison import compare, compare_models, lead_needed
from flsl_bench.results.store import Store

scores = st.floats(0, 100, allow_subnormal=False)
anything = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def texts(row):
    return [cell if isinstance(cell, str) else " ".join(filter(None, (cell.text, cell.remark))) for cell in row.cells]


def runs(build_record, model, values, metric="box_AP", **about):
    return [build_record(model=model, seed=n, scores={metric: value}, **about) for n, value in enumerate(values)]


def verdicts(build_record, a, b, metric="box_AP", **about):
    """Metric -> verdict for runs of a and of b with these scores, one a seed."""
    records = [*runs(build_record, "a", a, metric, **about), *runs(build_record, "b", b, metric, **about)]
    (section,) = compare(records, "a", "b").sections
    return {row.cells[0]: row.cells[1] for row in section.rows}


@pytest.mark.parametrize(
    ("a", "b", "metric", "verdict"),
    [
        (44.9, 44.6, "box_AP", "within noise"),  # 0.3 in decimals, more in binary
        (44.9, 44.5, "box_AP", "A leads"),
        (44.5, 44.9, "box_AP", "B leads"),
        (44.94, 44.56, "box_AP", "within noise"),  # printed as 44.9 and 44.6
        (60.0, 59.8, "J&F-Mean", "A leads"),
        (60.0, 59.9, "J&F-Mean", "within noise"),
        (40.0, 40.3, "mIoU", "within noise"),
        (90.0, 10.0, "top1", "noise unknown"),
    ],
)
def test_verdict_for_single_seeds(build_record, a, b, metric, verdict):
    assert verdicts(build_record, [a], [b], metric, task="mine") == {metric: verdict}


def test_lower_is_better_where_the_record_says_so(build_record):
    a, b = [20.0, 20.2, 20.1], [10.0, 10.2, 10.1]
    assert verdicts(build_record, a, b, "J-Decay", task="davis") == {"J-Decay": "B leads"}


def test_bound_from_seeds():
    # Standard error sqrt(1/3 + 1/3) = 0.8165, four degrees of freedom: 2.776 * 0.8165 = 2.2667, rounded up
    assert lead_needed("box_AP", [44.0, 45.0, 46.0], [40.0, 41.0, 42.0]) == 2.3
    # One side without spread: sqrt(1/3) = 0.5774, two degrees of freedom: 4.303 * 0.5774 = 2.4843
    assert lead_needed("box_AP", [44.0, 45.0, 46.0], [40.0, 40.0, 40.0]) == 2.5
    # Variance 5/19, 20 values on each side: error 0.1622, 38 degrees of freedom taken for ten: 2.228 * 0.1622 = 0.361
    assert lead_needed("box_AP", [0.0, 1.0] * 10, [1.0, 0.0] * 10) == 0.4
    assert lead_needed("box_AP", [44.0] * 3, [40.0] * 3) == 0.3  # never less than what is known
    assert lead_needed("box_AP", [44.0, 46.0], [40.0]) == 0.3  # one seed tells no spread
    assert lead_needed("top1", [44.0], [40.0]) == math.inf
    assert lead_needed("top1", [44.0, 44.0], [40.0, 40.0]) == 0.0


@given(st.lists(scores, min_size=2, max_size=8), st.lists(scores, min_size=2, max_size=8))
def test_bound_is_at_least_noise_and_two_standard_errors(a, b):
    error = math.sqrt(stdev(a) ** 2 / len(a) + stdev(b) ** 2 / len(b))
    bound = lead_needed("box_AP", a, b)
    assert max(0.3, 2.2 * error) - 1e-6 <= bound <= max(0.3, 12.71 * error) + 0.1 + 1e-6
    assert bound == lead_needed("box_AP", b, a)


@anything
@given(
    st.lists(scores, min_size=1, max_size=3),
    st.lists(scores, min_size=1, max_size=3),
    st.sampled_from(["box_AP", "J&F-Mean", "J-Decay"]),
)
def test_names_swapped_swap_the_verdict(build_record, a, b, metric):
    there = verdicts(build_record, a, b, metric, task="mine")[metric]
    back = verdicts(build_record, b, a, metric, task="mine")[metric]
    assert back == {"A leads": "B leads", "B leads": "A leads"}.get(there, there)


@anything
@given(st.lists(scores, min_size=1, max_size=3), st.sampled_from(["box_AP", "J&F-Mean", "mIoU"]))
def test_no_model_leads_its_equal(build_record, values, metric):
    assert verdicts(build_record, values, values, metric, task="mine") == {metric: "within noise"}


def test_the_table_as_it_is_read(build_record):
    names = ("mask_AP", "box_AP50", "box_AP", "box_AR100")
    records = [build_record(model="a", seed=n, scores=dict.fromkeys(names, 44.0 + n)) for n in range(3)]
    records += [build_record(model="b", layout="dino", scores=dict.fromkeys(names, 44.8))]
    table = compare(records, "a", "b")
    assert table.title == "A = a, B = b"
    (section,) = table.sections
    assert section.columns == ("Metric", "Verdict", "A", "B", "A−B", "Noise")
    assert section.about == "A: measured, 3 seeds; B: measured, 1 seed. 117,266 train / 5,000 val images."
    assert [texts(row) for row in section.rows] == [  # the record's primary one first; AR is not in the table's set
        ["mask_AP", "within noise", "45.0 ± 1.0", "44.8", "0.2", "0.3"],
        ["box_AP", "within noise", "45.0 ± 1.0", "44.8", "0.2", "0.3"],
        ["box_AP50", "within noise", "45.0 ± 1.0", "44.8", "0.2", "0.3"],
    ]
    assert any("Welch" in note for note in table.footnotes)


def test_an_undefined_score_has_no_verdict(build_record):
    assert verdicts(build_record, [40.0, None], [40.0]) == {"box_AP": "not defined"}


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        (dict(task="davis"), "no record of this task"),
        (dict(benchmark="other_protocol"), "protocol coco_maskrcnn_vit_fpn_1x"),
        (dict(version="2"), "version 1 of the protocol"),
        (dict(deviations={"lr": 1}), "a run that followed the protocol in everything"),
        (dict(val_images=50), "other data (117,266 train / 5,000 val images; annotations bbbbbbbb, cccccccc)"),
    ],
)
def test_different_conditions_are_never_side_by_side(build_record, about, reason):
    records = [build_record(model="a", **about), build_record(model="b")]
    (section,) = compare(records, "a", "b").sections
    assert section.title == "Not compared" and section.measured
    first, second = section.rows
    assert (first.cells[0], second.cells[0]) == ("A", "B")
    assert first.cells[-1] == f"B has {reason}"
    assert second.cells[-1].startswith("A has ")


def test_the_other_side_is_told_what_was_changed(build_record):
    records = [build_record(model="a", deviations={"lr": 1}), build_record(model="b", deviations={"lr": 2})]
    rows = compare(records, "a", "b").sections[0].rows
    assert [row.cells[-1] for row in rows] == ["B has a run that changed lr=2", "A has a run that changed lr=1"]


def test_equal_deviations_are_compared_after_what_followed_its_protocol(build_record):
    changed = {"deviations": {"precision": "fp32"}}
    records = [build_record(model=m, **about) for m in "ab" for about in (changed, {})]
    first, second = compare(records, "a", "b").sections
    assert (first.comparable, second.comparable) == (True, False)
    assert second.about.endswith("Both changed: precision=fp32.")


def test_a_metric_that_one_lacks_is_listed(build_record):
    records = [build_record(model="a", scores={"box_AP": 1.0, "box_AP50": 2.0}), build_record(model="b")]
    pair, apart = compare(records, "a", "b").sections
    assert [row.cells[0] for row in pair.rows] == ["box_AP"]
    assert [(row.cells[0], row.cells[-1]) for row in apart.rows] == [
        ("A", "B has no box_AP50"),
        ("B", "A has no mask_AP"),
    ]


def test_a_metric_in_two_units_is_not_compared(build_record):
    one, other = build_record(model="a"), build_record(model="b")
    metrics = [metric.model_copy(update={"unit": "share"}) for metric in other.metrics]
    (apart,) = compare([one, other.model_copy(update={"metrics": metrics})], "a", "b").sections
    assert apart.rows[0].cells[-1] == "B has box_AP, mask_AP in another unit or direction"


def test_nothing_in_common_is_no_section(build_record):
    records = [build_record(model="a", scores={"box_AP": 1.0}), build_record(model="b", scores={"mask_AP": 1.0})]
    (apart,) = compare(records, "a", "b").sections
    assert [row.cells[-1] for row in apart.rows] == ["B has no box_AP", "A has no mask_AP"]


def test_weights_of_one_model_are_told_apart(build_record):
    records = [build_record(model="a", heads=6), build_record(model="a", heads=8), build_record(model="b")]
    abouts = {section.about.split(":")[0] for section in compare(records, "a", "b").sections}
    assert abouts == {"A, 6 heads", "A, 8 heads"}


@anything
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from(["coco", "davis"]),
            st.sampled_from(["p", "q"]),
            st.sampled_from([None, {"x": 1}, {"x": 2}]),
            st.sampled_from([50, 60]),
        ),
        unique_by=str,
        max_size=12,
    )
)
def test_every_record_is_compared_or_listed(build_record, drawn):
    drawn = [("a", "coco", "z", None, 1), ("b", "davis", "z", None, 1), *drawn]
    names = ("model", "task", "benchmark", "deviations", "val_images")
    records = [build_record(**dict(zip(names, values, strict=True)), scores={"m": 1.0}) for values in drawn]
    own = {model: {str(values[1:]) for values in drawn if values[0] == model} for model in "ab"}
    *pairs, apart = compare(records, "a", "b").sections
    assert len(pairs) == len(own["a"] & own["b"])
    assert len(apart.rows) == len(own["a"] ^ own["b"])


def test_unknown_models_are_named(build_record):
    records = [build_record(model="flsl_vits16"), build_record(model="dino_vits16")]
    with pytest.raises(ConfigError, match=r"^no record of a model 'fsl_vits16': did you mean flsl_vits16\?$"):
        compare(records, "dino_vits16", "fsl_vits16")
    with pytest.raises(ConfigError, match=r"^no record of a model 'zzz': there are dino_vits16, flsl_vits16$"):
        compare(records, "zzz", "flsl_vits16")
    with pytest.raises(ConfigError, match=r"^no record of a model 'a': there are no records at all$"):
        compare([], "a", "b")
    with pytest.raises(ConfigError, match=r"^'a' is compared with itself; name two models$"):
        compare(records, "a", "a")


def test_from_the_store(tmp_path, build_record):
    store = Store(tmp_path)
    records = [build_record(model=model) for model in "ab"]
    for record in records:
        store.save(record)
    assert compare_models(store, "a", "b") == compare(records[::-1], "a", "b")


def test_smoke_runs_get_no_verdict(build_record):
    records = [build_record(model=model, deviations={"smoke": True}) for model in "ab"]
    with pytest.raises(ConfigError):
        compare(records, "a", "b")
