"""Every command in the README is one that the project understands."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from flsl_bench.cli import app
from flsl_bench.tasks import get
from flsl_bench.tasks.probes import ProbeTask

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("line", COMMANDS)
def test_command_is_understood(line):
    words = shlex.split(line)
    while words[0] in ("python", ".venv/bin/python") and words[1] != "-c":
        words = words[1:]
    if words[:2] == ["torchrun", "--nproc_per_node"]:
        words = words[3:]
    name = Path(words[0]).name
    if name == "flsl-bench":
        parse_flsl_bench(words[1:])
    elif words[0].startswith("tools/"):
        PARSERS[name](words[1:])
    elif name == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
    elif name == "python":
        compile(words[2], "README", "exec")
    else:
        assert (ROOT / words[0]).is_file(), f"nothing knows how to run {line!r}"


def parse_flsl_bench(words: list[str]) -> None:
    command, context = get_command(app), None
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context("flsl-bench", words[:1], parent=context, resilient_parsing=True)
        command, words = command.get_command(context, words[0]), words[1:]
        assert command is not None
    command.make_context(command.name, words, parent=context)


def parse_train(words: list[str]) -> None:
    arguments = tool("train").parse_args(words)
    assert (ROOT / arguments.config).is_file()


def parse_test(words: list[str]) -> None:
    arguments = tool("test").parse_args(words)
    assert (ROOT / arguments.config).is_file() and arguments.checkpoint.endswith(".pth")


def parse_dist_train(words: list[str]) -> None:
    assert words[1].isdigit()
    parse_train([words[0], *words[2:]])


def parse_dist_test(words: list[str]) -> None:
    assert words[2].isdigit()
    parse_test([*words[:2], *words[3:]])


def parse_slurm_train(words: list[str]) -> None:
    parse_train([words[2], "--work-dir", words[3], *words[4:]])


def parse_slurm_test(words: list[str]) -> None:
    parse_test(words[2:])


def parse_make_tables(words: list[str]) -> None:
    tool("make_tables").parse_args(words)


def parse_eval_davis(words: list[str]) -> None:
    tool("eval_davis").parse_args(words)


def parse_probe(words: list[str]) -> None:
    arguments = tool("probe").parse_args(words)
    assert isinstance(get(arguments.task), ProbeTask)


PARSERS = {
    "probe.py": parse_probe,
    "eval_davis.py": parse_eval_davis,
    "train.py": parse_train,
    "test.py": parse_test,
    "make_tables.py": parse_make_tables,
    "dist_train.sh": parse_dist_train,
    "dist_test.sh": parse_dist_test,
    "slurm_train.sh": parse_slurm_train,
    "slurm_test.sh": parse_slurm_test,
}


def tool(name: str):
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links and all((ROOT / link).exists() for link in links)
