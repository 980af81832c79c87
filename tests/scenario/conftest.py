"""What the tests of the input side share."""

import pytest
from scenario_files import Files


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)
