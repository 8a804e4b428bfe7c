"""Official weights: our network computes what the official one does."""

import re

import pytest
import timm
import torch
from torch import Tensor

from sdi_plugin import UNetV2, checkpoint
from tests import official


def _features(state: dict[str, Tensor], encoder: str, x: Tensor) -> list[Tensor]:
    """timm's features in float64, with the weights renamed here and not by sdi_plugin."""
    names = {"patch_embed1": "patch_embed", **{f"patch_embed{i + 1}": f"stages_{i}.downsample" for i in (1, 2, 3)}}
    names |= {f"norm{i + 1}": f"stages_{i}.norm" for i in range(4)}
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.removeprefix("encoder.backbone.").partition(".")
        if key.startswith("encoder.backbone.") and first != "head":
            first = names.get(first) or re.sub(r"block(\d)", lambda m: f"stages_{int(m[1]) - 1}.blocks", first)
            renamed[f"{first}.{rest}".replace("dwconv.dwconv", "dwconv")] = value
    model = timm.create_model(encoder, features_only=True).double().eval()
    model.load_state_dict(renamed)
    return model(x)


@pytest.mark.parametrize(
    ("encoder", "size"),
    [
        pytest.param("pvt_v2_b0", 256, id="b0 at 256"),
        pytest.param("pvt_v2_b0", 352, id="b0 at 352"),
        pytest.param("pvt_v2_b2", 352, id="b2 at 352"),
    ],
)
@torch.no_grad()
def test_our_logits_are_the_official_ones(encoder: str, size: int):
    weights = official.state(encoder, classes=2, channels=32)
    image = torch.randn(1, 3, size, size)
    double = {key: value.double() for key, value in weights.items()}
    expected = official.forward(double, _features(double, encoder, image.double()), size)

    model = UNetV2(encoder, classes=2, deep_supervision=4).eval()
    dropped = checkpoint.load_state(model, weights)
    assert dropped == ["encoder.backbone.head.weight", "encoder.backbone.head.bias", "deconv5.weight"]
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        found = model.to(dtype).forward_heads(image.to(dtype))
        for head, (logits, reference) in enumerate(zip(found, expected, strict=True)):
            error = (logits.double() - reference).abs().max() / reference.abs().max()
            assert error <= tolerance, f"head {head} in {dtype}: {error:.1e}"


@torch.no_grad()
def test_both_official_namings_are_one_network():
    weights = official.state()
    first, second = UNetV2("pvt_v2_b0", classes=2, channels=16), UNetV2("pvt_v2_b0", classes=2, channels=16)
    checkpoint.load_state(first, weights, heads="drop")
    checkpoint.load_state(second, official.renamed(weights), heads="drop")
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
