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

__all__ = ["Checked", "Declared", "declarations", "name_of", "number_of", "option", "plain"]

Kind = Literal["flag", "whole", "seconds", "amount", "text", "file", "folder", "other"]

_KEY = "declared"


def number_of(value: Any) -> float | None:
    """A number of any kind, those of NumPy included; `None`: it is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value)


def plain(value: Any) -> Any:
    """What the journal records of a plain value: itself."""
    return value


def name_of(value: object) -> str | None:
    """What the journal records of a function or an object: its name."""
    return None if value is None else str(getattr(value, "__qualname__", type(value).__qualname__))


def _absolute(value: Any) -> str | None:
    return None if value is None else str(Path(value).absolute())


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and 0 < value < math.inf


def _is_amount(value: Any) -> bool:
    number = number_of(value)
    return value is None or (number is not None and math.isfinite(number) and number >= 0)


def _is_path(value: Any) -> bool:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return value is None or (isinstance(value, str) and value != "" and "\0" not in value)


# For each kind: what fits, what is said of a value that does not, what the journal records.
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str, Callable[[Any], Any] | None]] = {
    "flag": (lambda value: isinstance(value, bool), "is {}; use True or False", plain),
    "whole": (_is_whole, "is {}; use {unit}", None),
    "seconds": (_is_seconds, "is {}; use a number of seconds above 0", None),
    "amount": (_is_amount, "{} is no limit; give {unit}, 0 or more (0: no limit)", plain),
    "text": (lambda value: value is None or isinstance(value, str), "is {}; use a text", None),
    "file": (_is_path, "{} is no path; give the path of a file, or None", _absolute),
    "folder": (_is_path, "{} is no path; give the path of a folder, or None", _absolute),
    "other": (lambda _: True, "", None),
}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What there is to know of an option.

    `fits` says whether it may have a value, and `problem`, with the value in place of `{}`, what is
    wrong with one that does not fit; whole numbers are from `least` to `most`. `help` is that of
    its flag on the command line; without it the command line has none, or one of its own. `journal`
    makes of its value what the journal records; `None`: nothing. `changes` is how a user calls it
    who gives a run at work another value; `None`: that cannot be done. `waited` says why a run has
    waited for a limit.
    """

    kind: Kind
    fits: Callable[[Any], bool]
    problem: str
    unit: str
    help: str | None
    journal: Callable[[Any], Any] | None
    changes: str | None = None
    waited: str = ""
    least: int = 1
    most: float = math.inf

    def check(self, name: str, value: Any) -> None:
        """Do nothing with a value that fits.

        :raises RunOptionError: it does not.
        """
        fits = self.fits(value)
        if fits and (self.kind != "whole" or self.least <= value <= self.most):
            return
        raise RunOptionError(self.problem.format(repr(value), unit=self.unit), option=name)


def option(default: Any, kind: Kind = "other", **given: Any) -> Any:
    """A field of a dataclass with its declaration.

    :param given: the fields of `Declared` that differ from those of the kind.
    """
    fits, problem, journal = _KINDS[kind]
    of_kind = {"fits": fits, "problem": problem, "journal": journal, "unit": "", "help": None}
    declared = Declared(kind=kind, **{**of_kind, **given})
    return field(default=default, metadata={_KEY: declared})


def declarations(cls: Any) -> Mapping[str, Declared]:
    """The declarations of a dataclass, by the names of the options."""
    return {each.name: each.metadata[_KEY] for each in fields(cls)}


class Checked:
    """A base of dataclasses of options: each value is one that its option may have.

    :raises RunOptionError: one of them is not.
    """

    def __post_init__(self) -> None:
        for name, declared in declarations(self).items():
            declared.check(name, getattr(self, name))
