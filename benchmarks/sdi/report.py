"""Results as tables in Markdown: the goals on the console, everything in docs/benchmarks.md."""

from collections.abc import Mapping, Sequence

from benchmarks.markdown import number, table
from benchmarks.sdi import cases, goals, plots
from benchmarks.sdi.contenders import COMPILE_NOTE, EAGER, OURS
from benchmarks.sdi.measure import Timing
from benchmarks.sdi.result import Result


def tables(result: Result) -> str:
    """The tables that a run prints; with the goals if their cases were measured."""
    shown = [times_table, memory_table, floors_table]
    if goals.check(result):
        shown += [goals_table, shortfalls]
    return "\n\n".join(show(result) for show in shown)


def goals_table(result: Result) -> str:
    """Goal, measured, met; a figure that was not measured is a dash."""
    rows = [
        (
            goal.text,
            name,
            _bound(goal.bound, goal.is_lower),
            number(measured, 3),
            "-" if met is None else "yes" if met else "NO",
        )
        for goal, name, measured, met in goals.check(result)
    ]
    return table(("goal", "case", "bound", "measured", "met"), rows)


def shortfalls(result: Result) -> str:
    """The times that fall short of their goals, one line each, beside the floors of the same run."""
    floor = max(result.floors, key=lambda floor: floor.threads)
    rates = f"sgemm {number(floor.sgemm_gflops, 1)} GFLOP/s, stream {number(floor.stream_gbs, 1)} GB/s"
    lines = []
    for goal, name, measured, met in goals.check(result):
        if met is False and goal.is_lower:
            (row,) = (r for r in result.cases if (r.name, r.mode, r.threads) == (name, goal.mode, floor.threads))
            lines.append(
                f"- {goal.text}, {name}: {number(measured, 3)}x of {goal.bound:.2f}x; ours takes "
                f"{number(row.ms[OURS].median, 2)} ms, its products alone {number(row.floor_ms, 2)} ms ({rates})."
            )
    return "\n".join(["What falls short, beside the floors:\n", *lines]) if lines else "Every goal for times is met."


def times_table(result: Result) -> str:
    """Median milliseconds with quartiles, and ratios of medians; below 1 ours is slower."""
    names = _contenders(result)
    header = ("case", "mode", "threads", *(f"{name}, ms" for name in names), "vs eager", "vs compile", "floor, ms")
    rows = [
        (
            row.name,
            row.mode,
            row.threads,
            *(_timing(row.ms.get(name)) for name in names),
            _ratio(row.ratio_vs_eager),
            _ratio(row.ratio_vs_compile),
            number(row.floor_ms, 2),
        )
        for row in result.cases
    ]
    return table(header, rows)


def memory_table(result: Result) -> str:
    """Bytes saved for backward, peak memory and error of eager and ours, and the ratios of ours to eager."""
    header = ("case", "saved: eager", "ours", "ratio", "peak: eager", "ours", "ratio", "worst error, ours / eager")
    rows = []
    for row in {row.name: row for row in result.cases}.values():
        figures = []
        for found, ratio in ((row.saved_bytes, row.saved_bytes_ratio), (row.peak_bytes, row.peak_bytes_ratio)):
            figures += [mebibytes(found.get(EAGER)), mebibytes(found.get(OURS)), number(ratio, 3)]
        rows.append((row.name, *figures, number(row.error_ratio, 2)))
    return table(header, rows)


def floors_table(result: Result) -> str:
    header = ("threads", "sgemm, GFLOP/s", "stream, GB/s", "1 MiB maps, GB/s")
    rows = [
        (f.threads, *(number(rate, 1) for rate in (f.sgemm_gflops, f.stream_gbs, f.cache_gbs))) for f in result.floors
    ]
    return table(header, rows)


def losses(result: Result) -> str:
    """The cases in which another contender is faster than ours, in one sentence."""
    lost = [
        f"{row.name} {row.mode} on {row.threads} threads (against {name}: {ratio:.2f}x)"
        for row in result.cases
        for name, timing in row.ms.items()
        if not name.startswith(OURS) and (ratio := timing.median / row.ms[OURS].median) < 1
    ]
    return f"Ours is slower in: {'; '.join(lost)}." if lost else "Ours is not slower in any of the cases."


def missing(result: Result) -> str:
    """The cases of a full run that this one did not measure, in one sentence."""
    left_out = [name for name in cases.FULL if name not in {row.name for row in result.cases}]
    return f"Not measured in this run: {', '.join(left_out)}." if left_out else "This run measured every case."


def page(results: Sequence[Result]) -> str:
    """docs/benchmarks.md."""
    machines = "\n".join(_machine(result) for result in results) or (
        "No result is stored at present. `make bench` measures your machine, and writes this page.\n"
    )
    return f"""# Benchmarks

Written by `python -m benchmarks.sdi --render` from the files in benchmarks/results, each of which is one run of the
command; do not edit. What is measured and how: [benchmarks/README.md](../benchmarks/README.md).

A time is the median of rounds in which the contenders take turns, with the quartiles in parentheses. A ratio is a ratio
of medians: above 1 ours is faster. Forward runs under `no_grad`; forward + backward computes the gradient of every
input and weight. {COMPILE_NOTE}

`eager` is SDI written directly from the paper's equations, `eager-channels-last` the same on maps converted to that
layout in the timed call, `compile` is torch.compile of `eager`. The floor is the time of only the channel mixings at
the machine's sgemm rate, if each is done at the lower of its two resolutions.

Saved: the storages that autograd keeps for backward, including inputs, each counted once. Peak: the peak memory of a
training-mode forward beyond what was allocated before. Both in MiB. Error: the error of outputs and gradients in the
case's dtype against float64, for the worst kind of tensor, ours over eager's.

{machines}"""


def _machine(result: Result) -> str:
    machine = result.machine
    plotted = "".join(f"![{caption}]({path})\n\n" for caption, path, _ in plots.images(result)).rstrip()
    scaling = f"""
### Scaling

The points of one line were timed in turn with each other, on {max(result.settings.threads)} threads.

{plotted}
"""
    return f"""## {", ".join([*machine.gpus, machine.cpu])}, {machine.cores} cores

- `{result.command}` at commit {result.commit}, {result.seconds / 60:.1f} minutes.
- Processor: {", ".join(machine.flags)}; load {machine.load_before} before the run.
- Versions: {_versions(result.versions)}.
- {missing(result)}

### Goals

{goals_table(result)}

{shortfalls(result)}

### Times

{losses(result)}

{times_table(result)}

### Memory and error

{memory_table(result)}

### What the machine can do

{floors_table(result)}
{scaling if plotted else ""}"""


def _contenders(result: Result) -> list[str]:
    """All contenders in the result, in order of appearance, ours last."""
    found = dict.fromkeys(name for row in result.cases for name in row.ms)
    return sorted(found, key=lambda name: name.startswith(OURS))


def _versions(versions: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version and name != "triton")


def _bound(bound: float, is_lower: bool) -> str:
    if is_lower:
        return f">= {bound:.2f}x"
    return f"<= {bound:.0f}x" if bound >= 1 else f"<= 1/{1 / bound:.0f}"


def _timing(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    digits = 2 if timing.median < 100 else 0
    return f"{timing.median:.{digits}f} ({timing.q25:.{digits}f} to {timing.q75:.{digits}f})"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def mebibytes(number: int | None) -> str:
    return "-" if number is None else f"{number / 2**20:.1f}"
