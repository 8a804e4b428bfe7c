"""Maps that backward computes again instead of keeping them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch.utils.checkpoint import checkpoint

_T = TypeVar("_T")


def maybe_checkpoint(function: Callable[..., _T], *args: Any, enabled: bool, **kwargs: Any) -> _T:
    """function(*args, **kwargs), checkpointed where that is enabled. The function draws no random numbers."""
    if not enabled:
        return function(*args, **kwargs)
    # Saving the random numbers' state would break a graph under torch.compile.
    return cast(_T, checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, **kwargs))
