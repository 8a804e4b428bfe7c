"""The CPU kernel: memory layouts, instruction sets, threads, processes, and the choice of a term's path."""

import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sdi_plugin.ops import cpu, plan
from sdi_plugin.ops.cpu import stage
from tests.ops.cases import CASES, fused, make_case, run, single
from tests.ops.contract import KernelContract

pytestmark = pytest.mark.skipif(bool(cpu.reason()), reason=f"the CPU kernel is off: {cpu.reason()}")


class TestCpu(KernelContract):
    shapes = CASES


@pytest.mark.parametrize("size", [(50, 20), (19, 6, 5)], ids=["2d", "3d"])
def test_the_same_bits_on_every_run_and_for_any_number_of_threads(size):
    case = make_case(size, 4, torch.float32, channels=40)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 3):
            torch.set_num_threads(count)
            results.append(run(fused, case, 0, torch.float32))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_is_as_exact(isa):
    code = (
        "import sys, torch; sys.path.insert(0, sys.argv[2])\n"
        "from sdi_plugin.ops import cpu; from tests.ops.cases import CASES, fused\n"
        "from tests.ops.contract import check_error\n"
        "if cpu.isa() != sys.argv[1]: raise SystemExit(3)\n"
        "for name in ('paper', 'odd', '3d', '3d-many-planes'):\n"  # enough elements for luck to even out
        "    check_error(fused, CASES[name], torch.float32)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, isa, str(Path(__file__).parents[3])]
    status = subprocess.run(command, env={**os.environ, "SDI_PLUGIN_ISA": isa}).returncode
    if status == 3:
        pytest.skip(f"this processor has no {isa}")
    assert status == 0


def test_concurrent_calls_from_several_threads():
    xs, weights, biases = single(make_case((33, 20), 4, channels=32))
    expected, results = fused(xs, weights, biases, 0), []

    def call():
        for _ in range(10):
            results.append(fused(xs, weights, biases, 0))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    assert all(torch.equal(result, expected) for result in results)


def test_the_cost_model_goes_through_the_low_resolution_where_that_is_cheaper():
    def is_by_taps(source, target, channels):
        return plan.is_by_taps(source, target, channels, cpu.COSTS)

    assert is_by_taps((44, 44), (88, 88), 32)
    assert is_by_taps((16, 16, 16), (32, 32, 32), 32)
    assert not is_by_taps((88, 88), (88, 88), 32)
    assert not is_by_taps((87, 87), (88, 88), 32)
    assert not is_by_taps((60, 60), (88, 88), 32)  # where Winograd's convolution costs less
    assert is_by_taps((10, 10), (15, 15), 32)  # too small for Winograd
    assert not is_by_taps((44, 44), (88, 88), 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same():
    code = (
        "import os, torch; from sdi_plugin import SDISkip; "
        "s = SDISkip([4, 8], 16).eval(); f = [torch.ones(1, 4, 9, 9), torch.ones(1, 8, 5, 5)]; a = s(f)[0]\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    torch.set_num_threads(1)\n"  # what a DataLoader's worker does: OpenMP's threads do not survive a fork
        "    os._exit(0 if torch.equal(s(f)[0], a) else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60).returncode == 0


def test_a_call_holds_its_plan_whatever_the_cache_does(monkeypatch):
    alive: list = []
    uncached = stage.stage_plan.__wrapped__  # pyright: ignore[reportFunctionMemberAccess]

    class Table:
        pass

    def stage_plan(*args):
        table = Table()
        made = uncached(*args)  # as if another thread's plans had pushed it out at once
        made.kept.append(table)
        alive.append(weakref.ref(table))
        return made

    def run_kernel(*args):
        alive.append(alive.pop()() is not None)
        return 0

    monkeypatch.setattr(cpu, "stage_plan", stage_plan)
    monkeypatch.setattr(cpu, "library", SimpleNamespace(sdi_run=run_kernel))
    xs, weights, biases = single(make_case((6, 5), 2))
    fused(xs, weights, biases, 0)
    assert alive == [True]


def test_threads_with_fresh_shapes_leave_the_plans_of_others_alone():
    """With a cache of one plan, in a child process, because it may crash."""
    code = (
        "import threading, torch; from sdi_plugin import ops\n"
        "from sdi_plugin.ops import cpu; from sdi_plugin.ops.cpu import stage\n"
        "torch.set_num_threads(1)\n"
        "one = stage.bounded(1)\n"
        "cpu.stage_plan = one(stage.stage_plan.__wrapped__)\n"
        "stage.axis_table = one(stage.axis_table.__wrapped__)\n"
        "def case(h, w):\n"
        "    xs = [torch.randn(1, 8, h, w), torch.randn(1, 8, h // 2, w // 2)]\n"
        "    return xs, [torch.randn(8, 8, 3, 3)] * 2, [torch.randn(8)] * 2, 0\n"
        "wide = case(120, 900); expected = ops.resize_smooth_multiply(*wide)\n"
        "def fresh(first):\n"
        "    for i in range(30):\n"
        "        ops.resize_smooth_multiply(*case(2 + first, 800 + i))\n"
        "threads = [threading.Thread(target=fresh, args=(8 * i,)) for i in range(3)]\n"
        "[t.start() for t in threads]\n"
        "while any(t.is_alive() for t in threads):\n"
        "    assert torch.equal(ops.resize_smooth_multiply(*wide), expected)\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=300).returncode == 0


def test_the_plan_of_a_wide_map_is_small():
    made = stage.stage_plan(1, ((8, 10_000), (4, 5_000)), (0, 1), 8, 8, torch.float32, "product")
    assert made.nbytes < 3_000_000
