"""SDI between the encoder and the decoder of smp's own models."""

import copy
import pickle
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from sdi_plugin.adapters.smp import UNetV2, with_sdi
from tests import start

# Which features of a CNN (image first) each decoder reads.
READS = {
    smp.Unet: (1, 2, 3, 4, 5),
    smp.UnetPlusPlus: (1, 2, 3, 4, 5),
    smp.MAnet: (1, 2, 3, 4, 5),
    smp.Linknet: (1, 2, 3, 4, 5),
    smp.FPN: (2, 3, 4, 5),
    smp.PSPNet: (3,),
    smp.DeepLabV3: (5,),
    smp.DeepLabV3Plus: (2, 5),
    smp.PAN: (2, 3, 4, 5),
    smp.UPerNet: (2, 3, 4, 5),
    smp.Segformer: (1, 2, 3, 4, 5),
}


@pytest.fixture(params=READS, ids=lambda architecture: architecture.__name__)
def architecture(request):
    return request.param


def test_the_decoder_gets_fused_features_of_its_own_channels(architecture):
    plain = architecture("resnet18", encoder_weights=None, classes=2).eval()
    keys = list(plain.state_dict())
    model: Any = with_sdi(plain, channels=8)
    assert model is plain
    assert [key for key in model.state_dict() if not key.startswith("sdi.")] == keys
    assert model.sdi.read == READS[architecture]

    seen = []
    model.decoder.register_forward_pre_hook(lambda decoder, arguments: seen.extend(arguments[0]))
    x = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        masks = model(x)
        features = model.encoder(x)
        fused = dict(zip(model.sdi.read, model.sdi([features[level] for level in model.sdi.levels]), strict=True))
    assert masks.shape == (1, 2, 128, 128)
    assert [tuple(f.shape) for f in seen] == [tuple(f.shape) for f in features]
    for index, feature in enumerate(features):
        is_read = index in READS[architecture]
        assert torch.equal(seen[index], fused[index] if is_read else feature)
        assert torch.equal(seen[index], feature) is not is_read


# timm's depthwise convolutions, in backward
@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")
@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto"])
def test_every_parameter_of_sdi_and_decoder_gets_a_gradient(architecture, encoder):
    if smp.__version__.startswith("0.5.") and architecture in (smp.UnetPlusPlus, smp.Linknet) and encoder[:3] == "tu-":
        pytest.skip("these decoders of smp 0.5 do not run on a feature of no channels")
    model = with_sdi(architecture(encoder, encoder_weights=None), channels=4)
    model(torch.rand(2, 3, 128, 128)).square().mean().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert [name for name in missing if not name.startswith("encoder.")] == []


def test_probing_the_decoder_leaves_it_as_it_was():
    model = smp.UPerNet("resnet18", encoder_weights=None)
    modes = [module.training for module in model.decoder.modules()]
    features = [feature.detach() for feature in model.encoder(torch.rand(2, 3, 64, 64))]
    before = copy.deepcopy(model.state_dict())
    with_sdi(model, channels=4)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert [module.training for module in model.decoder.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.decoder(features).requires_grad


def test_dtype_and_evaluation_mode_are_kept():
    model = smp.Unet("resnet18", encoder_weights=None).double().eval()
    with_sdi(model, channels=4)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert not any(module.training for module in model.modules())
    assert model.predict(torch.rand(1, 3, 64, 64, dtype=torch.float64)).dtype == torch.float64


def test_a_level_that_the_encoder_does_not_have_passes_through():
    model: Any = with_sdi(smp.Unet("mit_b0", encoder_weights=None), channels=4).eval()
    assert model.sdi.levels == (2, 3, 4, 5)
    assert model.predict(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_deepcopy_and_pickle_keep_their_own_sdi(copied):
    model: Any = with_sdi(smp.Unet("resnet18", encoder_weights=None), channels=4).eval()
    other, x = copied(model), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(x)
        assert torch.equal(other(x), before)
        for parameter in other.sdi.parameters():
            parameter.zero_()
        assert not torch.equal(other(x), before)
        assert torch.equal(model(x), before)
    with pytest.raises(RuntimeError, match="from_pretrained would rebuild a plain Unet"):
        other.save_pretrained("x")


def test_state_dict_round_trip():
    model, other = (with_sdi(smp.FPN("resnet18", encoder_weights=None), channels=4).eval() for _ in range(2))
    other.load_state_dict(model.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(other.predict(x), model.predict(x))


def test_compile():
    torch.compiler.reset()
    model: Any = with_sdi(smp.Unet("tu-test_resnet", 3, None, decoder_channels=(8, 8, 8)), channels=4).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-6)
    torch.compiler.reset()


def test_options_reach_the_skip():
    model: Any = with_sdi(smp.Unet("resnet18", encoder_weights=None), 4, norm="batch", checkpointing=True)
    assert model.sdi.sdi[0].checkpointing
    assert isinstance(model.sdi.sdi[0].norm, torch.nn.BatchNorm2d)
    model(torch.rand(2, 3, 64, 64)).mean().backward()


def test_the_start_is_an_argument():
    model: Any = with_sdi(smp.FPN("resnet18", encoder_weights=None), 4, init="unit")
    convs = [conv for index in model.sdi.read for conv in model.sdi.sdi[model.sdi.levels.index(index)].convs]
    assert len(convs) == 4 * 5
    start.assert_unit(convs)
    plain = smp.FPN("resnet18", encoder_weights=None)
    with pytest.raises(ValueError, match="expected init"):
        with_sdi(plain, init="he")
    assert not hasattr(plain, "sdi")


@pytest.mark.parametrize("call", ["save_pretrained", "push_to_hub"])
def test_saving_that_would_lose_the_sdi_is_an_error(tmp_path, call):
    model: Any = with_sdi(smp.Unet("resnet18", encoder_weights=None), channels=4)
    with pytest.raises(RuntimeError, match="lose the SDI.*state_dict"):
        getattr(model, call)(str(tmp_path))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: with_sdi(smp.Unet("resnet18", encoder_weights=None)), ValueError, "Unet that has it already"),
        (lambda: UNetV2("tu-test_resnet", encoder_weights=None), ValueError, "UNetV2 that has it already"),
        (
            lambda: smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None),
            ValueError,
            "only the encoder's features, got a DPT",
        ),
        (lambda: torch.nn.Identity(), TypeError, "got Identity"),
    ],
    ids=["twice", "UNetV2", "DPT", "no smp model"],
)
def test_models_that_cannot_take_sdi(build, kind, message):
    model = build()
    keys = list(model.state_dict())
    with pytest.raises(kind, match=message):
        with_sdi(model)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no-grad", "inference"])
def test_it_can_be_inserted_with_gradients_off(context):
    with context():
        model = with_sdi(smp.Unet("resnet18", encoder_weights=None)).eval()
        assert tuple(model(torch.zeros(1, 3, 64, 64)).shape) == (1, 1, 64, 64)
