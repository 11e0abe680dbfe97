"""Checkpoints of a training: written whole, read without running anything, and found again."""

import builtins
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet")

from mmengine.fileio import get_file_backend, put
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner

from flsl_bench.errors import CheckpointError
from flsl_bench.openmmlab.storage import AtomicLocalBackend, latest_checkpoint, load_detector_checkpoint


class CreatesFile:
    """Once unpickled, it has created a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Toy(BaseModel):
    """One linear layer with mmengine's calling convention."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x, mode="tensor"):
        return {"loss": self.layer(torch.stack(x)).square().mean()}


def pickled(opcodes, path):
    """A torch checkpoint whose pickle consists of hand-written `opcodes`."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(name, opcodes if name.endswith("data.pkl") else part)


def text(value):
    return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()


def named(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a tiny training that mmengine's Runner ran."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    torch.manual_seed(0)
    runner = Runner(
        Toy(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            dataset=[dict(x=torch.ones(2))] * 8,
            sampler=dict(type="DefaultSampler", shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.1)),
        param_scheduler=dict(type="MultiStepLR", milestones=[1]),
        default_hooks=dict(logger=dict(type="LoggerHook", interval=1)),
        experiment_name="toy",
    )
    runner.train()
    return folder


class TestAtomicLocalBackend:
    def test_is_the_one_that_mmengine_uses(self, tmp_path):
        assert type(get_file_backend(str(tmp_path / "x.pth"))) is AtomicLocalBackend
        put(b"weights", str(tmp_path / "x.pth"))
        assert (tmp_path / "x.pth").read_bytes() == b"weights"

    @pytest.mark.parametrize("kind", [str, Path])
    def test_takes_strings_and_paths_and_makes_folders(self, tmp_path, kind):
        AtomicLocalBackend().put(b"weights", kind(tmp_path / "a/b/x.pth"))
        assert (tmp_path / "a/b/x.pth").read_bytes() == b"weights"

    def test_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "x.pth"
        path.write_bytes(b"old")

        def full_disk(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            AtomicLocalBackend().put(b"new", path)
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["x.pth"]


class TestRealCheckpoint:
    def test_reads(self, trained):
        checkpoint = load_detector_checkpoint(str(trained / "epoch_3.pth"))
        assert set(checkpoint) == {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"}
        assert checkpoint["state_dict"].keys() == {"layer.weight", "layer.bias"}
        assert checkpoint["meta"]["epoch"] == 3

    def test_brings_the_training_log_with_its_statistics(self, trained):
        log = load_detector_checkpoint(str(trained / "epoch_3.pth"))["message_hub"]["log_scalars"]["train/loss"]
        history, _ = log.data
        assert len(history) == 12
        assert log.statistics("mean", 4) == pytest.approx(history[-4:].mean())
        assert log.statistics("min") == history.min()

    def test_is_what_mmengine_loads_and_resumes(self, trained):
        checkpoint = CheckpointLoader.load_checkpoint(str(trained / "epoch_3.pth"), map_location="cpu")
        expected = load_detector_checkpoint(str(trained / "epoch_3.pth"))
        assert torch.equal(checkpoint["state_dict"]["layer.weight"], expected["state_dict"]["layer.weight"])

    def test_is_the_latest(self, trained):
        assert latest_checkpoint(trained) == trained / "epoch_3.pth"


class TestMaliciousCheckpoint:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("load", [load_detector_checkpoint, CheckpointLoader.load_checkpoint])
    def test_with_code_is_refused_and_not_run(self, tmp_path, load, zipped):
        path, victim = tmp_path / "x.pth", tmp_path / "created"
        torch.save({"state_dict": {}, "meta": CreatesFile(victim)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError) as caught:
            load(str(path))
        message = str(caught.value)
        assert message.startswith(f"{path}: refused, it holds more than weights and plain values: ")
        assert f"{os.system.__module__}.system" in message
        assert "weights_only" not in message  # no advice to load it all the same
        assert not victim.exists()

    def test_with_another_class_is_refused_by_name(self, tmp_path):
        torch.save({"meta": Path("x")}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=r"refused, .*pathlib.* was not an allowed global by default\.$"):
            load_detector_checkpoint(str(tmp_path / "x.pth"))

    def test_cannot_reach_builtins_through_the_log(self, tmp_path):
        history = named("mmengine.logging.history_buffer", "HistoryBuffer")
        attribute = named("builtins", "getattr")
        function = attribute + history + text("__init__") + pickle.TUPLE2 + pickle.REDUCE
        reached = attribute + function + text("__builtins__") + pickle.TUPLE2 + pickle.REDUCE
        set_item = reached + text("flsl_bench_was_here") + pickle.NEWTRUE + pickle.SETITEM
        pickled(pickle.PROTO + b"\x02" + set_item + pickle.STOP, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=r"refused.*'__init__'\) is not part of a training log"):
            load_detector_checkpoint(str(tmp_path / "x.pth"))
        assert not hasattr(builtins, "flsl_bench_was_here")


class TestDamagedCheckpoint:
    def test_missing(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"x\.pth: no such checkpoint file"):
            load_detector_checkpoint(str(tmp_path / "x.pth"))

    def test_folder(self, tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint file"):
            load_detector_checkpoint(str(tmp_path))

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
    def test_truncated(self, tmp_path, zipped, share):
        path = tmp_path / "x.pth"
        torch.save({"state_dict": {"a": torch.ones(100)}}, path, _use_new_zipfile_serialization=zipped)
        raw = path.read_bytes()
        path.write_bytes(raw[: int(share * len(raw))])
        with pytest.raises(CheckpointError) as caught:
            load_detector_checkpoint(str(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(zipped=st.booleans(), place=st.integers(0, 10**6), value=st.integers(0, 255))
    def test_one_wrong_byte_gives_no_other_error(self, tmp_path, zipped, place, value):
        path = tmp_path / "x.pth"
        torch.save(
            {"state_dict": {"a": torch.ones(3)}, "meta": {"epoch": 1}}, path, _use_new_zipfile_serialization=zipped
        )
        raw = bytearray(path.read_bytes())
        raw[place % len(raw)] = value
        path.write_bytes(raw)
        try:
            load_detector_checkpoint(str(path))
        except CheckpointError as error:
            assert str(error).startswith(f"{path}: ")


class TestLatestCheckpoint:
    @staticmethod
    def fill(folder, *names, pointer=None):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_bytes(b"weights")
        if pointer is not None:
            (folder / "last_checkpoint").write_text(pointer)
        return folder

    def test_is_the_one_named(self, tmp_path):
        self.fill(tmp_path, "epoch_1.pth", "epoch_2.pth", pointer=str(tmp_path / "epoch_1.pth"))
        assert latest_checkpoint(tmp_path) == tmp_path / "epoch_1.pth"

    def test_takes_the_folder_as_a_string(self, tmp_path):
        self.fill(tmp_path, "epoch_1.pth")
        assert latest_checkpoint(str(tmp_path)) == tmp_path / "epoch_1.pth"

    @pytest.mark.parametrize("pointer", [None, "", "\n", "/runs/x/epoch_99.pth"])
    def test_is_the_highest_numbered_where_none_is_named(self, tmp_path, pointer):
        self.fill(tmp_path, "epoch_2.pth", "epoch_10.pth", "epoch_9.pth", "best.pth", pointer=pointer)
        assert latest_checkpoint(tmp_path) == tmp_path / "epoch_10.pth"

    def test_is_found_after_the_folder_was_moved(self, tmp_path):
        old = self.fill(tmp_path / "old", "epoch_1.pth", "epoch_2.pth", pointer=str(tmp_path / "old/epoch_1.pth"))
        new = old.rename(tmp_path / "new")
        assert latest_checkpoint(new) == new / "epoch_1.pth"

    def test_never_comes_from_another_folder(self, tmp_path):
        other = self.fill(tmp_path / "other", "epoch_7.pth")
        own = self.fill(tmp_path / "own", "epoch_1.pth", pointer=str(other / "epoch_7.pth"))
        assert latest_checkpoint(own) == own / "epoch_1.pth"

    @pytest.mark.parametrize("names", [(), ("best.pth", "notes.txt", "epoch_3.txt")])
    def test_may_be_none(self, tmp_path, names):
        assert latest_checkpoint(self.fill(tmp_path, *names)) is None

    def test_is_none_in_a_folder_that_does_not_exist(self, tmp_path):
        assert latest_checkpoint(tmp_path / "nowhere") is None

    def test_half_written_files_are_passed_over(self, tmp_path):
        self.fill(tmp_path, "epoch_1.pth", ".epoch_2.pth.abc.tmp")
        assert latest_checkpoint(tmp_path) == tmp_path / "epoch_1.pth"
