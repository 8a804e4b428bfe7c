"""Refusing what cannot fit, before it is begun: a system that overcommits kills the process instead of raising."""

from __future__ import annotations

import os
from pathlib import Path


class TooLargeError(ValueError):
    """What does not fit into the memory."""


def total() -> int | None:
    """Bytes of memory that this process may use at most, None where the system does not say."""
    try:
        pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return pages
    return min(pages, int(limit)) if limit.isdigit() else pages


def check(needed: int, what: str, available: int | None = None) -> None:
    """Raise a TooLargeError where `needed` bytes exceed those available (by default all of this machine's)."""
    available = total() if available is None else available
    if available is not None and needed > available:
        raise TooLargeError(
            f"{what} takes at least {needed / 2**30:.3g} GiB of memory, and there are {available / 2**30:.3g} GiB. "
            "Choose a smaller size."
        )
