"""A cache that is bounded by the bytes of what it holds, not by the number of its entries."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


_P = ParamSpec("_P")
_T = TypeVar("_T", bound=Sized)


def bounded(limit: int) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Keep a function's last results, up to `limit` bytes together and the last one in any case.

    Without a lock, which a fork could leave locked: a thread may make what another one is making, no more.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        entries: dict[tuple[object, ...], tuple[_T, int]] = {}  # with its bytes; the least recently used first
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
            if total > limit:  # counted anew, as several threads may have added at once
                total = sum(nbytes for _, nbytes in list(entries.values()))
                for oldest in list(entries)[:-1]:
                    if total <= limit:
                        break
                    total -= entries.pop(oldest, (None, 0))[1]
            return value

        return cached

    return decorate
