"""The program `lazymig`, also as `python -m lazymig`; one line where its libraries are missing."""

from __future__ import annotations

import gc
import sys

from lazymig.characters import in_one_line
from lazymig.errors import MissingExtra, RuleDefinitionError, check_extra

__all__ = ["main"]

_LIBRARIES = ("click", "rich", *(("tomli",) if sys.version_info < (3, 11) else ()))


def main() -> None:
    """Run the program and end the process; with 2, as for a wrong call, where it cannot be run."""
    # Imports make many objects and no garbage: to look for it at each seven hundred is lost time.
    former = gc.get_threshold()
    gc.set_threshold(100_000, *former[1:])
    try:
        _run()
    finally:
        gc.set_threshold(*former)


def _run() -> None:
    try:
        check_extra("the command line", *_LIBRARIES)
    except MissingExtra as error:
        sys.stderr.write(f"lazymig: {error}\n")
        sys.exit(2)
    try:
        from lazymig.cli.main import main as program  # noqa: PLC0415 - it imports these libraries

        program()
    except RuleDefinitionError as error:
        # A variable of the environment that the library reads when it is imported, by any command;
        # what a command itself raises is written by the command.
        sys.stderr.write(f"lazymig: {in_one_line(str(error))}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
