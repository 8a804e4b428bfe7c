"""SDI, the semantics and detail infusion module that replaces U-Net's skip connections.

Peng, Sonka, Chen 2023, arXiv 2311.17791, section 2.3.
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sdi_plugin import dimension, ops, precision
from sdi_plugin.attention import AttentiveReduction, reduce
from sdi_plugin.recompute import maybe_checkpoint

INITS = ("paper", "unit")


def check_features(owner: str, xs: Sequence[Tensor], channels: Sequence[int], dim: int) -> None:
    """Raise a ValueError that says what differs, unless there is one map (B, channels[j], *S_j) for every level j."""
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
    """Raise a ValueError if batch norm in training mode would see a single value per channel."""
    for x in xs:
        if x.shape[0] == 1 and math.prod(x.shape[2:]) == 1:
            raise ValueError(
                f"{owner}: expected more than one value per channel for batch norm in training, got a map of shape "
                f"{tuple(x.shape)}. Pass a batch of 2 or more or a larger input, or call eval()."
            )


def check_init(owner: str, init: str) -> None:
    """Raise a ValueError for an init other than "paper" and "unit"."""
    if init not in INITS:
        raise ValueError(f'{owner}: expected init "paper" or "unit", got {init!r}.')


class SDI(nn.Module):
    """Fuse the feature maps of all levels at one level's resolution.

    y = norm( fusion( prod_j conv_j(resize(x_j)) ) )        Peng et al. 2023, arXiv 2311.17791, eq. 3-5

    Args:
        channels: C, common to all levels.
        levels: L, the number of feature maps.
        dim: number of spatial axes, 2 or 3.
        norm: after the product, None as in the paper; "batch" or "layer" keeps its scale over many levels.
        fusion: "product", the paper's; or "asinh", 2 asinh(p / 2) of the product p: close to p while p is small, and
            logarithmic where p is large. A product of L terms has a heavy tail, and in training exceeds float16 from
            about six levels on; "asinh" stays below 180 for every value of float32.
        init: "paper", torch's default initialisation of the convolutions, with which the product shrinks with every
            level; or "unit": every term starts at 1 + noise, and the product has a standard deviation of about 1 for
            any L.

    Shape:
        xs: L tensors (B, C, *S_j), fine to coarse. `level`: index of the target; 0 is the finest.
        Returns (B, C, *S_level), dtype of xs[level].

    Convention:
        Each axis independently: finer -> adaptive average pooling; coarser -> linear, align_corners=True; equal ->
        unchanged. The product and its asinh are in float32 even for half-precision maps and under autocast; the norm
        then gets it in the dtype of its own parameters, which is float32 under autocast. Under autocast in float16,
        which an unbounded product may exceed, fusion="product" without a norm returns float32.
        The buffer `bound`, 2, exists only with fusion="asinh", so that a state dict shows which form it belongs to.

    Raises:
        ValueError: len(xs) != levels; a channel count differs from C; level out of range; channels or levels below 1;
            an unknown norm, fusion or init.

    Examples:
        >>> import torch
        >>> from sdi_plugin import SDI
        >>> sdi = SDI(channels=32, levels=3)
        >>> xs = [torch.randn(1, 32, 40, 30), torch.randn(1, 32, 20, 15), torch.randn(1, 32, 10, 8)]
        >>> sdi(xs, level=1).shape
        torch.Size([1, 32, 20, 15])
    """

    bound: Tensor

    def __init__(
        self,
        channels: int,
        levels: int,
        dim: int = 2,
        *,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
    ):
        super().__init__()
        dimension.check("SDI", dim)
        check_init("SDI", init)
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
        if init == "unit":
            self.init_unit()

    def init_unit(self) -> None:
        """Draw the weights of init="unit" again: every term is 1 + noise.

        b = 1;  w ~ N(0, v / (C * 3^dim)),  v = 2^(1/L) - 1

        On maps of unit variance a term has mean 1 and variance v, and the product of L independent terms has variance
        (1 + v)^L - 1 = 1: neither the product nor its gradients drift with L.
        """
        for conv in self._convs():
            variance = 2 ** (1 / self.levels) - 1
            nn.init.normal_(conv.weight, std=math.sqrt(variance / conv.weight[0].numel()))
            nn.init.ones_(cast(Tensor, conv.bias))

    def _convs(self) -> list[nn.Conv2d]:
        return [cast(nn.Conv2d, conv) for conv in self.convs]

    def forward(self, xs: Sequence[Tensor], level: int) -> Tensor:
        check_features("SDI", xs, [self.channels] * self.levels, self.dim)
        if not 0 <= level < self.levels:
            raise ValueError(f"SDI: expected a level from 0 (finest) to {self.levels - 1}, got {level}.")
        if self.training and isinstance(self.norm, nn.BatchNorm2d | nn.BatchNorm3d):
            check_batch_norm("SDI", xs[level : level + 1])
        return fuse([self], xs, [level])[0]


def fuse(modules: Sequence[SDI], xs: Sequence[Tensor], levels: Sequence[int]) -> list[Tensor]:
    """The outputs of the SDI modules, each at its level, in one call of the op. The maps must have been checked."""
    convs = [conv for module in modules for conv in module._convs()]
    normed, fusion = not isinstance(modules[0].norm, nn.Identity), modules[0].fusion
    wide = normed or (fusion == "product" and precision.is_float16(xs[0]))
    # Only the product is recomputed: batch norm would update its running statistics twice.
    products = maybe_checkpoint(
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


class SDISkip(nn.Module):
    """SDI at every level: replaces the skip connections between an encoder and a decoder.

    Args:
        in_channels: channels of every level, fine to coarse.
        channels: C, common to all levels inside.
        out_channels: channels of every level after a 1x1 projection; None for C, without a projection. Pass
            in_channels to keep the channels that a decoder expects.
        dim: number of spatial axes, 2 or 3.
        targets: the levels that get an SDI, finest (0) first; None for all. Every SDI reads all levels.
        norm, fusion, init: those of `SDI`.
        reduction_norm: the norm after the 1x1 reductions: "batch" as in the paper, "layer", None, or a function from a
            number of channels to a module.
        checkpointing: recompute SDI in backward instead of storing its maps. The fused ops of the attention and of SDI
            store none, so this saves memory only where SDI's is not available (`sdi_plugin.ops.backends`).

    Shape:
        features: L tensors (B, in_channels[j], *S_j), fine to coarse.
        Returns one tensor (B, C or out_channels[i], *S_i) per target i, finest first.

    Raises:
        ValueError: an argument is out of range; the number, axes, channels or batch of the maps differ from the
            arguments; in training mode, a level has a single value per channel, from which batch norm cannot compute
            a variance.

    Examples:
        >>> import torch
        >>> from sdi_plugin import SDISkip
        >>> skip = SDISkip([16, 32], out_channels=[16, 32], dim=3)
        >>> features = [torch.randn(2, 16, 8, 20, 30), torch.randn(2, 32, 8, 10, 15)]
        >>> [h.shape[1:] for h in skip(features)]
        [torch.Size([16, 8, 20, 30]), torch.Size([32, 8, 10, 15])]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 32,
        out_channels: Sequence[int] | None = None,
        dim: int = 2,
        *,
        targets: Sequence[int] | None = None,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        reduction_norm: str | Callable[[int], nn.Module] | None = "batch",
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
        self.targets = tuple(range(levels)) if targets is None else tuple(targets)
        if not self.targets or list(self.targets) != sorted({*self.targets} & {*range(levels)}):
            raise ValueError(
                f"SDISkip: expected one or more targets from 0 (finest) to {levels - 1}, each once and finest first, "
                f"got {targets}."
            )
        self.in_channels, self.channels, self.dim = tuple(in_channels), channels, dim
        self.out_channels = (channels,) * levels if out_channels is None else tuple(out_channels)
        self.reductions = nn.ModuleList(AttentiveReduction(c, channels, dim, reduction_norm) for c in in_channels)
        # One entry per level, because parameters are named by their level. Levels that are not targets have none:
        # parameters that never get a gradient are an error in DistributedDataParallel.
        self.sdi = nn.ModuleList(
            SDI(channels, levels, dim, norm=norm, fusion=fusion, init=init) if level in self.targets else nn.Identity()
            for level in range(levels)
        )
        self.projections = nn.ModuleList(
            nn.Identity()
            if out_channels is None or level not in self.targets
            else dimension.conv(dim)(channels, out_channels[level], 1)
            for level in range(levels)
        )
        self.set_grad_checkpointing(checkpointing)

    def init_unit(self) -> None:
        """Draw the weights of init="unit" again, see `SDI.init_unit`."""
        for sdi in self._targeted():
            sdi.init_unit()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for module in self._targeted():
            module.checkpointing = enable

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        check_features("SDISkip", features, self.in_channels, self.dim)
        if self.training and isinstance(self.reductions[0].bn, nn.BatchNorm2d | nn.BatchNorm3d):
            check_batch_norm("SDISkip", features)
        xs = reduce([cast(AttentiveReduction, module) for module in self.reductions], features)
        fused = fuse(self._targeted(), xs, self.targets)
        with precision.float32_stays(fused[0]):
            return [self.projections[level](h) for level, h in zip(self.targets, fused, strict=True)]

    def _targeted(self) -> list[SDI]:
        return [cast(SDI, self.sdi[level]) for level in self.targets]
