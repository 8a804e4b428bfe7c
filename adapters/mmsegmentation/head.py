"""U-Net v2's decoder as a decode head of MMSegmentation."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from sdi_plugin import precision
from sdi_plugin.adapters.mmsegmentation.losses import StructureLoss
from sdi_plugin.decoder import UNetV2Decoder

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss, DiceLoss
from mmseg.models.utils import resize
from mmseg.registry import MODELS

_CROSS_ENTROPY = {"type": "CrossEntropyLoss", "avg_non_ignore": True}


@MODELS.register_module()
class UNetV2Head(BaseDecodeHead):
    """SDI skip connections and the top-down decoder of U-Net v2 (Peng, Sonka, Chen 2023, arXiv 2311.17791).

    Args:
        in_channels: channels of the backbone's maps that the head reads, fine to coarse, any number of them.
        channels: C of the decoder.
        num_classes: number of classes with the background: 2 for a lesion.
        in_index: which of the backbone's maps, fine to coarse, by default the first len(in_channels). For a backbone
            that gives coarse maps first, such as mmseg's UNet, (4, 3, 2, 1, 0).
        out_channels: num_classes, the default, for a softmax; 1 for a sigmoid of the foreground of two classes.
        threshold: on the probability, where out_channels=1.
        deep_supervision: number of supervised levels, finest first; 0 and 1 supervise the finest alone.
        head_weights: factor of each supervised level's losses, finest first; 1 by default.
        summed_heads: number of levels, finest first, whose logits are added for prediction; the published polyp scores
            use 2.
        strides: from each level to the next coarser one; 2 by default. See `sdi_plugin.UNetV2Decoder`.
        norm, fusion: for SDI's product, None and "product" as in the paper; see `sdi_plugin.SDI`.
        init: initialisation of the decoder, "paper" or "unit"; see `sdi_plugin.UNetV2Decoder`.
        with_cp: recompute maps in backward instead of storing them.
        dropout_ratio: before the classifiers; 0 as in the paper.
        loss_decode: one loss or several, of mmseg or `StructureLoss`; softmax cross-entropy by default, with
            out_channels=1 the sigmoid's.
        ignore_index: the label that counts neither in losses nor in accuracy.
        sampler: a sampler of mmseg, for two or more out_channels.
        align_corners: False as in the paper.
        init_cfg: see mmengine. None keeps the initialisation that `init` names: any other makes SDI's product vanish or
            explode.
        kwargs: see mmseg's BaseDecodeHead.

    Shape:
        inputs: the backbone's maps (B, C_j, H_j, W_j). Returns the finest level's logits (B, out_channels, H_1, W_1);
        mmseg resizes them to the image.

    Convention:
        In the log, losses and accuracy have mmseg's names, with the prefixes "level1.", "level2." ... for coarser
        levels. `sdi-plugin convert --to mmseg` gives the weights of the core or smp the names of this head with
        `PVTv2`.

    Raises:
        ValueError: an argument out of range; in_channels and in_index are not sequences or differ in length. With
            out_channels=1 a sampler, a class_weight that is not a single value (the foreground's), or a loss that is
            wrong for it: StructureLoss, CrossEntropyLoss and DiceLoss with use_sigmoid=True, and any loss with the
            attribute takes_one_channel are right. Fewer or other maps than announced, or maps not from fine to coarse.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.mmsegmentation import UNetV2Head
        >>> head = UNetV2Head(in_channels=[32, 64], num_classes=2)
        >>> head.eval()([torch.randn(1, 32, 16, 24), torch.randn(1, 64, 8, 12)]).shape
        torch.Size([1, 2, 16, 24])

        In a config: `decode_head=dict(type="UNetV2Head", in_channels=[32, 64, 160, 256], num_classes=2)`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 32,
        *,
        num_classes: int,
        in_index: Sequence[int] | None = None,
        out_channels: int | None = None,
        threshold: float = 0.5,
        deep_supervision: int = 0,
        head_weights: Sequence[float] | None = None,
        summed_heads: int = 1,
        strides: Sequence[int] | None = None,
        norm: str | None = None,
        fusion: str = "product",
        init: str = "paper",
        with_cp: bool = False,
        dropout_ratio: float = 0.0,
        loss_decode: dict | Sequence[dict] | None = None,
        sampler: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ):
        in_index = _checked_index(in_channels, in_index)
        out_channels = num_classes if out_channels is None else out_channels
        if out_channels == 1 and num_classes != 2:
            raise ValueError(
                f"UNetV2Head: expected num_classes=2 (the background counts) with out_channels=1, got {num_classes}."
            )
        if out_channels == 1 and sampler is not None:
            raise ValueError(
                f"UNetV2Head: expected no sampler with out_channels=1, got {sampler}: mmseg's samplers need a softmax. "
                "Use out_channels=2, or no sampler."
            )
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold if out_channels == 1 else None,
            dropout_ratio=dropout_ratio,
            in_index=cast(Any, in_index),
            input_transform="multiple_select",
            loss_decode=loss_decode or {**_CROSS_ENTROPY, "use_sigmoid": out_channels == 1},
            sampler=sampler,
            init_cfg=init_cfg,
            **kwargs,
        )
        if out_channels == 1 and not 0 < threshold < 1:
            raise ValueError(f"UNetV2Head: expected a threshold between 0 and 1, got {threshold}.")
        heads = max(1, int(deep_supervision))
        if not 1 <= heads <= len(in_channels):
            raise ValueError(
                f"UNetV2Head: expected deep_supervision from 0 to {len(in_channels)} levels, got {deep_supervision}."
            )
        if not 1 <= summed_heads <= heads:
            raise ValueError(
                f"UNetV2Head: expected summed_heads from 1 to {heads} ({deep_supervision=}), got {summed_heads}."
            )
        self.head_weights = (1.0,) * heads if head_weights is None else tuple(map(float, head_weights))
        if len(self.head_weights) != heads:
            raise ValueError(f"UNetV2Head: expected {heads} head_weights ({deep_supervision=}), got {head_weights}.")
        self.summed_heads = summed_heads
        self.decoder = UNetV2Decoder(
            in_channels, channels, strides=strides, norm=norm, fusion=fusion, init=init, checkpointing=with_cp
        )
        self.auxiliary_convs = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for _ in range(heads - 1))
        self._check_losses(sampler)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return self.forward_heads(inputs, 1)[0]

    def forward_heads(self, inputs: Sequence[Tensor], heads: int | None = None) -> list[Tensor]:
        """The logits of the first `heads` supervised levels, or of all, each at its level's size, finest first."""
        ys = self.decoder(self._selected(inputs))
        classifiers = (self.conv_seg, *self.auxiliary_convs)[:heads]
        with precision.float32_stays(ys[0]):
            return [
                classifier(y if self.dropout is None else self.dropout(y))
                for classifier, y in zip(classifiers, ys, strict=False)
            ]

    def _selected(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The maps of in_index, fine to coarse."""
        indices = cast(Sequence[int], self.in_index)
        if not all(-len(inputs) <= index < len(inputs) for index in indices):
            raise ValueError(
                f"UNetV2Head: expected {len(indices)} maps (in_channels={self.in_channels}, "
                f"in_index={self.in_index}), got {len(inputs)} from the backbone. Pass in_channels of {len(inputs)} "
                "levels or fewer, and in_index below that, or have the backbone return more (its out_indices)."
            )
        maps = cast(list[Tensor], self._transform_inputs(inputs))
        sizes = [x.shape[2:] for x in maps]
        if any(c > f for finer, coarser in itertools.pairwise(sizes) for f, c in zip(finer, coarser, strict=True)):
            got = ", ".join("x".join(map(str, size)) for size in sizes)
            raise ValueError(
                f"UNetV2Head: expected maps from fine to coarse, got the sizes {got} "
                f"(in_channels={self.in_channels}, in_index={self.in_index}). Reverse in_index and in_channels."
            )
        return maps

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: Any) -> dict[str, Tensor]:
        losses = {}
        for level, (logits, weight) in enumerate(zip(self.forward_heads(inputs), self.head_weights, strict=True)):
            prefix = f"level{level}." if level else ""
            for name, value in self.loss_by_feat(logits, batch_data_samples).items():
                losses[prefix + name] = weight * value if "loss" in name else value
        return losses

    def predict(self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: Any) -> Tensor:
        logits = self.forward_heads(inputs, self.summed_heads)
        return torch.stack([self.predict_by_feat(one, batch_img_metas) for one in logits]).sum(0)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        if self.out_channels > 1:
            return super().loss_by_feat(seg_logits, batch_data_samples)
        labels = self._stack_batch_gt(batch_data_samples)
        logits = resize(seg_logits, labels.shape[2:], mode="bilinear", align_corners=self.align_corners)
        losses: dict[str, Tensor] = {}
        for loss in self._losses():
            value = self._one_channel_loss(loss, logits, labels)
            losses[loss.loss_name] = losses[loss.loss_name] + value if loss.loss_name in losses else value
        losses["acc_seg"] = self._one_channel_accuracy(logits, labels)
        return losses

    def _one_channel_loss(self, loss: Any, logits: Tensor, labels: Tensor) -> Tensor:
        if not isinstance(loss, DiceLoss):
            return loss(logits, labels.squeeze(1), ignore_index=self.ignore_index)
        # Given class indices, mmseg's DiceLoss takes channel 0 for the background; a mask of the logits' shape it uses
        # as it is. It has no ignored pixels: a probability and a mask of 0 leave them out of its sums.
        ignored = labels == self.ignore_index
        return loss(logits.masked_fill(ignored, -math.inf), labels.masked_fill(ignored, 0))

    def _one_channel_accuracy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Percentage of the counted pixels whose class is right at the threshold, like mmseg's `accuracy`."""
        valid = labels != self.ignore_index
        correct = (logits.sigmoid() > cast(float, self.threshold)) == (labels == 1)
        return 100 * (correct & valid).sum().float() / valid.sum().clamp_min(1)

    def _losses(self) -> list[Any]:
        return list(self.loss_decode) if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]

    def _check_losses(self, sampler: dict | None) -> None:
        for loss in self._losses():
            name = type(loss).__name__
            if sampler is not None and isinstance(loss, StructureLoss):
                raise ValueError("UNetV2Head: StructureLoss weights pixels itself. Use it without a sampler.")
            right = isinstance(loss, CrossEntropyLoss | DiceLoss) and loss.use_sigmoid
            if self.out_channels == 1 and not (right or getattr(loss, "takes_one_channel", False)):
                raise ValueError(
                    "UNetV2Head: expected with out_channels=1 StructureLoss, or CrossEntropyLoss or DiceLoss with "
                    f"use_sigmoid=True, got {name} (use_sigmoid={getattr(loss, 'use_sigmoid', None)}), which is wrong "
                    "for one channel. Use one of these, or out_channels=num_classes."
                )
            weights = getattr(loss, "class_weight", None)
            if self.out_channels == 1 and weights is not None and len(weights) != 1:
                raise ValueError(
                    "UNetV2Head: expected with out_channels=1 a class_weight of one value, the foreground's where the "
                    f"background has 1, got {weights}. Use class_weight=[foreground / background]."
                )
            if isinstance(loss, StructureLoss) and self.out_channels > 2:
                raise ValueError(
                    f"UNetV2Head: StructureLoss is for one foreground, got {self.out_channels} channels. "
                    "Use CrossEntropyLoss and DiceLoss."
                )


def _checked_index(in_channels: Any, in_index: Any) -> Sequence[int]:
    if not isinstance(in_channels, Sequence) or not in_channels:
        raise ValueError(
            "UNetV2Head: expected one in_channels for each level, fine to coarse, such as [64, 128, 320, 512], got "
            f"{in_channels!r}."
        )
    if in_index is None:
        return list(range(len(in_channels)))
    if not isinstance(in_index, Sequence) or len(in_index) != len(in_channels):
        raise ValueError(
            f"UNetV2Head: expected one in_channels for each in_index, got {in_channels=} and {in_index=}. "
            "Leave in_index out for the backbone's first maps."
        )
    return in_index
