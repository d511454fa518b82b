"""Fixtures that every test may ask for."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples on every run; `pytest --hypothesis-profile=explore` draws others each time
settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("fixed")

# `auto` finds the same everywhere: no weights of this machine's user, and nothing is asked of the hub
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": os.devnull, "DEEPFACE_HOME": os.devnull}

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared recordings beside the checkout; tests that need it are skipped visibly without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared recordings at {SHARED}")
    return SHARED
