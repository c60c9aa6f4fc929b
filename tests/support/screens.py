"""A terminal: programs that are run on one, and what it shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["run_on_terminal", "shown"]

_PATIENCE = 120
_ROWS = 200

_PARTS = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<order>[A-Za-z])|(?P<plain>[^\x1b])")


def shown(written: str) -> str:
    """What a terminal shows of a text with orders to it: the lines, without blanks at their ends.

    Known are the orders that `rich` gives: the cursor up, lines erased, colours. A line that is
    longer than the terminal is wide stays one, as it does where it is copied from there.
    """
    lines: list[list[str]] = [[]]
    row = column = 0
    for part in _PARTS.finditer(written):
        order, plain = part["order"], part["plain"]
        if order == "A":
            row = max(0, row - int(part["numbers"] or 1))
        elif order == "K":
            lines[row] = [] if part["numbers"] == "2" else lines[row][:column]
        elif plain == "\r":
            column = 0
        elif plain == "\n":
            row += 1
        elif plain is not None and plain.isprintable():
            lines[row].extend(" " * (column + 1 - len(lines[row])))
            lines[row][column] = plain
            column += 1
        lines.extend([] for _ in range(row + 1 - len(lines)))
    return "\n".join("".join(line).rstrip() for line in lines).rstrip("\n") + "\n"


def run_on_terminal(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    answer: str = "",
    columns: int = 80,
) -> tuple[int, str]:
    """Run a command on a terminal; give its exit code, and what the terminal shows in the end.

    :param answer: what is typed as soon as a question is asked.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "xterm"},
        start_new_session=True,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    written = b""
    try:
        while True:
            ready, _, _ = select.select([master], [], [], _PATIENCE)
            assert ready, f"no word for {_PATIENCE} seconds: {written!r}"
            try:
                data = os.read(master, 65536)
            except OSError:
                # The process has ended, and with it its side of the terminal.
                break
            if not data:
                break
            written += data
            if answer and written.endswith(b"]: "):
                os.write(master, answer.encode())
                answer = ""
        return process.wait(_PATIENCE), shown(written.decode())
    finally:
        process.kill()
        process.wait()
        os.close(master)
