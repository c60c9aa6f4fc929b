"""Values of MongoDB as Python source.

Knows no file and no database. A value that does not fit in a line is broken at its brackets; the
finer layout is a formatter's.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, TypeAlias

from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)

__all__ = ["COLUMNS", "Bracketed", "Literals", "Source", "laid_out"]

COLUMNS: Final = 88
"""Columns of a line, the default of black and of ruff; a tab counts as four."""


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Source in brackets, which can be broken into a line for each item."""

    opening: str
    items: tuple[tuple[str, Source], ...]
    closing: str

    def __str__(self) -> str:
        inside = ", ".join(f"{key}{each}" for key, each in self.items)
        return f"{self.opening}{inside}{self.closing}"


Source: TypeAlias = "str | Bracketed"
"""A text is never broken."""


def laid_out(prefix: str, source: Source, indent: str, unit: str, suffix: str = "") -> list[str]:
    """The lines of a value after a prefix, broken where they would be longer than `COLUMNS`."""
    flat = f"{indent}{prefix}{source}{suffix}"
    if isinstance(source, str) or not source.items or len(flat.expandtabs(4)) <= COLUMNS:
        return [flat]
    lines = [f"{indent}{prefix}{source.opening}"]
    for key, each in source.items:
        lines += laid_out(key, each, indent + unit, unit, ",")
    return [*lines, f"{indent}{source.closing}{suffix}"]


_RE_FLAGS: Final = ("ASCII", "IGNORECASE", "LOCALE", "MULTILINE", "DOTALL", "VERBOSE")


class Literals:
    """Values as source that gives equal values of the same BSON types, and what it imports.

    :param ascii_only: other characters are escaped.
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        self._ascii_only = ascii_only
        self._imports: dict[str, set[str]] = {}

    @property
    def imports(self) -> list[str]:
        """The import statements that the sources made so far need, sorted."""
        return [
            f"from {module} import {', '.join(sorted(names))}" if names else f"import {module}"
            for module, names in sorted(self._imports.items())
        ]

    def of(self, value: Any, path: tuple[str, ...] = ()) -> Source:  # noqa: C901 - one line a type
        """The source of a value.

        :param path: where the value stands, for the message.
        :raises ValueError: it holds what BSON, or Python's source, cannot say; the message says
            where.
        """
        # Subclasses of str, bytes and int come before these.
        if value is None or isinstance(value, bool):
            return repr(value)
        if isinstance(value, datetime):
            return self._datetime(value, path)
        if isinstance(value, (DatetimeMS, Int64)):
            return self._bson(type(value).__name__, repr(int(value)))
        if isinstance(value, int):
            return repr(int(value))
        if isinstance(value, float):
            text = float.__repr__(value)
            return f'float("{text}")' if text in ("nan", "inf", "-inf") else text
        if isinstance(value, ObjectId):
            return self._bson("ObjectId", self.text(str(value)))
        if isinstance(value, Decimal128):
            return self._decimal(value)
        if isinstance(value, Code):
            scope = [] if value.scope is None else [self._mapping(value.scope, (*path, "scope"))]
            return self._bson("Code", self.text(str.__str__(value)), *scope)
        if isinstance(value, (str, bytes)) and not isinstance(value, Binary):
            return self.text(value)
        if isinstance(value, Binary):
            return self._bson("Binary", self.text(bytes(value)), repr(value.subtype))
        if isinstance(value, uuid.UUID):
            return _call(self._name("uuid", "UUID"), self.text(str(value)))
        if isinstance(value, Regex):
            letters = [each for each in "ilmsux" if value.flags & _flag(each)]
            flags = [self.text("".join(letters))] if letters else []
            return self._bson("Regex", self.text(value.pattern, raw=True), *flags)
        if isinstance(value, re.Pattern):
            return self._pattern(value)
        if isinstance(value, Timestamp):
            return self._bson("Timestamp", repr(value.time), repr(value.inc))
        if isinstance(value, (MinKey, MaxKey)):
            return self._bson("MinKey" if isinstance(value, MinKey) else "MaxKey")
        if isinstance(value, DBRef):
            return self._reference(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, (list, tuple)):
            items = (("", self.of(each, (*path, str(i)))) for i, each in enumerate(value))
            return Bracketed("[", tuple(items), "]")
        raise _unwritable(value, path)

    def text(self, value: str | bytes, *, raw: bool = False) -> str:
        """The source of a string, in double quotes unless it has some."""
        value = bytes(value) if isinstance(value, bytes) else str.__str__(value)
        if raw and isinstance(value, str) and _can_be_raw(value):
            return f'r"{value}"'
        quoted = (ascii if self._ascii_only else repr)(value)
        mark = "b" if isinstance(value, bytes) else ""
        inside = quoted[len(mark) + 1 : -1]
        return quoted if '"' in inside or quoted.endswith('"') else f'{mark}"{inside}"'

    def _name(self, module: str, name: str) -> str:
        self._imports.setdefault(module, set()).add(name)
        return name

    def _bson(self, name: str, *arguments: Source) -> Bracketed:
        return _call(self._name("bson", name), *arguments)

    def _mapping(self, value: Mapping[Any, Any], path: tuple[str, ...]) -> Bracketed:
        items: list[tuple[str, Source]] = []
        for key, each in value.items():
            if not isinstance(key, str):
                raise _unwritable(key, path)
            items.append((f"{self.text(key)}: ", self.of(each, (*path, key))))
        return Bracketed("{", tuple(items), "}")

    def _datetime(self, value: datetime, path: tuple[str, ...]) -> Source:
        names = ["datetime"]
        if value.tzinfo is not None:
            names.append("timezone")
            try:
                value = value.astimezone(timezone.utc)
            except OverflowError as exc:
                raise _unwritable(value, path) from exc
        # A plain datetime, whatever class the value has.
        plain = datetime.combine(value.date(), value.timetz()).replace(fold=0)
        for name in names:
            self._name("datetime", name)
        return repr(plain).replace("datetime.", "")

    def _decimal(self, value: Decimal128) -> Bracketed:
        with suppress(ArithmeticError):
            # PyMongo 4.9 has none for a significand of more than 34 digits.
            if Decimal128(str(value)).bid == value.bid:
                return self._bson("Decimal128", self.text(str(value)))
        # Not each NaN has a text.
        return _call(f"{self._name('bson', 'Decimal128')}.from_bid", self.text(value.bid))

    def _pattern(self, value: re.Pattern[Any]) -> Bracketed:
        self._imports.setdefault("re", set())
        flags = [f"re.{name}" for name in _RE_FLAGS if value.flags & re.RegexFlag[name]]
        return _call(
            "re.compile",
            self.text(value.pattern, raw=True),
            *([" | ".join(flags)] if flags else []),
        )

    def _reference(self, value: DBRef, path: tuple[str, ...]) -> Bracketed:
        extras: dict[str, Any] = dict(value.as_doc())
        for known in ("$ref", "$id", "$db"):
            extras.pop(known, None)
        arguments: list[Source] = [
            self.text(value.collection),
            self.of(value.id, (*path, "$id")),
        ]
        if value.database is not None or extras:
            arguments.append("None" if value.database is None else self.text(value.database))
        if extras:
            arguments.append(self._mapping(extras, path))
        return self._bson("DBRef", *arguments)


def _call(name: str, *arguments: Source) -> Bracketed:
    return Bracketed(f"{name}(", tuple(("", each) for each in arguments), ")")


def _flag(letter: str) -> int:
    return re.RegexFlag[letter.upper()].value


def _unwritable(value: Any, path: Sequence[str]) -> ValueError:
    place = f" at {'.'.join(path)!r}" if path else ""
    return ValueError(
        f"has{place} a {type(value).__name__}, which cannot be written as source: {value!r:.80}"
    )


def _can_be_raw(text: str) -> bool:
    if "\\" not in text or '"' in text or not text.isprintable() or not text.isascii():
        return False
    return (len(text) - len(text.rstrip("\\"))) % 2 == 0
