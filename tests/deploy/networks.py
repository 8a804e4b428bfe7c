"""A small network with every part of a graph that depends on the images' size."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from sdi_plugin import UNetV2Decoder, canvas
from sdi_plugin.checkpoint import Card
from sdi_plugin.deploy import Loaded

CARD = Card(mean=(120, 110, 100), std=(60, 50, 40), labels=("background", "polyp"))


class Small(nn.Module):
    """Two levels of a stand-in for an encoder, the decoder, and a head: quick to export."""

    def __init__(self, classes: int):
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)])
        self.decoder = UNetV2Decoder([4, 6], 4, init="unit")
        self.head = nn.Conv2d(4, classes, 1)
        self.position = nn.Parameter(torch.randn(1, 4, 5, 5))  # like that of timm's ViTs

    def forward(self, x):
        padded = canvas.pad(x, 32)
        fine = self.levels[0](padded)
        fine = fine + F.interpolate(self.position, fine.shape[2:], mode="bicubic", antialias=True)
        y = self.decoder([fine, self.levels[1](fine.relu())])[0]
        return canvas.to_image(self.head(y), x.shape[2:], padded.shape[2:])


def small(card: Card = CARD, classes: int = 1) -> Loaded:
    torch.manual_seed(0)
    return Loaded(Small(classes).eval(), card, Path(__file__))
