"""Each Triton kernel, compiled at the paper's shapes for GPUs that are not here."""

import os

import pytest

from benchmarks.gpu_compile import CASES, HALF_CASES, TARGETS, compile_for

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="TRITON_INTERPRET is 1: its kernels cannot be compiled"
)


def check(case, target):
    used = compile_for(case, target)
    assert used.spills == 0, used
    assert used.shared <= target.shared, used
    # 16 bytes of float32, 8 of half precision: four elements per thread.
    half = any(types in ("*fp16", "*bf16") or types[0] in ("*fp16", "*bf16") for types in case.types.values() if types)
    assert used.load_bytes >= (8 if half else 16), used


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_no_spills_little_shared_memory_and_wide_loads(case, target):
    check(case(), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())
@pytest.mark.parametrize("case", HALF_CASES.values(), ids=HALF_CASES.keys())
def test_the_same_in_half_precision(case, target):
    check(case(), target)
