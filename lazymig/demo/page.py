"""Plain text for a terminal of 80 columns: numbered steps, paragraphs, tables, documents."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

__all__ = ["COLUMNS", "Page"]

COLUMNS = 80
_INDENT = "  "


class Page:
    """Writes the demonstration, from top to bottom."""

    def __init__(self) -> None:
        self._steps = 0

    def title(self, text: str) -> None:
        """Write the title of the whole page."""
        print(text)
        print("=" * len(text))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Write a numbered heading, then what the block writes, then the seconds it took."""
        self._steps += 1
        heading = f"{self._steps}. {title}"
        print(f"\n{heading}\n{'-' * len(heading)}", flush=True)
        started = time.perf_counter()
        yield
        print(f"\n{_INDENT}({time.perf_counter() - started:.2f} s)", flush=True)

    def text(self, text: str) -> None:
        """Write a paragraph."""
        print()
        print(textwrap.fill(text, COLUMNS))

    def source(self, *lines: str) -> None:
        """Write code that is shown, not run."""
        print()
        for line in lines:
            print(f"{_INDENT}{line}")

    def code(self, *lines: str) -> None:
        """Write what the application runs."""
        self.source(*(f">>> {line}" for line in lines))

    def result(self, text: str) -> None:
        """Write what came out of the code above it."""
        print(textwrap.fill(text, COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table; numbers are aligned to the right."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        numeric = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(heads))]
        print()
        for line in (list(heads), ["-" * width for width in widths], *cells):
            parts = [
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(line, widths, numeric, strict=True)
            ]
            print(f"{_INDENT}{'  '.join(parts)}".rstrip())

    def before_and_after(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Write two states of one document side by side."""
        left = ["stored before", "", *_document(before)]
        right = ["stored after", "", *_document(after)]
        height = max(len(left), len(right))
        width = COLUMNS // 2 - len(_INDENT)
        print()
        for old, new in zip(_filled(left, height), _filled(right, height), strict=True):
            print(f"{_INDENT}{old.ljust(width)}{_INDENT}{new}".rstrip())


def _filled(lines: list[str], height: int) -> list[str]:
    return lines + [""] * (height - len(lines))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _document(value: Mapping[str, Any], indent: str = "") -> list[str]:
    """A document, one field a line."""
    lines = [f"{indent}{{"] if not indent else []
    inner = f"{indent}  "
    for name, item in value.items():
        if isinstance(item, Mapping):
            lines += [f"{inner}{name}: {{", *_document(item, inner), f"{inner}}}"]
        else:
            lines.append(f"{inner}{name}: {_scalar(item)}")
    return lines if indent else [*lines, "}"]


def _scalar(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)
