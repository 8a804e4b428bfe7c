"""Long trainings keep their memory, and threads do not disturb each other.

`make soak`: ten minutes, 2,000 steps in 2-D and in 3-D, and eight threads over up to 2,000 shapes.
"""

import json
import subprocess
import sys

import pytest

from tests.ops.cpu import sanitized
from tests.reliability.tasks import ROOT, variables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(36000)]
# Of the time, which two processes share; trainings end earlier, after 2,000 steps, unless the machine is busy.
SHARES = {"2d-fresh": 0.7, "3d-fresh": 0.7, "2d": 0.4, "3d": 0.5, "threads": 0.1}
SANITIZED = 0.1  # for each


def command(name: str, seconds: float) -> list[str]:
    return ["-W", "ignore", "-m", "tests.reliability.soak", name, str(seconds)]


@pytest.mark.parametrize("name", SHARES)
def test_memory_is_flat_and_bits_are_equal(name, seconds, note):
    if "fresh" in name and seconds < 300:
        pytest.skip("memory for new shapes is flat once their plans fill their bounds: make soak")
    arguments = [sys.executable, *command(name, seconds * SHARES[name])]
    done = subprocess.run(arguments, env=variables(), cwd=ROOT, capture_output=True, text=True)
    if done.stdout.startswith("{"):
        note(name, **json.loads(done.stdout))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", sanitized.FLAGS)
def test_threads_are_clean(kind, seconds, note, tmp_path):
    if seconds < 300:
        pytest.skip("tests/ops/cpu/test_sanitizers.py has the builds; with many shapes: make soak")
    done = sanitized.run(kind, command("threads", seconds * SANITIZED), tmp_path, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    note(f"threads, {kind} sanitizer", **json.loads(done.stdout))
