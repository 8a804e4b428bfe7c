"""How long each file of these tests may take, and where its figures go: the options are in tests/conftest.py."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environment
from sdi_plugin import frameworks

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
    """note(name, **figures): a row of docs/reliability.md, in DIR/faults.json, fuzz.json, ... where --record names DIR.

    Rows of an earlier run stay, unless it was of another commit, machine or version: a part can be run again alone.
    """
    folder: Path | None = request.config.getoption("--record")
    begun = time.monotonic()

    def written(name: str, **figures: Any) -> None:
        if folder is None:
            return
        file = folder / f"{request.path.stem.removeprefix('test_')}.json"
        known = {"machine": environment.machine(), "versions": frameworks.versions(), "commit": environment.commit()}
        del known["machine"]["load_before"]
        record = json.loads(file.read_text()) if file.exists() else {}
        if {each: record.get(each) for each in known} != known:
            record = {**known, "rows": {}}
        record["command"] = environment.command()
        record["rows"][name] = {"seconds": round(time.monotonic() - begun, 1), **figures}
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")

    return written
