"""Losses in MMSegmentation's form."""

from typing import Any

from torch import Tensor, nn

from sdi_plugin.losses import structure_loss

from mmseg.registry import MODELS


@MODELS.register_module()
class StructureLoss(nn.Module):
    """PraNet's weighted cross-entropy plus weighted IoU on the foreground; see `sdi_plugin.structure_loss`.

    Args:
        unweighted_bce: compute the cross-entropy as the published code of PraNet and U-Net v2 does.
        loss_weight: the factor of this loss.
        loss_name: its name in the log; the loss counts only if the name contains "loss".

    Shape:
        pred: logits (B, 1, H, W), or (B, 2, H, W), of which the foreground is channel 1 of the softmax. target: (B, H,
        W), 1 is the foreground. Returns a scalar.

    Convention:
        Pixels of `ignore_index` count neither in the loss nor as foreground in the neighbourhoods that weight pixels.

    Raises:
        ValueError: other channels; a `weight` per pixel (samplers pass one), as this loss computes its own.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.mmsegmentation import StructureLoss
        >>> criterion = StructureLoss()  # in a config: loss_decode=dict(type="StructureLoss")
        >>> criterion(torch.randn(2, 1, 32, 32), torch.randint(0, 2, (2, 32, 32))).shape
        torch.Size([])
    """

    takes_one_channel = True  # for UNetV2Head

    def __init__(
        self, unweighted_bce: bool = False, loss_weight: float = 1.0, loss_name: str = "loss_structure"
    ) -> None:
        super().__init__()
        self.unweighted_bce = unweighted_bce
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int | None = 255, **_: Any
    ) -> Tensor:
        if weight is not None:
            raise ValueError("StructureLoss: expected no weight per pixel, got one. Use it without a sampler.")
        if pred.ndim != 4 or pred.shape[1] not in (1, 2):
            raise ValueError(
                f"StructureLoss: expected logits (B, 1, H, W) or (B, 2, H, W), got {tuple(pred.shape)}. "
                "For more classes use CrossEntropyLoss and DiceLoss."
            )
        logits = pred if pred.shape[1] == 1 else pred[:, 1:] - pred[:, :1]  # softmax of two is the sigmoid of that
        target = target.unsqueeze(1)
        valid = None if ignore_index is None else target != ignore_index
        loss = structure_loss(logits, target == 1, unweighted_bce=self.unweighted_bce, valid=valid)
        return self.loss_weight * loss

    def extra_repr(self) -> str:
        return f"unweighted_bce={self.unweighted_bce}, loss_weight={self.loss_weight}"
