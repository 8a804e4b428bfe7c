"""SDI between any backbone and any decode head of MMSegmentation."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from sdi_plugin.sdi import SDISkip

from mmseg.registry import MODELS


@MODELS.register_module()
class SDINeck(BaseModule):
    """SDI at every level (Peng, Sonka, Chen 2023, arXiv 2311.17791), for UPerHead, FPNHead, SegformerHead or another.

    Args:
        in_channels: channels of the backbone's levels, fine to coarse.
        channels: C inside SDI.
        out_channels: channels of the levels passed to the head: one int for all, one per level, or None for
            in_channels, which leaves the head as it was without the neck.
        norm, fusion: for SDI's product, None and "product" as in the paper; see `sdi_plugin.SDI`.
        init: initialisation of SDI, "paper" or "unit"; see `sdi_plugin.SDI`.
        with_cp: recompute maps in backward instead of storing them.
        init_cfg: see mmengine; None keeps the initialisation that `init` names.

    Shape:
        inputs: L tensors (B, in_channels[j], H_j, W_j), fine to coarse. Returns a tuple of L tensors (B,
        out_channels[j], H_j, W_j).

    Raises:
        ValueError: an argument out of range, or other maps than announced; see `sdi_plugin.SDISkip`.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.mmsegmentation import SDINeck
        >>> neck = SDINeck(in_channels=[32, 64])  # in a config: neck=dict(type="SDINeck", in_channels=[32, 64])
        >>> [f.shape[1:] for f in neck([torch.randn(2, 32, 16, 24), torch.randn(2, 64, 8, 12)])]
        [torch.Size([32, 16, 24]), torch.Size([64, 8, 12])]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 32,
        out_channels: int | Sequence[int] | None = None,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if out_channels is None:
            out_channels = in_channels
        elif isinstance(out_channels, int):
            out_channels = [out_channels] * len(in_channels)
        self.skip = SDISkip(
            in_channels, channels, out_channels, norm=norm, fusion=fusion, init=init, checkpointing=with_cp
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.skip(inputs))
