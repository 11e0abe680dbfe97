"""The record's schema: what goes in comes out, and nothing that does not belong gets in."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flsl_bench.results.record import Record


def changed(record, path, value):
    """The record's document with the field at `path` set to `value`."""
    document = json.loads(record.to_json())
    *folders, name = path.split(".")
    inner = document
    for folder in folders:
        inner = inner[int(folder)] if isinstance(inner, list) else inner[folder]
    inner[name] = value
    return document


def test_round_trip(build_record):
    record = build_record(deviations={"lr": 1e-5, "sizes": [480, 512]}, scores={"box_AP": 0.1 + 0.2, "box_APs": None})
    assert Record.model_validate(json.loads(record.to_json())) == record


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**31))
def test_no_digit_is_lost(build_record, value, seed):
    record = build_record(scores={"box_AP": value}, seed=seed)
    again = Record.model_validate_json(record.to_json())
    assert again.metric("box_AP") == value and again.seed == seed


@pytest.mark.parametrize(
    "path", ["sead", "protocol.deviation", "metrics.0.std", "weights.path", "data.splits.val.root"]
)
def test_unknown_field_is_refused(build_record, path):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Record.model_validate(changed(build_record(), path, "1"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused(build_record, value):
    with pytest.raises(ValidationError, match="finite number"):
        Record.model_validate(changed(build_record(), "metrics.0.value", value))


def test_no_metric_is_refused(build_record):
    with pytest.raises(ValidationError, match="at least 1 item"):
        Record.model_validate(changed(build_record(), "metrics", []))


@pytest.mark.parametrize(
    ("path", "value"), [("key", "0" * 16), ("seed", 7), ("protocol.version", "2"), ("weights.branch", "student")]
)
def test_key_must_follow_from_the_content(build_record, path, value):
    with pytest.raises(ValidationError, match=r"key is '[0-9a-f]{16}' where the record's content gives"):
        Record.model_validate(changed(build_record(), path, value))


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "a b", "-flag", "a\n"])
def test_model_must_be_a_folder_name(build_record, name):
    with pytest.raises(ValidationError, match="cannot be a folder name"):
        Record.model_validate(changed(build_record(), "model", name))


def test_other_schema_version_is_refused(build_record):
    with pytest.raises(ValidationError, match="schema_version is 2, this version reads 1"):
        Record.model_validate(changed(build_record(), "schema_version", 2))


def test_key_tells_questions_apart(build_record):
    records = [
        build_record(),
        build_record(seed=1),
        build_record(heads=8),
        build_record(version="2"),
        build_record(benchmark="coco_cascade_maskrcnn_vit_1x"),
        build_record(deviations={"precision": "fp32"}),
        build_record(task="uavdt"),
    ]
    assert len({record.key for record in records}) == len(records)
    assert build_record(scores={"box_AP": 1.0}, minute=5).key == build_record().key  # the answer is no part of it


def test_comparable_means_no_deviation(build_record):
    assert build_record().comparable
    assert not build_record(deviations={"precision": None}).comparable


def test_metric_by_name(build_record):
    record = build_record(scores={"box_AP": 44.9, "box_APs": None})
    assert record.metric("box_AP") == 44.9
    assert record.metric("box_APs") is None and record.metric("mIoU") is None
