import pytest
import torch
import torch.nn.functional as F

from sdi_plugin import ChannelAttention, SpatialAttention

SHAPES = [(2, 33, 7, 5), (1, 1, 1, 1), (2, 20, 3, 4, 5)]
ids = ["2d", "one-pixel-one-channel", "3d"]


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_channel_attention_follows_cbam_equation_2(shape):
    x = torch.randn(shape)
    attention = ChannelAttention(shape[1], dim=len(shape) - 2)
    first, second = attention.fc1.weight.flatten(1), attention.fc2.weight.flatten(1)
    pixels = x.flatten(2)
    gates = [F.linear(F.relu(F.linear(v, first)), second) for v in (pixels.mean(2), pixels.max(2).values)]
    expected = torch.sigmoid(gates[0] + gates[1]).reshape(*shape[:2], *[1] * (len(shape) - 2))
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
def test_spatial_attention_follows_cbam_equation_3(shape):
    x = torch.randn(shape)
    attention = SpatialAttention(dim=len(shape) - 2)
    conv = {4: F.conv2d, 5: F.conv3d}[len(shape)]
    stacked = torch.stack([x.mean(1), x.max(1).values], dim=1)
    torch.testing.assert_close(attention(x), torch.sigmoid(conv(stacked, attention.conv.weight, padding=3)))


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 64])
def test_reduction_never_reaches_zero_channels(channels):
    assert ChannelAttention(channels).fc1.out_channels == max(1, channels // 16)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ChannelAttention(0), "channels"),
        (lambda: ChannelAttention(8, reduction=0), "reduction"),
        (lambda: ChannelAttention(8, dim=1), "dim 2 .images. or 3"),
        (lambda: SpatialAttention(4), "odd kernel_size"),
        (lambda: SpatialAttention(dim=4), "dim 2 .images. or 3"),
    ],
    ids=["no-channels", "no-reduction", "1d", "even-kernel", "4d"],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
