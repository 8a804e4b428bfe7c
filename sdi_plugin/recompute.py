"""Checkpointing: backward recomputes maps instead of storing them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch.utils.checkpoint import checkpoint

_T = TypeVar("_T")


def maybe_checkpoint(function: Callable[..., _T], *args: Any, enabled: bool, **kwargs: Any) -> _T:
    """function(*args, **kwargs), checkpointed if enabled. The function must not draw random numbers."""
    if not enabled:
        return function(*args, **kwargs)
    # Saving the RNG state would break the graph under torch.compile.
    return cast(_T, checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, **kwargs))
