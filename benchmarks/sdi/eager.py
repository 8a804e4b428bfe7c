"""SDI and its attention written directly from the paper's equations, in plain PyTorch, without sdi_plugin.

Peng et al. 2023, arXiv 2311.17791, eq. 1-5: contiguous maps, one operator after the other, a product that starts at 1.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Adaptive average pooling where x is finer, linear with align_corners=True where it is coarser."""
    flat = x.ndim == 4
    if x.shape[-1] > size[-1]:
        pool: Any = F.adaptive_avg_pool2d if flat else F.adaptive_avg_pool3d
        return pool(x, tuple(size))
    if x.shape[-1] < size[-1]:
        return F.interpolate(x, size=tuple(size), mode="bilinear" if flat else "trilinear", align_corners=True)
    return x


def stage(
    xs: Sequence[Tensor], weights: Sequence[Tensor], biases: Sequence[Tensor], targets: Sequence[int]
) -> list[Tensor]:
    """SDI at several levels. Weights and biases are in order of targets, then levels."""
    conv = F.conv2d if xs[0].ndim == 4 else F.conv3d
    levels = len(xs)
    outputs = []
    for number, target in enumerate(targets):
        y = torch.ones_like(xs[target])
        for source, x in enumerate(xs):
            own = number * levels + source
            y = y * conv(resize(x, xs[target].shape[2:]), weights[own], biases[own], padding=1)
        outputs.append(y)
    return outputs


def attend_and_reduce(f: Tensor, fc1: Tensor, fc2: Tensor, conv7: Tensor, conv1: Tensor) -> Tensor:
    """Attention and reduction of one level, eq. 1-2, before the norm."""
    flat = f.ndim == 4
    conv = F.conv2d if flat else F.conv3d
    average_pool: Any = F.adaptive_avg_pool2d if flat else F.adaptive_avg_pool3d
    max_pool: Any = F.adaptive_max_pool2d if flat else F.adaptive_max_pool3d
    pooled = (average_pool(f, 1), max_pool(f, 1))
    average, maximum = (conv(F.relu(conv(p, fc1)), fc2) for p in pooled)
    f = torch.sigmoid(average + maximum) * f
    maps = torch.cat([f.mean(1, keepdim=True), f.max(1, keepdim=True).values], 1)
    f = torch.sigmoid(conv(maps, conv7, padding=3)) * f
    return conv(f, conv1)


class Reduction(nn.Module):
    """Attention, reduction and norm of one level on the parameters of an `sdi_plugin` AttentiveReduction."""

    def __init__(self, source: Any):
        super().__init__()
        self.source: Any = source

    def forward(self, f: Tensor) -> Tensor:
        channel, spatial = self.source.channel_attention, self.source.spatial_attention
        weights = (module.weight for module in (channel.fc1, channel.fc2, spatial.conv, self.source.conv))
        return self.source.bn(attend_and_reduce(f, *weights))


class Skip(nn.Module):
    """The paper's whole skip connection on the parameters of an `sdi_plugin` SDISkip."""

    def __init__(self, skip: Any):
        super().__init__()
        self.reductions = nn.ModuleList(Reduction(reduction) for reduction in skip.reductions)
        self.sdi: Any = skip.sdi

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        xs = [reduction(f) for reduction, f in zip(self.reductions, features, strict=True)]
        convs = [conv for sdi in self.sdi for conv in sdi.convs]
        return stage(xs, [conv.weight for conv in convs], [conv.bias for conv in convs], range(len(xs)))


class Decoder(nn.Module):
    """The paper's whole decoder on the parameters of an `sdi_plugin` UNetV2Decoder: levels that halve exactly."""

    def __init__(self, decoder: Any):
        super().__init__()
        self.skip = Skip(decoder.skip)
        self.ups: Any = decoder.ups

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *finer, y = self.skip(features)
        ys = [y]
        for h, up in zip(reversed(finer), reversed(self.ups), strict=True):
            y = up(y) + h
            ys.append(y)
        return ys[::-1]
