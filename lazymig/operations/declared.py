"""The declaration of an option of a bulk run: all that is said of it, once, beside its default.

`throttling/limits.py` and `runs/options.py` declare the options as fields of dataclasses. Their
check, what the journal records, and the flags of the command line are made from the declarations.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from lazymig.errors import RunOptionError

__all__ = [
    "Checked",
    "Declared",
    "Kind",
    "amount",
    "declarations",
    "declared",
    "flag",
    "number_of",
    "path",
    "seconds",
    "whole",
]

Kind = Literal["flag", "whole", "seconds", "amount", "text", "file", "folder", "other"]

_KEY = "declared"


def _plain(value: Any) -> Any:
    return value


def _absolute(value: Any) -> str | None:
    return None if value is None else str(Path(value).absolute())


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What there is to know of an option.

    `fits` says whether it may have a value, and `problem`, with the value in place of `{}`, what is
    wrong with one that does not fit. `help` is that of its flag on the command line; without it
    the command line has none, or one of its own. `journal` makes of its value what the journal
    records of it; `None`: nothing. `changes` is how a user calls it who gives a run at work another
    value; `None`: that cannot be done.
    """

    kind: Kind = "other"
    fits: Callable[[Any], bool] = lambda _: True
    problem: str = ""
    help: str | None = None
    journal: Callable[[Any], Any] | None = None
    changes: str | None = None
    least: int = 0


def declared(default: Any, declaration: Declared) -> Any:
    """A field of a dataclass with a default and a declaration."""
    return field(default=default, metadata={_KEY: declaration})


def declarations(cls: Any) -> Mapping[str, Declared]:
    """The declarations of a dataclass, by the names of the options."""
    return {each.name: each.metadata[_KEY] for each in fields(cls)}


class Checked:
    """A base of dataclasses of options: each value is one that its option may have.

    :raises RunOptionError: one of them is not.
    """

    def __post_init__(self) -> None:
        for name, declaration in declarations(self).items():
            value = getattr(self, name)
            if not declaration.fits(value):
                raise RunOptionError(declaration.problem.format(repr(value)), option=name)


def flag(*, help: str | None = None) -> Any:  # noqa: A002 - as click calls it
    """An option that is on or off, and recorded."""
    problem = "is {}; use True or False"
    return declared(
        False,
        Declared(
            kind="flag",
            fits=lambda value: isinstance(value, bool),
            problem=problem,
            help=help,
            journal=_plain,
        ),
    )


def whole(
    default: int,
    remedy: str,
    *,
    least: int = 1,
    most: float = math.inf,
    help: str | None = None,  # noqa: A002 - as click calls it
    journal: Callable[[Any], Any] | None = None,
) -> Any:
    """An option that is a whole number, from a least one to a greatest one."""

    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    problem = f"is {{}}; {remedy}"
    return declared(
        default,
        Declared(kind="whole", fits=fits, problem=problem, help=help, journal=journal, least=least),
    )


def seconds(
    default: float,
    *,
    help: str,  # noqa: A002 - as click calls it
    journal: Callable[[Any], Any] | None = None,
) -> Any:
    """An option that is a number of seconds above 0."""

    def fits(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and 0 < value < math.inf

    problem = "is {}; use a number of seconds above 0"
    return declared(
        default, Declared(kind="seconds", fits=fits, problem=problem, help=help, journal=journal)
    )


def amount(
    default: float | None,
    unit: str,
    *,
    changes: str,
    help: str,  # noqa: A002 - as click calls it
) -> Any:
    """A limit that is a number, 0 or `None` for no limit; it can be changed while a run works."""

    def fits(value: Any) -> bool:
        number = number_of(value)
        return value is None or (number is not None and math.isfinite(number) and number >= 0)

    problem = f"{{}} is no limit; give {unit}, 0 or more (0: no limit)"
    return declared(
        default,
        Declared(
            kind="amount", fits=fits, problem=problem, help=help, journal=_plain, changes=changes
        ),
    )


def path(
    kind: Literal["file", "folder"],
    *,
    help: str,  # noqa: A002 - as click calls it
) -> Any:
    """An option that is a path, or `None`; recorded as an absolute one."""
    problem = f"{{}} is no path; give the path of a {kind}, or None"
    return declared(
        None,
        Declared(
            kind=kind,
            fits=lambda value: value is None or _is_path(value),
            problem=problem,
            help=help,
            journal=_absolute,
        ),
    )


def number_of(value: Any) -> float | None:
    """A number of any kind, those of NumPy included; `None`: it is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value)


def _is_path(value: object) -> bool:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return isinstance(value, str) and value != "" and "\0" not in value
