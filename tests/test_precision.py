"""Which parts of the decoder run in float32 under autocast in float16."""

import pytest
import torch

from sdi_plugin import UNetV2, UNetV2Decoder, precision


def pyramid(factor=1.0):
    return [factor * torch.randn(2, channels, size, size) for channels, size in ((8, 16), (8, 8), (8, 4), (8, 2))]


def large_products(decoder):
    """Give every term of the product a constant of 30, and the product 30^4 = 810,000: past float16."""
    for sdi in decoder.skip.sdi:
        for conv in sdi.convs:
            torch.nn.init.constant_(conv.bias, 30.0)
    return decoder


@pytest.mark.parametrize("fusion", ["product", "asinh"])
def test_features_stay_finite_where_the_product_exceeds_float16(fusion):
    decoder = large_products(UNetV2Decoder([8] * 4, 4, fusion=fusion))
    with torch.autocast("cpu", torch.float16):
        ys = decoder(pyramid())
    assert max(float(y.detach().abs().max()) for y in ys) > (65504 if fusion == "product" else 20)
    for y in ys:
        assert y.isfinite().all()
        assert y.dtype == (torch.float32 if fusion == "product" else torch.float16)


@pytest.mark.parametrize("fusion", ["product", "asinh"])
def test_logits_stay_finite_where_the_product_exceeds_float16(fusion):
    model = UNetV2("pvt_v2_b0", channels=4, deep_supervision=4, fusion=fusion)
    large_products(model.decoder)
    with torch.autocast("cpu", torch.float16):
        logits = model(torch.randn(2, 3, 64, 64))
    assert max(float(y.detach().abs().max()) for y in logits) > (65504 if fusion == "product" else 1)
    for y in logits:
        assert y.isfinite().all()
        assert y.dtype == (torch.float32 if fusion == "product" else torch.float16)


def test_bfloat16_and_float32_are_left_alone():
    decoder = large_products(UNetV2Decoder([8] * 4, 4))
    assert decoder(pyramid())[0].dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        y = decoder(pyramid())[0]
    assert y.dtype == torch.bfloat16
    assert y.isfinite().all()


def test_only_float32_under_float16_leaves_autocast():
    half, single = torch.zeros(1, dtype=torch.float16), torch.zeros(1)
    with torch.autocast("cpu", torch.float16):
        with precision.float32_stays(single):
            assert not torch.is_autocast_enabled("cpu")
        with precision.float32_stays(half):
            assert torch.is_autocast_enabled("cpu")
    with precision.float32_stays(single):
        assert not torch.is_autocast_enabled("cpu")
