import copy
import io
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.memory import saved_bytes
from sdi_plugin import SDI, SDISkip, ops
from sdi_plugin.sdi import fuse
from tests import start


def pyramid(size, channels, batch=2):
    return [
        torch.randn(batch, c, *(max(1, -(-s // 2**level)) for s in size), requires_grad=True)
        for level, c in enumerate(channels)
    ]


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_sdi_is_the_op_on_its_own_weights(dim, level):
    xs = pyramid((9, 6, 5)[:dim], [4, 4, 4])
    sdi = SDI(4, levels=3, dim=dim)
    weights, biases = zip(*((conv.weight, conv.bias) for conv in sdi.convs), strict=True)
    assert torch.equal(sdi(xs, level), ops.resize_smooth_multiply(xs, weights, biases, level))


@settings(deadline=None, max_examples=25)
@given(
    size=st.one_of(st.tuples(st.integers(1, 20), st.integers(1, 20)), st.tuples(*[st.integers(1, 8)] * 3)),
    channels=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    project=st.booleans(),
)
def test_skip_keeps_every_levels_size_whatever_the_pyramid(size, channels, project):
    skip = SDISkip(channels, 3, out_channels=channels if project else None, dim=len(size))
    features = pyramid(size, channels)
    outputs = skip(features)
    expected = channels if project else [3] * len(channels)
    assert [tuple(y.shape) for y in outputs] == [(2, c, *f.shape[2:]) for c, f in zip(expected, features, strict=True)]


@pytest.mark.parametrize("norm", [None, "batch", "layer"], ids=str)
@pytest.mark.parametrize("dim", [2, 3])
def test_every_parameter_and_feature_gets_a_gradient(dim, norm):
    channels = [8, 16, 24]
    skip, features = SDISkip(channels, 4, channels, dim, norm=norm), pyramid((9, 7, 5)[:dim], channels)
    torch.stack([y.square().mean() for y in skip(features)]).sum().backward()
    for name, tensor in [*skip.named_parameters(), *((f"feature {i}", f) for i, f in enumerate(features))]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", [None, "batch", "layer"], ids=str)
def test_norm_after_the_product_gives_unit_scale(kind):
    sdi = SDI(8, levels=4, norm=kind)
    y = sdi(pyramid((16, 16), [8] * 4), 0)
    assert (abs(y.std() - 1) < 0.05) == (kind is not None)


def test_norm_sees_the_product_before_half_precision_would_overflow():
    sdi = SDI(2, levels=2, norm="layer")
    sdi.convs.half()
    for parameter in sdi.convs.parameters():
        torch.nn.init.constant_(parameter, 20)
    xs = [torch.rand(1, 2, 4, 4).half() for _ in range(2)]
    xs = [x * 60 for x in xs]
    (product,) = fuse([sdi], xs, [0])
    assert product.dtype == torch.float16
    assert product.isfinite().all()


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("fusion", ["product", "asinh"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_autocast_gives_maps_close_to_float32_in_half_precision_where_that_holds_them(dtype, fusion, norm):
    skip = SDISkip([8, 16], 4, fusion=fusion, norm=norm)
    features = [f.detach() for f in pyramid((9, 7), [8, 16])]
    exact = skip(features)
    with torch.autocast("cpu", dtype):
        outputs = skip(features)
    unbounded = dtype == torch.float16 and fusion == "product" and norm is None
    for y, expected in zip(outputs, exact, strict=True):
        assert y.dtype == (torch.float32 if unbounded else dtype)
        assert (y - expected).abs().max() < 32 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["batch", "layer"])
@pytest.mark.parametrize("dim", [2, 3])
def test_norm_works_in_a_network_of_half_precision(dim, kind, dtype):
    skip = SDISkip([4, 8], 4, dim=dim, norm=kind).to(dtype)
    features = [f.detach().to(dtype) for f in pyramid((6, 5, 4)[:dim], [4, 8])]
    for y in skip(features):
        assert y.dtype == dtype
        assert y.isfinite().all()


def test_checkpointing_saves_what_the_op_keeps_and_changes_nothing():
    plain, features = SDISkip([8, 16, 32], 8, norm="batch"), pyramid((33, 20), [8, 16, 32])
    recomputing = copy.deepcopy(plain)
    recomputing.set_grad_checkpointing()
    results = []
    for skip in (plain, recomputing):
        outputs, size = saved_bytes(lambda skip=skip: skip(features))
        gradients = torch.autograd.grad(
            torch.cat([y.square().flatten() for y in outputs]).sum(), [*skip.parameters(), *features]
        )
        results.append((size, [*outputs, *gradients, *skip.buffers()]))
    (plain_size, expected), (size, actual) = results
    assert size < plain_size
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("targets", [(0,), (2,), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("project", [False, True], ids=["as-fused", "projected"])
def test_targets_are_the_levels_of_the_whole_skip_and_the_others_have_no_parameters(targets, project):
    channels = [8, 16, 24]
    whole = SDISkip(channels, 4, channels if project else None).eval()
    part = SDISkip(channels, 4, channels if project else None, targets=targets).eval()
    state = whole.state_dict()
    spare = [f"{owner}.{level}." for owner in ("sdi", "projections") for level in {0, 1, 2} - {*targets}]
    part.load_state_dict({name: value for name, value in state.items() if not name.startswith(tuple(spare))})
    features = pyramid((9, 7), channels)
    expected = whole(features)
    outputs = part(features)
    torch.testing.assert_close(outputs, [expected[level] for level in targets], rtol=0, atol=0)
    torch.stack([y.square().mean() for y in outputs]).sum().backward()
    assert [name for name, parameter in part.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm), (None, nn.Identity), (nn.InstanceNorm2d, nn.InstanceNorm2d)],
    ids=["batch", "layer", "none", "a-function"],
)
def test_reduction_norm_is_the_one_asked_for(norm, kind):
    skip: Any = SDISkip([4, 8], 6, reduction_norm=norm)
    assert [type(reduction.bn) for reduction in skip.reductions] == [kind] * 2
    if norm is nn.InstanceNorm2d:
        assert all(reduction.bn.num_features == 6 for reduction in skip.reductions)
    assert all(y.isfinite().all() for y in skip(pyramid((8, 6), [4, 8])))


@pytest.mark.parametrize("norm", ["layer", None], ids=str)
def test_one_pixel_and_batch_one_train_without_batch_norm(norm):
    outputs = SDISkip([4, 8], 4, reduction_norm=norm)([torch.ones(1, 4, 2, 2), torch.ones(1, 8, 1, 1)])
    assert all(y.isfinite().all() for y in outputs)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_papers_start_is_torchs_own(dim):
    start.assert_torchs_own(lambda: SDISkip([4, 8, 20], 6, [4, 8, 20], dim))


@pytest.mark.parametrize("levels", range(2, 9))
@pytest.mark.parametrize("dim", [2, 3])
def test_the_unit_start_gives_terms_of_one_plus_noise_and_a_product_of_unit_scale(dim, levels):
    sdi = SDI(32, levels, dim, init="unit")
    xs = torch.randn(levels, 2, 32, *[20, 10][dim - 2 :][:1] * dim)
    inner = (slice(None), slice(None), *[slice(1, -1)] * dim)  # zeros stand around the map
    with torch.no_grad():
        terms = torch.stack([conv(x)[inner] for conv, x in zip(sdi.convs, xs, strict=True)])
        product = sdi(list(xs), 0)[inner]
    assert all(abs(term.mean() - 1) < 0.05 for term in terms)
    assert all(abs(term.var() / (2 ** (1 / levels) - 1) - 1) < 0.1 for term in terms)
    assert abs(product.mean() - 1) < 0.1
    assert abs(product.std() - 1) < 0.2


def test_survives_pickling_and_deepcopy():
    skip, features = SDISkip([4, 8], 4, [4, 8]).eval(), pyramid((5, 5), [4, 8])
    for twin in (pickle.loads(pickle.dumps(skip)), copy.deepcopy(skip)):
        torch.testing.assert_close(twin(features), skip(features), rtol=0, atol=0)
    buffer = io.BytesIO()
    torch.save(skip.state_dict(), buffer)
    buffer.seek(0)
    SDISkip([4, 8], 4, [4, 8]).load_state_dict(torch.load(buffer, weights_only=True))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([(2, 4, 8, 8)], r"expected 2 feature maps \(levels=2\), got 1. Pass one per encoder stage"),
        ([(2, 4, 8, 8), (2, 4, 4, 4)], "expected 8 channels at level 1, got 4"),
        ([(2, 4, 8), (2, 8, 4)], r"expected maps \(B, C, H, W\) \(dim=2\), got 3 axes at level 0"),
        ([(2, 4, 8, 8), (1, 8, 4, 4)], "expected batch 2 at every level, got 1 at 1"),
        ([(1, 4, 2, 2), (1, 8, 1, 1)], "more than one value per channel"),
        ((2, 4, 8, 8), "got a single tensor"),
    ],
    ids=["too-few", "channels", "axes", "batch", "batch-norm", "tensor"],
)
def test_bad_features_are_named(features, message):
    xs = torch.zeros(features) if isinstance(features, tuple) else [torch.zeros(shape) for shape in features]
    with pytest.raises(ValueError, match=message):
        SDISkip([4, 8], 4)(xs)


def test_one_pixel_and_batch_one_work_in_eval_mode():
    outputs = SDISkip([4, 8], 4).eval()([torch.zeros(1, 4, 2, 2), torch.zeros(1, 8, 1, 1)])
    assert [tuple(y.shape[2:]) for y in outputs] == [(2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SDI(0, 4), "channels and levels >= 1"),
        (lambda: SDI(4, 0), "channels and levels >= 1"),
        (lambda: SDI(4, 2, dim=1), "dim 2"),
        (lambda: SDI(4, 2, norm="group"), 'None, "batch" or "layer"'),
        (lambda: SDISkip([]), "one or more levels"),
        (lambda: SDISkip([4, 0]), "channels >= 1"),
        (lambda: SDISkip([4, 8], 4, [4]), "out_channels for 2 levels"),
        (lambda: SDISkip([4, 8], targets=[]), r"one or more targets from 0 \(finest\) to 1, .*got \[\]"),
        (lambda: SDISkip([4, 8], targets=[2]), r"targets from 0 \(finest\) to 1, .*got \[2\]"),
        (lambda: SDISkip([4, 8], targets=[-1, 0]), r"got \[-1, 0\]"),
        (lambda: SDISkip([4, 8], targets=[1, 0]), r"finest first, got \[1, 0\]"),
        (lambda: SDISkip([4, 8], targets=[0, 0]), r"each once and finest first, got \[0, 0\]"),
        (lambda: SDISkip([4, 8], reduction_norm="group"), 'None, "batch" or "layer", got \'group\''),
        (lambda: SDI(4, 2, init="he"), 'SDI: expected init "paper" or "unit", got \'he\''),
        (lambda: SDISkip([4, 8], init="he"), 'SDI: expected init "paper" or "unit", got \'he\''),
    ],
    ids=[
        *("channels", "levels", "dim", "norm", "no-levels", "no-channels", "out-channels"),
        *("no-targets", "target-too-coarse", "negative-target", "coarse-first", "target-twice"),
        *("reduction-norm", "init", "init-of-the-skip"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("level", [-1, 2])
def test_a_level_out_of_range_is_named(level):
    with pytest.raises(ValueError, match=r"level from 0 \(finest\) to 1"):
        SDI(4, 2)(pyramid((4, 4), [4, 4]), level)


def test_batch_norm_after_the_product_needs_more_than_one_value():
    sdi = SDI(4, 1, norm="batch")
    with pytest.raises(ValueError, match="SDI: expected more than one value per channel"):
        sdi([torch.zeros(1, 4, 1, 1)], 0)


def test_a_state_dict_says_which_fusion_it_belongs_to():
    bounded, product = SDI(4, 2, fusion="asinh"), SDI(4, 2)
    assert set(bounded.state_dict()) == {*product.state_dict(), "bound"}
    with pytest.raises(RuntimeError, match="Unexpected key.*bound"):
        product.load_state_dict(bounded.state_dict())
    with pytest.raises(RuntimeError, match="Missing key.*bound"):
        bounded.load_state_dict(product.state_dict())


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.bfloat16, torch.nn.Module.double])
def test_asinh_works_in_a_network_of_another_dtype(convert):
    skip, features = SDISkip([4, 8], 4, fusion="asinh"), [f.detach() for f in pyramid((6, 5), [4, 8])]
    exact, skip = skip(features), convert(skip)
    dtype = next(skip.parameters()).dtype
    for y, expected in zip(skip([f.to(dtype) for f in features]), exact, strict=True):
        assert y.dtype == dtype
        torch.testing.assert_close(y.double(), expected.double(), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("owner", [lambda fusion: SDI(4, 2, fusion=fusion), lambda fusion: SDISkip([4], fusion=fusion)])
def test_another_fusion_is_refused(owner):
    with pytest.raises(ValueError, match="SDI: expected fusion 'product' or 'asinh', got 'max'"):
        owner("max")
