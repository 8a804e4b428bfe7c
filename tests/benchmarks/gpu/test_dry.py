"""`python -m benchmarks.gpu --dry`: every phase's code, without a GPU."""

import json
import subprocess
import sys

import pytest

from benchmarks.environment import ROOT
from benchmarks.gpu import runner


@pytest.mark.slow
def test_every_phase_runs_without_a_gpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found["phases"]) == [phase.name for phase in runner.PHASES]
    for name, phase in found["phases"].items():
        missing = [file for p in runner.PHASES if p.name == name for file in p.tests if not (ROOT / file).exists()]
        assert phase["status"] == ("skipped" if missing else "ok"), name
        assert missing or phase["items"], name
    assert len(done.stdout.splitlines()) <= 60
    assert len(list(tmp_path.iterdir())) <= 8
