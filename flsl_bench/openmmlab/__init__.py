"""Everything that touches OpenMMLab: registered parts, config handling and execution.

Importing this package makes the suite's parts known to mmengine's root registries, where mmdet, mmseg and mmengine
all find them, and provides the operators that mmdet needs. Configs do it by `custom_imports`.
"""

import contextlib
import io

from flsl_bench import ops

ops.install()  # before anything below can import mmcv.ops

with contextlib.redirect_stdout(io.StringIO()):  # both announce on import which optional products are missing
    import mmdet.datasets  # noqa: F401
    import mmseg.datasets  # noqa: F401

from flsl_bench.openmmlab import (  # noqa: E402, F401
    backbone,
    coco_metric,
    drawing,
    hooks,
    layer_decay,
    norms,
    repeatable,
    segmentation_metric,
    storage,
    uavdt_metric,
)
