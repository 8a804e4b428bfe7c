"""SIGKILL at random moments, full disks, folders that cannot be written to, files that are cut.

`make faults`: 20 kills of every command. A killed run goes on; what it comes to is what an unbroken one does, bit for
bit.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

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
    assert unbroken.returncode == task.code, printed
    expected = task.state(tmp_path / "unbroken")
    killed = runs = 0
    while killed < kills:
        runs += 1
        out = tmp_path / f"killed-{runs}"
        while killed < kills and not (task.once and out.exists()):
            process = start(task, out)
            try:
                printed, _ = process.communicate(timeout=generator.uniform(0.3, 1.0) * whole)
            except subprocess.TimeoutExpired:
                kill(process)
                killed += 1
            else:
                assert process.returncode == task.code, printed
                break
        if not (task.once and out.exists()):
            process = start(task, out)
            printed, _ = process.communicate()
            assert process.returncode == task.code, printed
        assert task.state(out) == expected
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    left = {path.name for path in tmp_path.iterdir() if "killed" in path.name}
    note(name, kills=killed, runs=runs, seconds=round(whole, 1))
    assert not left, left
