"""Draw the README's diagram: U-Net's skip connections beside SDI, as SVG for light and for dark pages.

python docs/tools/draw_sdi.py
"""

from pathlib import Path

IMAGES = Path(__file__).parents[1] / "images"
LEVELS = 4
TARGET = 1  # the level whose SDI is drawn in full, 0 the finest

THEMES = {
    "light": {
        "page": "#ffffff",
        "ink": "#1f2328",
        "faint": "#c9ced6",
        "box": "#e7ecf3",
        "accent": "#b5179e",
        "pale": "#f7e1f3",
    },
    "dark": {
        "page": "#0d1117",
        "ink": "#e6edf3",
        "faint": "#4a525d",
        "box": "#222a35",
        "accent": "#ff79e1",
        "pale": "#43213d",
    },
}


def draw(theme: dict[str, str]) -> str:
    unet = _Panel(30, theme)
    unet.title("U-Net: each level is passed on by itself")
    for level in range(LEVELS):
        unet.arrow(level, level, theme["ink"], 1.6)
    unet.boxes("x")

    sdi = _Panel(430, theme)
    sdi.title("SDI: every level is built from all levels")
    for target in range(LEVELS):
        for level in range(LEVELS):
            if target != TARGET:
                sdi.arrow(level, target, theme["faint"], 1)
    for level in range(LEVELS):
        sdi.arrow(level, TARGET, theme["accent"], 2.2)
    sdi.boxes("h", highlight=TARGET)
    equation = "h₂ = conv(pool f₁) · conv(f₂) · conv(up f₃) · conv(up f₄)"
    sdi.text(165, 302, equation, theme["accent"], size=13, style="italic")
    sdi.text(165, 324, "a 3x3 convolution per term; each axis is resized on its own", size=12)
    unet.text(165, 302, "one resolution, one map", size=13)
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 340" font-family="Helvetica, Arial, sans-serif"'
            ' role="img" aria-label="U-Net passes each level on by itself; SDI builds every level from all levels">',
            f'<rect width="800" height="340" rx="8" fill="{theme["page"]}"/>',
            *unet.parts,
            *sdi.parts,
            "</svg>\n",
        ]
    )


class _Panel:
    """Encoder boxes on the left, decoder boxes on the right, fine levels at the top; 330 wide from `x`."""

    def __init__(self, x: int, theme: dict[str, str]):
        self.x, self.theme, self.parts = x, theme, []

    def title(self, words: str) -> None:
        self.text(165, 34, words, size=16, style="bold")

    def boxes(self, name: str, highlight: int | None = None) -> None:
        self.text(40, 66, "encoder", size=12)
        self.text(290, 66, "decoder", size=12)
        for level in range(LEVELS):
            chosen = level == highlight
            self._box(40, level, "f", self.theme["box"], self.theme["ink"])
            fill, line = ("pale", "accent") if chosen else ("box", "ink")
            self._box(290, level, name, self.theme[fill], self.theme[line])

    def arrow(self, source: int, target: int, colour: str, width: float) -> None:
        start, end = self.x + 40 + _half_width(source) + 3, self.x + 290 - _half_width(target) - 11
        y0, y1 = _middle(source), _middle(target)
        bend = 60
        self.parts.append(
            f'<path d="M{start} {y0} C{start + bend} {y0} {end - bend} {y1} {end} {y1}" fill="none" stroke="{colour}"'
            f' stroke-width="{width}"/>'
            f'<path d="M{end + 8} {y1} l-9 -4.5 v9 z" fill="{colour}"/>'
        )

    def text(self, x: int, y: int, words: str, colour: str | None = None, size: int = 14, style: str = "normal"):
        weight = "bold" if style == "bold" else "normal"
        slant = "italic" if style == "italic" else "normal"
        self.parts.append(
            f'<text x="{self.x + x}" y="{y}" text-anchor="middle" font-size="{size}" font-weight="{weight}"'
            f' font-style="{slant}" fill="{colour or self.theme["ink"]}">{words}</text>'
        )

    def _box(self, x: int, level: int, name: str, fill: str, line: str) -> None:
        width, height = 2 * _half_width(level), 34
        self.parts.append(
            f'<rect x="{self.x + x - width // 2}" y="{_middle(level) - height // 2}" width="{width}" height="{height}"'
            f' rx="4" fill="{fill}" stroke="{line}" stroke-width="1.3"/>'
        )
        self.text(x, _middle(level) + 5, name + "₁₂₃₄"[level], line, size=15, style="italic")


def _half_width(level: int) -> int:
    """Boxes get narrower with the resolution."""
    return 38 - 7 * level


def _middle(level: int) -> int:
    return 96 + 52 * level


if __name__ == "__main__":
    for name, colours in THEMES.items():
        (IMAGES / f"sdi-{name}.svg").write_text(draw(colours), encoding="utf-8")
