"""results.json: rewritten after every item, so that a run that ends early keeps what it has.

    {command, commit, dry, seconds, phases: {PHASE: {status, seconds, items: {ITEM: {status, seconds, ...}}}}}

status: "ok", "failed" with an `error`, "timeout", or "skipped" with a `reason`.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import environment

FOLDER = environment.ROOT / "benchmarks" / "results" / "gpu"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def read(file: Path) -> dict[str, Any]:
    """The result in a file. A ValueError says that it is none."""
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: expected the results.json of a run, got no JSON: {error}") from error
    if not isinstance(found, dict) or "phases" not in found:
        raise ValueError(f'{file}: expected the results.json of a run, got no "phases" in it')
    return found


class Results:
    """The results of a run, and their file."""

    def __init__(self, file: Path, dry: bool):
        self.file, self.begin = file, time.monotonic()
        self.data: dict[str, Any] = {
            "command": environment.command().replace(str(file.parent), file.parent.name),  # no path of a machine
            "commit": environment.commit(),
            "dry": dry,
            "seconds": 0.0,
            "phases": {},
        }

    def phase(self, name: str, **values: Any) -> dict[str, Any]:
        """A phase, with these values changed."""
        found = self.data["phases"].setdefault(name, {"status": "running", "seconds": 0.0, "items": {}})
        found.update(values)
        self._write()
        return found

    def add(self, phase: str, item: str, **record: Any) -> None:
        self.data["phases"][phase]["items"][item] = record
        self._write()

    def _write(self) -> None:
        self.data["seconds"] = round(time.monotonic() - self.begin, 1)
        whole = self.file.with_suffix(".part")
        whole.write_text(json.dumps(self.data, indent=1) + "\n")
        os.replace(whole, self.file)
