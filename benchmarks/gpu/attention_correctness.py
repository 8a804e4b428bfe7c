"""The kernels of attend_and_reduce against float64, as `correctness` does for SDI's; run by pytest on many workers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from benchmarks.gpu.contenders import attention
from benchmarks.gpu.correctness import (
    DEVICE,
    HAS_GPU,
    LAYOUTS,
    PRECISIONS,
    Precision,
    norm,
    precision,  # noqa: F401  a fixture
    pytestmark,  # noqa: F401
)
from benchmarks.sdi.cases import PLAN_WIDTHS, WIDTHS
from sdi_plugin import ops


class Shape(NamedTuple):
    size: tuple[int, ...]  # the finest level's
    widths: tuple[int, ...]
    channels: int = 32
    batch: int = 2


SHAPES = {
    "paper": Shape((88, 88), WIDTHS),
    "odd": Shape((75, 58), (33, 80, 7, 100), 20),
    "wide": Shape((24, 20), (64, 1280), 96),
    "3d": Shape((32, 32, 32), PLAN_WIDTHS[:5]),
    "3d-odd": Shape((21, 18, 13), (16, 24), 24),
}
if not HAS_GPU:
    SHAPES = {"odd": Shape((3, 2), (12, 20), 5, 1)}
CHOSEN = tuple(PRECISIONS) if HAS_GPU else ("tf32",)
KINDS = ("output", "f", "fc1", "fc2", "conv7", "conv1")
Groups = list[list[Tensor]]


def make(shape: Shape, dtype: torch.dtype) -> Groups:
    """Features, fc1, fc2, conv7, conv1 and the gradients of the outputs: numbers of the dtype, in float64."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*size: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(size, generator=generator)).to(dtype).to(DEVICE, torch.float64)

    ones, taps = [1] * len(shape.size), [7] * len(shape.size)
    levels = []
    for level, width in enumerate(shape.widths):
        size, hidden = [-(-s // 2**level) for s in shape.size], max(1, width // 16)
        levels.append(
            (
                drawn(shape.batch, width, *size),
                drawn(hidden, width, *ones, scale=width**-0.5),
                drawn(width, hidden, *ones, scale=hidden**-0.5),
                drawn(1, 2, *taps, scale=(2 * 7 ** len(size)) ** -0.5),
                drawn(shape.channels, width, *ones, scale=width**-0.5),
                drawn(shape.batch, shape.channels, *size),
            )
        )
    return [list(group) for group in zip(*levels, strict=True)]


def results(stage: Callable[..., Sequence[Tensor]], case: Groups, dtype: torch.dtype) -> dict[str, list[Tensor]]:
    """The outputs and every gradient, by kind."""
    *groups, grads = [[t.to(dtype) for t in group] for group in case]
    leaves = [[t.detach().requires_grad_() for t in group] for group in groups]
    outputs = stage(*leaves)
    found = iter(torch.autograd.grad(outputs, [t for group in leaves for t in group], grads))
    gradients = [[next(found) for _ in group] for group in leaves]
    return dict(zip(KINDS, [[y.detach() for y in outputs], *gradients], strict=True))


def check(found: dict[str, list[Tensor]], case: Groups, own: Precision) -> dict[str, float]:
    """Raises if an error is too large. Returns ours / eager's for every kind."""
    exact, plain = (results(attention, case, dtype) for dtype in (torch.float64, own.dtype))
    ratios = {}
    for kind, tensors in found.items():
        assert all(t.dtype == own.dtype and t.shape == e.shape for t, e in zip(tensors, exact[kind], strict=True))
        scale, error, eagers = norm(exact[kind]), norm(tensors, exact[kind]), norm(plain[kind], exact[kind])
        assert error <= 2 * eagers + 2 * own.eps * scale, f"{kind}: {error / scale:.3g}, eager {eagers / scale:.3g}"
        ratios[kind] = round(error / eagers, 3) if eagers else 0.0
    return ratios


@pytest.mark.parametrize(
    ("shape", "precision"),
    [(shape, p) for shape in SHAPES.values() for p in CHOSEN],
    ids=[f"{name}-{p}" for name in SHAPES for p in CHOSEN],
    indirect=["precision"],
)
def test_error_is_at_most_twice_that_of_eager_torch(shape, precision, record_property):  # noqa: F811
    case = make(shape, precision.dtype)
    for kind, ratio in check(results(ops.attend_and_reduce_stage, case, precision.dtype), case, precision).items():
        record_property(f"{kind}_ratio", ratio)


@pytest.mark.parametrize("layout", LAYOUTS if HAS_GPU else ["strided"])
@pytest.mark.parametrize("name", [name for name in ("odd", "3d-odd") if name in SHAPES])
@pytest.mark.parametrize("precision", ["bf16" if HAS_GPU else "tf32"], indirect=True)
def test_any_layout_of_features_and_gradients(name, layout, precision):  # noqa: F811
    fs, *weights, grads = [[t.to(precision.dtype) for t in group] for group in make(SHAPES[name], precision.dtype)]
    arrange = LAYOUTS[layout]
    case = [[arrange(f) for f in fs], *weights, [arrange(g) for g in grads]]
    check(results(ops.attend_and_reduce_stage, case, precision.dtype), case, precision)


@pytest.mark.skipif(not HAS_GPU, reason="the interpreter takes 5 s for a case")
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("precision", ["bf16", "tf32"] if HAS_GPU else ["tf32"], indirect=True)
def test_the_same_bits_on_every_run_even_in_memory_full_of_nan(name, precision):  # noqa: F811
    """Deterministic mode fills what is allocated with NaN: a kernel that reads what it did not write shows it."""
    case = make(SHAPES[name], precision.dtype)
    first = results(ops.attend_and_reduce_stage, case, precision.dtype)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        poisoned = results(ops.attend_and_reduce_stage, case, precision.dtype)
    finally:
        torch.use_deterministic_algorithms(False)
    for kind, tensors in first.items():
        assert all(torch.equal(a, b) for a, b in zip(poisoned[kind], tensors, strict=True)), kind
