"""Damaged files and arguments: no crash, no hang, a documented error, and nothing done beside it.

`make fuzz`: ten minutes. A failure says the number of its case, and `python -m tests.reliability.fuzzing TARGET DIR 1
NUMBER` tries that one again.
"""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.fuzzing import TARGETS
from tests.reliability.tasks import ROOT, variables

HANG = 10  # seconds without a new case
pytestmark = [pytest.mark.slow, pytest.mark.timeout(36000)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory, where there is such a disk: a file on another takes longer than most cases."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_is_refused_by_a_documented_error_or_read(target, seconds, folder, note):
    share = seconds * TARGETS[target].weight / sum(each.weight for each in TARGETS.values())
    command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.fuzzing", target, str(folder), str(share), "0"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(command, env=variables(), cwd=ROOT, **options) as process:
        last, printed = _followed(process)
        if process.poll() is None:
            process.kill()
            pytest.fail(f"{target}, case {last}: nothing for {HANG} s")
    if process.returncode in (0, 1) and printed[-1:] and printed[-1].startswith("{"):
        note(target, **json.loads(printed[-1]))
    assert process.returncode == 0, f"{target}, case {last}, exit {process.returncode}:\n{''.join(printed)}"


def _followed(process: Any) -> tuple[str, list[str]]:
    """The last case's number, and the other lines: once the process has ended, or has been silent for too long."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    last, printed, limit = "none", [], 120.0  # to import torch on a busy machine
    with contextlib.suppress(queue.Empty):
        while (line := lines.get(timeout=limit)) is not None:
            if line.strip().isdigit():
                last, limit = line.strip(), HANG
            else:
                printed.append(line)
        process.wait()
    return last, printed
