"""What stays in float32 under autocast in float16, whose largest number is 65,504."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def is_float16(x: Tensor) -> bool:
    """Whether autocast has the layers on this tensor's device compute in float16."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # "meta", which has no autocast to ask
        return False
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def float32_stays(x: Tensor) -> AbstractContextManager[object]:
    """Under autocast in float16: without it where x is float32, so that layers keep what float16 may not hold.

    SDI returns its maps in float32 where they may exceed float16 (see `sdi_plugin.SDI`); up-sampling, sums and heads
    that follow run in here.
    """
    if x.dtype == torch.float32 and is_float16(x):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
