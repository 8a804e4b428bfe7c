"""How long each file of these tests may take, and where its figures go: the options are in tests/conftest.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    """note(name, **figures): a row of docs/reliability.md, kept where --record names a file."""
    file: Path | None = request.config.getoption("--record")

    def written(name: str, **figures: Any) -> None:
        if file is None:
            return
        rows = json.loads(file.read_text()) if file.exists() else {}
        rows.setdefault(request.path.stem.removeprefix("test_"), {})[name] = figures
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")

    return written
