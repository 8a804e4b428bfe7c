"""Each Triton kernel, compiled at the paper's shapes for GPUs that are not here."""

import os

import pytest

from benchmarks.gpu_compile import (
    ATTENTION_KERNELS,
    ATTENTIONS,
    KERNELS,
    PRODUCTS,
    STAGES,
    TARGETS,
    compile_for,
    launches,
)

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


# The products of the paper's features everywhere, and what holds most: contiguous features, a plan of nnU-Net.
# `python -m benchmarks.gpu_compile` compiles the rest.
ATTENTION_CASES = [
    *[("2-D, bf16", "sm_90", kernel) for kernel in ATTENTION_KERNELS],
    *[("2-D, bf16", t, kernel) for t in TARGETS if t != "sm_90" for kernel in ATTENTION_KERNELS if kernel in PRODUCTS],
    *[("2-D, TF32, contiguous", "sm_90", kernel) for kernel in ATTENTION_KERNELS if kernel in PRODUCTS],
    *[("3-D, TF32", "sm_90", kernel) for kernel in ATTENTION_KERNELS if kernel in PRODUCTS],
]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "target", "kernel"), ATTENTION_CASES)
def test_the_attention_everywhere(stage, target, kernel):
    (launch,) = [launch for launch in launches(ATTENTIONS[stage]) if launch.kernel == kernel]
    used = compile_for(ATTENTIONS[stage], launch, TARGETS[target])
    assert used.spills == 0, used
    assert used.shared <= TARGETS[target].shared, used
    if kernel in PRODUCTS:
        assert used.matrix, used
    # smooth_backward reads single numbers; contiguous features have rows of any length.
    if kernel != "smooth_backward" and "contiguous" not in stage:
        assert used.load_bytes >= 16, used
