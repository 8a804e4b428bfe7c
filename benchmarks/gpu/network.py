"""Whole training steps: UNetV2 on PVTv2-B2 on synthetic ellipses, and a 3-D skip connection of six levels.

Runs twice, the second time with SDI_PLUGIN_REFERENCE=1: plain PyTorch instead of the kernels, and the same seed.
"""

import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.contenders import configure
from benchmarks.gpu.device import Device
from benchmarks.gpu.items import Item
from sdi_plugin import SDISkip, UNetV2, structure_loss

_WARM_UP = 5  # steps that are not timed
_VOLUME_CHANNELS = (32, 64, 128, 256, 320, 320)  # those of nnU-Net's plans for volumes


def items(device: Device) -> dict[str, Item]:
    found: dict[str, Item] = {
        "2d/bf16": lambda: _images(device, "bf16", steps=100),
        "3d/bf16": lambda: _volumes(device, "bf16"),
        "2d/tf32": lambda: _images(device, "tf32", steps=25),
        "3d/tf32": lambda: _volumes(device, "tf32"),
    }
    if "SDI_PLUGIN_REFERENCE" not in os.environ:
        found["2d/bf16/compile"] = lambda: _images(device, "bf16", steps=25, compiled=True)
    return found


def _images(device: Device, precision: str, steps: int, compiled: bool = False) -> dict[str, Any]:
    """Steps of AdamW at 352 pixels, batch 16; with the loss of every step."""
    configure(precision)
    batch, size, steps = (2, 32, 1) if device.dry else (16, 352, steps)
    torch.manual_seed(0)
    encoder = "pvt_v2_b0" if device.dry else "pvt_v2_b2"
    model = UNetV2(encoder, deep_supervision=2, drop_path=0.0).to(device.type).train()
    run = device.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batches = _ellipses(8, batch, size, device)
    losses: list[Tensor] = []

    def step() -> None:
        images, masks = batches[len(losses) % len(batches)]
        with _autocast(device, precision):
            outputs = run(images)
        loss = sum((structure_loss(logits.float(), masks) for logits in outputs), torch.zeros((), device=device.type))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    found = _steps(device, step, steps, batch)
    return {**found, "losses": [round(float(loss), 5) for loss in losses]}


def _volumes(device: Device, precision: str) -> dict[str, Any]:
    """The gradients of everything in `SDISkip` on six levels from 96^3, batch 2, as nnU-Net's trainers build it."""
    configure(precision)
    batch, size, widths = (1, 4, (8, 8)) if device.dry else (2, 96, _VOLUME_CHANNELS)
    torch.manual_seed(0)
    skip = SDISkip(widths, dim=3, norm="layer", fusion="asinh", init="unit", reduction_norm="layer").to(device.type)
    sizes = [(size >> level,) * 3 for level in range(len(widths))]
    features = [
        torch.randn(batch, c, *s, device=device.type, requires_grad=True) for c, s in zip(widths, sizes, strict=True)
    ]
    leaves = [*features, *skip.parameters()]

    def step() -> None:
        with _autocast(device, precision):
            outputs = skip(features)
        loss = torch.stack([y.float().square().mean() for y in outputs]).sum()
        torch.autograd.grad(loss, leaves)

    return _steps(device, step, 15, batch)


def _steps(device: Device, step: Callable[[], None], steps: int, batch: int) -> dict[str, Any]:
    """The median time of the steps after the first ones, and the most memory of a step."""
    warm_up = min(_WARM_UP, steps - 1)
    for _ in range(warm_up):
        step()
    peak = device.peak_bytes(step)  # runs it twice
    seconds = statistics.median(device.seconds(step) for _ in range(max(1, steps - warm_up - 2)))
    return {"ms": round(1e3 * seconds, 3), "images_per_s": round(batch / seconds, 2), "step_bytes": peak}


def _autocast(device: Device, precision: str) -> Any:
    # Not in a dry run: bfloat16 on a CPU takes minutes.
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" and not device.dry)


def _ellipses(batches: int, batch: int, size: int, device: Device) -> list[tuple[Tensor, Tensor]]:
    """Images (B, 3, S, S) of one noisy ellipse each, and masks (B, 1, S, S) in {0, 1}; the same on every run."""
    generator = torch.Generator(device.type).manual_seed(0)

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(batch, 1, 1, 1, generator=generator, device=device.type)
        return low + (high - low) * drawn

    line = torch.linspace(0, 1, size, device=device.type)
    found = []
    for _ in range(batches):
        x = (line.view(1, 1, 1, -1) - uniform(0.3, 0.7)) / uniform(0.1, 0.25)
        y = (line.view(1, 1, -1, 1) - uniform(0.3, 0.7)) / uniform(0.1, 0.25)
        masks = (x.square() + y.square() < 1).float()
        noise = torch.randn(batch, 3, size, size, generator=generator, device=device.type)
        found.append((noise + masks, masks))
    return found
