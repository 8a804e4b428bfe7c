"""A result as tables: the short one that a run prints, and the parts of docs/gpu.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.markdown import number, table

# As in `contenders`, which needs torch.
_CONTENDERS = ("eager", "eager-channels-last", "grouped", "compile", "ours")
_MODES = ("forward", "forward+backward")
NOTHING = "No result is stored at present."
_LOST = 8  # failures that the short table shows in full

Result = Mapping[str, Any]
Record = Mapping[str, Any]


def summary(found: Result) -> str:
    """At most 60 lines: every phase, the first failures, and the figures that matter most."""
    phases = found["phases"]
    rows = [(name, p["status"], number(p["seconds"], 0), *_counts(p["items"].values())) for name, p in phases.items()]
    lines = [table(("phase", "status", "s", "ok", "failed", "skipped"), rows)]
    failures = [
        (phase, item, str(record.get("error", record["status"])))
        for phase, p in phases.items()
        for item, record in p["items"].items()
        if record["status"] in ("failed", "timeout")
    ]
    lines += [f"{phase}: {item}: {' '.join(error.split())[:160]}" for phase, item, error in failures[:_LOST]]
    if len(failures) > _LOST:
        lines.append(f"and {len(failures) - _LOST} more: see results.json")
    parts = [part(found) for part in (ceilings, times, memory, network)]
    return "\n".join([*lines, *(part for part in parts if part), f"{found['seconds']:.0f} s in all"])


def parts(found: Result) -> dict[str, Callable[[], str]]:
    """The marked parts of docs/gpu.md."""
    makers = {
        "gpu_machine": machine,
        "gpu_ceilings": ceilings,
        "gpu_checks": checks,
        "gpu_times": times,
        "gpu_host": host,
        "gpu_losses": losses,
        "gpu_memory": memory,
        "gpu_kernels": kernels,
        "gpu_network": network,
        "gpu_curves": curves,
    }
    return {name: partial(lambda make: make(found) or "Not in this result.", make) for name, make in makers.items()}


def machine(found: Result) -> str:
    m = _items(found, "preflight").get("machine")
    if not m:
        return ""
    versions = ", ".join(f"{name} {m[name]}" for name in ("python", "torch", "triton", "cuda", "cudnn") if m.get(name))
    gpu = (
        f"{m['gpu']}, driver {m['driver'] or 'unknown'}" if "gpu" in m else "No GPU: a dry run, which measures nothing"
    )
    return f"{gpu}; {versions}. `{found['command']}` at commit {found['commit']}, {found['seconds']:.0f} seconds."


def ceilings(found: Result) -> str:
    items = _items(found, "preflight")
    rate, launches = {name: _ceiling(found, name) for name in ("copy", "bf16", "tf32")}, items.get("launches", {})
    if not rate["copy"]:
        return ""
    header = ("copy, GB/s", "bf16, TFLOP/s", "TF32, TFLOP/s", "us per launch: torch", "Triton", "us per graph node")
    names = ("torch_launch_us", "triton_launch_us", "torch_node_us")
    figures = (number(rate["copy"], 0), number(rate["bf16"], 0), number(rate["tf32"], 0))
    return table(header, [(*figures, *(number(launches.get(name), 1) for name in names))])


def checks(found: Result) -> str:
    """Of the phases that decide: how many tests, and the worst error of each precision."""
    rows = []
    for phase in ("correctness", "integration"):
        if phase in found["phases"]:
            p = found["phases"][phase]
            rows.append((phase, p["status"], *_counts(p["items"].values())))
    worst: dict[str, float] = {}
    for item, record in _items(found, "correctness").items():
        ratios = [value for key, value in record.items() if key.endswith("_ratio")]
        if ratios:
            precision = item.rpartition("-")[2].rstrip("]")
            worst[precision] = max(worst.get(precision, 0.0), *ratios)
    errors = table(("precision", "worst error, ours / eager PyTorch"), [(p, number(r, 2)) for p, r in worst.items()])
    return "\n\n".join([table(("tests", "status", "ok", "failed", "skipped"), rows), *([errors] if worst else [])])


def times(found: Result) -> str:
    """Microseconds on the device per call, replayed from a CUDA graph."""
    header = ("stage", "maps", "mode", *(f"{name}, us" for name in _CONTENDERS), "eager / ours", "% of ceiling")
    rows = []
    for (case, precision, mode), by in _stages(found).items():
        us = {name: record.get("graph_us") for name, record in by.items()}
        best = [time for name in ("eager", "eager-channels-last") if (time := us.get(name))]
        ours = us.get("ours")
        ratio = f"{min(best) / ours:.2f}" if best and ours else "-"
        share = number(_share(found, by["ours"], precision), 0) if "ours" in by else "-"
        rows.append((case, precision, mode, *(number(us.get(name), 1) for name in _CONTENDERS), ratio, share))
    return table(header, rows) if rows else ""


def host(found: Result) -> str:
    """Microseconds per call without a graph, and Python's share."""
    header = ("stage", "maps", "mode", *(f"{name}: called (Python), us" for name in _CONTENDERS))
    rows = []
    for (case, precision, mode), by in _stages(found).items():
        cells = [
            f"{number(by[n].get('wall_us'), 0)} ({number(by[n].get('host_us'), 0)})" if n in by else "-"
            for n in _CONTENDERS
        ]
        rows.append((case, precision, mode, *cells))
    return table(header, rows) if rows else ""


def losses(found: Result) -> str:
    """Where another contender is faster than ours: replayed from a graph, and as called."""
    lost = []
    for (case, precision, mode), by in _stages(found).items():
        for key, how in (("graph_us", "replayed"), ("wall_us", "called")):
            ours = by.get("ours", {}).get(key)
            for name, record in by.items():
                if name != "ours" and ours and record.get(key) and record[key] < ours:
                    lost.append(f"{case} {precision} {mode}, {how} ({name}: {ours / record[key]:.2f}x as long)")
    return f"Ours is slower in: {'; '.join(lost)}." if lost else "Ours is not slower in any of the cases."


def memory(found: Result) -> str:
    """Peak megabytes beyond the inputs."""
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for (kind, case, precision, contender), record in _keyed(found, "memory"):
        for mode in _MODES:
            if kind == "peak" and f"{mode}_bytes" in record:
                rows.setdefault((case, precision, mode), {})[contender] = record[f"{mode}_bytes"] / 1e6
    names = [name for name in _CONTENDERS if any(name in by for by in rows.values())]
    header = ("stage", "maps", "mode", *(f"{name}, MB" for name in names))
    return table(header, [(*key, *(number(by.get(n), 0) for n in names)) for key, by in rows.items()]) if rows else ""


def kernels(found: Result) -> str:
    """Launches per call, and the kernels of ours by time."""
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    top = []
    for (kind, case, precision, contender), record in _keyed(found, "memory"):
        for mode in _MODES:
            if kind == "kernels" and mode in record:
                counts.setdefault((case, precision, mode), {})[contender] = record[mode]["launches"]
                if contender == "ours":
                    top += [(case, precision, mode, f"`{name}`", n, us) for name, n, us in record[mode]["top"][:6]]
    if not counts:
        return ""
    launches = table(
        ("stage", "maps", "mode", *(f"{name}: launches" for name in _CONTENDERS)),
        [(*key, *(by.get(name, "-") for name in _CONTENDERS)) for key, by in counts.items()],
    )
    return f"{launches}\n\n{table(('stage', 'maps', 'mode', 'kernel of ours', 'launches', 'us'), top)}"


def network(found: Result) -> str:
    rows = []
    for item, ours in _items(found, "network").items():
        plain = _items(found, "network-reference").get(item, {})
        if "ms" in ours or "ms" in plain:
            cells = [number(r.get("ms"), 1) for r in (plain, ours)] + [number(ours.get("images_per_s"), 1)]
            cells += [number(r["step_bytes"] / 1e6 if r.get("step_bytes") else None, 0) for r in (plain, ours)]
            rows.append((item, *cells))
    header = ("step", "plain PyTorch, ms", "ours, ms", "ours, images/s", "plain PyTorch, MB", "ours, MB")
    return table(header, rows) if rows else ""


def curves(found: Result) -> str:
    """The loss of the same network on the same images, every tenth step."""
    item = "2d/bf16"
    ours, plain = (_items(found, phase).get(item, {}).get("losses", []) for phase in ("network", "network-reference"))
    rows = [(step, number(plain[step], 4), number(ours[step], 4)) for step in range(0, min(len(ours), len(plain)), 10)]
    return table(("step", "plain PyTorch", "ours"), rows) if rows else ""


def _items(found: Result, phase: str) -> Mapping[str, Record]:
    return found["phases"].get(phase, {}).get("items", {})


def _counts(records: Iterable[Record]) -> tuple[int, int, int]:
    statuses = [record["status"] for record in records]
    failed = sum(status in ("failed", "timeout") for status in statuses)
    return statuses.count("ok"), failed, statuses.count("skipped")


def _stages(found: Result) -> dict[tuple[str, str, str], dict[str, Record]]:
    """The records of the contenders, by stage, precision and mode."""
    stages: dict[tuple[str, str, str], dict[str, Record]] = {}
    for (case, precision, mode, contender), record in _keyed(found, "speed"):
        stages.setdefault((case, precision, mode), {})[contender] = record
    return stages


def _keyed(found: Result, phase: str) -> Iterator[tuple[list[str], Record]]:
    """The items with names of four parts, which are all but those of a process that died."""
    for item, record in _items(found, phase).items():
        if item.count("/") == 3:
            yield item.split("/"), record


def _ceiling(found: Result, name: str) -> float | None:
    items = _items(found, "preflight")
    if name == "copy":
        return items.get("copy", {}).get("gb_per_s")
    return items.get(f"matmul-{name}", {}).get("tflop_per_s")


def _share(found: Result, record: Record, precision: str) -> float | None:
    """The larger of two times, in per cent of the measured one: the least bytes at the rate of a copy, and the FLOPs of
    the convolutions at the rate of a large matrix product."""
    copy, matmul, us = _ceiling(found, "copy"), _ceiling(found, precision), record.get("graph_us")
    if not copy or not matmul or not us:
        return None
    return 100 * max(record["least_bytes"] / copy / 1e3, record["flops"] / matmul / 1e6) / us
