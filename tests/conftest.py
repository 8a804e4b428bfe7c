"""Shared by all tests: the real data where it is beside the checkout, and one random seed."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout: the real images are not part of the project")
    return folder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
