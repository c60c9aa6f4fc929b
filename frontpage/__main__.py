"""`python -m frontpage`: make the pictures again, and the outputs in the README."""

from __future__ import annotations

import re
from pathlib import Path

from frontpage.commands import console, outputs, replaced
from frontpage.overview import overview
from frontpage.recording import recording, transcript

__all__ = ["IMAGES", "README", "main", "without_blanks"]

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Write what has changed, and say what was made."""
    IMAGES.mkdir(exist_ok=True)
    for name, drawn in overview().items():
        _write(IMAGES / name, drawn)
    printed = transcript()
    _write(IMAGES / "demo.txt", printed)
    _write(IMAGES / "demo.svg", recording(printed))
    page = README.read_text(encoding="utf-8")
    _write(README, replaced(page, console(outputs(page))))


def without_blanks(text: str) -> str:
    """The text without blanks at the ends of lines, which the repository has nowhere."""
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def _write(path: Path, text: str) -> None:
    path.write_text(without_blanks(text), encoding="utf-8")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
