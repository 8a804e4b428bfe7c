"""The kernels against float64 at the paper's sizes, in every precision that GPUs have; run by pytest on many workers.

An error is at most twice that of eager PyTorch in the same precision, with a slack of two units in the last place of
the whole where eager happens to be lucky. Without a GPU, tiny sizes in Triton's interpreter, whose bfloat16 is wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from benchmarks.sdi import eager
from sdi_plugin import ops
from sdi_plugin.ops import gpu

HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
pytestmark = pytest.mark.skipif(
    not gpu.serves(torch.device(DEVICE)), reason="no GPU that the kernels run on, and TRITON_INTERPRET is not 1"
)


class Precision(NamedTuple):
    """eps: of the format that operands are rounded to. tf32: whether those of float32 products may be."""

    dtype: torch.dtype
    eps: float
    tf32: bool = False


PRECISIONS = {
    "bf16": Precision(torch.bfloat16, 2**-7),
    "tf32": Precision(torch.float32, 2**-10, tf32=True),
    "fp32": Precision(torch.float32, 2**-23),
    "fp16": Precision(torch.float16, 2**-10),
    "fp64": Precision(torch.float64, 5e-13),  # eager in float64 is what errors are measured from
}
if not HAS_GPU:
    del PRECISIONS["bf16"], PRECISIONS["fp32"]


class Shape(NamedTuple):
    size: tuple[int, ...]  # the finest level's
    levels: int
    channels: int = 32
    batch: int = 2


TENSOR_CORES = ("bf16", "tf32")
LARGE = {"paper": Shape((88, 88), 4), "odd": Shape((75, 58), 4), "3d": Shape((32, 32, 32), 5)}
CHOSEN = {
    "3d-64": (Shape((64, 64, 64), 5, batch=1), TENSOR_CORES),
    **{f"levels-{n}": (Shape((64, 48), n), TENSOR_CORES) for n in (1, 2, 3, 5, 6, 7, 8)},
    **{f"channels-{c}": (Shape((44, 36), 4, c), ("bf16", "tf32", "fp32")) for c in (5, 20, 64)},
    "3d-levels-6": (Shape((33, 20, 18), 6), TENSOR_CORES),
}
if not HAS_GPU:
    LARGE = {"paper": Shape((4, 4), 3, 4, 1), "odd": Shape((5, 4), 2, 5), "3d": Shape((4, 3, 2), 2, 4)}
    CHOSEN = {"levels-1": (Shape((4, 4), 1, 4), ("tf32",))}
CASES = [(name, shape, precision) for name, shape in LARGE.items() for precision in PRECISIONS]
CASES += [(name, shape, precision) for name, (shape, several) in CHOSEN.items() for precision in several]
if not HAS_GPU:  # the interpreter takes 13 s for a volume
    CASES = [case for case in CASES if case[0] != "3d" or case[2] == "tf32"]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "channels-last": lambda t: t.movedim(1, -1).contiguous().movedim(-1, 1),
    "strided": lambda t: torch.stack([t, -t], -1)[..., 0],
    "expanded": lambda t: t[:1].expand_as(t),
}

Groups = list[list[Tensor]]


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[Precision]:
    """The precision named by the parameter, with torch's settings for it."""
    found = PRECISIONS[request.param]
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = found.tf32
    yield found
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def make(shape: Shape, dtype: torch.dtype) -> Groups:
    """Maps, weights and biases of a whole stage, and the gradients of its outputs: numbers of the dtype, in float64."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*size: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(size, generator=generator)).to(dtype).to(DEVICE, torch.float64)

    sizes = [[-(-s // 2**level) for s in shape.size] for level in range(shape.levels)]
    xs, grads = ([drawn(shape.batch, shape.channels, *size) for size in sizes] for _ in range(2))
    kernel, scale = [3] * len(shape.size), (shape.channels * 3 ** len(shape.size)) ** -0.5
    terms = range(shape.levels**2)
    weights = [drawn(shape.channels, shape.channels, *kernel, scale=scale) for _ in terms]
    return [xs, weights, [1 + drawn(shape.channels, scale=0.1) for _ in terms], grads]


def results(stage: Callable[..., Sequence[Tensor]], case: Groups, dtype: torch.dtype) -> dict[str, list[Tensor]]:
    """The outputs and every gradient, by kind."""
    xs, weights, biases, grads = [[t.to(dtype) for t in group] for group in case]
    leaves = [[t.detach().requires_grad_() for t in group] for group in (xs, weights, biases)]
    outputs = stage(*leaves, range(len(xs)))
    found = iter(torch.autograd.grad(outputs, [t for group in leaves for t in group], grads))
    kinds = {kind: [next(found) for _ in group] for kind, group in zip(("x", "weight", "bias"), leaves, strict=True)}
    return {"output": [y.detach() for y in outputs], **kinds}


def norm(tensors: Sequence[Tensor], without: Sequence[Tensor] | None = None) -> float:
    """The Euclidean norm of all tensors, or of their differences from others."""
    others = without or [torch.zeros_like(t, dtype=torch.float64) for t in tensors]
    return sum(float((t.double() - o).square().sum()) for t, o in zip(tensors, others, strict=True)) ** 0.5


def check(found: dict[str, list[Tensor]], case: Groups, precision: Precision) -> dict[str, float]:
    """Raises if an error is too large. Returns ours / eager's for every kind."""
    exact, plain = (results(eager.stage, case, dtype) for dtype in (torch.float64, precision.dtype))
    ratios = {}
    for kind, tensors in found.items():
        assert all(t.dtype == precision.dtype and t.shape == e.shape for t, e in zip(tensors, exact[kind], strict=True))
        scale, error, eagers = norm(exact[kind]), norm(tensors, exact[kind]), norm(plain[kind], exact[kind])
        assert error <= 2 * eagers + 2 * precision.eps * scale, (
            f"{kind}: {error / scale:.3g}, eager {eagers / scale:.3g}"
        )
        ratios[kind] = round(error / eagers, 3) if eagers else 0.0
    return ratios


@pytest.mark.parametrize(
    ("shape", "precision"), [c[1:] for c in CASES], ids=[f"{n}-{p}" for n, _, p in CASES], indirect=["precision"]
)
def test_error_is_at_most_twice_that_of_eager_torch(shape, precision, record_property):
    case = make(shape, precision.dtype)
    found = results(ops.resize_smooth_multiply_stage, case, precision.dtype)
    for kind, ratio in check(found, case, precision).items():
        record_property(f"{kind}_ratio", ratio)


@pytest.mark.parametrize(
    ("name", "layout"),
    [(n, layout) for n in ("odd", "3d") for layout in LAYOUTS if HAS_GPU or n == "odd" or layout == "strided"],
)
@pytest.mark.parametrize("precision", ["bf16" if HAS_GPU else "tf32"], indirect=True)
def test_any_layout_of_maps_weights_and_gradients(name, layout, precision):
    xs, weights, biases, grads = make(LARGE[name], precision.dtype)
    arrange = LAYOUTS[layout]
    case = [[arrange(t.to(precision.dtype)) for t in group] for group in (xs, weights)]
    case += [[b.to(precision.dtype) for b in biases], [arrange(g.to(precision.dtype)) for g in grads]]
    check(results(ops.resize_smooth_multiply_stage, case, precision.dtype), case, precision)


@pytest.mark.parametrize("name", LARGE if HAS_GPU else ["odd"])
@pytest.mark.parametrize("precision", ["bf16", "tf32"] if HAS_GPU else ["tf32"], indirect=True)
def test_the_same_bits_on_every_run_even_in_memory_full_of_nan(name, precision, monkeypatch):
    """Deterministic mode fills what is allocated with NaN: a kernel that reads what it did not write shows it."""
    case = make(LARGE[name], precision.dtype)
    first = results(ops.resize_smooth_multiply_stage, case, precision.dtype)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        poisoned, again = (results(ops.resize_smooth_multiply_stage, case, precision.dtype) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for kind in first:
        assert all(torch.equal(a, b) for a, b in zip(poisoned[kind], again[kind], strict=True)), kind
        assert norm(poisoned[kind], first[kind]) <= 2 * precision.eps * norm(first[kind]), kind


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in Triton's interpreter
@pytest.mark.parametrize("precision", ["bf16", "fp32"] if HAS_GPU else ["tf32"], indirect=True)
@pytest.mark.parametrize("column", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("spoilt", [0, 1], ids=["fine", "coarse"])
def test_an_infinite_column_spoils_nothing_that_is_finite_in_eager_torch(spoilt, column, precision):
    case = make(LARGE["odd"], precision.dtype)
    case[0][spoilt][..., column] = torch.inf
    stages: list[tuple[Callable[..., Sequence[Tensor]], torch.dtype]] = [
        (ops.resize_smooth_multiply_stage, precision.dtype),
        (eager.stage, torch.float64),
    ]
    ours, plain = [
        stage(*[[t.to(dtype) for t in group] for group in case[:3]], range(len(case[0]))) for stage, dtype in stages
    ]
    for y, e in zip(ours, plain, strict=True):
        assert torch.isfinite(y[torch.isfinite(e)]).all()
        assert not torch.isfinite(y).all()
