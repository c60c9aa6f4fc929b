"""The demonstration's page for a terminal of 80 columns: numbered steps, files, commands."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

__all__ = ["Page"]


class Page:
    """Writes the demonstration, from top to bottom; commands write what they give in between."""

    def __init__(self) -> None:
        self._steps = 0
        self._console = Console(width=80, highlight=False, markup=False, emoji=False)

    def title(self, text: str, underline: str = "=") -> None:
        """Write a heading."""
        self._console.print(f"{text}\n{underline * len(text)}", style="bold")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Write a numbered heading, then what the block writes, then the seconds it took."""
        self._steps += 1
        self._console.print()
        self.title(f"{self._steps}. {title}", "-")
        started = time.perf_counter()
        yield
        self._console.print(f"\n({time.perf_counter() - started:.2f} s)", style="dim")

    def text(self, text: str) -> None:
        """Write a paragraph."""
        # The console would leave blanks at the ends of lines.
        self._console.print("\n" + textwrap.fill(text, 80))

    def file(self, name: str, content: str) -> None:
        """Write a file of the project."""
        self._console.print(f"\n{name}:\n")
        for line in content.splitlines():
            # What is longer than the page must stay one line of source.
            self._console.print(f"    {line}".rstrip(), soft_wrap=True, style="cyan")

    def command(self, words: str) -> None:
        """Write a command that is about to be run, and to write to the same terminal."""
        self._console.print(f"\n$ {words}", style="bold")
        self._console.file.flush()
