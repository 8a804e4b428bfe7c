"""A result as tables in Markdown: the goals on the console, everything in docs/benchmarks.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.sdi import goals
from benchmarks.sdi.contenders import EAGER, OURS


def goals_table(result: Mapping[str, Any]) -> str:
    """Goal, measured, met; a figure that was not measured is a dash, and not met."""
    rows = [
        (
            check["text"],
            check["name"],
            _bound(check["bound"], check["is_lower"]),
            _number(check["measured"], 3 if not check["is_lower"] else 2),
            "-" if check["met"] is None else "yes" if check["met"] else "NO",
        )
        for check in goals.check(result)
    ]
    return _table(("goal", "case", "bound", "measured", "met"), rows)


def times_table(result: Mapping[str, Any]) -> str:
    """Median milliseconds with the quartiles, and ratios of medians: below 1 ours is slower."""
    names = _contenders(result)
    header = ("case", "mode", "threads", *(f"{name}, ms" for name in names), "vs eager", "vs compile", "floor, ms")
    rows = [
        (
            row["name"],
            row["mode"],
            row["threads"],
            *(_timing(row["ms"].get(name)) for name in names),
            _ratio(row["ratio_vs_eager"]),
            _ratio(row["ratio_vs_compile"]),
            _number(row["floor_ms"], 2),
        )
        for row in result["cases"]
    ]
    return _table(header, rows)


def memory_table(result: Mapping[str, Any]) -> str:
    """Bytes saved for backward, peak memory and error: of eager and of ours, and ours over eager."""
    header = ("case", "saved: eager", "ours", "ratio", "peak: eager", "ours", "ratio", "worst error, ours / eager")
    rows = []
    for row in {row["name"]: row for row in result["cases"]}.values():
        figures = []
        for kind in ("saved", "peak"):
            found = row[f"{kind}_bytes"]
            figures += [
                _mebibytes(found.get(EAGER)),
                _mebibytes(found.get(OURS)),
                _number(row[f"{kind}_bytes_ratio"], 3),
            ]
        rows.append((row["name"], *figures, _number(row.get("error_ratio"), 2)))
    return _table(header, rows)


def floors_table(result: Mapping[str, Any]) -> str:
    header = ("threads", "sgemm, GFLOP/s", "stream, GB/s", "1 MiB maps, GB/s")
    keys = ("sgemm_gflops", "stream_gbs", "cache_gbs")
    return _table(header, [(f["threads"], *(_number(f[key], 1) for key in keys)) for f in result["floors"]])


def losses(result: Mapping[str, Any]) -> str:
    """The cases in which another contender is faster than ours, in one sentence."""
    lost = [
        f"{row['name']} {row['mode']} on {row['threads']} threads (against {name}: {ratio:.2f}x)"
        for row in result["cases"]
        for name, timing in row["ms"].items()
        if not name.startswith(OURS) and (ratio := timing["median"] / row["ms"][OURS]["median"]) < 1
    ]
    return f"Ours is slower in: {'; '.join(lost)}." if lost else "Ours is slower in none of the cases."


def page(result: Mapping[str, Any], images: Sequence[tuple[str, str]]) -> str:
    """docs/benchmarks.md.

    Args:
        images: (caption, path relative to docs/) of the plots.
    """
    machine, versions = result["machine"], result["versions"]
    threads = max(result["settings"]["threads"])
    return f"""# Benchmarks

Written by `{result["command"]}` at commit {result["commit"]}; do not edit. What is measured and how:
[benchmarks/README.md](../benchmarks/README.md).

- Machine: {", ".join([*machine["gpus"], machine["cpu"]])}, {machine["cores"]} cores ({", ".join(machine["flags"])});
  load {machine["load_before"]} before the run.
- Versions: {_versions(versions)}.

A time is the median of rounds in which the contenders take turns, with the quartiles in parentheses. A ratio is one of
medians: above 1 ours is faster. Forward runs under `no_grad`; forward + backward computes the gradient of every input
and weight. {result["settings"]["compile"]}

## Goals

{goals_table(result)}

## Times

`eager` is SDI as the paper's equations read, `eager-channels-last` the same on maps brought to that layout in the timed
call, `compile` is torch.compile of `eager`. The floor is what the channel mixings alone take at the machine's sgemm
rate when each is done at the lower of its two resolutions. {losses(result)}

{times_table(result)}

## Memory and error

Saved: the storages that autograd keeps for backward, inputs and weights included, each once. Peak: the most memory of a
training-mode forward beyond what was there before, in MiB. Error: of outputs and gradients in the case's dtype against
float64, the worst kind of tensor, ours over eager's.

{memory_table(result)}

## What the machine can do

{floors_table(result)}

## Scaling

{"".join(f"![{caption}]({path})" + chr(10) * 2 for caption, path in images).rstrip()}

Times of the plots on {threads} threads.
"""


def _contenders(result: Mapping[str, Any]) -> list[str]:
    """Every contender that occurs, in order of appearance, ours last."""
    found = dict.fromkeys(name for row in result["cases"] for name in row["ms"])
    return sorted(found, key=lambda name: name.startswith(OURS))


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version and name != "triton")


def _bound(bound: float, is_lower: bool) -> str:
    if is_lower:
        return f">= {bound:.1f}x"
    return f"<= {bound:.0f}x" if bound >= 1 else f"<= 1/{1 / bound:.0f}"


def _timing(timing: Mapping[str, float] | None) -> str:
    if timing is None:
        return "-"
    digits = 2 if timing["median"] < 100 else 0
    return f"{timing['median']:.{digits}f} ({timing['q25']:.{digits}f} to {timing['q75']:.{digits}f})"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def _number(number: float | None, digits: int) -> str:
    return "-" if number is None else f"{number:.{digits}f}"


def _mebibytes(number: int | None) -> str:
    return "-" if number is None else f"{number / 2**20:.1f}"


def _table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown, its columns padded so that it reads on a console too."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |" for row in cells]
    lines.insert(1, f"|{'|'.join('-' * (w + 2) for w in widths)}|")
    return "\n".join(lines)
