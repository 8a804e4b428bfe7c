"""Runs the phases, each in a process of its own that is killed when its time is up or started again when it dies.

A process reports through a pipe, one JSON object per line: {"begin": ITEM} and {"item": ITEM, "status": ..., ...}.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

from benchmarks import environment
from benchmarks.gpu.results import Results

PIPE = "SDI_PLUGIN_BENCHMARK_PIPE"  # the number of the pipe's file descriptor, in the environment of a process
BROKEN = 70  # the exit status of a process that has reported its item, but whose GPU context is lost
_DRY_SECONDS = 300
_STARTS = 3  # of a phase whose process dies


class Phase(NamedTuple):
    """`tests` are files for pytest on so many `workers`; without them, the module `benchmarks.gpu.MODULE` has items."""

    name: str
    seconds: int
    module: str = ""
    tests: tuple[str, ...] = ()
    workers: int = 0
    variables: Mapping[str, str] = MappingProxyType({})
    decides: bool = False  # whether a failure is one of the command


PHASES = (
    Phase("preflight", 12, "preflight"),
    Phase(
        "correctness",
        120,
        tests=(
            *("benchmarks/gpu/correctness.py", "benchmarks/gpu/attention_correctness.py"),
            *("tests/ops/gpu/test_kernels.py", "tests/ops/gpu/test_attend_kernels.py"),
        ),
        workers=14,
        variables=MappingProxyType({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),  # for deterministic mode
        decides=True,
    ),
    Phase("integration", 50, tests=("tests/ops/gpu/test_integration.py",), workers=12, decides=True),
    Phase("speed", 130, "speed"),
    Phase("memory", 24, "memory"),
    Phase("network", 38, "network"),
    Phase("network-reference", 28, "network", variables=MappingProxyType({"SDI_PLUGIN_REFERENCE": "1"})),
)


def run(out: Path, names: Sequence[str], dry: bool) -> dict[str, Any]:
    """Run the named phases, and write out/results.json and out/log.txt. Returns the results."""
    out.mkdir(parents=True, exist_ok=True)
    results, chosen = Results(out / "results.json", dry), [phase for phase in PHASES if phase.name in names]
    deadline = time.monotonic()
    with (out / "log.txt").open("w") as log:
        warming = None
        for phase in chosen:
            if warming is not None and not phase.tests:
                _kill(warming)
                warming = None
            deadline = deadline + phase.seconds if not dry else time.monotonic() + _DRY_SECONDS
            _run_phase(phase, results, log, deadline, dry)
            if phase.name == "preflight" and "speed" in names and not dry:
                # torch.compile fills its cache on disk while the tests use the other cores.
                arguments = ["-m", "benchmarks.gpu.warm"]
                warming = subprocess.Popen([sys.executable, *arguments], **_options(log, os.environ))
        if warming is not None:
            _kill(warming)
    return results.data


def failed(found: Mapping[str, Any]) -> bool:
    """Whether a phase that decides failed or did not finish."""
    decisive = [found["phases"][p.name]["status"] for p in PHASES if p.decides and p.name in found["phases"]]
    return any(status not in ("ok", "skipped") for status in decisive)


def _run_phase(phase: Phase, results: Results, log: IO[str], deadline: float, dry: bool) -> None:
    begin = time.monotonic()
    print(f"{phase.name}: up to {deadline - begin:.0f} s", flush=True)
    items: dict[str, Any] = results.phase(phase.name)["items"]
    missing = [file for file in phase.tests if not (environment.ROOT / file).exists()]
    if missing:
        results.phase(phase.name, status="skipped", reason=f"no such file: {', '.join(missing)}")
        return
    status = "failed"
    for _ in range(_STARTS):
        arguments = _pytest(phase, deadline, dry) if phase.tests else _module(phase, deadline, list(items), dry)
        code, item = _run_process(phase, arguments, results, log, deadline, dry)
        if code is None:
            status = "timeout"
            if item:
                results.add(phase.name, item, status="timeout")
            break
        if code == 0 or phase.tests:
            status = "ok" if code == 0 else "failed"
            break
        if code != BROKEN:
            results.add(phase.name, item or "start", status="failed", error=f"its process ended with {code}: log.txt")
            if not item:
                break
    statuses = [record["status"] for record in items.values()]
    if status == "ok" and ("failed" in statuses or ("ok" not in statuses and not dry)):
        status = "failed"
    results.phase(phase.name, status=status, seconds=round(time.monotonic() - begin, 1))


def _run_process(
    phase: Phase, arguments: Sequence[str], results: Results, log: IO[str], deadline: float, dry: bool
) -> tuple[int | None, str]:
    """The exit status, or None for a process that was killed at the deadline; and the item it was busy with."""
    reader, writer = os.pipe()
    variables = {**os.environ, **phase.variables, PIPE: str(writer)}
    if dry and (phase.tests or phase.module == "preflight"):
        variables["TRITON_INTERPRET"] = "1"
    process = subprocess.Popen([sys.executable, *arguments], pass_fds=[writer], **_options(log, variables))
    os.close(writer)
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), _kill, [process])
    timer.start()
    item = ""
    with os.fdopen(reader) as pipe:
        for message in _messages(pipe):
            item = message.pop("begin", "")
            if not item:
                name = message.pop("item")
                results.add(phase.name, name, **message)
                if message["status"] not in ("ok", "skipped"):
                    print(f"  {name}: {message['status']}: {message.get('error', '')[:300]}", flush=True)
    code = process.wait()
    timer.cancel()
    return (None if time.monotonic() >= deadline else code), item


def _messages(pipe: IO[str]) -> Iterator[dict[str, Any]]:
    """What a process reports; a line that its end cut off is left out."""
    for line in pipe:
        if line.endswith("\n"):
            yield json.loads(line)


def _module(phase: Phase, deadline: float, done: Sequence[str], dry: bool) -> list[str]:
    options = ["--deadline", str(deadline), "--done", *done]
    return ["-m", "benchmarks.gpu.items", phase.module, *(["--dry"] if dry else []), *options]


def _pytest(phase: Phase, deadline: float, dry: bool) -> list[str]:
    """Without the property test of any sizes, which compiles kernels for minutes."""
    seconds = max(10, int(deadline - time.monotonic()) - 10)  # for one test
    workers = ["-n", "0"] if dry else ["-n", str(phase.workers), "--dist", "worksteal"]
    chosen = "correctness or integration or channels_last" if dry else "not any_sizes"
    plugins = ["-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "benchmarks.gpu.reporting"]
    options = ["-q", "-m", "", "--timeout", str(seconds), "-k", chosen]
    return ["-m", "pytest", *workers, *plugins, *options, *phase.tests]


def _options(log: IO[str], variables: Mapping[str, str]) -> dict[str, Any]:
    path = os.pathsep.join(filter(None, [str(environment.ROOT), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTEST_ADDOPTS": ""}
    streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    # The runner may itself run in a worker of pytest-xdist: its tests are no worker's.
    inherited = {name: value for name, value in variables.items() if not name.startswith("PYTEST_XDIST_")}
    return {"cwd": environment.ROOT, "env": {**inherited, **own}, "start_new_session": True, **streams}


def _kill(process: subprocess.Popen[Any]) -> None:
    """End a process and those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
