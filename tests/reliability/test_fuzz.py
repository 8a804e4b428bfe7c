"""Damaged files and arguments: no crash, no hang, a documented error, and nothing done beside it.

`make fuzz`: ten minutes. A failure says the number of its case, and `python -m tests.reliability.fuzzing TARGET DIR 1
NUMBER` tries that one again.
"""

import json
import queue
import subprocess
import sys
import threading

import pytest

from tests.reliability.fuzzing import TARGETS
from tests.reliability.tasks import ROOT, variables

HANG = 10  # seconds without a new case
pytestmark = [pytest.mark.slow, pytest.mark.timeout(36000)]


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_input_is_refused_by_a_documented_error_or_read(target, seconds, tmp_path, note):
    share = seconds / len(TARGETS)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.reliability.fuzzing",
        target,
        str(tmp_path),
        str(share),
        "0",
    ]
    process = subprocess.Popen(
        command, env=variables(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
    last, limit = "no case", 120.0  # to import torch on a busy machine
    printed = []
    while process.poll() is None or not lines.empty():
        try:
            line = lines.get(timeout=limit if process.poll() is None else 1)
        except queue.Empty:
            if process.poll() is None:
                process.kill()
                pytest.fail(f"{target}, case {last}: nothing for {limit:.0f} s; its file is in {tmp_path}")
            break
        if line.strip().isdigit():
            last, limit = line.strip(), HANG
        else:
            printed.append(line)
    assert process.returncode == 0, f"{target}, case {last}, exit {process.returncode}:\n{''.join(printed)}"
    note(target, **json.loads(printed[-1]))
