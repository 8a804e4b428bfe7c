"""The contenders compute the same, and the eager one what the specification says."""

import pytest
import torch

from benchmarks.sdi import contenders, eager
from benchmarks.sdi.cases import Case
from benchmarks.sdi.contenders import build
from sdi_plugin import SDISkip, UNetV2
from sdi_plugin.ops import reference


@pytest.mark.parametrize("name", ["2d-stage-60-l3-b2", "3d-stage-7-l3"], ids=["2d", "3d"])
def test_the_eager_stage_is_the_specification(name):
    case = Case.parse(name)
    xs, weights, biases = case.inputs(torch.float64, "cpu")
    for target, y in enumerate(eager.stage(xs, weights, biases, case.targets)):
        own = slice(target * len(xs), (target + 1) * len(xs))
        expected = reference.resize_smooth_multiply(xs, weights[own], biases[own], target)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_the_eager_skip_connection_is_that_of_the_package(training):
    skip = SDISkip([16, 32], 8).double().train(training)
    features = [torch.randn(2, 16, 12, 12).double(), torch.randn(2, 32, 6, 6).double()]
    for a, b in zip(eager.Skip(skip)(features), skip(features), strict=True):
        torch.testing.assert_close(a, b)


def test_the_eager_network_has_the_same_weights_and_another_skip_connection():
    model = UNetV2("pvt_v2_b0", channels=8).eval()
    other = contenders.with_eager_skip(model)
    assert isinstance(other.decoder.skip, eager.Skip)
    assert isinstance(model.decoder.skip, SDISkip)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image), other(image), rtol=1e-4, atol=1e-5)


def agree(name, *, compiled=False):
    case = Case.parse(name)
    results = {}
    for contender in contenders.names(case, compiled=compiled):
        built = build(case, contender)
        outputs = built.forward()
        results[contender] = [*outputs, *built.backward_of(built.cotangents(outputs))()]
        assert len(built.kinds) == len(built.leaves)
    expected = results.pop("eager")
    assert "ours" in results
    for contender, result in results.items():
        for a, b in zip(result, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=lambda text, n=contender: f"{n}: {text}")


@pytest.mark.parametrize("name", ["2d-stage-32-b2", "3d-level2-8-l3", "2d-attention-64-b2", "3d-decoder-8-l2-b2"])
def test_all_contenders_give_the_same_outputs_and_gradients(name):
    agree(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's own, while it compiles
@pytest.mark.parametrize("name", ["2d-stage-32-b2", "2d-attention-64-b2"])
def test_the_compiled_contender_too(name):
    torch._dynamo.reset()
    agree(name, compiled=True)


def test_forward_keeps_no_graph():
    assert not any(y.requires_grad for y in build(Case.parse("2d-stage-32"), "ours").forward())


def test_an_eager_channels_last_output_is_channels_last():
    outputs = build(Case.parse("2d-stage-32"), contenders.CHANNELS_LAST).forward()
    assert outputs[0].is_contiguous(memory_format=torch.channels_last)
    assert build(Case.parse("2d-stage-32"), contenders.EAGER).forward()[0].is_contiguous()
