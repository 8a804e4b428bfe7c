"""The unit start of variants: the terms of every fused map start so that the map's standard deviation is about 1."""

import math

from torch import Tensor, nn

from benchmarks.study.variants import CombinedLevels, Variant
from sdi_plugin import SDI


def start_at_unit_scale(variant: Variant) -> None:
    """Draw SDI's convolutions and the up-sampling convolutions anew, as `init="unit"` of the package does.

    Of L independent terms of mean 0, a sum has the variance 1 for terms of variance 1 / L, a mean (the attention's,
    whose weights start near 1 / L) for L, and concatenation with a 1x1 convolution for 1 and the like in that
    convolution. Transposed convolutions halve the variance, so that the sum over levels stays bounded.
    """
    for fused in variant.skip.sdi:
        if isinstance(fused, SDI):
            fused.init_unit()
        elif isinstance(fused, CombinedLevels):
            levels = len(fused.convs)
            for conv in fused.convs:
                _draw(conv, {"sum": 1 / levels, "attention": levels, "concat": 1.0}[fused.combine])
            if isinstance(fused.mix, nn.Conv2d):
                _draw(fused.mix, 1.0)
    for up in (*variant.ups, *variant.further_ups):
        assert isinstance(up, nn.ConvTranspose2d)
        reached = up.weight[:, 0].numel() / math.prod(up.stride)  # input values of one output value
        nn.init.normal_(up.weight, std=math.sqrt(0.5 / reached))


def _draw(conv: nn.Module, variance: float) -> None:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(conv.bias, Tensor)
    nn.init.normal_(conv.weight, std=math.sqrt(variance / conv.weight[0].numel()))
    nn.init.zeros_(conv.bias)
