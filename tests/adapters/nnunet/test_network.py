"""The network on an nnU-Net plan: shapes, contract, gradients, scale, memory, what the planner asks for."""

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from benchmarks import memory
from sdi_plugin import ops
from sdi_plugin.adapters.nnunet import PVTUNetV2
from sdi_plugin.adapters.nnunet.decoder import NNUNetDecoder
from sdi_plugin.adapters.nnunet.plans import class_path, counterpart
from sdi_plugin.cli import main
from sdi_plugin.sdi import SDI
from tests import start
from tests.adapters.nnunet import plans as nnunet_plans

cases = pytest.mark.parametrize("case", nnunet_plans.CASES)


def build(architecture: dict[str, Any], *, inputs: int = 2, classes: int = 3, deep: bool = True) -> Any:
    return get_network_from_plans(
        counterpart(architecture["network_class_name"]),
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        inputs,
        classes,
        deep_supervision=deep,
    )


def sizes(architecture: dict[str, Any], patch: tuple[int, ...]) -> list[tuple[int, ...]]:
    size, found = patch, []
    for stride in architecture["arch_kwargs"]["strides"]:
        size = tuple(axis // step for axis, step in zip(size, stride, strict=True))
        found.append(size)
    return found


def total(outputs: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([y.float().square().mean() for y in outputs]).sum()


@cases
def test_outputs_are_at_the_scales_that_nnunet_supervises(case):
    architecture, patch = nnunet_plans.CASES[case]
    network = build(architecture)
    x = torch.randn(2, 2, *patch)
    outputs = network(x)
    assert [tuple(y.shape) for y in outputs] == [(2, 3, *size) for size in sizes(architecture, patch)[:-1]]
    network.eval()
    with torch.no_grad():
        outputs = network(x)
        network.decoder.deep_supervision = False
        assert torch.equal(network(x), outputs[0])


@cases
def test_every_parameter_gets_a_gradient(case):
    architecture, patch = nnunet_plans.CASES[case]
    network = build(architecture)
    total(network(torch.randn(2, 2, *patch))).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()] == []


@pytest.mark.parametrize("channels", [1, 5])
def test_any_number_of_input_channels(channels):
    architecture, patch = nnunet_plans.CASES["2d"]
    assert build(architecture, inputs=channels, deep=False)(torch.randn(2, channels, *patch)).shape == (2, 3, *patch)


@pytest.mark.parametrize("levels", range(3, 9))
def test_the_product_keeps_its_scale_for_any_number_of_levels(levels):
    network = build(nnunet_plans.architecture(nnunet_plans.strides(levels, 2), features=[4] * levels))
    xs = [smooth_noise(2 ** (levels + 1 - level)) for level in range(levels)]
    with torch.no_grad():
        for level, sdi in enumerate(network.decoder.skip.sdi):
            product = sdi(xs, level)
            assert 0.5 < product.std() < 2
            assert product.abs().max() < 1000  # float16 ends at 65504


def smooth_noise(size: int) -> torch.Tensor:
    """(1, 32, size, size) of unit variance that is the same at every other size: a plane wave per channel."""
    angles = torch.rand(32, 3) * 2 * torch.pi
    axis = torch.linspace(-1, 1, size)
    phase = angles[:, :1, None] * axis[:, None] + angles[:, 1:2, None] * axis + angles[:, 2:, None]
    return (2**0.5 * phase.sin()).unsqueeze(0)


def test_initialisation_is_nnunets_in_the_encoder_and_our_own_in_sdi():
    architecture, _ = nnunet_plans.CASES["3d"]
    network = build(architecture)
    first = network.encoder.stages[2][0].convs[1].conv
    assert torch.equal(first.bias, torch.zeros_like(first.bias))
    assert first.weight.std().item() == pytest.approx((2 / first.weight[0].numel()) ** 0.5, rel=0.1)
    start.assert_unit(conv for sdi in network.decoder.skip.sdi for conv in sdi.convs)


def test_the_decoders_start_is_an_entry_of_the_plan():
    architecture, _ = nnunet_plans.CASES["2d"]
    paper = build({**architecture, "arch_kwargs": architecture["arch_kwargs"] | {"init": "paper"}})
    assert not any((conv.bias == 1).any() for sdi in paper.decoder.skip.sdi for conv in sdi.convs)
    with pytest.raises(ValueError, match='expected init "paper" or "unit", got \'he\''):
        build({**architecture, "arch_kwargs": architecture["arch_kwargs"] | {"init": "he"}})


def test_the_papers_network_starts_as_in_the_paper_by_default():
    start.assert_torchs_own(lambda: NNUNetDecoder([4, 8], 2, heads=2))
    paper: Any = PVTUNetV2(3, 2, "pvt_v2_b0")
    assert not any((conv.bias == 1).any() for sdi in paper.decoder.skip.sdi for conv in sdi.convs)
    unit: Any = PVTUNetV2(3, 2, "pvt_v2_b0", init="unit")
    start.assert_unit(conv for sdi in unit.decoder.skip.sdi for conv in sdi.convs)


def test_the_norm_of_the_reductions_is_the_plans():
    architecture, _ = nnunet_plans.CASES["3d"]
    for reduction in build(architecture).decoder.skip.reductions:
        assert isinstance(reduction.bn, torch.nn.InstanceNorm3d)
        assert (reduction.bn.num_features, reduction.bn.affine) == (32, True)
    plain = build({**architecture, "arch_kwargs": architecture["arch_kwargs"] | {"norm_op": None}})
    assert isinstance(plain.decoder.skip.reductions[0].bn, torch.nn.BatchNorm3d)


def test_residual_blocks_start_as_the_identity():
    architecture, _ = nnunet_plans.CASES["3d-residual"]
    network = build(architecture)
    zeros = [name for name, value in stock(architecture).encoder.named_parameters() if not value.any()]
    assert [name for name, value in network.encoder.named_parameters() if not value.any()] == zeros
    assert any(name.endswith("conv2.norm.weight") for name in zeros)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", ["2d", "3d"])
def test_autocast_gives_finite_losses_and_gradients(case, precision):
    architecture, patch = nnunet_plans.CASES[case]
    network = build(architecture)
    # Twice the patch: on maps of 2 x 3 x 2, torch 2.14's own Conv3d now and then gives a bfloat16 weight gradient of
    # 1e36 on CPUs, because it reads uninitialised memory. From 4 x 4 x 4 up it does not.
    x = 20 * torch.randn(2, 2, *(2 * size for size in patch))
    with torch.autocast("cpu", precision):
        outputs = network(x)
    loss = total(outputs)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("case", ["2d", "3d"])
def test_compiles_to_one_graph(case):
    architecture, patch = nnunet_plans.CASES[case]
    network = build(architecture)
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    x = torch.randn(2, 2, *patch)
    torch.testing.assert_close(compiled(x), network(x))
    network.decoder.deep_supervision = False
    assert compiled(x).shape == (2, 3, *patch)


@pytest.mark.skipif(not ops.backends()["cpu"]["available"], reason="the reference keeps every map")
def test_saves_less_than_one_and_a_half_times_what_plainconvunet_saves():
    """The finest five of the six stages on a smaller patch: the maps of the 128^3 patch shrink alike."""
    architecture = nnunet_plans.architecture(nnunet_plans.strides(5), features=[32, 64, 128, 256, 320])
    x = torch.randn(1, 1, 32, 32, 32)
    _, ours = memory.saved_bytes(lambda: build(architecture, inputs=1)(x))
    _, plain = memory.saved_bytes(lambda: stock(architecture)(x))
    assert ours < 1.5 * plain


@pytest.mark.skipif(not ops.backends()["cpu"]["available"], reason="the reference keeps every map")
def test_checkpointing_saves_less_and_changes_nothing():
    architecture, patch = nnunet_plans.CASES["3d"]
    network = build(architecture)
    x = torch.randn(2, 2, *patch)
    plain, saved = memory.saved_bytes(lambda: network(x))
    network.decoder.set_grad_checkpointing(True)
    recomputed, less = memory.saved_bytes(lambda: network(x))
    assert less < saved
    torch.testing.assert_close(recomputed, plain)


@pytest.mark.skipif(not ops.backends()["cpu"]["available"], reason="the reference keeps every map")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("dim", [2, 3])
def test_the_planners_estimate_follows_the_saved_bytes(dim, residual, checkpointing):
    """nnU-Net's estimate of a network's memory, relative to its own network's, against the bytes that autograd keeps.

    It must not be less; the maps that forward and backward hold temporarily come on top.
    """
    stages, size = (6, 64) if dim == 2 else (4, 16)
    features = [min(512 if dim == 2 else 320, 32 * 2**stage) for stage in range(stages)]
    architecture = nnunet_plans.architecture(nnunet_plans.strides(stages, dim), features=features, residual=residual)
    x = torch.randn(1, 1, *[size] * dim)
    ours, plain = build(architecture, inputs=1), stock(architecture)
    ours.decoder.set_grad_checkpointing(checkpointing)
    estimated = ours.compute_conv_feature_map_size(x.shape[2:]) / plain.compute_conv_feature_map_size(x.shape[2:])
    saved = memory.saved_bytes(lambda: ours(x), ours.parameters())[1]
    saved /= memory.saved_bytes(lambda: plain(x), plain.parameters())[1]
    assert saved < estimated < 1.7 * saved


def stock(architecture: dict[str, Any]) -> Any:
    return get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        3,
        deep_supervision=True,
    )


def test_the_estimate_needs_a_patch_without_batch_and_channels():
    network = build(nnunet_plans.CASES["3d"][0])
    with pytest.raises(ValueError, match="expected a patch of 3 axes"):
        network.compute_conv_feature_map_size((2, 1, 16, 16, 16))


def test_heads_are_left_out_by_pretrained_weights(tmp_path):
    """nnU-Net's -pretrained_weights takes everything but seg_layers: another number of classes is no obstacle."""
    architecture, _ = nnunet_plans.CASES["3d"]
    network, other = build(architecture, classes=2), build(architecture, classes=5)
    torch.save({"network_weights": other.state_dict()}, tmp_path / "checkpoint.pth")
    heads = network.decoder.seg_layers[0].weight.clone()
    load_pretrained_weights(network, str(tmp_path / "checkpoint.pth"))
    assert torch.equal(network.decoder.skip.sdi[1].convs[0].weight, other.decoder.skip.sdi[1].convs[0].weight)
    first, expected = (each.encoder.stages[0][0].convs[0].conv.weight for each in (network, other))
    assert torch.equal(first, expected)
    assert torch.equal(network.decoder.seg_layers[0].weight, heads)


@pytest.mark.parametrize("case", ["2d", "3d-residual"])
def test_convert_says_that_a_plans_network_has_no_counterpart(case, tmp_path, capsys):
    state = build(nnunet_plans.CASES[case][0]).state_dict()
    torch.save({"network_weights": state, "trainer_name": "nnUNetTrainerUNetV2"}, tmp_path / "checkpoint_final.pth")
    command = ["convert", str(tmp_path / "checkpoint_final.pth"), str(tmp_path / "core.safetensors"), "--to", "core"]
    assert main(command) == 2
    assert "no counterpart outside nnU-Net" in capsys.readouterr().err


def test_plans_of_another_architecture_are_an_error():
    with pytest.raises(ValueError, match="expected plans for PlainConvUNet or ResidualEncoderUNet, got x.y.Primus"):
        counterpart("x.y.Primus")
    assert counterpart(class_path(PlainConvUNet)) != counterpart(class_path(ResidualEncoderUNet))


def test_every_level_has_sdi():
    architecture, _ = nnunet_plans.CASES["3d-anisotropic"]
    network = build(architecture)
    assert [sdi.levels for sdi in network.decoder.skip.sdi if isinstance(sdi, SDI)] == [3] * 3
