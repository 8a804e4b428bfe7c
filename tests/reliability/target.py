"""A kind of input that is damaged and tried, and ways to damage it."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Generator = random.Random
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, 64, -1, 0.5, 1 << 40, 1 << 70, 1e308, float("inf"), float("nan"), "", "x", "core",
    "smp", "nnunet", "openvino", "onnxruntime", "pt2", "..", "a/b", "/dev/zero", "model.json", "\0", "é", [], [1],
    "torch.nn.parallel.distributed.os.system", "torch.nn.Linear",
    [8, 8], [[1]], ["x"], {}, {"a": 1}, {"1": []},
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """
    Attributes:
        make: the case, of a generator: the content of a file, or arguments that are shown as text.
        attempt: what the package does with it.
        documented: the errors that it may raise.
        writes: it may write beside the file.
        file: the name of the case's file.
        prepare: once, in the folder of the cases: writes what they need beside them, and tries an undamaged one.
        weight: its share of the time.
    """

    make: Callable[[Generator], bytes]
    attempt: Callable[[Path], Any]
    documented: tuple[type[Exception], ...]
    writes: bool = False
    file: str = "case"
    prepare: Callable[[Path], Any] | None = None
    weight: int = 1


def mutated(content: bytes, generator: Generator) -> bytes:
    """A few bytes changed, cut out, repeated, moved or replaced by numbers that programs stumble over."""
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4, 16))):
        at = generator.randrange(len(changed) + 1)
        end = min(len(changed), at + generator.choice((1, 1, 2, 4, 8, 64)))
        kind = generator.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[at:end] = generator.randbytes(end - at)
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[at:end]
        elif kind == 4:
            size = generator.choice((1, 2, 4, 8))
            order = generator.choice(("little", "big"))
            changed[at : at + size] = (generator.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, order)
        elif kind == 5:
            start = generator.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + generator.randrange(1, 64)]
        elif generator.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def altered(content: bytes, generator: Generator) -> bytes:
    """JSON in which a few values are others, missing or new; or, more rarely, whose text is damaged or very deep."""
    kind = generator.random()
    if kind < 0.2:
        return mutated(content, generator)
    if kind < 0.21:
        return b"[" * 100_000
    found = json.loads(content)
    for _ in range(generator.choice((1, 1, 2, 3))):
        holder, key = generator.choice(list(_places(found)) or [({}, "a")])
        action = generator.randrange(4)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, dict):
            holder[str(generator.choice(VALUES))] = holder.pop(key)
        else:
            holder[key] = generator.choice(VALUES)
    return json.dumps(found).encode()


def _places(found: Any) -> Any:
    """(container, key) of everything in a JSON value."""
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in items:
        yield found, key
        yield from _places(value)
