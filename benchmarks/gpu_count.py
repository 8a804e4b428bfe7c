"""Launches, bytes and FLOPs of a stage on a GPU: of eager torch, of torch.compile and of ours. Counted, without a GPU.

    python -m benchmarks.gpu_count [--only "2-D, 352, N 1"]
    python -m benchmarks.gpu_count --render     # all, some minutes: the tables of docs/gpu.md

A launch's bytes are each of its inputs read once and each of its outputs written once: caches, and the rereading of
tiles, are left out. FLOPs are those of convolutions and matrix products; an element of any other result counts as one.
`eager` is the paper's code, `torch.compile` what Inductor schedules for it (gpu_inductor.py). All get channels-last
maps and weights, C = 32; nothing is measured, and no time follows. A stage is SDI at all levels, or the attention and
reduction in front of it.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import environment, gpu_inductor, markdown
from benchmarks.gpu_record import Launch, channels_last, recorded
from benchmarks.sdi.cases import PLAN_WIDTHS, WIDTHS
from sdi_plugin.ops import reference
from sdi_plugin.ops.gpu import call, chunk, launch
from sdi_plugin.ops.gpu.attend import call as attend_call

CHANNELS = 32
PAGE = environment.ROOT / "docs" / "gpu.md"


class Stage(NamedTuple):
    """widths: channels of the features, for the attention and reduction; none for SDI."""

    sizes: tuple[tuple[int, ...], ...]
    batch: int
    widths: tuple[int, ...] = ()


_2D = tuple((88 >> level,) * 2 for level in range(4))
STAGES = {f"2-D, 352, N {batch}": Stage(_2D, batch) for batch in (1, 4, 16)}
STAGES["3-D, 64^3, five levels"] = Stage(tuple((64 >> level,) * 3 for level in range(5)), 1)
ATTENTIONS = {
    name: stage._replace(widths=(WIDTHS if len(stage.sizes) == 4 else PLAN_WIDTHS)[: len(stage.sizes)])
    for name, stage in STAGES.items()
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Count(NamedTuple):
    launches: int
    bytes: int
    flops: int


def count(launches: Sequence[Launch]) -> Count:
    return Count(len(launches), sum(k.bytes for k in launches), sum(k.flops for k in launches))


def eager(stage: Stage, dtype: torch.dtype, backward: bool) -> Count:
    inputs = _case(stage, dtype, "meta", gradients=backward)
    with recorded() as launches:
        outputs = _plain(stage)(*inputs)
        if backward:
            torch.autograd.backward(outputs, [torch.empty_like(o) for o in outputs])
    return count(launches)


def compiled(stage: Stage, dtype: torch.dtype, backward: bool) -> Count:
    return count(gpu_inductor.launches(_plain(stage), *_case(stage, dtype, "cpu", gradients=backward)))


def ours(stage: Stage, dtype: torch.dtype, backward: bool) -> Count:
    """The host code runs; what it would launch is recorded."""
    inputs = _case(stage, dtype, "meta")
    with recorded() as launches:

        def run(planned: chunk.Launch, *_: Any) -> None:
            launches.append(Launch(planned.kernel, planned.moved, planned.flops))

        with mock.patch.object(launch, "run", run):
            (_run_attention if stage.widths else _run_stage)(inputs, dtype, backward)
    return count(launches)


CONTENDERS: dict[str, Callable[[Stage, torch.dtype, bool], Count]] = {
    "eager": eager,
    "torch.compile": compiled,
    "ours": ours,
}


def _run_stage(inputs: Sequence[Sequence[Tensor]], dtype: torch.dtype, backward: bool) -> None:
    tensors, levels = [t for group in inputs for t in group], len(inputs[0])
    plan = call.Plan(call.given(tensors, levels, range(levels), "product", dtype))
    outputs, packed = plan.forward(tensors)
    if backward:
        plan.backward(outputs, tensors, packed)


def _run_attention(inputs: Sequence[Sequence[Tensor]], dtype: torch.dtype, backward: bool) -> None:
    plan = attend_call.Plan(attend_call.given(inputs, dtype))
    kept = plan.forward(inputs)
    if backward:
        plan.backward(kept[0], inputs, kept)


def _plain(stage: Stage) -> Callable[..., list[Tensor]]:
    return reference.attend_and_reduce_stage if stage.widths else _paper


def _paper(xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """Resize, convolve and multiply, level by level."""
    convolve = F.conv2d if xs[0].ndim == 4 else F.conv3d
    outputs = []
    for target, own in enumerate(xs):
        product = None
        for j, x in enumerate(xs):
            entry = target * len(xs) + j
            term = convolve(reference.resize(x, own.shape[2:]), weights[entry], biases[entry], padding=1)
            product = term if product is None else product * term
        assert product is not None
        outputs.append(product)
    return outputs


def _case(stage: Stage, dtype: torch.dtype, device: str, gradients: bool = False) -> list[list[Tensor]]:
    dim, terms = len(stage.sizes[0]), len(stage.sizes) ** 2
    options: dict[str, Any] = {"device": device, "dtype": dtype}

    def weights(*shapes: tuple[int, int], size: int) -> list[Tensor]:
        return [channels_last(torch.empty(*shape, *[size] * dim, **options)) for shape in shapes]

    if stage.widths:
        sizes = zip(stage.widths, stage.sizes, strict=True)
        groups = [
            [channels_last(torch.empty(stage.batch, width, *size, **options)) for width, size in sizes],
            weights(*[(width // 16, width) for width in stage.widths], size=1),
            weights(*[(width, width // 16) for width in stage.widths], size=1),
            weights(*[(1, 2) for _ in stage.widths], size=7),
            weights(*[(CHANNELS, width) for width in stage.widths], size=1),
        ]
        return [[t.requires_grad_(gradients) for t in group] for group in groups]
    groups = [
        [channels_last(torch.empty(stage.batch, CHANNELS, *size, **options)) for size in stage.sizes],
        weights(*[(CHANNELS, CHANNELS)] * terms, size=3),
        [torch.empty(CHANNELS, **options) for _ in range(terms)],
    ]
    return [[t.requires_grad_(gradients) for t in group] for group in groups]


def rows(stages: Mapping[str, Stage], only: str = "") -> Iterator[str]:
    """The lines of a table in Markdown: the cases whose name contains `only`."""
    columns = [f"{unit}, {name}" for unit in ("launches", "MB", "GFLOP") for name in CONTENDERS]
    yield f"| stage, maps, pass | {' | '.join(columns)} |"
    yield "|---|" + "--:|" * len(columns)
    for stage_name, stage in stages.items():
        for dtype_name, dtype in DTYPES.items():
            for backward in (False, True):
                case = f"{stage_name}, {dtype_name}, forward{' + backward' if backward else ''}"
                if only not in case:
                    continue
                counts = [contender(stage, dtype, backward) for contender in CONTENDERS.values()]
                cells = [f"{c.launches}" for c in counts]
                cells += [f"{c.bytes / 1e6:.0f}" for c in counts] + [f"{c.flops / 1e9:.2f}" for c in counts]
                yield f"| {case} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the cases whose name contains this")
    parser.add_argument("--render", action="store_true", help="all cases: write the tables of docs/gpu.md")
    arguments = parser.parse_args()
    if arguments.only and arguments.render:
        parser.error("expected --only or --render, got both: the tables have all cases")
    tables = {}
    for part, stages in (("stages", STAGES), ("attention", ATTENTIONS)):
        print(f"{part}:")
        tables[part] = []
        for row in rows(stages, arguments.only):
            print(row, flush=True)
            tables[part].append(row)
    if arguments.render:
        parts = {part: partial("\n".join, table) for part, table in tables.items()}
        PAGE.write_text(markdown.fill(PAGE.read_text(), parts, "counted"))


if __name__ == "__main__":
    main()
