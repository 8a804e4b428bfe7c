"""The documents' fenced blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])

_FENCE = re.compile(r'^```(\S*)(?: title="([^"]*)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    page: Path
    line: int  # number of its first line, from 1
    language: str
    title: str  # the file that it shows, or ""
    code: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start(3)) + 1, match[1], match[2] or "", match[3])
        for match in _FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    """The id of a test."""
    return str(page.relative_to(ROOT))
