"""The demo as a process of its own, as it runs by default; tests/reliability kills and resumes it."""

import json
import subprocess
import sys
import time

import pytest

DEMO = [sys.executable, "-W", "ignore", "-m", "sdi_plugin", "demo"]


def metrics_of(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    return metrics


@pytest.mark.slow
@pytest.mark.alone
def test_the_default_run_learns_to_segment_in_under_three_minutes(tmp_path):
    start = time.monotonic()
    subprocess.run([*DEMO, "--out", str(tmp_path)], check=True)
    assert time.monotonic() - start < 180
    assert metrics_of(tmp_path)["mean_dice"] >= 0.90
