"""Namings: recognised, renamed without loss, described."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import sdi_plugin.adapters.smp
from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.checkpoint import CheckpointError, without_weights
from tests import official

assert sdi_plugin.adapters.smp.UNetV2 is smp.UNetV2  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def official_state() -> dict[str, Tensor]:
    return official.state()


def _shapes(**arguments: Any) -> dict[str, Tensor]:
    """The core's names and shapes, without memory for the weights."""
    return dict(without_weights(lambda: UNetV2(**{"encoder": "pvt_v2_b0", **arguments})).state_dict())


def test_identify(official_state: dict[str, Tensor]):
    core = _shapes(deep_supervision=2)
    encoder = timm.create_model("pvt_v2_b0")
    assert checkpoint.identify(official_state) == "official"
    assert checkpoint.identify(official.renamed(official_state)) == "official"
    assert checkpoint.identify(core) == "core"
    assert checkpoint.identify(checkpoint.convert(core, "smp")[0]) == "smp"
    assert checkpoint.identify(official.pvt_v2_state("pvt_v2_b0")) == "pvt_v2"
    assert checkpoint.identify(encoder.state_dict()) == "timm"
    assert checkpoint.identify(timm.create_model("pvt_v2_b0", features_only=True).state_dict()) == "timm"


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_other_architectures_are_refused_with_some_of_their_names(name: str):
    state = without_weights(lambda: timm.create_model(name)).state_dict()
    with pytest.raises(CheckpointError, match="another architecture") as caught:
        checkpoint.identify(state)
    assert next(iter(state)) in str(caught.value)
    assert f"and {len(state) - 5} more" in str(caught.value)


def test_official_names_have_our_counterparts(official_state: dict[str, Tensor]):
    core, dropped = checkpoint.convert(official_state)
    assert dropped == ["encoder.backbone.head.weight", "encoder.backbone.head.bias", "deconv5.weight"]
    assert core.keys() == _shapes(classes=2, channels=16, deep_supervision=4).keys()
    for ours, theirs in {  # ARCHITECTURE.md, written out by hand
        "encoder.model.patch_embed.proj.weight": "encoder.backbone.patch_embed1.proj.weight",
        "encoder.model.stages_2.downsample.norm.bias": "encoder.backbone.patch_embed3.norm.bias",
        "encoder.model.stages_3.norm.weight": "encoder.backbone.norm4.weight",
        "encoder.model.stages_1.blocks.0.mlp.dwconv.bias": "encoder.backbone.block2.0.mlp.dwconv.dwconv.bias",
        "decoder.skip.reductions.0.channel_attention.fc1.weight": "ca_1.fc1.weight",
        "decoder.skip.reductions.3.spatial_attention.conv.weight": "sa_4.conv1.weight",
        "decoder.skip.reductions.1.conv.weight": "Translayer_2.conv.weight",
        "decoder.skip.reductions.2.bn.num_batches_tracked": "Translayer_3.bn.num_batches_tracked",
        "decoder.skip.sdi.1.convs.3.bias": "sdi_2.convs.3.bias",
        "decoder.ups.0.weight": "deconv4.weight",
        "decoder.ups.2.weight": "deconv2.weight",
        "decoder.heads.0.weight": "seg_outs.3.weight",
        "decoder.heads.3.bias": "seg_outs.0.bias",
    }.items():
        assert core[ours] is official_state[theirs], ours


def test_the_official_encoder_is_named_as_timm_names_it():
    state = official.pvt_v2_state("pvt_v2_b0")
    by_timm = timm.models.pvt_v2.checkpoint_filter_fn(state, None)
    by_timm = {key.replace("stages.", "stages_"): value for key, value in by_timm.items()}
    whole = {f"backbone.{key}": value for key, value in state.items()} | {"seg_outs.0.bias": torch.ones(1)}
    ours = checkpoint.convert(whole)[0]
    by_timm = {f"encoder.model.{key}": value for key, value in by_timm.items() if not key.startswith("head.")}
    assert all(ours.pop(key) is value for key, value in by_timm.items())
    assert list(ours) == ["decoder.heads.3.bias"]


def test_names_that_no_naming_knows_are_kept_for_the_check(official_state: dict[str, Tensor]):
    core, dropped = checkpoint.convert(official_state | {"extra.weight": torch.ones(1)})
    assert "extra.weight" in core
    assert "extra.weight" not in dropped


def test_two_names_for_one_parameter_are_refused(official_state: dict[str, Tensor]):
    both = official_state | {"attention_1.convs.0.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"sdi_1\.convs\.0\.weight and attention_1\.convs\.0\.weight"):
        checkpoint.convert(both)


@settings(deadline=None, max_examples=12)
@given(
    heads=st.integers(0, 4),
    classes=st.integers(1, 5),
    channels=st.integers(1, 40),
    in_channels=st.integers(1, 5),
    norm=st.sampled_from([None, "batch", "layer"]),
    fusion=st.sampled_from(["product", "asinh"]),
)
def test_core_to_smp_and_back_is_exact(
    heads: int, classes: int, channels: int, in_channels: int, norm: str | None, fusion: str
):
    arguments = {
        "classes": classes,
        "channels": channels,
        "in_channels": in_channels,
        "norm": norm,
        "fusion": fusion,
    }
    core = _shapes(**arguments, deep_supervision=heads)
    there, dropped = checkpoint.convert(core, "smp")
    network = without_weights(
        lambda: smp.create_model(
            "unetv2",
            "tu-pvt_v2_b0",
            None,
            in_channels,
            classes,
            decoder_channels=channels,
            decoder_norm=norm,
            decoder_fusion=fusion,
            deep_supervision=heads,
        )
    )
    checkpoint.check(there, network.state_dict(), "smp")
    back, dropped_back = checkpoint.convert(there, "core")
    assert dropped == dropped_back == []
    assert list(back) == list(core)
    assert all(back[key] is core[key] for key in core)
    expected = {"encoder": "pvt_v2_b0", **arguments, "deep_supervision": heads if heads > 1 else 0}
    assert checkpoint.describe(core) == checkpoint.describe(there) == expected
    assert checkpoint.convert(there, "smp")[0].keys() == there.keys()


def test_smps_classification_head_is_dropped():
    network = smp.create_model("unetv2", "tu-pvt_v2_b0", None, aux_params={"classes": 3})
    core, dropped = checkpoint.convert(network.state_dict())
    assert dropped == ["classification_head.3.weight", "classification_head.3.bias"]
    assert core.keys() == _shapes().keys()


@pytest.mark.parametrize("name", [f"pvt_v2_b{i}" for i in range(6)] + ["pvt_v2_b2_li"])
def test_describe_knows_every_encoder(name: str):
    state = _shapes(encoder=name)
    assert checkpoint.describe(state)["encoder"] == name
    assert _shapes(**checkpoint.describe(state)).keys() == state.keys()


def test_describe_official(official_state: dict[str, Tensor]):
    expected = {
        "encoder": "pvt_v2_b0",
        "in_channels": 3,
        "classes": 2,
        "channels": 16,
        "deep_supervision": 4,
        "norm": None,
        "fusion": "product",
    }
    assert checkpoint.describe(official_state) == expected


def _without(prefix: str) -> dict[str, Tensor]:
    return {key: value for key, value in _shapes().items() if not key.startswith(prefix)}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(lambda: {}, "another architecture", id="empty"),
        pytest.param(lambda: official.pvt_v2_state("pvt_v2_b0"), "only those of an encoder", id="encoder only"),
        pytest.param(lambda: _without("decoder.heads.0."), r"none for decoder\.heads\.0\.weight", id="no heads"),
        pytest.param(lambda: _without("encoder.model.stages_3.blocks.1."), r"\(2, 2, 2, 1\) blocks", id="a block less"),
        pytest.param(
            lambda: dict(smp.create_model("unetv2", "tu-convnext_atto", None).state_dict()),
            r"PVTv2 encoder, got none for encoder\.model\.patch_embed",
            id="ConvNeXt",
        ),
        pytest.param(
            lambda: _shapes() | {"decoder.heads.0.weight": torch.ones(3)}, r"4 axes .*, got shape \(3,\)", id="axes"
        ),
        pytest.param(
            lambda: _shapes() | {"decoder.heads.0.weight": torch.ones(10**9, 0, 1, 1)},
            r"of 1 or more, got shape \(1000000000, 0, 1, 1\)",
            id="empty axes",
        ),
    ],
)
def test_describe_refuses(state: Any, expected: str):
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.describe(state())


def test_convert_refuses_other_namings():
    with pytest.raises(ValueError, match="'core', 'smp', 'mmseg', 'nnunet'"):
        checkpoint.convert(_shapes(), "keras")


@pytest.mark.parametrize(
    ("naming", "one", "other"),
    [
        ("smp", "segmentation_head.0.bias", "decoder.heads.0.bias"),
        ("mmseg", "backbone.model.patch_embed.proj.bias", "encoder.model.patch_embed.proj.bias"),
        ("nnunet", "decoder.seg_layers.0.bias", "decoder.heads.0.bias"),
    ],
)
def test_two_names_in_other_namings_are_refused(naming: str, one: str, other: str):
    state, _ = checkpoint.convert(_shapes(), naming)
    with pytest.raises(CheckpointError, match=f"one name for each parameter, got {one} and {other} for one. Leave"):
        checkpoint.convert(state | {other: torch.ones(1)})
