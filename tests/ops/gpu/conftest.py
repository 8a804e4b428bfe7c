"""Launches that are recorded, and float32 that is IEEE's."""

import pytest
import torch

from sdi_plugin.ops import dispatch, gpu, library
from sdi_plugin.ops.gpu import call, launch
from sdi_plugin.ops.gpu.attend import call as attend_call


@pytest.fixture
def launched(monkeypatch):
    """The launches as they happen: the kernel's name, whether it was prepared anew, and its operands' addresses."""
    launches = []

    def addresses(operands):
        return [[t.data_ptr() for t in o] if isinstance(o, (tuple, list)) else o.data_ptr() for o in operands]

    def run(planned, accumulator, *operands):
        launches.append((planned.kernel, True, addresses(operands)))
        return lambda pointers, stream: launches.append(
            (planned.kernel, False, [list(p) if isinstance(p, tuple) else p for p in pointers])
        )

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(launch, "stream", lambda device: 0)
    monkeypatch.setattr("sdi_plugin.ops.gpu.program.INTERPRETED", False)
    monkeypatch.setattr(dispatch, "backend_of", lambda device: gpu)
    monkeypatch.setattr(gpu, "serves", lambda device: True)
    monkeypatch.setattr(library, "_known", {})
    for plan in (call.plan, attend_call.plan):
        plan.cache_clear()
    yield launches
    for plan in (call.plan, attend_call.plan):
        plan.cache_clear()


@pytest.fixture(scope="module")
def exact_float32():
    """The reference's float32, too, is IEEE's: TF32 would hide what the kernels add."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
