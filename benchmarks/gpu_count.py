"""Launches, bytes and FLOPs of a stage on a GPU: of eager torch, of torch.compile and of ours. Counted, without a GPU.

    python -m benchmarks.gpu_count [--only "2-D, 352, N 1"]
    python -m benchmarks.gpu_count --render     # all, some minutes: the table of docs/gpu.md

A launch's bytes are each of its inputs read once and each of its outputs written once: caches, and the rereading of
tiles, are left out. FLOPs are those of convolutions and matrix products; an element of any other result counts as one.
`eager` is the paper's code, `torch.compile` what Inductor schedules for it (gpu_inductor.py). All get channels-last
maps and weights, C = 32; nothing is measured, and no time follows.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import environment, gpu_inductor, markdown
from benchmarks.gpu_record import Launch, channels_last, recorded
from sdi_plugin.ops import reference
from sdi_plugin.ops.gpu import call, chunk, launch

CHANNELS = 32
PAGE = environment.ROOT / "docs" / "gpu.md"


class Stage(NamedTuple):
    sizes: tuple[tuple[int, ...], ...]
    batch: int


_2D = tuple((88 >> level,) * 2 for level in range(4))
STAGES = {f"2-D, 352, N {batch}": Stage(_2D, batch) for batch in (1, 4, 16)}
STAGES["3-D, 64^3, five levels"] = Stage(tuple((64 >> level,) * 3 for level in range(5)), 1)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Count(NamedTuple):
    launches: int
    bytes: int
    flops: int


def count(launches: Sequence[Launch]) -> Count:
    return Count(len(launches), sum(k.bytes for k in launches), sum(k.flops for k in launches))


def eager(stage: Stage, dtype: torch.dtype, backward: bool) -> Count:
    xs, weights, biases = _case(stage, dtype, "meta", gradients=backward)
    with recorded() as launches:
        outputs = _paper(xs, weights, biases)
        if backward:
            torch.autograd.backward(outputs, [torch.empty_like(o) for o in outputs])
    return count(launches)


def compiled(stage: Stage, dtype: torch.dtype, backward: bool) -> Count:
    return count(gpu_inductor.launches(_paper, *_case(stage, dtype, "cpu", gradients=backward)))


def ours(stage: Stage, dtype: torch.dtype, backward: bool) -> Count:
    """The host code runs; what it would launch is recorded."""
    xs, weights, biases = _case(stage, dtype, "meta")
    tensors = [*xs, *weights, *biases]
    plan = call.Plan(call.given(tensors, len(xs), range(len(xs)), "product", dtype))
    with recorded() as launches:

        def run(planned: chunk.Launch, *_: Any) -> None:
            launches.append(Launch(planned.kernel, planned.moved, planned.flops))

        with mock.patch.object(launch, "run", run):
            outputs, packed = plan.forward(tensors)
            if backward:
                plan.backward(outputs, tensors, packed)
    return count(launches)


CONTENDERS: dict[str, Callable[[Stage, torch.dtype, bool], Count]] = {
    "eager": eager,
    "torch.compile": compiled,
    "ours": ours,
}


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
    groups = [
        [channels_last(torch.empty(stage.batch, CHANNELS, *size, **options)) for size in stage.sizes],
        [channels_last(torch.empty(CHANNELS, CHANNELS, *[3] * dim, **options)) for _ in range(terms)],
        [torch.empty(CHANNELS, **options) for _ in range(terms)],
    ]
    return [[t.requires_grad_(gradients) for t in group] for group in groups]


def rows(only: str = "") -> Iterator[str]:
    """The lines of a table in Markdown: the cases whose name contains `only`."""
    columns = [f"{unit}, {name}" for unit in ("launches", "MB", "GFLOP") for name in CONTENDERS]
    yield f"| stage, maps, pass | {' | '.join(columns)} |"
    yield "|---|" + "--:|" * len(columns)
    for stage_name, stage in STAGES.items():
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
    parser.add_argument("--render", action="store_true", help="all cases: write the table of docs/gpu.md")
    arguments = parser.parse_args()
    if arguments.only and arguments.render:
        parser.error("expected --only or --render, got both: the table has all cases")
    table = []
    for row in rows(arguments.only):
        print(row, flush=True)
        table.append(row)
    if arguments.render:
        PAGE.write_text(markdown.fill(PAGE.read_text(), {"stages": lambda: "\n".join(table)}, "counted"))


if __name__ == "__main__":
    main()
