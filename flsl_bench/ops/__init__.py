"""The OpenMMLab operators the suite needs (NMS, soft-NMS, RoIAlign) where mmcv is not compiled.

Call :func:`install` once before the first ``import mmcv.ops``; :func:`provider` says whose kernels are in use.
"""

from flsl_bench.ops.extension import install
from flsl_bench.ops.provider import Provider, provider

__all__ = ["Provider", "install", "provider"]
