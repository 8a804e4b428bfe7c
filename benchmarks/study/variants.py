"""U-Net v2 with other parts than the paper's, built from the library's public pieces."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.study.settings import Setting
from sdi_plugin import SDI, dimension, ops
from sdi_plugin.adapters.smp import UNetV2
from sdi_plugin.sdi import AttentiveReduction


class CombinedLevels(nn.Module):
    """SDI's terms at one level, fused in another way than by their product.

    Shape:
        xs: L maps (B, C, *S_j). Returns (B, C, *S_level).
    """

    def __init__(self, channels: int, levels: int, combine: str, norm: str | None):
        super().__init__()
        self.combine = combine
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels))
        self.mix = nn.Conv2d(levels * channels, channels, 1) if combine == "concat" else None
        self.scores = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in range(levels if combine == "attention" else 0))
        self.norm = dimension.norm(norm, channels, 2)

    def forward(self, xs: Sequence[Tensor], level: int) -> Tensor:
        size = xs[level].shape[2:]
        terms = [conv(ops.resize(x, size)) for conv, x in zip(self.convs, xs, strict=True)]
        return self.norm(self._fuse(terms))

    def _fuse(self, terms: list[Tensor]) -> Tensor:
        if self.combine == "sum":
            return torch.stack(terms).sum(0)
        if self.mix is not None:
            return self.mix(torch.cat(terms, 1))
        scores = [score(term) for score, term in zip(self.scores, terms, strict=True)]
        weights = torch.cat(scores, 1).softmax(1)  # (B, L, H, W)
        return (torch.stack(terms, 1) * weights.unsqueeze(2)).sum(1)


class Skip(nn.Module):
    """`sdi_plugin.SDISkip` with the parts that a `Setting` names.

    Shape:
        features: L maps (B, in_channels[j], *S_j), fine to coarse. Returns the maps (B, C, *S_i) of the levels i from
        `first` on.
    """

    def __init__(self, in_channels: Sequence[int], setting: Setting, first: int):
        super().__init__()
        levels, channels, self.first = len(in_channels), setting.channels, first
        norm = None if setting.norm == "none" else setting.norm
        self.reductions = nn.ModuleList(
            AttentiveReduction(c, channels)
            if setting.cbam
            else nn.Sequential(nn.Conv2d(c, channels, 1, bias=False), nn.BatchNorm2d(channels))
            for c in in_channels
        )
        self.sdi = nn.ModuleList(
            SDI(channels, levels, norm=norm, fusion=setting.fusion)
            if setting.combine == "product"
            else CombinedLevels(channels, levels, setting.combine, norm)
            for _ in range(first, levels)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        xs = [reduction(f) for reduction, f in zip(self.reductions, features, strict=True)]
        return [fused(xs, level) for level, fused in enumerate(self.sdi, self.first)]


class Variant(nn.Module):
    """U-Net v2 on the encoder of an smp model, with the parts that a `Setting` names.

    Shape:
        x: (B, 3, H, W), H and W multiples of 32. Returns logits (B, 1, H, W); in training mode one for each head,
        finest first.
    """

    def __init__(self, model: UNetV2, setting: Setting):
        super().__init__()
        self.encoder, self.output = model.encoder, setting.output
        self.levels = [i for i in model.levels if i > 1 or setting.stride2]
        finest, channels = 2 ** self.levels[0], setting.channels
        wanted = 1 if setting.stem else setting.logits_stride or finest
        # Levels finer than the logits are infused into the others, and get no maps of their own.
        first = int(wanted > finest)
        self.skip = Skip([model.encoder.out_channels[i] for i in self.levels], setting, first)
        further = max(0, int(math.log2(finest / wanted)))
        self.ups = nn.ModuleList(_up(channels) for _ in range(len(self.levels) - 1 - first))
        self.further_ups = nn.ModuleList(_up(channels) for _ in range(further))
        self.stem = nn.Conv2d(3, channels, 3, padding=1) if setting.stem else None
        maps = len(self.levels) - first + further
        heads = maps if setting.heads == "all" else int(setting.heads)
        if heads > maps:
            raise ValueError(f"study: expected at most {maps} heads for these levels, got {heads}.")
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in range(heads))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        features = self.encoder(x)
        *finer, y = self.skip([features[i] for i in self.levels])
        ys = [y]
        for h, up in zip(reversed(finer), reversed(self.ups), strict=True):
            y = up(y) + h
            ys.append(y)
        for up in self.further_ups:
            y = up(y)
            if self.stem is not None and y.shape[2:] == x.shape[2:]:
                y = y + self.stem(x)
            ys.append(y)
        size = x.shape[2:]
        logits = [
            F.interpolate(head(y), size, mode="bilinear", align_corners=False)
            for head, y in zip(self.heads, reversed(ys), strict=False)
        ]
        if self.training:
            return logits
        return torch.stack(logits).sum(0) if self.output == "sum" else logits[0]


def _up(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
