"""Tables in Markdown, and the marked parts of a document that a program writes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table with padded columns, so that it is readable on a console too."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |" for row in cells]
    lines.insert(1, f"|{'|'.join('-' * (w + 2) for w in widths)}|")
    return "\n".join(lines)


def number(number: float | None, digits: int) -> str:
    return "-" if number is None else f"{number:.{digits}f}"


def fill(document: str, parts: Mapping[str, Callable[[], str]], kind: str = "measured") -> str:
    """The document with what is between `<!-- KIND: NAME -->` and `<!-- end -->` rewritten.

    A ValueError says which name is unknown.
    """

    def part(match: re.Match[str]) -> str:
        if match[2] not in parts:
            raise ValueError(f"{kind}: expected one of {', '.join(parts)}, got {match[2]}.")
        return f"{match[1]}\n{parts[match[2]]()}\n\n{match[3]}"

    return re.sub(rf"(<!-- {kind}: (\w+) -->\n).*?(<!-- end -->)", part, document, flags=re.DOTALL)
