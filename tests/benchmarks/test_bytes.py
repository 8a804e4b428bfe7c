"""Saved bytes and peak memory, of calls whose bytes are known."""

import os
import subprocess
import sys

import pytest
import torch

from benchmarks.environment import ROOT
from benchmarks.memory import saved_bytes

MIB = 2**20


def test_saved_bytes_leave_out_what_is_named():
    x, y = torch.randn(16, requires_grad=True), torch.randn(16, requires_grad=True)
    assert saved_bytes(lambda: x * y, without=[y])[1] == 16 * 4


def test_saved_bytes_count_each_storage_once():
    x, y = torch.ones(256, requires_grad=True), torch.ones(256, requires_grad=True)
    result, saved = saved_bytes(lambda: x * y * x.view(16, 16).flatten())
    assert saved == 3 * 1024  # x, y and their product
    assert torch.equal(result, torch.ones(256))


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not reset VmHWM")
@pytest.mark.parametrize(
    "call",
    [
        "torch.ones(2**24)",
        "torch.ones(2**24).mul(2).sum()",
        "(libc.memset(p := libc.malloc(2**26), 1, 2**26), libc.free(p))",
    ],
    ids=["held", "freed", "from-c"],
)
def test_peak_memory_sees_what_anything_allocates(call):
    code = f"""
import ctypes, torch
from benchmarks.memory import peak_extra_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
print(peak_extra_bytes(lambda: {call}))
"""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    expected = 64 * MIB * (2 if "mul" in call else 1)
    assert 0.97 * expected < int(result.stdout) < 1.1 * expected
