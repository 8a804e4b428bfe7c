"""U-Net v2 on the encoder of an nnU-Net plan, in 2-D and 3-D."""

import functools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import Tensor, nn

from sdi_plugin.adapters.nnunet.decoder import NNUNetDecoder


class PlanUNetV2(nn.Module):
    """U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791) on the encoder that an nnU-Net plan describes.

    Args:
        input_channels: channels of the image.
        num_classes: K, the channels of the logits.
        n_stages: L, the number of the encoder's stages.
        features_per_stage: channels of the encoder's stages, one number for all or one per stage.
        n_conv_per_stage_decoder: taken from plans and not used: U-Net v2's decoder has no such blocks.
        deep_supervision: whether all heads return logits, or only the finest; `decoder.deep_supervision` switches it.
        channels: C of SDI and decoder.
        norm, fusion: for SDI's product, see `sdi_plugin.SDI`. nnU-Net's learning rate and momentum drive the paper's
            product past float16 with six stages or more: the trainers and planners of this package write "layer" and
            "asinh" into their plans.
        init: initialisation of the decoder, "unit" or "paper"; see `sdi_plugin.UNetV2Decoder`.
        checkpointing: recompute SDI in backward instead of storing its maps, see `SDISkip`.
        encoder: the plan's other settings of the encoder: conv_op, kernel_sizes, strides, norm_op and so on.

    Shape:
        x: (B, input_channels, *S), S divisible by the product of all strides. Returns logits (B, K, *S), or with deep
        supervision the list of L - 1 logits at the sizes of all stages but the coarsest, finest first.

    Convention:
        The norm after the 1x1 reductions is the plan's. The product is accumulated in float32. `initialize` is
        nnU-Net's hook for the encoder's initialisation; the decoder's is `init`.
    """

    encoder_class: Any

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        n_stages: int,
        features_per_stage: int | Sequence[int],
        *,
        n_conv_per_stage_decoder: int | Sequence[int] | None = None,
        deep_supervision: bool = False,
        channels: int = 32,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "unit",
        checkpointing: bool = False,
        **encoder: Any,
    ):
        super().__init__()
        features = [features_per_stage] * n_stages if isinstance(features_per_stage, int) else list(features_per_stage)
        self.encoder = self.encoder_class(input_channels, n_stages, features, return_skips=True, **encoder)
        self.channels = channels
        self.decoder = NNUNetDecoder(
            features,
            num_classes,
            channels,
            heads=max(1, n_stages - 1),  # nnU-Net has no target at the lowest resolution
            dim=convert_conv_op_to_dim(self.encoder.conv_op),
            strides=self.encoder.strides[1:],
            deep_supervision=deep_supervision,
            norm=norm,
            fusion=fusion,
            init=init,
            reduction_norm=_norm(self.encoder),
            checkpointing=checkpointing,
        )

    @property
    def multiple(self) -> tuple[int, ...]:
        """Of which the sizes of images are multiples."""
        return tuple(int(each) for each in np.prod(self.encoder.strides, axis=0))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        return self.decoder(self.encoder(x))

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> np.int64:
        """Elements of the convolutions' outputs for one image, from which nnU-Net's planners estimate the memory.

        Args:
            input_size: spatial size of the patch, without batch and channels.

        Convention:
            Counted as nnU-Net does: every convolution's output once, which stands for the two maps that autograd keeps
            of it (before and after its norm). Of the attention autograd also keeps one number per pixel of a level, on
            GPUs three, and backward holds a few more for a while: two are counted, which stand for four. SDI's
            convolutions count as one map: the fused op never stores their outputs, and the estimate holds where that op
            is available (benchmarks/nnunet.py has the figures).
        """
        dim = convert_conv_op_to_dim(self.encoder.conv_op)
        if len(input_size) != dim:
            raise ValueError(
                f"compute_conv_feature_map_size: expected a patch of {dim} axes, got {tuple(input_size)}. "
                "Give it without batch and channels."
            )
        total = self.encoder.compute_conv_feature_map_size(input_size)
        size, levels = list(input_size), len(self.encoder.strides)
        for level, stride in enumerate(self.encoder.strides):
            size = [axis // step for axis, step in zip(size, stride, strict=True)]
            attention, reduced_and_fused = 2, 2 * self.channels
            upsampled = self.channels if level < levels - 1 else 0
            head = cast(int, self.decoder.seg_layers[0].out_channels) if self._has_head(level) else 0
            total += np.prod([attention + reduced_and_fused + upsampled + head, *size], dtype=np.int64)
        return total

    def _has_head(self, level: int) -> bool:
        return level == 0 or (self.decoder.deep_supervision and level < len(self.decoder.seg_layers))


class PlainConvUNetV2(PlanUNetV2):
    """`PlanUNetV2` in place of nnU-Net's PlainConvUNet, built from the same plans.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from sdi_plugin.adapters.nnunet import PlainConvUNetV2
        >>> plan = dict(conv_op=nn.Conv3d, kernel_sizes=3, strides=[1, (1, 2, 2), 2], n_conv_per_stage=1)
        >>> norm = dict(norm_op=nn.InstanceNorm3d, norm_op_kwargs=dict(affine=True), nonlin=nn.LeakyReLU)
        >>> network = PlainConvUNetV2(1, 3, n_stages=3, features_per_stage=[8, 16, 32], **plan, **norm)
        >>> network(torch.randn(2, 1, 8, 16, 16)).shape
        torch.Size([2, 3, 8, 16, 16])
    """

    encoder_class = PlainConvEncoder

    @staticmethod
    def initialize(module: nn.Module) -> None:
        if isinstance(module, PlainConvEncoder):
            module.apply(InitWeights_He(1e-2))


class ResidualEncoderUNetV2(PlanUNetV2):
    """`PlanUNetV2` in place of nnU-Net's ResidualEncoderUNet, which the presets ResEnc M, L and XL use.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from sdi_plugin.adapters.nnunet import ResidualEncoderUNetV2
        >>> plan = dict(conv_op=nn.Conv3d, kernel_sizes=3, strides=[1, (1, 2, 2), 2], n_blocks_per_stage=1)
        >>> norm = dict(norm_op=nn.InstanceNorm3d, norm_op_kwargs=dict(affine=True), nonlin=nn.LeakyReLU)
        >>> network = ResidualEncoderUNetV2(1, 3, n_stages=3, features_per_stage=[8, 16, 32], **plan, **norm)
        >>> network(torch.randn(2, 1, 8, 16, 16)).shape
        torch.Size([2, 3, 8, 16, 16])
    """

    encoder_class = ResidualEncoder

    @staticmethod
    def initialize(module: nn.Module) -> None:
        if isinstance(module, ResidualEncoder):
            module.apply(InitWeights_He(1e-2))
            module.apply(init_last_bn_before_add_to_0)


def _norm(encoder: Any) -> Any:
    """The plan's norm: nnU-Net avoids batch norm because of its batches of 2 and its sliding windows."""
    if encoder.norm_op is None:
        return "batch"
    return functools.partial(encoder.norm_op, **(encoder.norm_op_kwargs or {}))
