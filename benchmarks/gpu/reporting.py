"""A plugin of pytest, `-p benchmarks.gpu.reporting`: reports each test to the runner as soon as it ends."""

import os
from typing import Any

import pytest
import torch

from benchmarks.gpu import items
from benchmarks.gpu.runner import BROKEN

_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
_failed = False  # whether a test of this worker has


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    global _failed
    _failed = _failed or report.failed
    if report.when == "call" or not report.passed:
        name = f"{report.nodeid.rpartition('/')[2]}{'' if report.when == 'call' else f' ({report.when})'}"
        _send(name, report, seconds=round(report.duration, 2), **dict(report.user_properties))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _send(report.nodeid, report)


def pytest_runtest_setup() -> None:
    """A worker whose GPU context is lost makes room for a new one: only this test fails with it."""
    if _IS_WORKER and _failed and torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(BROKEN)


def _send(name: str, report: pytest.TestReport | pytest.CollectReport, **figures: Any) -> None:
    if _IS_WORKER:  # the controller gets its reports
        return
    why = report.longrepr
    if report.outcome == "skipped":
        items.report(item=name, status="skipped", reason=str(why[2] if isinstance(why, tuple) else why))
    elif report.outcome == "failed":
        crash = getattr(why, "reprcrash", None)
        error = f"{crash.message} ({os.path.basename(crash.path)}:{crash.lineno})" if crash else str(why)[-1000:]
        items.report(item=name, status="failed", error=error[:1500], **figures)
    else:
        items.report(item=name, status="ok", **figures)
