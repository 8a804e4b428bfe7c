import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sdi_plugin.losses import DeepSupervisionLoss, StructureLoss, structure_loss

SHAPES = {
    "2d": (2, 1, 24, 24),
    "2d-odd-non-square": (3, 2, 37, 18),
    "2d-one-pixel": (1, 1, 1, 1),
    "3d-odd-non-cubic": (2, 1, 5, 8, 3),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
unweighted = pytest.mark.parametrize("unweighted_bce", [False, True], ids=["weighted", "unweighted"])


def sample(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return logits, torch.rand(shape, generator=generator) < 0.4


def equation(logits: Tensor, target: Tensor, unweighted_bce: bool) -> Tensor:
    """The loss as written in the paper: window by window, image by image, in the logits' dtype."""
    target = target.to(logits.dtype)
    windows = F.pad(target, [15] * 2 * (target.ndim - 2))
    for axis in range(2, target.ndim):
        windows = windows.unfold(axis, 31, 1)
    mean = windows.flatten(target.ndim).mean(-1)
    losses = []
    for x, t, m in zip(logits.flatten(0, 1), target.flatten(0, 1), mean.flatten(0, 1), strict=True):
        w, p = 1 + 5 * (m - t).abs(), 1 / (1 + torch.exp(-x))
        bce = -(t * p.log() + (1 - t) * (1 - p).log())
        bce = bce.mean() if unweighted_bce else (w * bce).sum() / w.sum()
        intersection = (w * p * t).sum()
        losses.append(bce + 1 - (intersection + 1) / ((w * (p + t)).sum() - intersection + 1))
    return torch.stack(losses).mean()


@shapes
@unweighted
def test_is_the_equation(shape: tuple[int, ...], unweighted_bce: bool) -> None:
    logits, target = sample(shape)
    loss = structure_loss(logits, target, unweighted_bce=unweighted_bce)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, equation(logits, target, unweighted_bce), rtol=1e-12, atol=0)


def test_float32_is_as_exact_as_the_equation_in_float32() -> None:
    samples = [sample((2, 1, 33, 40), seed) for seed in range(20)]
    exact = [equation(x, t, False) for x, t in samples]
    ours = max((structure_loss(x.float(), t).double() - e).abs() for (x, t), e in zip(samples, exact, strict=True))
    eager = max((equation(x.float(), t, False).double() - e).abs() for (x, t), e in zip(samples, exact, strict=True))
    assert ours <= 2 * eager


@unweighted
def test_gradient(unweighted_bce: bool) -> None:
    logits, target = sample((2, 2, 5, 4))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: structure_loss(x, target, unweighted_bce=unweighted_bce), logits)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_any_dtype_of_the_target_gives_the_same(dtype: torch.dtype) -> None:
    logits, target = sample(SHAPES["2d"])
    assert structure_loss(logits.float(), target.to(dtype)).equal(structure_loss(logits.float(), target))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, target = sample(SHAPES["2d"])
    logits = logits.to(dtype)
    expected = structure_loss(logits.float(), target)
    with torch.autocast("cpu", dtype=dtype):
        assert structure_loss(logits, target).equal(expected)
        assert structure_loss(logits.float(), target).equal(expected)
    assert structure_loss(logits, target).equal(expected)


def test_largest_float16_logits_stay_finite() -> None:
    target = sample((1, 1, 300, 300))[1]
    logits = torch.where(target, -6e4, 6e4).half().requires_grad_()  # certain, and wrong everywhere
    loss = structure_loss(logits, target)
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_perfect_prediction_costs_nothing() -> None:
    target = sample(SHAPES["2d"])[1]
    assert structure_loss(torch.where(target, 100.0, -100.0), target) < 1e-6


def test_an_error_at_an_edge_costs_more_than_one_inside() -> None:
    target = torch.zeros(1, 1, 128, 128, dtype=torch.bool)
    target[..., 20:100, 20:100] = True
    inside, edge = (torch.where(target, 8.0, -8.0) for _ in range(2))
    inside[..., 60, 60] = edge[..., 20, 60] = -8.0
    assert structure_loss(edge, target) > 1.5 * structure_loss(inside, target)


def test_weights_of_one_image_do_not_depend_on_the_batch() -> None:
    logits, target = sample((3, 2, 20, 30))
    alone = [structure_loss(x[None], t[None]) for x, t in zip(logits, target, strict=True)]
    torch.testing.assert_close(structure_loss(logits, target), torch.stack(alone).mean())


def test_unweighted_differs_from_weighted_only_by_the_cross_entropy() -> None:
    logits, target = sample((2, 1, 20, 30))
    weighted, plain = structure_loss(logits, target), structure_loss(logits, target, unweighted_bce=True)
    assert (weighted - plain).abs() > 1e-4
    bce = F.binary_cross_entropy_with_logits(logits, target.double())
    assert 0 < plain - bce < 1  # what is left is 1 - IoU


def test_module_is_the_function_and_pickles() -> None:
    logits, target = sample(SHAPES["2d"])
    module = pickle.loads(pickle.dumps(StructureLoss(unweighted_bce=True)))
    assert module(logits, target).equal(structure_loss(logits, target, unweighted_bce=True))
    assert StructureLoss()(logits, target).equal(structure_loss(logits, target))
    assert "unweighted_bce=True" in repr(module)


def test_compiles_as_one_graph() -> None:
    logits, target = sample(SHAPES["2d-odd-non-square"])
    loss = DeepSupervisionLoss(StructureLoss(), weights=[1, 0.5])
    outputs = [logits, logits[..., ::2, ::3]]
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(outputs, target), loss(outputs, target))


@pytest.mark.parametrize(
    ("logits", "target", "error", "message"),
    [
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8), ValueError, "logits' shape (2, 1, 8, 8), got (2, 8, 8)"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 9), ValueError, "got (2, 1, 8, 9)"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8), ValueError, "one-hot"),
        (torch.zeros(2, 8, 8), torch.zeros(2, 8, 8), ValueError, "(B, K, H, W) or (B, K, D, H, W), got (2, 8, 8)"),
        (torch.zeros(2, 1, 8, 8).long(), torch.zeros(2, 1, 8, 8), TypeError, "got torch.int64"),
    ],
    ids=["no-channel", "other-size", "would-broadcast", "three-axes", "integer-logits"],
)
def test_bad_input(logits: Tensor, target: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        structure_loss(logits, target)


def test_deep_supervision_adds_the_heads_up() -> None:
    logits, target = sample(SHAPES["2d"])
    outputs = [logits, -logits, logits / 2]
    losses = [structure_loss(output, target) for output in outputs]
    torch.testing.assert_close(DeepSupervisionLoss(structure_loss)(outputs, target), losses[0] + losses[1] + losses[2])
    weighted = DeepSupervisionLoss(structure_loss, weights=[1, 0.5, 0])(tuple(outputs), target)
    torch.testing.assert_close(weighted, losses[0] + 0.5 * losses[1])


@pytest.mark.parametrize("weights", [None, [0.7, 0.3]], ids=["equal", "weighted"])
def test_a_single_tensor_is_the_finest_head(weights: list[float] | None) -> None:
    logits, target = sample(SHAPES["2d"])
    assert DeepSupervisionLoss(structure_loss, weights)(logits, target).equal(structure_loss(logits, target))


def test_every_head_gets_a_gradient() -> None:
    _, target = sample((2, 1, 32, 48))
    outputs = [torch.zeros(2, 1, 32 // s, 48 // s, requires_grad=True) for s in (1, 2, 4, 32)]
    DeepSupervisionLoss(StructureLoss())(outputs, target).backward()
    assert all(output.grad is not None and output.grad.any() for output in outputs)


def test_class_indices_and_cross_entropy() -> None:
    target = torch.randint(5, (2, 30, 21), generator=torch.Generator().manual_seed(0))
    target[0, :3] = 255
    outputs = [torch.randn(2, 5, 30, 21), torch.randn(2, 5, 15, 7)]
    loss = DeepSupervisionLoss(nn.CrossEntropyLoss(ignore_index=255))
    small = target[:, 1::2, 1::3]  # the centres of 15 x 7 equal cells
    expected = F.cross_entropy(outputs[0], target, ignore_index=255) + F.cross_entropy(
        outputs[1], small, ignore_index=255
    )
    torch.testing.assert_close(loss(outputs, target), expected)


def resized(target: Tensor, output: Tensor) -> Tensor:
    """What the wrapped loss receives as its target."""
    seen: list[Tensor] = []
    DeepSupervisionLoss(lambda x, t: seen.append(t) or x.sum())([output], target)
    return seen[0]


@given(
    old=st.lists(st.integers(1, 40), min_size=2, max_size=3),
    new=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    dtype=st.sampled_from([torch.bool, torch.uint8, torch.int64, torch.float32]),
    one_hot=st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_target_takes_the_nearest_pixel(old: list[int], new: list[int], dtype: torch.dtype, one_hot: bool) -> None:
    size = new[: len(old)]
    target = torch.randint(256, (2, *([3] if one_hot else []), *old)).to(dtype)
    ours = resized(target, torch.zeros(2, 3, *size))
    assert ours.dtype == dtype
    assert ours.shape == (*target.shape[: -len(old)], *size)
    # The nearest pixel by distance, one axis at a time; of two at the same distance, the later.
    expected = target
    for axis, (m, n) in enumerate(zip(old, size, strict=True), start=target.ndim - len(old)):
        doubled = [[abs((2 * i + 1) * m - (2 * j + 1) * n) for j in reversed(range(m))] for i in range(n)]
        nearest = torch.tensor([m - 1 - row.index(min(row)) for row in doubled])
        expected = expected.index_select(axis, nearest)
    assert ours.equal(expected)


@pytest.mark.parametrize("size", [(16, 16), (8, 4), (64, 128), (11, 32)], ids=str)
def test_target_agrees_with_torch_nearest_exact(size: tuple[int, int]) -> None:
    target = sample((2, 1, 32, 32))[1].float()
    assert resized(target, torch.zeros(2, 1, *size)).equal(F.interpolate(target, size, mode="nearest-exact"))


@pytest.mark.parametrize("weights", [[], [1.0, float("nan")], [float("inf")]], ids=["empty", "nan", "inf"])
def test_bad_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="one finite weight per head"):
        DeepSupervisionLoss(structure_loss, weights)


def test_bad_outputs_and_targets() -> None:
    logits, target = sample(SHAPES["2d"])
    with pytest.raises(ValueError, match=re.escape("expected 2 outputs (weights=(1.0, 0.5)), got 3")):
        DeepSupervisionLoss(structure_loss, weights=[1, 0.5])([logits] * 3, target)
    with pytest.raises(ValueError, match="at least one head"):
        DeepSupervisionLoss(structure_loss)([], target)
    with pytest.raises(ValueError, match=re.escape("got (24, 24)")):
        DeepSupervisionLoss(structure_loss)([logits], target[0, 0])
