"""A pyramid on the tokens of a plain ViT, whose maps all have the size of the patches."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

LEVELS = 4
# Blocks of XCiT and CaiT that alone read the class token, after those of the patches.
_AFTER_THE_PATCHES = ("cls_attn_blocks", "blocks_token_only")


class PlainViT(nn.Module):
    """Four levels from the tokens of four blocks, at quarters of the depth.

    The maps of the blocks, each after the network's final norm, are brought to 1/4, 1/2, 1 and 2 patches: by two
    transposed convolutions, one, none, and max pooling. The blocks are those of BEiT's segmentation (Bao et al. 2022,
    arXiv 2106.08254), the layers those of ViTDet's simple feature pyramid (Li et al. 2022, arXiv 2203.16527).

    Args:
        vit: a model of timm with `forward_intermediates`; what only its classifier needs is removed.

    Shape:
        x: (B, channels, H, W), H and W multiples of the patch. Returns maps (B, out_channels[j], h_j, w_j); the third
        has one pixel per patch.
    """

    def __init__(self, vit: Any):
        super().__init__()
        from timm.layers.norm import LayerNorm2d

        depth, (patch, width) = len(vit.feature_info), _patch_and_width(vit)
        self.blocks = tuple((level + 1) * depth // LEVELS - 1 for level in range(LEVELS))
        self.strides: tuple[float, ...] = (patch / 4, patch / 2, patch, 2 * patch)  # fractions for patches of 14
        self.out_channels = (width // 4, width // 2, width, width)
        vit.prune_intermediate_layers(list(self.blocks), prune_norm=False, prune_head=True)
        if any(hasattr(vit, name) for name in _AFTER_THE_PATCHES):
            vit.cls_token.requires_grad_(False)  # or DistributedDataParallel waits for its gradient
        self.vit = vit
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, width // 2, 2, stride=2),
                    LayerNorm2d(width // 2),
                    nn.GELU(),
                    nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
                ),
                nn.ConvTranspose2d(width, width // 2, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        maps = self.vit.forward_intermediates(x, indices=list(self.blocks), norm=True, intermediates_only=True)
        return [level(tokens) for level, tokens in zip(self.levels, maps, strict=True)]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.vit.set_grad_checkpointing(enable)


def _patch_and_width(vit: Any) -> tuple[int, int]:
    last = vit.feature_info[-1]
    return last["reduction"], last["num_chs"]
