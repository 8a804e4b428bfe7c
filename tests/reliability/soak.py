"""`python -m tests.reliability.soak 2d|3d|2d-fresh|3d-fresh|threads SECONDS`: long runs, in a process of their own.

Prints its figures as one line of JSON, and exits with 1 where memory grows or bits differ.
"""

import ctypes
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sdi_plugin import SDISkip, UNetV2Decoder, ops
from tests.ops.cases import make_case, single

GROWTH = 1.02  # of the memory, from the end of the first half on
STEPS = 2000


def resident() -> float:
    """The memory of this process, in MiB, without what the allocator keeps for later."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


class Network(nn.Module):
    """A small encoder, SDISkip and the decoder, for images or volumes."""

    def __init__(self, dim: int):
        super().__init__()
        channels = (8, 12, 16, 24)
        conv: Any = nn.Conv2d if dim == 2 else nn.Conv3d
        before = (3, *channels)
        self.stages = nn.ModuleList(
            conv(a, b, 3, stride=1 if a == 3 else 2, padding=1) for a, b in zip(before, channels, strict=False)
        )
        self.skip = SDISkip(in_channels=channels, out_channels=channels, channels=8, dim=dim)
        self.decoder = UNetV2Decoder(channels, channels=8, dim=dim)

    def forward(self, x: torch.Tensor) -> Any:
        features = []
        for stage in self.stages:
            x = torch.relu(stage(x))
            features.append(x)
        return self.decoder(self.skip(features))


def train(dim: int, fresh: bool, seconds: float) -> dict[str, Any]:
    """Steps of training on images of 24 sizes, or of always new ones; the memory after each tenth, `before` and `after`
    the second half, and by how much it was ever larger there.
    """
    torch.manual_seed(0)
    generator, largest = random.Random(0), 72 if dim == 2 else 20
    sizes = [[generator.randint(1, 3), *(generator.randint(8, largest) for _ in range(dim))] for _ in range(STEPS)]
    sizes = sizes if fresh else sizes[:24]
    network = Network(dim)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def step(batch: int, *size: int) -> None:
        outputs = network(torch.randn(batch, 3, *size))
        loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for size in () if fresh else 3 * sizes:  # so that their plans and the allocator's memory are there
        step(*size)
    begun, memory = time.monotonic(), [resident()]
    steps, reached = 0, 0.0
    while reached < 1:
        step(*(sizes[steps] if fresh else generator.choice(sizes)))
        steps += 1
        reached = max(steps / STEPS, (time.monotonic() - begun) / seconds)
        while len(memory) <= 10 * min(reached, 1):
            memory.append(resident())
    growth = max(memory[5:]) / memory[5]
    shapes = len({tuple(size) for size in sizes[: steps if fresh else None]})
    figures = {"steps": steps, "shapes": shapes, "before": memory[5], "after": memory[-1], "MiB": memory}
    return {**figures, "growth": round(growth, 4), "ok": growth <= GROWTH}


def threads(seconds: float, count: int = 8) -> dict[str, Any]:
    """Many threads call the op at once, on shapes in an order of their own: each has the bits of a call alone."""
    torch.set_num_threads(1)
    generator = random.Random(0)
    sizes = [
        (tuple(generator.randint(1, 24 if dim == 2 else 9) for _ in range(dim)), generator.randint(1, 4))
        for dim in (2, 3)
        for _ in range(1000)
    ]

    def result(index: int) -> list[torch.Tensor]:
        seeded = torch.Generator().manual_seed(index)
        size, levels = sizes[index]
        xs, weights, biases = single(make_case(size, levels, channels=4, batch=1))
        for tensor in (*xs, *weights, *biases):
            tensor.copy_(torch.randn(tensor.shape, generator=seeded)).requires_grad_()
        y = ops.resize_smooth_multiply(xs, weights, biases, levels // 2)
        return [y.detach(), *torch.autograd.grad(y.sum(), [*xs, *weights, *biases])]

    begun, expected = time.monotonic(), {}
    for index in range(len(sizes)):
        expected[index] = result(index)
        if time.monotonic() - begun > seconds / 3:
            break
    known, calls, different = list(expected), [0] * count, []

    def call(number: int) -> None:
        order = random.Random(number)
        while time.monotonic() - begun < seconds and not different:
            index = order.choice(known)
            found = result(index)
            calls[number] += 1
            if not all(torch.equal(a, b) for a, b in zip(found, expected[index], strict=True)):
                different.append(sizes[index])

    running = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {
        "threads": count,
        "shapes": len(known),
        "calls": sum(calls),
        "different": len(different),
        "ok": not different,
    }


def main(name: str, seconds: str) -> int:
    figures = threads(float(seconds)) if name == "threads" else train(int(name[0]), "fresh" in name, float(seconds))
    print(json.dumps(figures))
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
