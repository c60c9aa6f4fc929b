"""The recording of `lazymig demo`: its text, and a moving picture of it, step by step."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence

from frontpage.svg import lines_of_code, picture, text

__all__ = ["ROWS", "recording", "screens", "transcript", "without_numbers"]

ROWS = 36
# The room for a line of 80 columns; a longer one makes the picture wider.
_WIDTH, _COLUMN = 720, 7.9
# Seconds that a screen stays: at all, and for each of its lines.
_AT_LEAST, _PER_LINE = 2.0, 0.22


def transcript() -> str:
    """What the demonstration prints here and now.

    :raises subprocess.CalledProcessError: it has failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "lazymig.demo"],
        capture_output=True,
        check=True,
        encoding="utf-8",
        timeout=300,
    )
    return done.stdout


def without_numbers(printed: str) -> str:
    """The text without what differs from run to run: times, samples, ids, and their room."""
    printed = re.sub(r"\b[0-9a-f]{8,}\b|\d+(?:[.,]\d+)*", "N", printed)
    return re.sub(r"[ \t]+", " ", printed)


def screens(printed: str) -> list[list[str]]:
    """The text in parts that fit a screen: long steps in several, short ones together."""
    parts: list[list[str]] = [[]]
    lines = printed.splitlines()
    for here, below in itertools.zip_longest(lines, lines[1:], fillvalue=""):
        if re.match(r"\d+\. ", here) and re.fullmatch(r"-+", below):
            parts.append([])
        parts[-1].append(here)
    shown: list[list[str]] = []
    for piece in (piece for part in parts for piece in _fitting(part)):
        # Short steps share a screen.
        if shown and len(shown[-1]) + 1 + len(piece) <= ROWS:
            shown[-1] += ["", *piece]
        else:
            shown.append(piece)
    return shown


def _fitting(part: Sequence[str]) -> Iterator[list[str]]:
    """A part in pieces of almost the same number of lines, without blank lines around them."""
    while part and not part[0].strip():
        part = part[1:]
    while part and not part[-1].strip():
        part = part[:-1]
    if len(part) <= ROWS:
        if part:
            yield list(part)
        return
    # The end of a paragraph near the middle; without one, the screen is full.
    middle = len(part) / math.ceil(len(part) / ROWS)
    ends = [number for number in range(1, ROWS) if not part[number].strip()]
    end = min(ends, key=lambda number: abs(number - middle), default=ROWS)
    yield from _fitting(part[:end])
    yield from _fitting(part[end:])


def recording(printed: str) -> str:
    """The screens of the text, one after the other and over again, as SVG."""
    shown = screens(printed)
    seconds = [_AT_LEAST + _PER_LINE * len(screen) for screen in shown]
    whole = sum(seconds)
    begins = itertools.accumulate(seconds, initial=0.0)
    style = [
        f".screen {{ visibility: hidden; animation: {whole:.2f}s step-end infinite; }}",
    ]
    longest = max(len(line) for screen in shown for line in screen)
    width = max(_WIDTH, 48 + math.ceil(_COLUMN * longest))
    parts = [text(24, 32, "$ lazymig demo", "code bold accent")]
    for number, (screen, begin, taken) in enumerate(zip(shown, begins, seconds, strict=False)):
        style.append(_moment(number, begin / whole, (begin + taken) / whole))
        parts += [
            f'<g class="screen" id="screen{number}">',
            text(width - 24, 32, f"{number + 1} / {len(shown)}", "soft", anchor="end"),
            *_drawn(screen),
            "</g>",
        ]
    # Who wants no motion sees one step, and finds the text beside the picture.
    still = min(3, len(shown) - 1)
    style.append(
        "@media (prefers-reduced-motion: reduce), print { .screen { animation: none; }"
        f" #screen{still} {{ visibility: visible; }} }}"
    )
    height = 32 + 18 * (max(map(len, shown)) + 1) + 16
    title = f"A recording of lazymig demo in {len(shown)} screens"
    return picture(width, height, title, parts, "\n".join(style))


def _moment(number: int, begin: float, end: float) -> str:
    """When a screen is there, in shares of the whole time."""
    steps = [(0.0, "hidden"), (begin, "visible"), (end, "hidden"), (1.0, "hidden")]
    at = {f"{100 * share:.3f}%": state for share, state in steps if share < 1 or state == "hidden"}
    frames = " ".join(f"{share} {{ visibility: {state}; }}" for share, state in at.items())
    return (
        f"@keyframes moment{number} {{ {frames} }}"
        f" #screen{number} {{ animation-name: moment{number}; }}"
    )


def _drawn(screen: Sequence[str]) -> Iterator[str]:
    for number, words in enumerate(screen):
        below = screen[number + 1] if number + 1 < len(screen) else ""
        if words.strip():
            yield from lines_of_code(24, 32 + 18 * (number + 2), [words], _class_of(words, below))


def _class_of(words: str, below: str) -> str:
    if re.fullmatch(r"(-+|=+)", below):
        return "bold ink"
    if re.fullmatch(r"-+|=+|\s*\(\d+\.\d+ s\)", words):
        return "soft"
    return "accent" if words.lstrip().startswith((">>> ", "$ ")) else "ink"
