"""Reads the results in benchmarks/results, and refuses those that no run of the command can have written.

Figures that follow from others are recomputed, and the recorded command determines the cases, contenders and numbers of
threads. A result that was joined from several runs, or edited, does not pass.
"""

import contextlib
import io
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from benchmarks import environment
from benchmarks.sdi import cases, command, result, suite
from benchmarks.sdi.result import Result, Row

FOLDER = environment.ROOT / "benchmarks" / "results"


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def read(file: Path) -> Result:
    """The result in a file. A ValueError says what the command would not have written."""
    try:
        found = result.from_json(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file.name}: expected a result of this version of benchmarks.sdi, got: {error}") from error
    wrong = list(problems(found))
    if file.stem != found.machine.name:
        wrong.append(f"the file's name is not that of the machine, {found.machine.name}")
    if wrong:
        raise ValueError(f"{file.name}: no run of benchmarks.sdi writes this: {'; '.join(wrong)}. Measure again.")
    return found


def problems(found: Result) -> Iterator[str]:
    """What one run of the recorded command would have written differently."""
    machine, settings = found.machine, found.settings
    processor = machine.gpus[0] if machine.gpus else machine.cpu
    if machine.name != environment.machine_name(processor, machine.cores):
        yield f"machine.name is {machine.name}"
    if found.environment.keys() != environment.settings().keys():
        yield f"environment records {', '.join(found.environment)}"
    if [floor.threads for floor in found.floors] != list(settings.threads):
        yield "floors are not those of settings.threads"
        return
    try:
        names, expected = _planned(found)
    except ValueError as error:
        yield str(error)
        return
    if settings != expected:
        yield f"settings are not those of the command, {expected}"
    rows = [(row.name, row.mode, row.threads) for row in found.cases]
    planned = [
        (case.name, mode, threads)
        for group, members in cases.groups(names)
        for threads in suite.group_threads(group, settings)
        for mode in settings.modes
        for case in members
    ]
    if rows != planned:
        yield f"cases are not those of the command, {sorted(set(rows) ^ set(planned)) or 'in its order'}"
        return
    for row in found.cases:
        yield from (f"{row.name} {row.mode} on {row.threads} threads: {text}" for text in _of_row(row, found))
    turns = {(row.group, row.mode, row.threads, row.rounds) for row in found.cases}
    if len(turns) != len({turn[:3] for turn in turns}):
        yield "cases of one group differ in rounds"


def _planned(found: Result) -> tuple[list[str], result.Settings]:
    words = shlex.split(found.command)
    module = command.PROGRAM.rpartition(" ")[2]
    if module not in words:
        raise ValueError(f"the command is not {command.PROGRAM}")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            arguments = command.parser().parse_args(words[words.index(module) + 1 :])
    except SystemExit as error:
        raise ValueError(f"{command.PROGRAM} does not take the command's arguments") from error
    return command.names(arguments), command.settings(arguments, found.machine.cores, bool(found.machine.gpus))


def _of_row(row: Row, found: Result) -> Iterator[str]:
    case, settings = row.case, found.settings
    floor = next(floor for floor in found.floors if floor.threads == row.threads)
    ((group, _),) = cases.groups([row.name])
    again = result.timed(case, group, row.mode, row.threads, row.ms, row.rounds, floor)
    again = result.weighed(again, row.saved_bytes, row.peak_bytes, row.error)
    for key in (field.name for field in fields(row)):
        if getattr(row, key) != getattr(again, key):
            yield f"{key} is {getattr(row, key)}, but the other figures give {getattr(again, key)}"
    if row.rounds < settings.rounds:
        yield f"{row.rounds} rounds"
    if list(row.ms) != suite.timed_names(case, row.mode, settings):
        yield f"ms of {', '.join(row.ms)}"
    if not row.peak_bytes.keys() <= set(suite.peak_names(case, settings)):
        yield f"peak_bytes of {', '.join(row.peak_bytes)}"
    saved = suite.built_names(case, "forward+backward", settings)
    if list(row.saved_bytes) != saved:
        yield f"saved_bytes of {', '.join(row.saved_bytes)}"
