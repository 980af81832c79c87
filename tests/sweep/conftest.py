"""Fixtures of the sweeps."""

from pathlib import Path

import pytest
from small_sweep import LONG, rollsim, write_scenario


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The file of a small scenario."""
    return write_scenario(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the sweep LONG that nobody disturbed, and its scenario beside it."""
    folder = tmp_path_factory.mktemp("whole")
    rollsim("sweep", write_scenario(folder), *LONG, "-o", folder / "whole.parquet")
    return folder / "whole.parquet"
