"""Each Triton kernel, compiled at the paper's shapes for GPUs that are not here."""

import os

import pytest

from benchmarks.gpu_compile import KERNELS, PRODUCTS, STAGES, TARGETS, compile_for, launches

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET is 1: its kernels cannot be compiled"
)
PAPER = "2-D, L = 4, C = 32, bf16"
# `python -m benchmarks.gpu_compile` compiles the others too.
EXTREMES = ("2-D, L = 4, C = 32, TF32", "2-D, L = 6, C = 64, bf16", "3-D, L = 6, C = 64, TF32")


def check(stage, kernel, target):
    (launch,) = [launch for launch in launches(stage) if launch.kernel == kernel] or [None]
    if launch is None:
        pytest.skip("the stage has no such launch")
    used = compile_for(stage, launch, target)
    # Of kernels that only move data, ptxas keeps up to four addresses on the stack from the first line to the last,
    # rather than take more than 80 registers.
    assert used.spills <= (0 if kernel in PRODUCTS else 16), used
    assert used.shared <= target.shared, used
    if kernel in PRODUCTS:
        assert used.matrix, used
        assert used.load_bytes >= 16, used


@pytest.mark.parametrize("kernel", KERNELS)
def test_on_hopper_no_spills_and_matrix_instructions(kernel):
    check(STAGES[PAPER], kernel, TARGETS["sm_90"])


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("stage", EXTREMES)
def test_everywhere(stage, target, kernel):
    check(STAGES[stage], kernel, target)
