"""Measure cases: times, bytes, errors and floors, as the JSON that `benchmarks.sdi` writes."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks import environment
from benchmarks.memory import saved_bytes
from benchmarks.sdi import accuracy, cases, contenders, floors
from benchmarks.sdi.cases import Case
from benchmarks.sdi.contenders import COMPILE, EAGER, OURS, Contender
from benchmarks.sdi.measure import Timing, cuda_graph, interleave
from benchmarks.sdi.peak import peak_bytes
from sdi_plugin import ops
from sdi_plugin.cli.info import versions

MODES = ("forward", "forward+backward")


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        threads: numbers of threads; the largest alone for cases beyond `cases.QUICK`.
        rounds, seconds: of every case and mode, see `measure.interleave`.
        compiled: the modes in which torch.compile competes; compiling takes most of the time.
        channels_last: whether eager PyTorch competes in the other layout.
        peaks: the contenders whose peak memory is measured, each in processes of its own.
    """

    threads: Sequence[int]
    modes: Sequence[str] = MODES
    rounds: int = 5
    seconds: float = 5.0
    compiled: Sequence[str] = MODES
    channels_last: bool = True
    peaks: Sequence[str] = (EAGER, OURS)
    device: str = "cpu"


def run(names: Iterable[str], settings: Settings) -> dict[str, Any]:
    """Measure every case by name; the keys are those of README.md. A ValueError tells an unknown name."""
    parsed = [Case.parse(name) for name in names]
    before = torch.get_num_threads()
    result = {
        "versions": versions(),
        "machine": environment.machine(),
        "command": environment.command(),
        "commit": environment.commit(),
        "backends": ops.backends(),
        "settings": {**asdict(settings), "environment": environment.settings(), "compile": contenders.COMPILE_NOTE},
        "floors": [],
        "cases": [],
    }
    try:
        rates = {}
        for threads in settings.threads:
            torch.set_num_threads(threads)
            rates[threads] = floors.measure(settings.device)
            result["floors"].append({"threads": threads, **rates[threads]})
        for case in parsed:
            result["cases"] += _case(case, settings, rates)
    finally:
        torch.set_num_threads(before)
    return result


def _case(case: Case, settings: Settings, rates: dict[int, dict[str, float]]) -> list[dict[str, Any]]:
    rows, saved = [], {}
    for threads in settings.threads if case.name in cases.QUICK else [max(settings.threads)]:
        torch.set_num_threads(threads)
        for mode in settings.modes:
            torch._dynamo.reset()  # nothing compiled for the case before is looked through
            training = mode != "forward"
            names = _names(case, mode in settings.compiled, settings)
            built = [contenders.build(case, name, training=training, device=settings.device) for name in names]
            times, rounds = interleave(
                _functions(built, training, settings.device),
                rounds=settings.rounds,
                seconds=settings.seconds,
                device=settings.device,
            )
            if training:
                saved = {c.name: saved_bytes(c.call, without=c.parameters)[1] for c in built}
            row = entry(case, mode, threads, times)
            rows.append({**row, "rounds": rounds, "floor_ms": floors.compute_ms(case, mode, rates[threads])})
            _tell(row)
    shared = bytes_of(saved, _peaks(case, settings))
    found = None if case.kind == "network" else accuracy.errors(case, settings.device)
    shared |= {"error": found, "error_ratio": None if found is None else accuracy.worst_ratio(found)}
    return [{**row, **shared} for row in rows]


def _names(case: Case, compiled: bool, settings: Settings) -> list[str]:
    compiled = compiled and case.name not in cases.SCALING
    return contenders.names(case, compiled=compiled, channels_last=settings.channels_last)


def _functions(built: Sequence[Contender], training: bool, device: str) -> dict[str, Callable[[], Any]]:
    functions: dict[str, Callable[[], Any]] = {}
    for contender in built:
        function = contender.backward_of(contender.cotangents(contender.call())) if training else contender.forward
        functions[contender.name] = function
        if device == "cuda" and contender.name in (EAGER, OURS):
            functions[f"{contender.name}-cudagraph"] = cuda_graph(function)
    return functions


def _peaks(case: Case, settings: Settings) -> dict[str, int]:
    if case.kind not in ("stage", "network") or case.name in cases.SCALING:
        return {}
    chosen = [name for name in _names(case, bool(settings.compiled), settings) if name in settings.peaks]
    peaks = {name: peak_bytes(case.name, name, device=settings.device) for name in chosen}
    return {name: peak for name, peak in peaks.items() if peak is not None}


def entry(case: Case, mode: str, threads: int, times: Mapping[str, Timing]) -> dict[str, Any]:
    """The times of one case, and how many times faster ours is: above 1 it wins."""
    ours = times[OURS].median
    return {
        "name": case.name,
        "mode": mode,
        "threads": threads,
        "batch": case.batch,
        "dtype": str(case.dtype).removeprefix("torch."),
        "ms": {name: asdict(timing) for name, timing in times.items()},
        "ratio_vs_eager": times[EAGER].median / ours,
        "ratio_vs_compile": times[COMPILE].median / ours if COMPILE in times else None,
    }


def bytes_of(saved: Mapping[str, int], peaks: Mapping[str, int]) -> dict[str, Any]:
    """Bytes by contender, and which part of eager's ours takes: below 1 it wins."""
    return {
        "saved_bytes": dict(saved),
        "saved_bytes_ratio": saved[OURS] / saved[EAGER] if saved else None,
        "peak_bytes": dict(peaks),
        "peak_bytes_ratio": peaks[OURS] / peaks[EAGER] if {OURS, EAGER} <= peaks.keys() else None,
    }


def _tell(row: Mapping[str, Any]) -> None:
    times = ", ".join(f"{name} {timing['median']:.2f} ms" for name, timing in row["ms"].items())
    print(f"{row['name']} {row['mode']}, {row['threads']} threads: {times}", file=sys.stderr, flush=True)
