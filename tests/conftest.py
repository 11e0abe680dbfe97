"""Fixtures that every test folder uses."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The optional folder of real samples and reference outputs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of real samples at {SHARED}")
    return SHARED
