"""The demonstration's page for a terminal of 80 columns: numbered steps, tables, documents."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lazymig.characters import printable

__all__ = ["Page"]


class Page:
    """Writes the demonstration, from top to bottom."""

    def __init__(self) -> None:
        self._steps = 0
        self._console = Console(width=80, highlight=False, markup=False, emoji=False)

    def title(self, text: str, underline: str = "=") -> None:
        """Write a heading."""
        self._console.print(f"{text}\n{underline * len(text)}")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Write a numbered heading, then what the block writes, then the seconds it took."""
        self._steps += 1
        self._console.print()
        self.title(f"{self._steps}. {title}", "-")
        started = time.perf_counter()
        yield
        self._write(f"\n({time.perf_counter() - started:.2f} s)")

    def text(self, text: str) -> None:
        """Write a paragraph."""
        self._write(f"\n{text}", indent=0)

    def source(self, *lines: str) -> None:
        """Write code that is shown, not run."""
        self._write("\n" + "\n".join(lines))

    def code(self, *lines: str) -> None:
        """Write what the application runs."""
        self.source(*(f">>> {line}" for line in lines))

    def result(self, text: str) -> None:
        """Write what came out of the code above it."""
        self._write(text)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table; numbers are aligned to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for number, head in enumerate(heads):
            is_number = all(isinstance(row[number], (int, float)) for row in rows)
            table.add_column(head, justify="right" if is_number else "left")
        for row in rows:
            table.add_row(*map(_cell, row))
        self._write("")
        self._write(table)

    def before_and_after(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Write two states of one document side by side."""
        table = Table("stored before", "stored after", box=None, pad_edge=False, expand=True)
        shown = (json.dumps(each, indent=2, default=_plain) for each in (before, after))
        table.add_row(*shown)
        self._write("")
        self._write(table)

    def _write(self, what: str | Table, *, indent: int = 2) -> None:
        shown = Text(printable(what)) if isinstance(what, str) else what
        for segments in self._console.render_lines(Padding(shown, (0, 0, 0, indent)), pad=False):
            self._console.print("".join(each.text for each in segments).rstrip(), soft_wrap=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _plain(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}"
