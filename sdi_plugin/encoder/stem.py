"""Levels finer than an encoder's own, from a few convolutions on the image."""

from collections.abc import Sequence

from torch import Tensor, nn

STRIDES = (1, 2)
CHANNELS = (16, 32)  # light: at stride 1 each channel costs as much memory as 16 at stride 4


class ConvStem(nn.Module):
    """Maps of the image's own and of half its size, for boundaries that an encoder from stride 4 has lost.

    Per level a 3x3 convolution without bias, batch norm and ReLU, the second at stride 2 on the first.

    Shape:
        x: (B, in_channels, H, W). Returns (B, 16, H, W) and (B, 32, ceil(H / 2), ceil(W / 2)).
    """

    def __init__(self, in_channels: int):
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
            for before, channels, stride in zip((in_channels, *CHANNELS), CHANNELS, STRIDES, strict=False)
        )

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps
