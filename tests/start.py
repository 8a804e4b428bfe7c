"""The initial values of a module's parameters."""

import copy

import torch
from torch import nn


def assert_torchs_own(build) -> None:
    """Draw every convolution of what `build` makes again, as torch does and in their order: nothing may change."""
    torch.manual_seed(1)
    module = build()
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            layer.reset_parameters()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def assert_unit(convs) -> None:
    """Biases are 1, and weights small: (2^(1/L) - 1) / fan-in is their variance."""
    for conv in convs:
        assert torch.equal(conv.bias, torch.ones_like(conv.bias))
        assert 0 < conv.weight.std() < conv.weight[0].numel() ** -0.5
