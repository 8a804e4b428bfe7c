"""Which values stay in float32 under autocast in float16, whose largest number is 65,504."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def is_float16(x: Tensor) -> bool:
    """Whether layers on this tensor's device compute in float16 under the current autocast."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # such as "meta"
        return False
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype of what a layer returns for x under autocast; None without it, and for float64, which it leaves."""
    device = x.device.type
    if x.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return None
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def float32_stays(x: Tensor) -> AbstractContextManager[object]:
    """A context that turns autocast off if it is in float16 and x is float32, so that layers do not overflow.

    SDI returns its maps in float32 if they may exceed float16 (see `sdi_plugin.SDI`); the up-sampling, sums and heads
    that follow run in this context.
    """
    if x.dtype == torch.float32 and is_float16(x):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
