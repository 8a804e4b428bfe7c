"""Frozen parts of an encoder: found by what its levels depend on, and kept in evaluation mode."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def freeze(encoder: Any, network: nn.Module, levels: int, size: tuple[int, int]) -> None:
    """No gradients for the parameters of `network` on which the `levels` finest levels depend.

    Args:
        encoder: a module that maps images (B, encoder.in_channels, H, W) to its levels, fine to coarse.
        network: the part of it that may be frozen.
        size: (H, W) of images that it takes.
    """
    if levels == len(encoder.out_channels):
        network.requires_grad_(False)
        return
    inside = set(network.parameters())
    for parameter in (encoder.get_parameter(name) for name in _used(encoder, levels, size)):
        if parameter in inside:
            parameter.requires_grad_(False)


def frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The largest modules inside this one that have parameters, all of them frozen."""
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            yield child
        else:
            yield from frozen_parts(child)


def _used(encoder: Any, levels: int, size: tuple[int, int]) -> list[str]:
    """Names of the parameters on which the finest levels depend."""
    twin = copy.deepcopy(encoder).float().train()  # in evaluation some of timm's networks cache what they compute
    first = next(twin.parameters())
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        features = twin(torch.zeros(2, twin.in_channels, *size, device=first.device))
        total = torch.stack([feature.sum() for feature in features[:levels]]).sum()
    named = dict(twin.named_parameters())
    gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return [name for name, gradient in zip(named, gradients, strict=True) if gradient is not None]
