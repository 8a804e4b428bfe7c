"""`python -m benchmarks.sdi` as a user calls it."""

import json
import os
import subprocess
import sys

from benchmarks.environment import ALLOCATOR, ROOT


def run(*arguments):
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    command = [sys.executable, "-m", "benchmarks.sdi", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_an_unknown_case_is_told_in_one_line():
    result = run("--cases", "2d-stage")
    assert result.returncode == 2
    assert result.stderr.startswith("benchmarks.sdi: error: benchmark: unknown case '2d-stage'. Expected")
    assert result.stderr.count("\n") == 1


def test_it_starts_itself_again_with_the_allocator_settings_and_records_them(tmp_path):
    file = tmp_path / "results" / "out.json"
    result = run("--cases", "2d-level2-32", "--threads", "1", "--no-compile", "--json", str(file))
    assert result.returncode == 0, result.stderr
    found = json.loads(file.read_text())
    assert {name: found["settings"]["environment"][name] for name in ALLOCATOR} == ALLOCATOR
    assert found["command"].startswith("python -m benchmarks.sdi --cases 2d-level2-32")
    assert "2d-level2-32" in result.stdout
