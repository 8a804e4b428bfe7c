"""`python -m benchmarks.study` as a user calls it, and the paper's recipe by one and by two processes."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.environment import ROOT
from benchmarks.study import full
from benchmarks.study.__main__ import main
from benchmarks.study.settings import Run

FULL = ("--full", "--size", "64", "--encoder", "pvt-b0", "--encoder-start", "random", "--epochs", "1", "--seeds", "1")
RESULT = "polyps-64-pvt-b0-random-e1-official/unetv2-output=sum-s0.json"


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr("benchmarks.environment.restart_with_settings", lambda: None)


def test_bad_input_is_told_in_one_line(here, capsys):
    assert main(["--list"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("benchmarks.study: error: study: expected --data")
    assert told.count("\n") == 1


def test_the_plan_is_listed(here, data, tmp_path, capsys):
    assert main(["--list", "--data", str(data), "--out", str(tmp_path), "--only", "isic2018", "unet-s0"]) == 0
    assert capsys.readouterr().out == "missing isic2018-128-lite0-imagenet-e4/unet-s0\n"


def test_the_papers_recipe_runs_two_steps_of_the_same_code(place):
    protocol = replace(full.PROTOCOL, size=32, encoder="lite0", start="random", epochs=1)
    said = []
    for made in (1, 0):  # then it is there
        assert full.run_full(place, protocol=protocol, seeds=1, most_steps=2, say=said.append) == made
    assert len(said) == 1
    document = place.store.read(Run(protocol, setting=full.SETTING))
    assert document is not None
    assert document["train"]["seen"] == 2 * 16
    assert document["run"]["recipe"]["scales"] == [0.75, 1.0, 1.25]
    assert (document["processes"], document["most_steps"]) == (1, 2)
    assert set(document["validation"]) == {"kvasir", "clinicdb"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_processes_of_torchrun_make_one_result_on_a_pvt(data, tmp_path, count):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count)] if count > 1 else []
    command = [sys.executable, "-W", "ignore", *launcher, "-m", "benchmarks.study", *FULL, "--most-steps", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["--data", str(data), "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    document = json.loads((tmp_path / "results" / RESULT).read_text())
    assert document["processes"] == count
    assert document["train"]["seen"] == 2 * 16
    assert result.stdout.count("epoch 1/1") == 1
