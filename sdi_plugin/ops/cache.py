"""A cache bounded by the bytes that it holds, not by its number of entries."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


_P = ParamSpec("_P")
_T = TypeVar("_T", bound=Sized)


def bounded(limit: int) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Keep a function's most recent results, up to `limit` bytes in total; the latest is always kept.

    There is no lock, because a fork could leave it locked. At worst two threads compute the same value.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        entries: dict[tuple[object, ...], tuple[_T, int]] = {}  # value and bytes, least recently used first
        total = 0

        @wraps(function)
        def cached(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            nonlocal total
            key = (*args, *kwargs.values())
            entry = entries.pop(key, None)
            if entry is not None:
                entries[key] = entry
                return entry[0]
            value = function(*args, **kwargs)
            entries[key] = value, value.nbytes
            total += value.nbytes
            if total > limit:  # counted again, because several threads may have added at once
                total = sum(nbytes for _, nbytes in list(entries.values()))
                for oldest in list(entries)[:-1]:
                    if total <= limit:
                        break
                    total -= entries.pop(oldest, (None, 0))[1]
            return value

        return cached

    return decorate
