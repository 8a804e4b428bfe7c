"""Shared by all tests: the real data where it is beside the checkout, one random seed, and the cores."""

import os
from pathlib import Path

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of tests/reliability; here, because pytest reads options before it looks into folders."""
    group = parser.getgroup("reliability")
    group.addoption("--seconds", type=float, default=20, help="of each file of tests/reliability [20]")
    group.addoption("--kills", type=int, default=1, help="of each command in test_faults.py [1]")
    group.addoption("--record", type=Path, help="folder for the figures of tests/reliability")


def pytest_configure():
    """pytest-xdist's processes share the cores."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout: the real images are not part of the project")
    return folder


@pytest.fixture(autouse=True)
def _state_of_torch():
    """One seed, and no setting that an earlier test has left, as a training does."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(False)
