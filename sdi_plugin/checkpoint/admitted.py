"""Stand-ins for what training frameworks store beside tensors, safe to unpickle with weights_only=True.

nnU-Net's checkpoints contain numpy numbers; mmengine's contain numpy numbers and arrays and its HistoryBuffer. If
numpy's own classes were admitted to torch.load, a file could set a dtype's flags and fields, which can make numpy read
memory at addresses that the file chooses. The stand-ins accept only numbers, and copy them out of the file's bytes.
"""

import math
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch

_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|c8|c16")
_STATISTICS = ("current", "max", "mean", "min")


def _refuse(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"numpy data other than numbers, {what}")


def _shown(value: Any) -> str:
    return repr(value)[:60]


class _DType:
    """Stands for numpy.dtype, for numbers: their kind, and the byte order that the pickle's BUILD sets."""

    def __init__(self, kind: Any, align: Any = False, copy: Any = True):
        if type(kind) is not str or not _NUMBERS.fullmatch(kind):
            raise _refuse(f"the dtype {_shown(kind)}")
        self.kind, self.order = kind, "="

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 8 or type(state[1]) is not str:
            raise _refuse("a dtype of another form")
        if any(state[i] is not None for i in (2, 3, 4)) or (state[0], *state[5:]) != (3, -1, -1, 0):
            raise _refuse("a dtype with fields or flags")
        if state[1] not in ("<", ">", "|", "="):
            raise _refuse(f"the byte order {_shown(state[1])}")
        self.order = state[1]

    def values(self, shape: Any, raw: Any, order: Literal["C", "F"] = "C") -> Any:
        """A new array of these numbers."""
        import numpy as np

        if type(shape) is not tuple or any(type(size) is not int or size < 0 for size in shape):
            raise _refuse(f"the shape {_shown(shape)}")
        dtype = np.dtype(self.kind if self.order == "=" else self.order + self.kind)
        if type(raw) is not bytes or len(raw) != math.prod(shape) * dtype.itemsize:
            raise _refuse(f"data other than {math.prod(shape)} numbers of {dtype.itemsize} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order=order).copy(order=order)


class Array:
    """Stands for numpy.ndarray: `array` is set by the pickle's BUILD; copies and pickles are numpy's own arrays."""

    array: Any = None

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5 or state[0] != 1 or not isinstance(state[2], _DType):
            raise _refuse("an array of another form")
        if self.array is not None:
            raise _refuse("an array that is built twice")
        _, shape, dtype, fortran, raw = state
        self.array = dtype.values(shape, raw, "F" if fortran is True else "C")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import numpy as np

        return np.array(self.array, dtype)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.array.__reduce_ex__(protocol)


class History:
    """Stands for mmengine's HistoryBuffer, and keeps nothing of it."""

    def __setstate__(self, state: Any) -> None:
        pass


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    if not (isinstance(kind, type) and issubclass(kind, Array)):
        raise _refuse(f"an array of {_shown(kind)}")
    return kind()


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _DType):
        raise _refuse(f"a number of {_shown(dtype)}")
    return dtype.values((), raw)[()]


def _no_bytes() -> bytes:
    """bytes(): what protocol 2 pickles as the data of an empty array."""
    return b""


def admitted(history: type = History) -> list[Any]:
    """The stand-ins for add_safe_globals, under the names of the originals, which pickles ask for.

    Args:
        history: stands for mmengine's HistoryBuffer. The statistics in its pickled state become None: they are methods
            of the class, and a real getattr would give a pickle access to any code.
    """

    def statistic(owner: Any, name: Any) -> None:
        if not (isinstance(owner, type) and issubclass(owner, history) and name in _STATISTICS):
            raise pickle.UnpicklingError(f"GLOBAL builtins.getattr({owner!r}, {name!r}) was not an allowlisted global")

    functions = [("builtins", "bytes", _no_bytes), ("builtins", "getattr", statistic)]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before numpy 2, and since
        functions += [(module, "_reconstruct", _reconstruct), (module, "scalar", _scalar)]
    classes = [
        ("numpy", "dtype", _DType),
        ("numpy", "ndarray", Array),
        ("mmengine.logging.history_buffer", "HistoryBuffer", history),
    ]
    return [
        *(_under(module, name, function) for module, name, function in functions),
        *(type(name, (base,), {"__module__": module}) for module, name, base in classes),
    ]


@contextmanager
def admitting(stand_ins: Sequence[Any] | None = None) -> Iterator[None]:
    """Admit stand-ins (by default `admitted()`) to torch.load, in place of what others have admitted by these names."""
    stand_ins = admitted() if stand_ins is None else stand_ins
    names = {_full_name(each) for each in stand_ins}
    hidden = [each for each in torch.serialization.get_safe_globals() if _full_name(each) in names]
    _exchange(hidden, stand_ins)
    try:
        yield
    finally:
        _exchange(stand_ins, hidden)


def plain(found: Any) -> Any:
    """What torch.load found, with numpy arrays in place of their stand-ins. Changes its dicts and lists in place."""
    seen: set[int] = set()

    def replace(value: Any) -> Any:
        if isinstance(value, Array):
            return value.array
        if type(value) is tuple:
            return tuple(map(replace, value))
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                value[key] = replace(value[key])
        return value

    return replace(found)


def _exchange(old: Sequence[Any], new: Sequence[Any]) -> None:
    kept = [each for each in torch.serialization.get_safe_globals() if each not in old]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*kept, *new])


def _full_name(admitted: Any) -> str:
    """The name by which a pickle asks for it. Since 2.6, torch also accepts pairs of an object and its name."""
    if isinstance(admitted, tuple):
        return admitted[1]
    return f"{admitted.__module__}.{admitted.__qualname__}"


def _under(module: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under another name: torch before 2.6 admits a function only under its own."""

    def renamed(*args: Any) -> Any:
        return function(*args)

    renamed.__module__, renamed.__name__, renamed.__qualname__ = module, name, name
    return renamed
