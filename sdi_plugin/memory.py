"""Check that work fits into memory before it starts: a system that overcommits kills the process and raises nothing."""

from __future__ import annotations

import os
from pathlib import Path


class TooLargeError(ValueError):
    """Something needs more memory than there is."""


def total() -> int | None:
    """The most bytes of memory that this process may use, or None if the system does not say."""
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
    """Raise a TooLargeError if `needed` bytes exceed the available ones (by default `total()`)."""
    available = total() if available is None else available
    if available is not None and needed > available:
        raise TooLargeError(
            f"{what} needs at least {needed / 2**30:.3g} GiB of memory, but there are {available / 2**30:.3g} GiB. "
            "Choose a smaller size."
        )
