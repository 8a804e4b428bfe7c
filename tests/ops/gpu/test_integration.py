"""Runs integration.py: on a GPU each of its functions in a cold process, on a CPU all of them in one, as a rehearsal.

python3 -m pytest -n 6 tests/ops/gpu/test_integration.py      needs torch, triton, pytest and pytest-xdist alone
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.ops.gpu import integration

ROOT = Path(__file__).parents[3]


def run(*arguments):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    command = [sys.executable, "-m", "tests.ops.gpu.integration", *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-1000:] + result.stderr[-4000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is False")
@pytest.mark.parametrize("name", [body.__name__ for body in integration.BODIES])
def test_in_a_cold_process(name):
    if name == "several_gpus" and torch.cuda.device_count() < 2:
        pytest.skip("expected two GPUs or more, found one")
    run("cuda", name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs them one by one")
def test_rehearsal_on_a_cpu():
    run("cpu")
