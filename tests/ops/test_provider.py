"""The order of the providers, the reasons kept, and the stand-in for ``mmcv._ext``, each in a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flsl_bench import ops
from flsl_bench.ops.provider import mmcv_version

ROOT = Path(__file__).resolve().parents[2]

COMPILED_MMCV = {"mmcv/__init__.py": "", "mmcv/_ext.py": "nms = 'compiled'"}
MISMATCHED_MMCV = {"mmcv/__init__.py": "", "mmcv/_ext.py": "raise ImportError('undefined symbol:\\n _ZN2at')"}
BARE_MMCV = {"mmcv/__init__.py": ""}
BROKEN_TORCHVISION = {
    "torchvision/__init__.py": "raise RuntimeError('operator torchvision::nms does not exist')",
}
WORKING_TORCHVISION = {
    "torchvision-1.2.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: torchvision\nVersion: 1.2.3\n",
    "torchvision/__init__.py": """
import torch
from flsl_bench.ops import numba_kernels

calls = []
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("roi_align(Tensor input, Tensor rois, float scale, int h, int w, int ratio, bool aligned) -> Tensor")
library.define("_roi_align_backward(Tensor grad, Tensor rois, float scale, int h, int w, int batch, int channels, "
               "int height, int width, int ratio, bool aligned) -> Tensor")
library.define("_cuda_version() -> int")

def nms(dets, scores, iou_threshold):
    calls.append(("nms", dets.dtype, scores.dtype, iou_threshold))
    return numba_kernels.nms(dets, scores, iou_threshold, 0)

def roi_align(input, rois, scale, h, w, ratio, aligned):
    calls.append(("roi_align", input.dtype, rois.dtype))
    output = input.new_empty(len(rois), input.shape[1], h, w)
    numba_kernels.roi_align_forward(input, rois, output, input[:0], input[:0], h, w, scale, ratio, 1, aligned)
    return output

def backward(grad, rois, scale, h, w, batch, channels, height, width, ratio, aligned):
    calls.append(("backward", grad.dtype, rois.dtype))
    result = grad.new_zeros(batch, channels, height, width)
    numba_kernels.roi_align_backward(grad, rois, grad[:0], grad[:0], result, h, w, scale, ratio, 1, aligned)
    return result

library.impl("_cuda_version", lambda: 13000, "CompositeImplicitAutograd")
library.impl("nms", nms, "CPU")
library.impl("roi_align", roi_align, "CPU")
library.impl("_roi_align_backward", backward, "CPU")
""",
}


@pytest.fixture
def python(tmp_path):
    """Run code in a fresh interpreter that finds the given fake packages first; returns what it printed."""

    def run(code: str, *packages: dict[str, str]) -> str:
        for package in packages:
            for name, text in package.items():
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_importing_ops_is_cheap(python):
    heavy = "import sys, flsl_bench.ops; print([m for m in ('torch', 'numba', 'numpy', 'mmcv') if m in sys.modules])"
    assert python(heavy) == "[]\n"


def test_compiled_mmcv_wins_and_nothing_is_installed(python):
    out = python(
        "import sys; from flsl_bench import ops; chosen = ops.install(); print(chosen.name, repr(chosen.detail));"
        "print(sys.modules['mmcv._ext'].nms, 'torchvision' in sys.modules, 'mmcv.ops' in sys.modules)",
        COMPILED_MMCV,
        BROKEN_TORCHVISION,
    )
    assert out == "mmcv ''\ncompiled False False\n"


def test_compiled_mmcv_that_does_not_load_falls_to_the_next(python):
    out = python(
        "import sys; from flsl_bench import ops; chosen = ops.install(); print(chosen.name, chosen.detail);"
        "print(sys.modules['mmcv._ext'].__spec__.origin)",
        MISMATCHED_MMCV,
        BROKEN_TORCHVISION,
    )
    assert out.startswith("numba mmcv: compiled operators do not load (ImportError: undefined symbol: _ZN2at); ")
    assert out.endswith("\nflsl_bench.ops\n")


def test_broken_torchvision_leaves_numba_and_its_reason(python):
    out = python(
        "import sys; from flsl_bench import ops; chosen = ops.provider(); print(chosen.name, chosen.detail);"
        "print([m for m in ('numba', 'mmcv', 'mmcv._ext') if m in sys.modules])",
        BARE_MMCV,
        BROKEN_TORCHVISION,
    )
    assert out == (
        "numba mmcv: installed without compiled operators; torchvision: does not work here "
        "(RuntimeError: operator torchvision::nms does not exist)\n[]\n"
    )


def test_no_provider_at_all_is_an_error(python):
    out = python(
        "import sys, importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'numba' else find(name, *rest)\n"
        "from flsl_bench import errors, ops\n"
        "try:\n    ops.install()\nexcept errors.OperatorError as error:\n    print(error)\n",
        BARE_MMCV,
        BROKEN_TORCHVISION,
    )
    assert out.startswith("no NMS and RoIAlign: mmcv: installed without") and "Cure: pip install numba" in out


def test_torchvision_is_used_where_it_means_the_same(python):
    pytest.importorskip("mmcv")
    if ops.provider().name == "mmcv":
        pytest.skip("mmcv is compiled here and goes before torchvision")
    code = """
import torch, torchvision
from flsl_bench import ops
from flsl_bench.ops import numba_kernels
print(ops.install().name, ops.install().version)
import mmcv.ops
torchvision.calls.clear()
boxes, scores = torch.rand(40, 4) * 20, torch.rand(40)
boxes[:, 2:] += boxes[:, :2]
for b, s in ((boxes, scores), (boxes.half(), scores.half()), (boxes.double(), scores)):
    assert mmcv.ops.nms(b, s, 0.3)[1].tolist() == numba_kernels.nms(b, s, 0.3, 0).tolist()
print(*torchvision.calls, sep="\\n"); torchvision.calls.clear()
mmcv.ops.nms(boxes, scores, 0.3, offset=1); mmcv.ops.soft_nms(boxes, scores)
print(torchvision.calls)
rois = torch.cat([torch.zeros(40, 1), boxes], dim=1)
for dtype in (torch.float32, torch.bfloat16):
    x = torch.randn(1, 3, 8, 9).to(dtype).requires_grad_()
    y = mmcv.ops.roi_align(x, rois, (2, 3), 0.25, 0, "avg", True)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
print(*torchvision.calls, sep="\\n")
try:
    mmcv.ops.roi_align(x, rois, (2, 3), 0.25, 0, "max", True)
except Exception as error:
    print(type(error).__name__)
"""
    assert python(code, WORKING_TORCHVISION).splitlines() == [
        "torchvision 1.2.3",
        "('nms', torch.float32, torch.float32, 0.30000001192092896)",
        "('nms', torch.float32, torch.float32, 0.30000001192092896)",
        "('nms', torch.float64, torch.float64, 0.3)",
        "[]",
        *["('roi_align', torch.float32, torch.float32)", "('backward', torch.float32, torch.float32)"] * 2,
        "OperatorError",
    ]


def test_real_torchvision_agrees_with_numba():
    try:
        import torchvision  # noqa: F401

        from flsl_bench.ops import torchvision_kernels

        torchvision_kernels.probe()
    except Exception as error:  # a CPU build of torch makes this a RuntimeError
        pytest.skip(f"torchvision does not work here: {error}")
    import torch

    from flsl_bench.ops import numba_kernels

    boxes, scores = torch.rand(200, 4) * 50, torch.rand(200)
    boxes[:, 2:] += boxes[:, :2]
    features, rois = torch.randn(1, 4, 20, 20), torch.cat([torch.zeros(200, 1), boxes], dim=1)
    results = []
    for kernels in (torchvision_kernels, numba_kernels):
        output, gradient = torch.zeros(200, 4, 7, 7), torch.zeros_like(features)
        kernels.roi_align_forward(features, rois, output, None, None, 7, 7, 0.25, 0, 1, True)
        kernels.roi_align_backward(output, rois, None, None, gradient, 7, 7, 0.25, 0, 1, True)
        results.append((kernels.nms(boxes, scores, 0.3, 0), output, gradient))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_stand_in_for_the_extension(python):
    pytest.importorskip("mmcv")
    code = """
import copy, importlib.util, sys
from flsl_bench import errors, ops
first = ops.install()
if first.name == "mmcv":
    print("compiled"); sys.exit()
extension = sys.modules["mmcv._ext"]
assert ops.install() is first and sys.modules["mmcv._ext"] is extension
assert importlib.util.find_spec("mmcv._ext").loader is not None
assert not hasattr(extension, "__path__") and "mmcv.ops" not in sys.modules and "numba" not in sys.modules
import mmcv.ops
from mmcv import _ext
assert _ext is extension and "numba" not in sys.modules
print(mmcv.ops.get_compiling_cuda_version(), "|", mmcv.ops.get_compiler_version())
try:
    _ext.nms_rotated(1, 2)
except errors.OperatorError as error:
    print(error)
"""
    out = python(code)
    if out == "compiled\n":
        pytest.skip("mmcv is compiled here")
    assert out.startswith("not available | none (flsl_bench.ops with ")
    assert (
        "mmcv operator 'nms_rotated' exists only in a compiled mmcv (flsl_bench.ops offers NMS, soft-NMS and average "
        "RoIAlign); compile it: MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary onedl-mmcv "
        f"--no-cache-dir onedl-mmcv=={mmcv_version()}\n"
    ) in out
