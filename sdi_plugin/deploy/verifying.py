"""An exported graph beside torch: images, torch's logits for them, and each runtime's difference and time."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sdi_plugin import frameworks
from sdi_plugin.deploy import runtimes
from sdi_plugin.deploy.graph import Graph
from sdi_plugin.deploy.graph_backend import GraphBackend
from sdi_plugin.deploy.loading import Loaded
from sdi_plugin.deploy.runtimes import Array

_VOLUMES = ((2, 3, 4), (3, 2, 2), (4, 4, 3))  # times the smallest size
_SIZES = ((96, 96), (97, 130), (352, 352), (64, 200), (480, 640))

Cases = list[tuple[Array, Array]]  # images, and torch's logits for them


def sizes(fixed: tuple[int, int] | None, multiple: Sequence[int] | None) -> list[tuple[int, ...]]:
    if fixed:
        return [fixed] * len(_SIZES)
    if multiple is None:
        return list(_SIZES)
    if len(multiple) == 3:
        return [tuple(a * b for a, b in zip(multiple, factors, strict=True)) for factors in _VOLUMES]
    return [tuple(-(-axis // step) * step for axis, step in zip(size, multiple, strict=True)) for size in _SIZES]


def pixels(model: Loaded, sizes: Sequence[tuple[int, ...]], inside: bool) -> list[Array]:
    """Images with structure at every scale, as photographs have it, in batches of 1 and 3."""
    generator = torch.Generator().manual_seed(0)
    mode, finest = ("bilinear", 8) if model.dim == 2 else ("trilinear", 6)
    found = []
    for index, size in enumerate(sizes):
        shape = 1 + index % 2 * 2, model.channels
        octaves = [torch.rand(*shape, *[2**n] * model.dim, generator=generator) for n in range(2, finest)]
        images = torch.stack([F.interpolate(each, size, mode=mode) for each in octaves]).mean(0) * 255
        found.append((images if inside else (images - 127.5) / 50).numpy())
    return found


def verify(sidecar: Path, format: str, cases: Cases) -> dict[str, dict[str, Any]]:
    """For each runtime that is installed the largest difference, relative to the largest logit, and its time; or why it
    refused the graph.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in runtimes.installed(format):
        found[name] = {"version": frameworks.version(name)}
        try:
            found[name] |= _measured(GraphBackend(sidecar, name), cases)
        except ValueError as error:  # one runtime may run what another cannot
            found[name]["refused"] = next(iter(str(error.__cause__ or error).splitlines()), "")
    return found


def _measured(backend: GraphBackend, cases: Cases) -> dict[str, float]:
    errors = [_difference(backend, *case) for case in cases]
    images, expected = cases[min(2, len(cases) - 1)]
    backend.expect(images.shape[2:])
    errors.append(_difference(backend, images, expected))
    return {"relative_error": max(errors), "milliseconds": _milliseconds(backend, images)}


def _difference(backend: GraphBackend, images: Array, expected: Array) -> float:
    return float(np.abs(backend(images) - expected).max() / np.abs(expected).max())


def _milliseconds(backend: GraphBackend, images: Array) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        backend(images)
        times.append(time.perf_counter() - start)
    return round(median(times) * 1e3, 3)


@torch.no_grad()
def eager(graph: Graph, pixels: Array) -> Array:
    """The logits by torch's own resizing and, where they are built, our kernels."""
    images = resized = torch.from_numpy(pixels)
    if graph.size is not None and not graph.raw:
        resized = F.interpolate(images, graph.size, mode="bilinear", antialias=True)
    logits: Tensor = graph.model((resized - graph.mean) / graph.std)
    same = logits.shape[2:] == images.shape[2:]
    return (logits if same else F.interpolate(logits, images.shape[2:], mode="bilinear")).numpy()
