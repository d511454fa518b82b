"""Fixtures that every test may ask for."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared recordings beside the checkout; tests that need it are skipped visibly without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared recordings at {SHARED}")
    return SHARED
