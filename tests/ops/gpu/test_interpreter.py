"""Runs test_kernels.py and test_attend_kernels.py in Triton's interpreter, on machines without a GPU.

In a process of its own: the interpreter replaces triton's own functions at import, and here they must stay compilable
(test_compile.py).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdi_plugin.ops import gpu

pytest.importorskip("triton")


without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs the kernels themselves")
compiled = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the files themselves run")


# Of test_kernels.py: in every run, and in make long alone; all others are in make slow.
SOME = "float64_is_exact or several_dtypes or channels_last"
LONGEST = "any_sizes or wide_windows or (asinh and not odd)"


def interpret(*options, timeout, file="test_kernels.py"):
    tests = Path(__file__).with_name(file)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *options, str(tests)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout


@without_gpu
@compiled
def test_some_kernels_in_the_interpreter():
    interpret("-k", SOME, timeout=550)


@without_gpu
@compiled
def test_the_kernels_of_the_attention_in_the_interpreter():
    interpret(timeout=550, file="test_attend_kernels.py")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@without_gpu
@compiled
def test_the_kernels_in_the_interpreter():
    interpret("-k", f"not ({SOME} or {LONGEST})", timeout=2900)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(3000)
@without_gpu
@compiled
def test_the_kernels_whose_tests_take_the_longest_in_the_interpreter():
    interpret("-k", LONGEST, timeout=2900)


def test_importing_the_package_does_not_import_triton():
    code = "import sys, sdi_plugin.ops.gpu; raise SystemExit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are in use")
def test_the_reason_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(gpu, "INTERPRETED", False)
    assert "no GPU" in gpu.reason()
    assert not gpu.serves(torch.device("cpu"))
    monkeypatch.setattr(gpu, "_IS_NEW", False)
    assert "torch 2.7" in gpu.reason()
    monkeypatch.setattr(gpu, "_IS_INSTALLED", False)
    assert "not installed" in gpu.reason()
    assert not gpu.serves(torch.device("cuda"))
