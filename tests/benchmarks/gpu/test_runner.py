"""What the runner makes of processes that fail, die or take too long."""

import json
import time

import pytest

from benchmarks.gpu import command, runner
from benchmarks.gpu.runner import BROKEN, PIPE, Phase

PROLOGUE = f"""
import json, os, sys
def report(**message):
    os.write(int(os.environ["{PIPE}"]), (json.dumps(message) + "\\n").encode())
"""


def run(monkeypatch, folder, code, seconds=60, decides=True):
    """The results of one phase whose process runs this code."""
    phases = (Phase("made", seconds, "made", decides=decides), Phase("next", 60, "next"))
    monkeypatch.setattr(runner, "PHASES", phases)
    scripts = {"made": code, "next": "report(item='a', status='ok')"}
    monkeypatch.setattr(
        runner,
        "_module",
        lambda phase, deadline, done, dry: ["-c", f"{PROLOGUE}done = {done}\n{scripts[phase.module]}"],
    )
    found = runner.run(folder, ["made", "next"], dry=False)
    assert found == json.loads((folder / "results.json").read_text())
    assert found["phases"]["next"]["status"] == "ok"
    return found["phases"]["made"], runner.failed(found)


def test_items_are_written_and_a_failed_one_fails_the_phase(monkeypatch, tmp_path):
    code = "report(begin='a'); report(item='a', status='ok', us=2); report(item='b', status='failed', error='no')"
    phase, failed = run(monkeypatch, tmp_path, code)
    assert phase["items"] == {"a": {"status": "ok", "us": 2}, "b": {"status": "failed", "error": "no"}}
    assert phase["status"] == "failed"
    assert failed


def test_a_phase_that_does_not_decide_fails_nothing(monkeypatch, tmp_path):
    phase, failed = run(monkeypatch, tmp_path, "report(item='b', status='failed', error='no')", decides=False)
    assert phase["status"] == "failed"
    assert not failed


def test_a_process_that_dies_is_started_again_without_its_item(monkeypatch, tmp_path):
    code = """
for name in "ab":
    if name not in done:
        report(begin=name)
        if name == "a":
            os._exit(9)
        report(item=name, status="ok")
"""
    phase, _ = run(monkeypatch, tmp_path, code)
    assert phase["items"]["a"] == {"status": "failed", "error": "its process ended with 9: log.txt"}
    assert phase["items"]["b"] == {"status": "ok"}


def test_after_a_lost_context_the_next_items_run_in_a_new_process(monkeypatch, tmp_path):
    code = f"""
if not done:
    report(item="a", status="failed", error="lost")
    os._exit({BROKEN})
report(item="b", status="ok")
"""
    phase, _ = run(monkeypatch, tmp_path, code)
    assert [record["status"] for record in phase["items"].values()] == ["failed", "ok"]


def test_a_process_that_cannot_start_is_not_tried_again(monkeypatch, tmp_path):
    phase, failed = run(monkeypatch, tmp_path, "import a_module_that_is_missing")
    assert list(phase["items"]) == ["start"]
    assert failed
    assert "a_module_that_is_missing" in (tmp_path / "log.txt").read_text()


def test_a_phase_out_of_time_is_ended_with_what_it_started(monkeypatch, tmp_path):
    code = "report(begin='a'); import subprocess; subprocess.run(['sleep', '60'])"
    begin = time.monotonic()
    phase, failed = run(monkeypatch, tmp_path, code, seconds=2)
    assert time.monotonic() - begin < 30
    assert phase["status"] == "timeout"
    assert phase["items"] == {"a": {"status": "timeout"}}
    assert failed


def test_an_unknown_phase_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
