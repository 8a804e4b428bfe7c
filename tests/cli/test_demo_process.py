"""The demo as a process of its own: killed and resumed, and its default run."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.images import write_images

DEMO = [sys.executable, "-W", "ignore", "-m", "sdi_plugin", "demo"]


def metrics_of(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    return metrics


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_metrics_of_an_uninterrupted_one(tmp_path):
    data = write_images(tmp_path / "data", count=90, size=64)
    command = [*DEMO, "--data", str(data), "--size", "64", "--epochs", "3", "--out"]
    subprocess.run([*command, str(tmp_path / "unbroken")], check=True)
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline().startswith("the encoder")
    assert killed.stdout.readline().startswith("epoch 1/3")
    time.sleep(0.5)  # some batches into epoch 2
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True)
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "unbroken")


@pytest.mark.slow
@pytest.mark.alone
def test_the_default_run_learns_to_segment_in_under_three_minutes(tmp_path):
    start = time.monotonic()
    subprocess.run([*DEMO, "--out", str(tmp_path)], check=True)
    assert time.monotonic() - start < 180
    assert metrics_of(tmp_path)["mean_dice"] >= 0.90
