"""Jobs through submitit, on its local executor."""

import sys

import pytest

from flsl_bench.errors import ConfigError
from flsl_bench.suite import slurm

pytest.importorskip("submitit")


@pytest.fixture
def executor(tmp_path):
    return slurm.executor("any", 1, 0.1, tmp_path / "jobs", cluster="local")


def command(*words: str) -> slurm.Command:
    return slurm.Command(words, words)


def run(executor, commands) -> tuple[dict[str, tuple[int, str]], list[str]]:
    ends, told = {}, []
    slurm.run_jobs(executor, commands, told.append, lambda name, *end: ends.update({name: end}), interval=0.2)
    return ends, told


def test_every_command_ends_with_its_code_and_last_words(executor, tmp_path):
    commands = {
        "good": (command(sys.executable, "-c", "print('done')"), tmp_path / "good"),
        "bad": (command("bash", "-c", "echo 'error: no GPU'; exit 2"), tmp_path / "bad"),
    }
    ends, told = run(executor, commands)
    assert ends == {"good": (0, "done"), "bad": (2, "no GPU")}
    assert any(line.startswith("good: job ") and "submitted, log " in line for line in told)


def test_the_command_has_a_port_and_this_interpreter(executor, tmp_path):
    ends, _ = run(executor, {"one": (command("bash", "-c", "echo $PORT $PYTHON"), tmp_path)})
    code, words = ends["one"]
    port, python = words.split()
    assert code == 0 and python == sys.executable and 1024 <= int(port) < 65536


def test_a_job_of_an_earlier_call_is_waited_for(executor, tmp_path, monkeypatch):
    """As if a first call had been killed after it submitted."""
    import submitit

    job = (command("bash", "-c", f"sleep 2; echo ran >> {tmp_path}/count"), tmp_path / "work")
    first = slurm._job(executor, "one", *job, print)

    class Reattached(submitit.LocalJob):
        """The local executor finds a job's process only by the handle; Slurm asks the cluster."""

        def __init__(self, folder, job_id, *rest, **named):
            super().__init__(folder, job_id, *rest, **named)
            self._process = first._process

    monkeypatch.setattr(submitit, "LocalJob", Reattached)
    ends, told = run(executor, {"one": job})
    assert ends["one"][0] == 0
    assert (tmp_path / "count").read_text() == "ran\n"
    assert told[0] == f"one: job {first.job_id} of an earlier call is running"


def test_a_job_that_is_over_is_submitted_again(executor, tmp_path):
    job = (command("bash", "-c", f"echo ran >> {tmp_path}/count"), tmp_path / "work")
    run(executor, {"one": job})
    run(executor, {"one": job})
    assert (tmp_path / "count").read_text() == "ran\nran\n"


def test_a_job_that_has_to_give_way_is_submitted_again_to_go_on():
    assert slurm.Command(["start"], ["go on"]).checkpoint().function == slurm.Command(["go on"], ["go on"])


def test_a_job_that_still_works_in_a_folder_is_found(tmp_path, monkeypatch):
    import submitit

    assert slurm.live_job(tmp_path) is None
    (tmp_path / "slurm_job").write_text("17")
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    for state, found in (("RUNNING", "17"), ("COMPLETED", None)):
        monkeypatch.setattr(submitit.SlurmJob, "state", state)
        assert slurm.live_job(tmp_path) == found


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch; run it on a login node"):
        slurm.executor("gpu", 8, 24, tmp_path)
