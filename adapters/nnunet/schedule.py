"""The learning rate of trainings that start from pretrained weights."""

import torch
from torch.optim.lr_scheduler import LRScheduler


class WarmUpPoly(LRScheduler):
    """Per epoch: linear to the groups' own rates, then down with (1 - t)^0.9, as nnU-Net's.

    Examples:
        >>> import torch
        >>> from sdi_plugin.adapters.nnunet.schedule import WarmUpPoly
        >>> optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = WarmUpPoly(optimizer, warmup=2, epochs=10)
        >>> schedule.step(1)
        >>> optimizer.param_groups[0]["lr"]
        1.0
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warmup: int, epochs: int):
        self.warmup, self.epochs = warmup, epochs
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.last_epoch < self.warmup:
            factor = (self.last_epoch + 1) / self.warmup
        else:
            factor = (1 - (self.last_epoch - self.warmup) / max(1, self.epochs - self.warmup)) ** 0.9
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
