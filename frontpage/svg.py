"""Small pictures as SVG that follow the reader's choice of light or dark. No dependency."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

__all__ = ["MONOSPACE", "SANS", "line", "lines_of_code", "picture", "rectangle", "text"]

SANS = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_NAMESPACE = "http://www.w3.org/2000/svg"
MONOSPACE = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

# The names are those of the classes in a picture; a line is drawn in the colour of its class.
_LIGHT = {
    "ground": "#ffffff",
    "panel": "#f6f8fa",
    "edge": "#d1d9e0",
    "ink": "#1f2328",
    "soft": "#59636e",
    "old": "#9a4a00",
    "new": "#116329",
    "accent": "#0550ae",
}
_DARK = {
    "ground": "#0d1117",
    "panel": "#161b22",
    "edge": "#3d444d",
    "ink": "#f0f6fc",
    "soft": "#9ea7b3",
    "old": "#f0883e",
    "new": "#56d364",
    "accent": "#79c0ff",
}


def picture(width: int, height: int, title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole file, on a ground of its own: it is readable wherever it is embedded.

    :param title: what there is to see, for those who do not see it.
    :param style: more rules of CSS.
    """
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="{_NAMESPACE}" {size} role="img" aria-labelledby="title">',
            f'<title id="title">{escape(title)}</title>',
            "<style>",
            *_colours(_LIGHT),
            "@media (prefers-color-scheme: dark) {",
            *_colours(_DARK),
            "}",
            f"text {{ font-family: {SANS}; font-size: 14px; }}",
            f".code {{ font-family: {MONOSPACE}; font-size: 13px; white-space: pre; }}",
            ".bold { font-weight: 600; }",
            *([style] if style else []),
            "</style>",
            rectangle(0.5, 0.5, width - 1, height - 1, "ground"),
            *parts,
            "</svg>\n",
        ]
    )


def _colours(palette: dict[str, str]) -> list[str]:
    filled = [f".{name} {{ fill: {colour}; }}" for name, colour in palette.items()]
    drawn = [
        f".line.{name} {{ fill: none; stroke: {colour}; }}" for name, colour in palette.items()
    ]
    return [*filled, *drawn, f"rect {{ stroke: {palette['edge']}; }}"]


def text(x: float, y: float, words: str, classes: str = "ink", *, anchor: str = "start") -> str:
    """A line of text; `y` is its base line."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" class={quoteattr(classes)}{where}>{escape(words)}</text>'


def lines_of_code(x: float, y: float, lines: Iterable[str], classes: str = "ink") -> list[str]:
    """Lines of code, 18 units apart, from the base line of the first."""
    return [
        text(x, y + 18 * number, words, f"code {classes}") for number, words in enumerate(lines)
    ]


def rectangle(x: float, y: float, width: float, height: float, classes: str) -> str:
    """A box with round corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"'
        f" class={quoteattr(classes)}/>"
    )


def line(points: Iterable[tuple[float, float]], classes: str, *, width: float = 1.5) -> str:
    """A line through points."""
    places = " ".join(f"{x:g},{y:g}" for x, y in points)
    drawn = f'class={quoteattr(f"line {classes}")} stroke-width="{width:g}"'
    return f'<polyline points="{places}" {drawn}/>'
