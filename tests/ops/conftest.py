"""The operators under test are those a user gets: mmcv.ops after install()."""

from types import ModuleType

import pytest

from flsl_bench import ops


@pytest.fixture(scope="session")
def mmcv_ops() -> ModuleType:
    """``mmcv.ops`` on whichever provider this environment has."""
    pytest.importorskip("mmcv")
    ops.install()
    import mmcv.ops

    return mmcv.ops
