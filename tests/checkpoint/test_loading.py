"""Loading: everything or nothing, and the differences by name."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

import sdi_plugin.adapters.smp  # noqa: F401  registers "unetv2"
from sdi_plugin import UNetV2, checkpoint
from sdi_plugin.checkpoint import CheckpointError
from tests import official


def _network(**arguments: Any) -> UNetV2:
    return UNetV2("pvt_v2_b0", **{"channels": 16, "classes": 2, **arguments})


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    return official.state("pvt_v2_b0", classes=2, channels=16)


@pytest.fixture(scope="module")
def encoder_state() -> dict[str, Tensor]:
    return timm.create_model("pvt_v2_b0").state_dict()


def _assert_refused(model: nn.Module, call: Any, *expected: str) -> None:
    """A CheckpointError that says each of `expected`, and a model that is bit for bit what it was."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        call(model)
    for text in expected:
        assert text in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("naming", ["official", "official 2", "core", "smp"])
def test_load_takes_every_naming(tmp_path: Path, whole: dict[str, Tensor], naming: str):
    core, _ = checkpoint.convert(whole)
    state = {
        "official": whole,
        "official 2": official.renamed(whole),
        "core": core,
        "smp": checkpoint.convert(core, "smp")[0],
    }[naming]
    checkpoint.save(tmp_path / "x.safetensors", state)
    model = _network(deep_supervision=4)
    checkpoint.load(model, tmp_path / "x.safetensors")
    for key, value in model.state_dict().items():
        assert torch.equal(value, core[key]), key


def test_load_takes_what_smp_saved(tmp_path: Path):
    network = smp.create_model("unetv2", "tu-pvt_v2_b0", None, decoder_channels=16, classes=2, deep_supervision=True)
    network.save_pretrained(tmp_path)  # pyright: ignore[reportCallIssue]
    model = _network(deep_supervision=2).eval()
    checkpoint.load(model, tmp_path / "model.safetensors")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), network.eval()(x))


def test_heads_that_the_model_lacks(whole: dict[str, Tensor]):
    model = _network()
    _assert_refused(
        model,
        lambda m: checkpoint.load_state(m, whole),
        "Unexpected: decoder.heads.3.weight, decoder.heads.3.bias, decoder.heads.2.weight, ",
        "UNetV2(encoder='pvt_v2_b0', in_channels=3, classes=2, channels=16, deep_supervision=4, norm=None, "
        "fusion='product')",
        'or pass heads="drop"',
    )
    dropped = checkpoint.load_state(model, whole, heads="drop")
    assert set(dropped) == {
        *("encoder.backbone.head.weight", "encoder.backbone.head.bias", "deconv5.weight"),
        *(f"decoder.heads.{k}.{kind}" for k in (1, 2, 3) for kind in ("weight", "bias")),
    }
    assert torch.equal(model.decoder.heads[0].bias, whole["seg_outs.3.bias"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("heads", ["strict", "drop"])
def test_heads_that_the_checkpoint_lacks(heads: str):
    state = _network(deep_supervision=1).state_dict()
    _assert_refused(
        _network(deep_supervision=2),
        lambda m: checkpoint.load_state(m, state, heads),
        "Missing: decoder.heads.1.weight, decoder.heads.1.bias.",
    )


def test_differences_are_named_the_first_ten_then_counted(whole: dict[str, Tensor]):
    state = {key: value for key, value in whole.items() if not key.startswith("sdi_1.")}
    state |= {f"extra.{i}": torch.ones(1) for i in range(12)} | {"ca_1.fc2.weight": torch.ones(5, 1, 1, 1)}
    first, last = "decoder.skip.sdi.0.convs.0.weight", "decoder.skip.sdi.0.convs.3.bias"
    _assert_refused(
        _network(deep_supervision=4),
        lambda m: checkpoint.load_state(m, state),
        f"Missing: {first}, ",
        f"{last}. Unexpected: extra.0, ",
        "extra.9 and 2 more.",
        "Different shapes: decoder.skip.reductions.0.channel_attention.fc2.weight "
        "(expected (32, 2, 1, 1), got (5, 1, 1, 1)).",
    )


@pytest.mark.parametrize(
    ("built", "said"),
    [
        pytest.param(
            {"classes": 3}, "decoder.heads.0.weight (expected (3, 16, 1, 1), got (2, 16, 1, 1))", id="classes"
        ),
        pytest.param(
            {"channels": 8}, "UNetV2(encoder='pvt_v2_b0', in_channels=3, classes=2, channels=16", id="channels"
        ),
        pytest.param({"in_channels": 1}, "proj.weight (expected (32, 1, 7, 7), got (32, 3, 7, 7))", id="in_channels"),
        pytest.param({"norm": "batch"}, "Missing: decoder.skip.sdi.0.norm.weight", id="norm"),
    ],
)
def test_other_networks_are_reported(whole: dict[str, Tensor], built: dict[str, Any], said: str):
    model = _network(deep_supervision=4, **built)
    _assert_refused(model, lambda m: checkpoint.load_state(m, whole), said, "build that network.")


def test_other_kinds_of_numbers_are_refused(whole: dict[str, Tensor]):
    state = whole | {"seg_outs.3.bias": torch.ones(2, dtype=torch.uint8)}
    said = "decoder.heads.0.bias (expected torch.float32, got torch.uint8)"
    _assert_refused(_network(deep_supervision=4), lambda m: checkpoint.load_state(m, state), said)


def test_load_names_the_file(tmp_path: Path):
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "x.pth")
    _assert_refused(
        _network(), lambda m: checkpoint.load(m, tmp_path / "x.pth"), f"{tmp_path / 'x.pth'}: ", "fc.weight"
    )
    with pytest.raises(FileNotFoundError):
        checkpoint.load(_network(), tmp_path / "y.pth")
    with pytest.raises(ValueError, match='"strict" or "drop"'):
        checkpoint.load_state(_network(), {}, heads="some")


@pytest.mark.parametrize("kind", ["pvt_v2", "timm", "timm pyramid", "official", "official 2", "core", "smp"])
def test_load_encoder_takes_every_naming(tmp_path: Path, whole: dict[str, Tensor], kind: str):
    expected = {k: v for k, v in checkpoint.convert(whole)[0].items() if k.startswith("encoder.model.")}
    expected = {key.removeprefix("encoder.model."): value for key, value in expected.items()}
    dotted = {key.replace("stages_", "stages."): value for key, value in expected.items()}
    prefix = "encoder.backbone."
    state = {
        "pvt_v2": {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)},
        "timm": dotted | {"head.weight": torch.ones(10, 256), "head.bias": torch.ones(10)},
        "timm pyramid": expected,
        "official": whole,
        "official 2": official.renamed(whole),
        "core": checkpoint.convert(whole)[0],
        "smp": checkpoint.convert(whole, "smp")[0],
    }[kind]
    torch.save(state, tmp_path / "x.pth")
    model = UNetV2("pvt_v2_b0", encoder_weights=tmp_path / "x.pth")
    for key, value in model.encoder.model.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "convnext_atto", "mobilenetv3_small_100"])
@pytest.mark.parametrize("depth", [3, 5])
def test_load_encoder_takes_other_classifiers_of_timm(tmp_path: Path, name: str, depth: int):
    classifier = timm.create_model(name, num_classes=5)
    torch.save(classifier.state_dict(), tmp_path / "x.pth")
    network: Any = smp.create_model("unetv2", f"tu-{name}", str(tmp_path / "x.pth"), encoder_depth=depth)
    states = classifier.state_dict()
    for key, value in network.encoder.model.state_dict().items():
        assert torch.equal(value, states[key if key in states else key.replace("_", ".", 1)]), key


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", ["pvt_v2_b0", "convnext_atto"])
def test_the_first_convolution_is_adapted_as_timm_does(tmp_path: Path, name: str, in_channels: int):
    classifier = timm.create_model(name)
    torch.save(classifier.state_dict(), tmp_path / "x.pth")
    network: Any = smp.create_model("unetv2", f"tu-{name}", str(tmp_path / "x.pth"), in_channels=in_channels)
    model = network.encoder.model
    first = next(iter(classifier.state_dict()))
    found, rgb = next(iter(model.state_dict().values())), classifier.state_dict()[first]
    if in_channels == 1:
        assert torch.equal(found, rgb.sum(1, keepdim=True))
    else:
        assert torch.equal(found, torch.cat([rgb, rgb], 1)[:, :in_channels] * (3 / in_channels))


def _changed(state: dict[str, Tensor], drop: str = "", **extra: Tensor) -> dict[str, Tensor]:
    kept = {key: value for key, value in state.items() if not (drop and key.startswith(drop))}
    return kept | {key.replace("__", "."): value for key, value in extra.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"drop": "stages.1.norm."}, "Missing: stages_1.norm.weight, stages_1.norm.bias.", id="missing"),
        pytest.param({"adapter__weight": torch.ones(1)}, "Unexpected: adapter.weight.", id="unexpected"),
        pytest.param(
            {"stages__1__norm__bias": torch.ones(3)}, "stages_1.norm.bias (expected (64,), got (3,))", id="shape"
        ),
        pytest.param(
            {"patch_embed__proj__weight": torch.ones(32, 4, 7, 7)},
            "patch_embed.proj.weight (expected (32, 3, 7, 7), got (32, 4, 7, 7))",
            id="four channels",
        ),
    ],
)
def test_load_encoder_is_strict(tmp_path: Path, encoder_state: dict[str, Tensor], change: dict[str, Any], said: str):
    torch.save(_changed(encoder_state, **change), tmp_path / "x.pth")
    model = timm.create_model("pvt_v2_b0", features_only=True)
    _assert_refused(
        model, lambda m: checkpoint.load_encoder(m, tmp_path / "x.pth", "pvt_v2_b0"), f"{tmp_path / 'x.pth'}: ", said
    )


def test_load_encoder_refuses_another_architecture(tmp_path: Path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "x.pth")
    model = timm.create_model("pvt_v2_b0", features_only=True)
    _assert_refused(
        model,
        lambda m: checkpoint.load_encoder(m, tmp_path / "x.pth", "pvt_v2_b0"),
        "another architecture",
        "conv1.weight",
    )


def test_load_encoder_refuses_another_size(tmp_path: Path, encoder_state: dict[str, Tensor]):
    torch.save(encoder_state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"pvt_v2_b1: .* Different shapes: patch_embed\.proj\.weight"):
        UNetV2("pvt_v2_b1", encoder_weights=tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError):
        UNetV2("pvt_v2_b0", encoder_weights=tmp_path / "none.pth")
