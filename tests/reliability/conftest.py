"""How long each file of these tests may take, and where its figures go: the options are in tests/conftest.py."""

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reliability

Note = Callable[..., None]


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """The time for all tests of a file together, of which each takes its share."""
    return float(request.config.getoption("--seconds") or 0)


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills") or 0)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """note(name, **figures): a row of docs/reliability.md, in DIR/faults.json, ... where --record names DIR."""
    folder: Path | None = request.config.getoption("--record")
    begun = time.monotonic()
    workers: Any = getattr(request.config, "workerinput", {})  # of pytest-xdist, which knows the command
    command = shlex.join(["python", "-m", "pytest", *workers.get("mainargv", sys.argv)[1:]])

    def written(name: str, **figures: Any) -> None:
        if folder is not None:
            file = folder / f"{request.path.stem.removeprefix('test_')}.json"
            reliability.note(file, name, round(time.monotonic() - begun, 1), command, **figures)

    return written
