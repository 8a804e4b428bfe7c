"""Measure cases: times, bytes, errors and floors, as the result that `benchmarks.sdi` writes."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from benchmarks import environment
from benchmarks.memory import saved_bytes
from benchmarks.sdi import accuracy, cases, contenders, floors, result
from benchmarks.sdi.cases import Case
from benchmarks.sdi.contenders import EAGER, OURS, Contender
from benchmarks.sdi.measure import cuda_graph, interleave
from benchmarks.sdi.peak import peak_bytes
from benchmarks.sdi.result import Floor, Machine, Mode, Result, Row, Settings
from sdi_plugin import ops
from sdi_plugin.frameworks import versions


def run(names: Iterable[str], settings: Settings) -> Result:
    """Measure every case by name. A ValueError says which name is unknown."""
    groups, start = cases.groups(names), time.perf_counter()
    before = torch.get_num_threads()
    machine = Machine(**environment.machine())  # first, so that the load does not include this run
    rates: dict[int, Floor] = {}
    rows: list[Row] = []
    try:
        for threads in settings.threads:
            torch.set_num_threads(threads)
            rates[threads] = Floor(threads=threads, **floors.measure(settings.device))
        for group, members in groups:
            rows += _group(group, members, settings, rates)
    finally:
        torch.set_num_threads(before)
    return Result(
        versions=versions(),
        machine=machine,
        command=environment.command(),
        commit=environment.commit(),
        environment=environment.settings(),
        backends=ops.backends(),
        settings=settings,
        seconds=round(time.perf_counter() - start, 1),
        floors=tuple(rates.values()),
        cases=tuple(rows),
    )


def _group(group: str, members: Sequence[Case], settings: Settings, rates: Mapping[int, Floor]) -> list[Row]:
    """The rows of the cases that are timed in turn, for each number of threads and mode."""
    rows: list[Row] = []
    saved: dict[str, dict[str, int]] = {case.name: {} for case in members}
    for threads in group_threads(group, settings):
        torch.set_num_threads(threads)
        for mode in settings.modes:
            torch._dynamo.reset()  # so that dynamo does not search the code of earlier groups
            training = mode != "forward"
            built = {
                case: [contenders.build(case, name, training=training, device=settings.device) for name in names]
                for case in members
                for names in [built_names(case, mode, settings)]
            }
            functions = {
                (case, name): function
                for case, competing in built.items()
                for name, function in _functions(competing, training, settings.device).items()
            }
            times, rounds = interleave(
                functions, rounds=settings.rounds, seconds=settings.seconds, device=settings.device
            )
            for case, competing in built.items():
                own = {name: timing for (timed_case, name), timing in times.items() if timed_case == case}
                rows.append(result.timed(case, group, mode, threads, own, rounds, rates[threads]))
                _tell(rows[-1])
                if training:
                    saved[case.name] = {c.name: saved_bytes(c.call, without=c.parameters)[1] for c in competing}
    peaks = {case.name: _peaks(case, settings) for case in members}
    errors = {c.name: None if c.is_network else accuracy.errors(c, settings.device) for c in members}
    return [result.weighed(row, saved[row.name], peaks[row.name], errors[row.name]) for row in rows]


def group_threads(group: str, settings: Settings) -> Sequence[int]:
    """The numbers of threads at which a group is measured."""
    return settings.threads if group in cases.QUICK else [max(settings.threads)]


def built_names(case: Case, mode: Mode, settings: Settings) -> list[str]:
    """The contenders of a case in a mode, without their CUDA graphs."""
    compiled = mode in settings.compiled and case.name not in cases.SCALING
    return contenders.names(case, compiled=compiled, channels_last=settings.channels_last)


def timed_names(case: Case, mode: Mode, settings: Settings) -> list[str]:
    """All contenders whose times are in a row."""
    graphs = [_graph(name) for name in (EAGER, OURS)] if settings.device == "cuda" else []
    return [*built_names(case, mode, settings), *graphs]


def _graph(name: str) -> str:
    return f"{name}-cudagraph"


def _functions(built: Sequence[Contender], training: bool, device: str) -> dict[str, Callable[[], Any]]:
    functions: dict[str, Callable[[], Any]] = {}
    for contender in built:
        function = contender.backward_of(contender.cotangents(contender.call())) if training else contender.forward
        functions[contender.name] = function
        if device == "cuda" and contender.name in (EAGER, OURS):
            functions[_graph(contender.name)] = cuda_graph(function)
    return functions


def peak_names(case: Case, settings: Settings) -> list[str]:
    """The contenders of a case whose peak memory is measured."""
    if case.kind not in ("stage", "network") or case.name in cases.SCALING:
        return []
    mode = settings.compiled[0] if settings.compiled else settings.modes[0]
    return [name for name in built_names(case, mode, settings) if name in settings.peaks]


def _peaks(case: Case, settings: Settings) -> dict[str, int]:
    peaks = {name: peak_bytes(case.name, name, device=settings.device) for name in peak_names(case, settings)}
    return {name: peak for name, peak in peaks.items() if peak is not None}


def _tell(row: Row) -> None:
    times = ", ".join(f"{name} {timing.median:.2f} ms" for name, timing in row.ms.items())
    print(f"{row.name} {row.mode}, {row.threads} threads: {times}", file=sys.stderr, flush=True)
