"""SIGKILL at random moments, full disks, and disks that cannot be written to.

`make faults`: 20 kills of every command. A killed run goes on; what it comes to is what an unbroken one does, bit for
bit.
"""

import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.reliability import predicting
from tests.reliability.tasks import TASKS, Task, variables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def start(task: Task, out: Path) -> subprocess.Popen[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(task.command(out), env=variables(), cwd=out.parent, start_new_session=True, **streams)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("name", TASKS)
def test_a_command_that_is_killed_often_ends_as_an_unbroken_one(name, tmp_path, kills, note):
    task, generator = TASKS[name](tmp_path), random.Random(0)
    begun = time.monotonic()
    unbroken = start(task, tmp_path / "unbroken")
    printed, _ = unbroken.communicate()
    whole = time.monotonic() - begun
    assert unbroken.returncode == 0, printed
    expected = task.state(tmp_path / "unbroken")
    killed = runs = 0
    while killed < kills:
        runs += 1
        out, finished = tmp_path / f"killed-{runs}", False
        while not finished:
            process = start(task, out)
            moment = generator.uniform(0.3, 1.0) * whole if killed < kills else None
            try:
                printed, _ = process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                kill(process)
                killed += 1
                finished = task.once and out.exists()
            else:
                assert process.returncode == 0, printed
                finished = True
        assert task.state(out) == expected
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    left = {path.name for path in tmp_path.iterdir() if "killed" in path.name}
    assert not left, left
    note(name, kills=killed, runs=runs, unbroken=round(whole, 1))


def test_predict_that_is_killed_often_does_every_good_image_once(tmp_path, kills, note):
    images, broken = 39 * max(1, kills), 4
    figures = predicting.run(tmp_path / "work", images, broken, kills)
    note("predict", kills=kills, runs=1, unbroken=round(figures["seconds"], 1), images=images, broken=broken)


# Half of what each command writes, in KiB.
SIZES = {"demo": 6000, "convert": 6000, "data prepare": 60}


def on_a_small_disk(task: Task, folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    """Run the command where `folder` is a disk of its own; the last lines of its output are what it left there."""
    mount = f"mount -t tmpfs -o {options} small {shlex.quote(str(folder))}"
    command = shlex.join(task.command(folder / "out"))
    script = f"{mount} && {command}; code=$?; echo LEFT; find {shlex.quote(str(folder))} -mindepth 1; exit $code"
    return subprocess.run(["unshare", "-m", "sh", "-c", script], env=variables(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def can_mount() -> None:
    found = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "small", "/mnt"], capture_output=True)
    if found.returncode:
        pytest.skip("mounting a small disk takes root's rights")


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.usefixtures("can_mount")
def test_a_disk_that_cannot_be_written_to_is_told_in_one_line(name, fault, tmp_path, note):
    task, disk = TASKS[name](tmp_path), tmp_path / "disk"
    disk.mkdir()
    found = on_a_small_disk(task, disk, f"size={SIZES[name]}k" if fault == "full" else "ro")
    printed, _, left = found.stdout.partition("LEFT\n")
    assert found.returncode == 2, printed + found.stderr
    message = found.stderr.strip().splitlines()[-1]
    assert "Traceback" not in found.stderr
    assert {"full": "space left", "read-only": "read-only"}[fault] in message.lower()
    assert name == "demo" or not left, left  # the demo keeps the epochs that are done
    note(f"{name}, {fault} disk", exit=2, left="finished epochs" if name == "demo" else "nothing")
