"""A picture on the terminal that is drawn anew every few seconds, until somebody ends it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from lazymig.cli.output import Output
from lazymig.reports.texts import Line

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["watch"]

_TERMINATED = 143


def watch(output: Output, picture: Callable[[], Iterable[Line]], seconds: float) -> None:
    """Draw a picture, and again whenever some seconds have passed, until Ctrl-C.

    On a terminal it has the whole screen, and the last one stays when it ends. Elsewhere one is
    written below the other.

    :param picture: gives the lines, each time anew; what it raises ends the watch.
    """
    console = output.console
    if not console.is_terminal or console.is_dumb_terminal:
        _write_on(output, picture, seconds)
        return
    from rich.console import Group  # noqa: PLC0415 - only who watches pays for the import
    from rich.live import Live  # noqa: PLC0415

    rows: list[Text] = []
    try:
        with _terminable(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                rows = list(_rows(output, picture()))
                live.update(Group(*_fitting(output, rows)), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        pass
    for row in rows:
        console.print(row, soft_wrap=True)


def _write_on(output: Output, picture: Callable[[], Iterable[Line]], seconds: float) -> None:
    try:
        while True:
            for row in _rows(output, picture()):
                output.console.print(row, soft_wrap=True)
            output.print("")
            # Who reads a pipe sees each at once.
            sys.stdout.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        pass


def _rows(output: Output, lines: Iterable[Line]) -> Iterator[Text]:
    for line in lines:
        yield from output.rows(*line)


def _fitting(output: Output, rows: list[Text]) -> list[Text]:
    """The rows that the screen has room for; the last says how many it has not."""
    height = output.console.height
    if len(rows) <= height:
        return rows
    kept = rows[: max(height - 1, 0)]
    more = f"and {len(rows) - len(kept)} more lines, for a higher terminal"
    return [*kept, *output.rows(more, 0, "dim")[:1]]


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the process in a way that gives the terminal back as it was."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(_TERMINATED)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
