"""SDI, the semantics and detail infusion that replaces U-Net's skip connections.

Peng, Sonka, Chen 2023, arXiv 2311.17791, section 2.3.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sdi_plugin import dimension, ops, precision
from sdi_plugin.attention import ChannelAttention, SpatialAttention

_T = TypeVar("_T")


def check_features(owner: str, xs: Sequence[Tensor], channels: Sequence[int], dim: int) -> None:
    """Raise a ValueError that names what differs from one (B, channels[j], *S_j) map for every level j."""
    if isinstance(xs, Tensor) or len(xs) != len(channels):
        got = "a single tensor" if isinstance(xs, Tensor) else len(xs)
        raise ValueError(
            f"{owner}: expected {len(channels)} feature maps (levels={len(channels)}), got {got}. "
            "Pass one per encoder stage, fine to coarse."
        )
    for level, (x, expected) in enumerate(zip(xs, channels, strict=True)):
        if x.ndim != dim + 2:
            axes = "(B, C, H, W)" if dim == 2 else "(B, C, D, H, W)"
            raise ValueError(f"{owner}: expected maps {axes} (dim={dim}), got {x.ndim} axes at level {level}.")
        if x.shape[1] != expected:
            raise ValueError(
                f"{owner}: expected {expected} channels at level {level}, got {x.shape[1]}. "
                "Levels go from fine to coarse; give their channels in the same order."
            )
        if x.shape[0] != xs[0].shape[0]:
            raise ValueError(f"{owner}: expected batch {xs[0].shape[0]} at every level, got {x.shape[0]} at {level}.")


def check_batch_norm(owner: str, xs: Sequence[Tensor]) -> None:
    """Raise a ValueError where batch norm, in training mode, would see a single value per channel."""
    for x in xs:
        if x.shape[0] == 1 and math.prod(x.shape[2:]) == 1:
            raise ValueError(
                f"{owner}: expected more than one value per channel for batch norm in training, got a map of shape "
                f"{tuple(x.shape)}. Pass a batch of 2 or more or a larger input, or call eval()."
            )


def _maybe_checkpoint(function: Callable[..., _T], *args: Any, enabled: bool, **kwargs: Any) -> _T:
    if not enabled:
        return function(*args, **kwargs)
    # Nothing in here draws random numbers; saving their state would break a graph under torch.compile.
    return cast(_T, checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, **kwargs))


class SDI(nn.Module):
    """Fuse the feature maps of all levels at one level's resolution.

    y = norm( fusion( prod_j conv_j(resize(x_j)) ) )        Peng et al. 2023, arXiv 2311.17791, eq. 3-5

    Args:
        channels: C, common to all levels.
        levels: L, the number of feature maps.
        dim: number of spatial axes, 2 or 3.
        norm: after the product, None as in the paper; "batch" or "layer" keeps its scale over many levels.
        fusion: "product", the paper's; or "asinh", 2 asinh(p / 2) of the product p, which it leaves as it is while it
            is small, and whose logarithm it takes where it is large. A product of L terms has a heavy tail, and in
            training outgrows float16 from about six levels on; "asinh" stays below 180 for whatever float32 holds.

    Shape:
        xs: L tensors (B, C, *S_j), fine to coarse. `level`: index of the target, 0 the finest.
        Returns (B, C, *S_level), dtype of xs[level].

    Convention:
        Each axis on its own: finer -> adaptive average pooling; coarser -> linear, align_corners=True; equal ->
        unchanged. The product and its asinh are in float32 also for half-precision maps and under autocast; the norm
        then sees it in the dtype of its own parameters, which is float32 under autocast. Under autocast in float16,
        which an unbounded product may exceed, fusion="product" without a norm returns float32.
        The buffer `bound`, 2, is there with fusion="asinh" alone: by it a state dict says which form it belongs to.

    Raises:
        ValueError: len(xs) != levels; a channel count differs from C; level out of range; channels or levels below 1;
            another norm or fusion.
    """

    bound: Tensor

    def __init__(self, channels: int, levels: int, dim: int = 2, *, norm: str | None = None, fusion: str = "product"):
        super().__init__()
        dimension.check("SDI", dim)
        if fusion not in ops.FUSIONS:
            raise ValueError(f"SDI: expected fusion {' or '.join(map(repr, ops.FUSIONS))}, got {fusion!r}.")
        if channels < 1 or levels < 1:
            raise ValueError(f"SDI: expected channels and levels >= 1, got {channels=}, {levels=}.")
        self.channels, self.levels, self.dim = channels, levels, dim
        self.convs = nn.ModuleList(dimension.conv(dim)(channels, channels, 3, padding=1) for _ in range(levels))
        self.norm = dimension.norm(norm, channels, dim)
        self.fusion = fusion
        if ops.FUSIONS[fusion]:
            self.register_buffer("bound", torch.tensor(ops.FUSIONS[fusion]))
        self.checkpointing = False

    def forward(self, xs: Sequence[Tensor], level: int) -> Tensor:
        check_features("SDI", xs, [self.channels] * self.levels, self.dim)
        if not 0 <= level < self.levels:
            raise ValueError(f"SDI: expected a level from 0 (finest) to {self.levels - 1}, got {level}.")
        if self.training and isinstance(self.norm, nn.BatchNorm2d | nn.BatchNorm3d):
            check_batch_norm("SDI", xs[level : level + 1])
        return fuse([self], xs, [level])[0]


def fuse(modules: Sequence[SDI], xs: Sequence[Tensor], levels: Sequence[int]) -> list[Tensor]:
    """The SDI modules' outputs, each at its level, for maps that have been checked: all in one call of the op."""
    convs = [cast(nn.Conv2d, conv) for module in modules for conv in module.convs]
    normed, fusion = not isinstance(modules[0].norm, nn.Identity), modules[0].fusion
    wide = normed or (fusion == "product" and precision.is_float16(xs[0]))
    # Only the product is recomputed: batch norm would update its running statistics twice.
    products = _maybe_checkpoint(
        ops.resize_smooth_multiply_stage,
        xs,
        [conv.weight for conv in convs],
        [cast(Tensor, conv.bias) for conv in convs],
        levels,
        enabled=modules[0].checkpointing and modules[0].training,
        fusion=fusion,
        out_dtype=torch.promote_types(xs[0].dtype, torch.float32) if wide else None,
    )
    if not normed:
        return products
    return [
        module.norm(product.to(cast(Tensor, module.norm.weight).dtype)).to(xs[level].dtype)
        for module, product, level in zip(modules, products, levels, strict=True)
    ]


class AttentiveReduction(nn.Module):
    """Attend to one level's features and reduce them to the common number of channels.

    x = ca(f) * f;  x = sa(x) * x;  g = BN(conv1x1(x))        Peng et al. 2023, arXiv 2311.17791, eq. 1-2

    Shape:
        f: (B, in_channels, *S). Returns (B, channels, *S).
    """

    def __init__(self, in_channels: int, channels: int, dim: int = 2):
        super().__init__()
        self.channel_attention = ChannelAttention(in_channels, dim=dim)
        self.spatial_attention = SpatialAttention(dim=dim)
        self.conv = dimension.conv(dim)(in_channels, channels, 1, bias=False)
        self.bn = dimension.norm("batch", channels, dim)
        self.checkpointing = False

    def forward(self, f: Tensor) -> Tensor:
        # The norm stays outside: recomputed, it would update its running statistics twice.
        return self.bn(_maybe_checkpoint(self._attend, f, enabled=self.checkpointing and self.training))

    def _attend(self, f: Tensor) -> Tensor:
        x = self.channel_attention(f) * f
        return self.conv(self.spatial_attention(x) * x)


class SDISkip(nn.Module):
    """SDI at every level: drops in where an encoder-decoder hands its skip connections over.

    Args:
        in_channels: of every level, fine to coarse.
        channels: C, common to all levels inside.
        out_channels: of every level after a 1x1 projection; None leaves C. in_channels keeps a decoder's contract.
        dim: number of spatial axes, 2 or 3.
        norm, fusion: of the product, see `SDI`.
        checkpointing: recompute the attention and SDI in backward instead of storing their maps.

    Shape:
        features: L tensors (B, in_channels[j], *S_j), fine to coarse.
        Returns L tensors (B, C or out_channels[j], *S_j).

    Raises:
        ValueError: the number, the axes, the channels or the batch of the maps differ from what was announced; in
            training mode, a level has a single value per channel, of which batch norm can learn no variance.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 32,
        out_channels: Sequence[int] | None = None,
        dim: int = 2,
        *,
        norm: str | None = None,
        fusion: str = "product",
        checkpointing: bool = False,
    ):
        super().__init__()
        dimension.check("SDISkip", dim)
        levels = len(in_channels)
        if levels == 0 or channels < 1 or min(in_channels) < 1:
            raise ValueError(
                f"SDISkip: expected one or more levels, and channels >= 1, got in_channels={list(in_channels)}, "
                f"{channels=}."
            )
        if out_channels is not None and (len(out_channels) != levels or min(out_channels) < 1):
            raise ValueError(
                f"SDISkip: expected out_channels for {levels} levels, each >= 1, got {list(out_channels)}."
            )
        self.in_channels, self.channels, self.dim = tuple(in_channels), channels, dim
        self.out_channels = (channels,) * levels if out_channels is None else tuple(out_channels)
        self.reductions = nn.ModuleList(AttentiveReduction(c, channels, dim) for c in in_channels)
        self.sdi = nn.ModuleList(SDI(channels, levels, dim, norm=norm, fusion=fusion) for _ in in_channels)
        self.projections = nn.ModuleList(
            nn.Identity() if out_channels is None else dimension.conv(dim)(channels, c, 1) for c in self.out_channels
        )
        self.set_grad_checkpointing(checkpointing)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for module in self.modules():
            if isinstance(module, SDI | AttentiveReduction):
                module.checkpointing = enable

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        check_features("SDISkip", features, self.in_channels, self.dim)
        if self.training:
            check_batch_norm("SDISkip", features)
        xs = [reduction(f) for reduction, f in zip(self.reductions, features, strict=True)]
        fused = list(xs)
        # A level that nothing reads may have no SDI (`sdi_plugin.adapters.smp.with_sdi`); its map passes.
        targets = [level for level, sdi in enumerate(self.sdi) if isinstance(sdi, SDI)]
        for level, h in zip(targets, fuse([cast(SDI, self.sdi[i]) for i in targets], xs, targets), strict=True):
            fused[level] = h
        with precision.float32_stays(fused[targets[0]] if targets else fused[0]):
            return [projection(h) for projection, h in zip(self.projections, fused, strict=True)]
