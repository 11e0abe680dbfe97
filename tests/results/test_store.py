"""The store: what is saved is found, what is finished stays, and a killed process leaves no half record."""

import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flsl_bench.errors import OtherVersionError, RecordError
from flsl_bench.paths import CHECKOUT
from flsl_bench.results.store import Store, read_record

SAVES_FOREVER = """
import sys
sys.path[:0] = sys.argv[2:]
from tests.results.conftest import build_record
from flsl_bench.results.store import Store

store, number = Store(sys.argv[1]), 0
filler = {f"box_{number}": float(number) for number in range(3000)}
print("ready", flush=True)
while True:
    store.save(build_record(seed=number % 3, scores=filler), overwrite=True)
    number += 1
"""


def test_saved_record_is_found_at_its_key(tmp_path, build_record):
    store, record = Store(tmp_path), build_record()
    path = store.save(record)
    assert path == tmp_path / "measured" / record.model / "coco" / f"{record.key}.json"
    assert store.find(record.model, record.task, record.key) == record
    assert store.find(record.model, record.task, "0" * 16) is None


def test_records_come_in_the_order_of_their_paths(tmp_path, build_record):
    store = Store(tmp_path)
    records = [build_record(model=model, seed=seed) for model in ("b", "a") for seed in range(3)]
    paths = [store.save(record) for record in records]
    expected = [record for _, record in sorted(zip(paths, records, strict=True), key=lambda pair: pair[0])]
    assert list(store.records()) == expected


def test_empty_store_has_no_records(tmp_path):
    assert list(Store(tmp_path / "nowhere").records()) == []


def test_finished_record_is_overwritten_only_when_asked(tmp_path, build_record):
    store, first, second = Store(tmp_path), build_record(), build_record(scores={"box_AP": 1.0})
    path = store.save(first)
    with pytest.raises(RecordError, match=r"a finished record is there; pass --overwrite"):
        store.save(second)
    assert read_record(path) == first
    store.save(second, overwrite=True)
    assert read_record(path) == second


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "not a readable record"),
        (lambda text: "", "not a readable record"),
        (lambda text: text.replace('"seed": 0', '"seed": 1'), "field record: .*key is"),
        (lambda text: text.replace('"value": 44.9', '"value": NaN'), r"field metrics\.0\.value: .*finite number"),
        (lambda text: text.replace('"seed"', '"sead"'), "field (seed|sead): "),
    ],
)
def test_broken_record_is_set_aside_and_not_read_again(tmp_path, build_record, caplog, damage, message):
    store, record = Store(tmp_path), build_record()
    path = store.save(record)
    broken = damage(path.read_text())
    path.write_text(broken)
    with pytest.raises(RecordError, match=message):
        read_record(path)
    with caplog.at_level(logging.WARNING):
        assert list(store.records()) == []
    (said,) = caplog.messages
    assert str(path) in said and f"set aside as {path.name}.broken" in said
    caplog.clear()
    assert list(store.records()) == [] and store.find(record.model, record.task, record.key) is None
    assert caplog.messages == []
    assert path.with_suffix(".json.broken").read_text() == broken
    store.save(record)  # no finished record is in the way
    assert list(store.records()) == [record]


def test_unreadable_bytes_are_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=r"record\.json: not a readable record"):
        read_record(path)


def test_temporary_files_are_not_taken_for_records(tmp_path, build_record):
    store, record = Store(tmp_path), build_record()
    path = store.save(record)
    left_over = path.parent / f".{path.name}.x7abc.tmp"
    left_over.write_text("{")
    assert list(store.records()) == [record]
    assert left_over.exists()


def test_a_kill_while_saving_leaves_only_readable_records(tmp_path):
    found = 0
    for delay in (0.01, 0.03, 0.05, 0.08):
        arguments = [str(tmp_path), str(Path(__file__).parent), str(CHECKOUT)]
        process = subprocess.Popen([sys.executable, "-c", SAVES_FOREVER, *arguments], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        records = [read_record(path) for path in tmp_path.glob("measured/*/*/*.json")]
        assert all(len(record.metrics) == 3000 for record in records)
        assert list(Store(tmp_path).records()) == sorted(records, key=lambda record: record.key)
        found += len(records)
    assert found > 0
    assert not list(tmp_path.rglob("*.broken"))


def test_a_record_of_another_version_is_left_where_it_is(tmp_path, build_record, caplog):
    store, record = Store(tmp_path), build_record()
    path = store.save(record)
    newer = record.to_json().replace('"schema_version": 1', '"schema_version": 2')
    path.write_text(newer)
    assert list(store.records()) == [] and "schema_version is 2, this flsl_bench reads 1" in caplog.text
    for call in (lambda: store.find(record.model, record.task, record.key), lambda: store.save(record)):
        with pytest.raises(OtherVersionError, match="use the version that wrote it"):
            call()
    assert path.read_text() == newer
