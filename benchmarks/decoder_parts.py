"""What the parts of the decoder cost: the table of docs/speed.md.

    python -m benchmarks.decoder_parts             measures on an idle machine, in a minute
    python -m benchmarks.decoder_parts --render    measures, and writes the table

Each part runs alone, forward and backward, on maps of the size and layout that it gets in the decoder, in training; all
parts take turns. The sum differs from the whole by what autograd does between the parts.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks import environment, markdown
from benchmarks.sdi.cases import CHANNELS, Case
from benchmarks.sdi.measure import interleave
from sdi_plugin import UNetV2Decoder, dimension, ops
from sdi_plugin.attention import reduce
from sdi_plugin.sdi import fuse

PAGE = environment.ROOT / "docs" / "speed.md"
CASES = {"2d-decoder-352-b4": "2-D 352, batch 4", "3d-decoder-64-l5": "3-D 64^3, five levels"}
WHOLE = "the whole decoder"
Part = Callable[[], list[Tensor]]


def parts(case: Case) -> dict[str, Part]:
    """The decoder's parts, and the whole, as functions that compute their results from leaves."""
    torch.manual_seed(0)
    decoder = UNetV2Decoder(case.widths, CHANNELS, dim=case.dim).train()
    head = dimension.conv(case.dim)(CHANNELS, 1, 1)
    features = case.features(torch.float32, "cpu")
    skip: Any = decoder.skip
    reductions, modules = list(skip.reductions), skip._targeted()
    with torch.no_grad():
        attended = ops.attend_and_reduce_stage(features, *_weights(reductions))
        reduced = reduce(reductions, features)
        fused = fuse(modules, reduced, skip.targets)
        raised = [up(y) for up, y in zip(decoder.ups, fused[1:], strict=True)]
    attended, reduced, fused, raised = map(_leaves, (attended, reduced, fused, raised))
    return {
        "attention and reduction": lambda: ops.attend_and_reduce_stage(features, *_weights(reductions)),
        "their norms": lambda: [module.bn(g) for module, g in zip(reductions, attended, strict=True)],
        "SDI": lambda: fuse(modules, reduced, skip.targets),
        "transposed convolutions": lambda: [up(y) for up, y in zip(decoder.ups, fused[1:], strict=True)],
        "sums": lambda: [y + h for y, h in zip(raised, fused, strict=False)],
        "a head": lambda: [head(fused[0])],
        WHOLE: lambda: [head(decoder(features)[0])],
    }


def _weights(reductions: list[Any]) -> list[list[Tensor]]:
    channel, spatial = ([getattr(m, f"{kind}_attention") for m in reductions] for kind in ("channel", "spatial"))
    return [
        [cast(Tensor, layer.weight) for layer in layers]
        for layers in (
            [module.fc1 for module in channel],
            [module.fc2 for module in channel],
            [module.conv for module in spatial],
            [module.conv for module in reductions],
        )
    ]


def _leaves(maps: list[Tensor]) -> list[Tensor]:
    return [t.detach().requires_grad_() for t in maps]


def _step(part: Part) -> Callable[[], None]:
    grads = [torch.randn_like(y) for y in part()]
    return lambda: torch.autograd.backward(part(), grads)


def measure(case: Case) -> dict[str, float]:
    """Milliseconds of each part's forward and backward."""
    timings, _ = interleave({name: _step(part) for name, part in parts(case).items()}, rounds=15, seconds=10)
    return {name: timing.median for name, timing in timings.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    rows = []
    for name in next(iter(found.values())):
        cells = [f"{times[name]:.1f} ms, {100 * times[name] / times[WHOLE]:.0f}%" for times in found.values()]
        rows.append((name, *cells))
    return markdown.table(("forward + backward in training", *(CASES[case] for case in found)), rows)


def main(arguments: list[str]) -> None:
    environment.restart_with_settings()
    found = {name: measure(Case.parse(name)) for name in CASES}
    text = table(found)
    print(text)
    if arguments == ["--render"]:
        machine = environment.machine()
        said = f"`python -m benchmarks.decoder_parts`, {machine['cpu']}, {machine['cores']} threads."
        Path(PAGE).write_text(markdown.fill(PAGE.read_text(), {"parts": lambda: f"{text}\n\n{said}"}, "timed"))


if __name__ == "__main__":
    main(sys.argv[1:])
