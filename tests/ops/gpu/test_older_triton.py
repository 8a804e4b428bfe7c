"""The kernels on the Triton of torch 2.11: compiled for an H100, and in the interpreter.

Only that Triton is installed, ahead of the project's on the path: the rest of torch 2.11 is gigabytes of CUDA.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

pytest.importorskip("triton")
TRITON = "3.6.0"
PYTEST = "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0"


def run(*arguments, **environment):
    variables = os.environ | {"PYTEST_ADDOPTS": ""} | environment
    return subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs the kernels with the Triton that is installed")
def test_the_kernels_on_an_older_triton():
    tests = Path(__file__).parent
    with TemporaryDirectory() as folder:
        install = run("-m", "pip", "install", "-q", "--no-deps", "--target", folder, f"triton=={TRITON}")
        if install.returncode:
            pytest.skip(f"triton {TRITON} does not install here: {install.stderr.strip()[-200:]}")
        older = {"PYTHONPATH": folder, "TRITON_CACHE_DIR": f"{folder}/cache"}
        assert run("-c", "import triton; print(triton.__version__)", **older).stdout.strip() == TRITON
        compiled = *PYTEST, str(tests / "test_compile.py")
        some = *PYTEST, str(tests / "test_kernels.py"), "-k", "float64 or channels_last"  # the interpreter is slow
        for command, interpret in ((compiled, "0"), (some, "1")):
            found = run(*command, **older, TRITON_INTERPRET=interpret)
            assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
            assert " passed" in found.stdout
