"""Fixtures of the sweeps."""

from pathlib import Path

import pytest
from small_sweep import write_scenario


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The file of a small scenario."""
    return write_scenario(tmp_path)
