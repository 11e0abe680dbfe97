"""`flsl-bench doctor` says what is missing and how to get it."""

import importlib
from importlib.metadata import PackageNotFoundError

import pytest
from typer.testing import CliRunner

from flsl_bench import doctor
from flsl_bench.cli import app
from flsl_bench.ops import provider
from flsl_bench.ops.provider import Provider


def finding(name: str) -> doctor.Finding:
    return next(f for f in doctor.diagnose() if f.name == name)


def test_this_environment_needs_no_cure():
    assert not [f for f in doctor.diagnose() if f.state == "missing"]
    answer = CliRunner().invoke(app, ["doctor"])
    assert answer.exit_code == 0 and "onedl-mmcv" in answer.output
    assert f"NMS and RoIAlign from {provider().name}" in answer.output


def test_a_missing_package_is_told_with_its_pip_line(monkeypatch):
    def version(name: str) -> str:
        if name == "onedl-mmdetection":
            raise PackageNotFoundError(name)
        return "0" if name.startswith("onedl") else ""

    monkeypatch.setattr(doctor, "version", version)
    found = finding("onedl-mmdetection")
    assert found.state == "missing" and found.cure.endswith("onedl-mmdetection") and "-c " in found.cure


def test_a_package_that_does_not_load_is_told_with_the_reason(monkeypatch):
    def fail(name: str):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", fail)
    found = doctor._package("safetensors", "safetensors")
    assert found.state == "missing" and "RuntimeError: operator torchvision::nms does not exist" in found.detail


def test_two_openmmlab_families_in_one_environment_are_told(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: {"mmcv": "2.1.0", "mmengine": "0.10.4"}.get(name, ""))
    found = finding("OpenMMLab")
    assert found.state == "missing" and "pip uninstall -y mmengine mmcv onedl-mmengine" in found.cure


@pytest.mark.parametrize(("gpu", "state"), [(True, "note"), (False, "ok")])
def test_numba_operators_are_worth_a_note_only_beside_a_gpu(monkeypatch, gpu, state):
    import flsl_bench.ops

    monkeypatch.setattr(flsl_bench.ops, "provider", lambda: Provider("numba", "1", "torchvision: not installed"))
    monkeypatch.setattr(doctor, "_has_gpu", lambda: gpu)
    monkeypatch.setattr("torch.__version__", "2.13.0")
    found = finding("operators")
    assert found.state == state and ("torchvision==0.28.*" in found.cure) is gpu


def test_pycocotools_alone_is_a_note(monkeypatch):
    monkeypatch.setattr("flsl_bench.metrics.coco.default_engine", lambda: "pycocotools")
    found = finding("COCO evaluator")
    assert found.state == "note" and found.cure.endswith("faster-coco-eval")
