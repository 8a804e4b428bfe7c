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
        entries: dict[tuple[object, ...], _T] = {}  # the least recently used first

        @wraps(function)
        def cached(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            key = (*args, *kwargs.values())
            value = entries.pop(key, None)
            is_new = value is None
            if value is None:
                value = function(*args, **kwargs)
            entries[key] = value
            if is_new:
                total = sum(entry.nbytes for entry in list(entries.values()))
                for oldest in list(entries)[:-1]:
                    if total <= limit:
                        break
                    dropped = entries.pop(oldest, None)
                    total -= dropped.nbytes if dropped is not None else 0
            return value

        return cached

    return decorate
