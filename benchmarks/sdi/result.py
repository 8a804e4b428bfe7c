"""The types of a result, and of the JSON that the command writes. README.md lists the keys."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from benchmarks.sdi import accuracy, floors
from benchmarks.sdi.cases import Case
from benchmarks.sdi.contenders import ALL, COMPILE, EAGER, OURS
from benchmarks.sdi.measure import STRICT, Timing

Mode = Literal["forward", "forward+backward"]
MODES: tuple[Mode, ...] = ("forward", "forward+backward")
_Rate = Annotated[float, Field(gt=0)]
_Bytes = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Machine:
    """The processor, and how busy it was with other work before the measurement."""

    name: str
    cpu: str
    cores: Annotated[int, Field(ge=1)]
    flags: tuple[str, ...]
    system: str
    load_before: float | None
    gpus: tuple[str, ...]


@dataclass(frozen=True, config=STRICT)
class Settings:
    """How much is measured.

    Args:
        threads: numbers of threads; cases outside `cases.QUICK` are measured only with the largest.
        rounds, seconds: per group and mode, see `measure.interleave`.
        compiled: the modes in which torch.compile competes; compiling takes most of the time.
        channels_last: whether eager PyTorch also competes in channels last.
        peaks: the contenders whose peak memory is measured, each in separate processes.
    """

    threads: tuple[Annotated[int, Field(ge=1)], ...]
    modes: tuple[Mode, ...] = MODES
    rounds: Annotated[int, Field(ge=2)] = 5
    seconds: float = 5.0
    compiled: tuple[Mode, ...] = MODES
    channels_last: bool = True
    peaks: tuple[str, ...] = ALL
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True, config=STRICT)
class Floor:
    """The machine's rates for a number of threads, see `floors.measure`."""

    threads: int
    sgemm_gflops: _Rate
    stream_gbs: _Rate
    cache_gbs: _Rate


@dataclass(frozen=True, config=STRICT)
class Row:
    """One case in one mode with one number of threads; rows of the same `group` were timed in turn with each other."""

    name: str
    group: str
    mode: Mode
    threads: int
    batch: int
    dtype: Literal["float32", "bfloat16"]
    rounds: int
    ms: dict[str, Timing]
    ratio_vs_eager: _Rate
    ratio_vs_compile: _Rate | None
    floor_ms: _Rate | None
    saved_bytes: dict[str, _Bytes]
    saved_bytes_ratio: float | None
    peak_bytes: dict[str, _Bytes]
    peak_bytes_ratio: float | None
    error: dict[str, dict[str, _Rate]] | None
    error_ratio: _Rate | None

    @property
    def case(self) -> Case:
        return Case.parse(self.name)


@dataclass(frozen=True, config=STRICT)
class Result:
    """One run of the command."""

    versions: dict[str, str | None]
    machine: Machine
    command: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}(-dirty)?$")] | None
    environment: dict[str, str | None]
    backends: dict[str, dict[str, bool | str]]
    settings: Settings
    seconds: float
    floors: tuple[Floor, ...]
    cases: tuple[Row, ...]


def timed(
    case: Case, group: str, mode: Mode, threads: int, times: Mapping[str, Timing], rounds: int, floor: Floor
) -> Row:
    """The times of one case, and how many times faster ours is; above 1 ours wins."""
    ours = times[OURS].median
    return Row(
        name=case.name,
        group=group,
        mode=mode,
        threads=threads,
        batch=case.batch,
        dtype="bfloat16" if case.dtype == torch.bfloat16 else "float32",
        rounds=rounds,
        ms=dict(times),
        ratio_vs_eager=times[EAGER].median / ours,
        ratio_vs_compile=times[COMPILE].median / ours if COMPILE in times else None,
        floor_ms=floors.compute_ms(case, mode, floor.sgemm_gflops),
        saved_bytes={},
        saved_bytes_ratio=None,
        peak_bytes={},
        peak_bytes_ratio=None,
        error=None,
        error_ratio=None,
    )


def weighed(
    row: Row, saved: Mapping[str, int], peaks: Mapping[str, int], error: dict[str, dict[str, float]] | None
) -> Row:
    """The row with bytes and errors, and the ratios of ours to eager; below 1 ours wins."""
    return replace(
        row,
        saved_bytes=dict(saved),
        saved_bytes_ratio=saved[OURS] / saved[EAGER] if saved else None,
        peak_bytes=dict(peaks),
        peak_bytes_ratio=peaks[OURS] / peaks[EAGER] if {OURS, EAGER} <= peaks.keys() else None,
        error=error,
        error_ratio=None if error is None else accuracy.worst_ratio(error),
    )


_ADAPTER = TypeAdapter(Result)


def to_json(result: Result) -> str:
    return _ADAPTER.dump_json(result, indent=1).decode() + "\n"


def from_json(text: str) -> Result:
    """The result in a JSON text. A ValueError names the first keys that are missing, unknown or of the wrong type."""
    try:
        return _ADAPTER.validate_json(text, strict=True)
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {str(e['input'])[:40]}" for e in error.errors()[:3]]
        raise ValueError(f"{error.error_count()} errors, such as {'; '.join(found)}") from error
