"""Long trainings keep their memory, and threads do not disturb each other.

`make soak`: ten minutes, 2,000 steps in 2-D and in 3-D, and eight threads over up to 2,000 shapes.
"""

import json
import subprocess
import sys

import pytest

from tests.reliability.tasks import ROOT, variables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(36000)]
# Of the time, which two processes share: 2,000 steps on fresh sizes take the longest, and no fewer fill the caches.
SHARES = {"2d-fresh": 0.7, "3d-fresh": 0.7, "2d": 0.2, "3d": 0.3, "threads": 0.1}


@pytest.mark.parametrize("name", SHARES)
def test_memory_is_flat_and_bits_are_equal(name, seconds, note):
    if "fresh" in name and seconds < 300:
        pytest.skip("memory for new shapes is flat once their plans fill their bounds: make soak")
    command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.soak", name, str(seconds * SHARES[name])]
    done = subprocess.run(command, env=variables(), cwd=ROOT, capture_output=True, text=True)
    if done.stdout.startswith("{"):
        note(name, **json.loads(done.stdout))
    assert done.returncode == 0, done.stdout + done.stderr
