"""Tables of a stored result inside other documents: between `<!-- measured: NAME -->` and `<!-- end -->`.

`python -m benchmarks.sdi --render` writes them, from the first stored result of a CPU.
"""

from collections.abc import Sequence
from functools import partial

from benchmarks import environment, markdown
from benchmarks.markdown import number, table
from benchmarks.sdi.contenders import COMPILE, EAGER, OURS
from benchmarks.sdi.report import mebibytes
from benchmarks.sdi.result import Result, Row

DOCUMENTS = (environment.ROOT / "README.md", environment.ROOT / "docs" / "speed.md")
_CASES = {
    "2d-stage-352-b1": "2-D 352, batch 1",
    "2d-stage-352-b4": "2-D 352, batch 4",
    "3d-stage-64-l5": "3-D 64^3, five levels",
}
_NOTHING = "No result is stored at present."
_MODES = {"forward": "forward", "forward+backward": "forward + backward"}


def fill(document: str, results: Sequence[Result]) -> str:
    """The document with its marked parts rewritten. A ValueError says which name is unknown."""
    result = next((found for found in results if not found.machine.gpus), None)
    return markdown.fill(
        document, {name: partial(_TABLES[name], result) if result else lambda: _NOTHING for name in _TABLES}
    )


def times(result: Result) -> str:
    """Medians, and bytes kept for backward, of ours and of the contenders it is compared with."""
    lines = []
    for name, title in _CASES.items():
        for row in _rows(result, name):
            times = [_ms(row.ms[who].median) if who in row.ms else "-" for who in (OURS, EAGER, COMPILE)]
            lines.append((f"SDI, {title}: {_MODES[row.mode]}", *times))
        saved = _rows(result, name)[-1].saved_bytes
        kept = [f"{mebibytes(saved.get(who))} MiB" if who in saved else "-" for who in (OURS, EAGER, COMPILE)]
        lines.append((f"SDI, {title}: kept for backward", *kept))
    return f"{table(('', 'sdi-plugin', 'eager PyTorch', 'torch.compile'), lines)}\n\n{_where(result)}"


def gains(result: Result) -> str:
    """Ratios of medians, bytes and errors."""
    columns = {name: {row.mode: row for row in _rows(result, name)} for name in _CASES}
    speed = [
        (f"{who}, {_MODES[mode]}", *(number(getattr(rows[mode], figure), 1) for rows in columns.values()))
        for mode in _MODES
        for who, figure in (("eager PyTorch", "ratio_vs_eager"), ("torch.compile", "ratio_vs_compile"))
    ]
    parts = [
        (what, *(number(getattr(rows["forward+backward"], figure), 2) for rows in columns.values()))
        for what, figure in (
            ("maps kept for backward", "saved_bytes_ratio"),
            ("peak memory of a training forward", "peak_bytes_ratio"),
            ("worst error against float64", "error_ratio"),
        )
    ]
    titles = tuple(_CASES.values())
    return (
        f"{table(('speed-up over', *titles), speed)}\n\n{table(('relative to eager PyTorch', *titles), parts)}\n\n"
        f"{_where(result)}"
    )


def _rows(result: Result, name: str) -> list[Row]:
    """The case's rows by mode, at the largest number of threads. A ValueError if it was not measured."""
    rows = [row for row in result.cases if row.name == name and row.threads == max(result.settings.threads)]
    if not rows:
        raise ValueError(
            f"{result.machine.name}.json: expected {name}, which the documentation shows. Measure with --quick."
        )
    return rows


def _ms(milliseconds: float) -> str:
    return f"{number(milliseconds, 0 if milliseconds >= 100 else 1)} ms"


def _where(result: Result) -> str:
    machine = result.machine
    vectors = next((flag for flag in ("avx512f", "avx2", "sve", "asimd") if flag in machine.flags), "no vectors")
    return f"Medians on {max(result.settings.threads)} threads of {machine.cpu} ({vectors}), float32, C = 32."


_TABLES = {"times": times, "gains": gains}
