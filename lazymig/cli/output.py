"""The output of a command: results to standard output, all else to standard error.

Neither gets a secret, nor what a terminal would obey. Text is as wide as the terminal, but for very
wide ones, and has 80 columns and no colours elsewhere.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazymig.characters import LONGEST_TEXT, in_one_line, printable, shown
from lazymig.cli.failures import as_command, described, one_line
from lazymig.cli.masking import Mask, masked
from lazymig.errors import Remedy
from lazymig.locks import cached_property
from lazymig.raw.json_values import in_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["COLUMNS", "Output", "line", "short_path"]

COLUMNS = 80

# Beyond these a line cannot be written, or not be read.
_NARROWEST = 10
_WIDEST = 140

# The variables by which rich takes anything for a terminal.
_FORCING = frozenset({"FORCE_COLOR", "TTY_COMPATIBLE"})

# What each log line of a run begins with, and the logger of progress alone.
_PROGRESS_LOGGER = "lazymig.operations.runs.progress"


class Output:
    """The streams of one command.

    :param result: the type of the result, which says how it becomes JSON.
    :param as_json: the result is to be JSON.
    :param debug: errors are written with their traceback.
    """

    def __init__(self, result: Any = object, *, as_json: bool = False, debug: bool = False) -> None:
        self._result = result
        self.as_json = as_json
        self.debug = debug
        self.mask = Mask()

    @cached_property
    def console(self) -> Console:
        """Standard output."""
        return _console()

    @property
    def width(self) -> int:
        """The columns of a line: those that the terminal has now."""
        return COLUMNS if self._is_plain else min(self.console.width, _WIDEST)

    @property
    def _is_plain(self) -> bool:
        """Return whether standard output is a file or pipe, without colours. It needs no rich."""
        return not (sys.stdout.isatty() or os.environ.keys() & _FORCING)

    def print(self, *texts: str) -> None:
        """Write texts, each from the start of a line."""
        for text in texts:
            self.indented(text, 0)

    def indented(self, text: str, indent: int, style: str = "") -> None:
        """Write a text, indented by some columns; further lines by two more."""
        plain = shown(masked(text), LONGEST_TEXT).rstrip()
        if self._is_plain and plain.isascii() and indent + len(plain) <= COLUMNS:
            sys.stdout.write(f"{' ' * indent if plain else ''}{plain}\n")
            return
        for row in self.rows(text, indent, style):
            self.console.print(row, soft_wrap=True)

    def rows(self, text: str, indent: int, style: str = "") -> list[Text]:
        """The lines that `indented` writes. The text is one: what breaks it is spelled out."""
        from rich.text import Text  # noqa: PLC0415 - only who writes pays for the import

        whole = line(text, style)
        room = max(self.width - indent, _NARROWEST)
        parts = [whole]
        if whole.cell_len > room:
            parts = list(whole.wrap(self.console, max(room - 2, _NARROWEST)))
        rows = []
        for place, part in enumerate(parts):
            part.rstrip()
            rows.append(Text(" " * (indent + 2 * bool(place))).append_text(part))
        return rows

    def call(self, before: str, words: Sequence[str], indent: int) -> None:
        """Write a text and a command after it that can be copied, on lines as a shell takes them.

        A word that is longer than a line is not broken.
        """
        console = self.console
        *quoted, last = [shlex.quote(word) for word in words]
        row = before
        for place, word in enumerate((*quoted, last)):
            end = 2 if place < len(quoted) else 0
            if place and indent + len(row) + 1 + len(word) + end > self.width:
                console.print(" " * indent, line(f"{row} \\"), sep="", soft_wrap=True)
                row = f"  {word}"
            else:
                row = f"{row} {word}"
        console.print(" " * indent, line(row), sep="", soft_wrap=True)

    def code(
        self, lines: Iterable[str], indent: int, styles: Mapping[str, str] | None = None
    ) -> None:
        """Write lines of source code; what does not fit is cut off, so that each stays one line.

        :param styles: by how a line begins.
        """
        console = self.console
        for one in lines:
            text = line(one.expandtabs(), (styles or {}).get(one[:1], ""))
            text.truncate(max(self.width - indent, _NARROWEST), overflow="ellipsis")
            text.rstrip()
            console.print(" " * indent if text else "", text, sep="", soft_wrap=True)

    def patch(self, text: str, encoding: str) -> None:
        """Write a patch of a file as it is, byte for byte but for secrets; a terminal shows it.

        :param encoding: the file's.
        """
        if sys.stdout.isatty():
            for one in text.splitlines():
                style = {"+": "green", "-": "red", "@": "dim"}.get(one[:1], "")
                self.console.print(line(one, style), soft_wrap=True)
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(masked(text).encode(encoding))
        sys.stdout.buffer.flush()

    def table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
    ) -> None:
        """Write a table, indented; what is too long for its column continues below.

        :param right: the columns with numbers.
        """
        from rich.table import Table  # noqa: PLC0415 - only who writes pays for the import
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for number, head in enumerate(heads):
            is_number = number in right
            table.add_column(
                head,
                justify="right" if is_number else "left",
                no_wrap=is_number,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(line(shown(cell)) for cell in row))
        room = max(self.width - 2, _NARROWEST)
        for text in _trimmed(self.console, table, room):
            self.console.print(Text("  ").append_text(text), soft_wrap=True)

    def data(self, value: Any) -> None:
        """Write a result as JSON."""
        written = self.mask.data(in_json(value, self._result))
        sys.stdout.write(json.dumps(written, indent=2, allow_nan=False))
        sys.stdout.write("\n")
        # A reader that is gone must show here, where that is expected.
        sys.stdout.flush()

    def warn(self, text: str) -> None:
        """Write a line to standard error that does not end the command."""
        self.note(f"lazymig: {in_one_line(text)}")

    def note(self, text: str) -> None:
        """Write a text to standard error."""
        sys.stderr.write(f"{printable(self.mask(text))}\n")
        sys.stderr.flush()

    def fail(self, error: Exception) -> int:
        """Write an error to standard error, and give the exit code for it."""
        text, code = described(error)
        if self.debug:
            trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.note(trace.rstrip("\n"))
        self.note(f"lazymig: {text}")
        return code

    @property
    def asks(self) -> bool:
        """Return whether somebody sits there who can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def agrees(self, question: str) -> bool:
        """Ask on standard error; return whether the answer is yes."""
        sys.stderr.write(f"{printable(self.mask(question))} [y/N]: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            sys.stderr.write("\n")
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Write what lazymig logs, and Python's warnings, to standard error in one line each."""
        handler = _LogHandler(self)
        logger = logging.getLogger("lazymig")
        progress = logging.getLogger(_PROGRESS_LOGGER)
        former = progress.level, logger.level, logger.propagate
        logger.addHandler(handler)
        progress.setLevel(logging.INFO)
        if logger.level == logging.NOTSET:
            # The application may have made all loggers talkative.
            logger.setLevel(logging.WARNING)
        # The application's own handlers, set up by its import, would write it once more.
        logger.propagate = False
        try:
            with warnings.catch_warnings():
                warnings.showwarning = self._show_warning
                yield
        finally:
            logger.removeHandler(handler)
            progress.setLevel(former[0])
            logger.setLevel(former[1])
            logger.propagate = former[2]

    def _show_warning(
        self, message: Warning | str, category: type[Warning], *_place: Any, **_more: Any
    ) -> None:
        self.warn(f"{category.__name__}: {one_line(str(message))}")

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], object] | None]:
        """A bar on a terminal: a function of what is done and of how much; elsewhere `None`."""
        if not sys.stderr.isatty():
            yield None
            return
        from rich.progress import Progress  # noqa: PLC0415

        with Progress(console=_console(stderr=True), transient=True) as bar:
            task = bar.add_task(shown(what), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=max(total, 1))


def _trimmed(console: Console, table: Table, width: int) -> Iterator[Text]:
    """The lines of a table without the blanks that fill it up on the right."""
    from rich.text import Text  # noqa: PLC0415

    options = console.options.update(width=width)
    for segments in console.render_lines(table, options, pad=False):
        row = Text()
        for segment in segments:
            row.append(segment.text, segment.style)
        row.rstrip()
        yield row


class _LogHandler(logging.Handler):
    """Passes log lines on, without their tracebacks: those are for the application's own logs."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            self._output.warn(one_line(_message_of(record)))
        except Exception:  # noqa: BLE001 - as the handlers of the standard library
            self.handleError(record)


def _message_of(record: logging.LogRecord) -> str:
    """Return the message, with remedies as commands; other handlers may get the record, too."""
    if not isinstance(record.args, tuple):
        return record.getMessage()
    values = tuple(as_command(one) if isinstance(one, Remedy) else one for one in record.args)
    return str(record.msg) % values if values else str(record.msg)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = COLUMNS
    return console


def line(text: str, style: str = "") -> Text:
    """A text for a line of the terminal, without secrets and without what a terminal would obey."""
    from rich.text import Text  # noqa: PLC0415

    return Text(shown(masked(text), LONGEST_TEXT), style=style, overflow="fold")


def short_path(path: Path) -> str:
    """A path, relative to the current folder where it lies in it."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)
