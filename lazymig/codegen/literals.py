"""Values of MongoDB as Python source, laid out as `ruff format` lays it out.

Knows no file and no database. What a value needs to be imported is said by the names it asks for.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from keyword import iskeyword
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

__all__ = ["Import", "Names", "Node", "Style", "call_of", "laid_out", "literal", "width_of"]


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """What has to be imported: a name of a module, or the module itself."""

    module: str
    name: str | None = None

    @property
    def local(self) -> str:
        """The name that the import binds."""
        return self.module if self.name is None else self.name

    def __str__(self) -> str:
        if self.name is None:
            return f"import {self.module}"
        return f"from {self.module} import {self.name}"


Names: TypeAlias = "Callable[[Import], str]"
"""Tells by which name a source calls what it imports."""


@dataclass(frozen=True, slots=True)
class Style:
    """How the source of a file is laid out.

    :ivar unit: what each level of indentation adds: spaces, or a tab, which counts as four columns.
    :ivar margin: the indentation of the methods.
    :ivar width: columns of a line.
    :ivar ascii_only: other characters are escaped.
    """

    unit: str = "    "
    margin: str = "    "
    width: int = 100
    ascii_only: bool = False

    def room(self, indent: str) -> int:
        """The columns of a line that the indentation leaves."""
        return self.width - len(indent.expandtabs(4))


@dataclass(frozen=True, slots=True)
class _Atom:
    """What is never broken."""

    flat: str


@dataclass(frozen=True, slots=True)
class _Text:
    """A string that may be written in pieces."""

    value: str | bytes
    ascii_only: bool
    raw: bool = False

    @property
    def flat(self) -> str:
        return self.quoted(self.value)

    def quoted(self, piece: str | bytes) -> str:
        if self.raw and isinstance(piece, str) and _can_be_raw(piece):
            return f'r"{piece}"'
        return _quoted(piece, self.ascii_only)

    def pieces(self, room: int) -> list[str]:
        """Literals, each of at most `room` columns, that give the value when put side by side."""
        if not self.value:
            return [self.flat]
        rest, pieces = self.value, []
        while rest:
            least, most = 1, len(rest)
            while least < most:
                middle = (least + most + 1) // 2
                if width_of(self.quoted(rest[:middle])) <= room:
                    least = middle
                else:
                    most = middle - 1
            if least < len(rest):
                space: Any = " " if isinstance(rest, str) else b" "
                behind_space = rest.rfind(space, 0, least) + 1
                if behind_space > least // 2:
                    least = behind_space
            pieces.append(self.quoted(rest[:least]))
            rest = rest[least:]
        return pieces


@dataclass(frozen=True, slots=True)
class _Item:
    """A key and a value of a mapping, an argument, or the item of a list: then without prefix."""

    prefix: str
    value: Node

    @property
    def flat(self) -> str:
        return self.prefix + self.value.flat


@dataclass(frozen=True, slots=True)
class _Group:
    """Items in brackets; a call's arguments if `is_call`."""

    opening: str
    items: tuple[_Item, ...]
    closing: str
    is_call: bool = False

    @property
    def flat(self) -> str:
        return self.opening + ", ".join(item.flat for item in self.items) + self.closing


Node: TypeAlias = "_Atom | _Text | _Group"
"""A value as source, before it is laid out."""


def width_of(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


# --- Layout ---------------------------------------------------------------------------------

# A piece of a string is not made narrower than this, however deep it stands.
_NARROWEST = 16


def laid_out(prefix: str, node: Node, style: Style, indent: str, suffix: str = "") -> Iterator[str]:
    """Give the lines of a value, with what stands before and behind it."""
    flat = prefix + node.flat + suffix
    if width_of(flat) <= style.room(indent) or isinstance(node, _Atom):
        yield indent + flat
        return
    inner = indent + style.unit
    if isinstance(node, _Text):
        pieces = node.pieces(max(style.room(inner), _NARROWEST))
        if len(pieces) == 1 and not prefix:
            yield indent + flat
            return
        yield f"{indent}{prefix}("
        yield from (inner + piece for piece in pieces)
        yield f"{indent}){suffix}"
    elif not node.items:
        yield indent + flat
    else:
        yield indent + prefix + node.opening
        yield from _inside(node, style, inner)
        yield indent + node.closing + suffix


def _inside(group: _Group, style: Style, indent: str) -> Iterator[str]:
    room = style.room(indent)
    if group.is_call:
        line = ", ".join(item.flat for item in group.items)
        if width_of(line) <= room:
            yield indent + line
            return
    comma = "," if len(group.items) > 1 else ""
    for item in group.items:
        if group.is_call and isinstance(item.value, _Text) and not item.prefix:
            # An argument needs no parentheses around its pieces.
            *pieces, last = item.value.pieces(max(room - len(comma), _NARROWEST))
            yield from (indent + piece for piece in pieces)
            yield indent + last + comma
        else:
            yield from laid_out(item.prefix, item.value, style, indent, comma)


# --- Literals -------------------------------------------------------------------------------

_RE: Final = Import("re")
# What PyMongo gives; ruff would have `timezone.utc` be called by another name on newer Pythons.
_UTC: Final = Import("bson.tz_util", "utc")

_REGEX_LETTERS: Final = {
    re.IGNORECASE: "i",
    re.LOCALE: "l",
    re.MULTILINE: "m",
    re.DOTALL: "s",
    re.UNICODE: "u",
    re.VERBOSE: "x",
}
# re.DEBUG would print.
_RE_FLAGS: Final = ("ASCII", "IGNORECASE", "LOCALE", "MULTILINE", "DOTALL", "VERBOSE")


def literal(value: Any, names: Names, *, ascii_only: bool = False) -> Node:
    """A value as source that gives an equal value of the same BSON type.

    :raises ValueError: it holds what BSON, or Python's source, cannot say; the message says where.
    """
    return _Writer(names, ascii_only).node(value, ())


def call_of(name: str, *arguments: Node) -> Node:
    """A call, as a value."""
    return _Group(f"{name}(", tuple(_Item("", each) for each in arguments), ")", is_call=True)


@dataclass(frozen=True, slots=True)
class _Writer:
    names: Names
    ascii_only: bool

    def node(self, value: Any, path: tuple[str, ...]) -> Node:  # noqa: C901 - one line a type
        # Subclasses of str, bytes and int come before these.
        if value is None or isinstance(value, bool):
            return _Atom(repr(value))
        if isinstance(value, ObjectId):
            return self._call("ObjectId", self._text(str(value)))
        if isinstance(value, datetime):
            return self._datetime(value, path)
        if isinstance(value, DatetimeMS):
            return self._call("DatetimeMS", _Atom(repr(int(value))))
        if isinstance(value, Int64):
            return self._call("Int64", _Atom(repr(int(value))))
        if isinstance(value, int):
            return _Atom(repr(int(value)))
        if isinstance(value, float):
            return _float(value)
        if isinstance(value, Decimal128):
            return self._decimal(value)
        if isinstance(value, Code):
            return self._code(value, path)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, Binary):
            return self._call("Binary", self._text(bytes(value)), _Atom(repr(value.subtype)))
        if isinstance(value, bytes):
            return self._text(bytes(value))
        if isinstance(value, uuid.UUID):
            return call_of(self.names(Import("uuid", "UUID")), self._text(str(value)))
        if isinstance(value, Regex):
            return self._regex(value)
        if isinstance(value, re.Pattern):
            return self._pattern(value)
        if isinstance(value, Timestamp):
            return self._call("Timestamp", _Atom(repr(value.time)), _Atom(repr(value.inc)))
        if isinstance(value, (MinKey, MaxKey)):
            return self._call("MinKey" if isinstance(value, MinKey) else "MaxKey")
        if isinstance(value, DBRef):
            return self._reference(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, (list, tuple)):
            items = (_Item("", self.node(each, (*path, str(i)))) for i, each in enumerate(value))
            return _Group("[", tuple(items), "]")
        raise _unwritable(value, path)

    def _call(self, name: str, *arguments: Node) -> Node:
        return call_of(self.names(Import("bson", name)), *arguments)

    def _text(self, value: str | bytes) -> _Text:
        return _Text(value, self.ascii_only)

    def _mapping(self, value: Mapping[Any, Any], path: tuple[str, ...]) -> Node:
        items = []
        for key, each in value.items():
            if not isinstance(key, str):
                raise _unwritable(key, path)
            prefix = f"{self._text(str.__str__(key)).flat}: "
            items.append(_Item(prefix, self.node(each, (*path, key))))
        return _Group("{", tuple(items), "}")

    def _datetime(self, value: datetime, path: tuple[str, ...]) -> Node:
        name = self.names(Import("datetime", "datetime"))
        aware = value.tzinfo is not None
        if aware:
            try:
                value = value.astimezone(timezone.utc)
            except OverflowError as exc:
                raise _unwritable(value, path) from exc
        parts = [value.year, value.month, value.day]
        clock = [value.hour, value.minute, value.second, value.microsecond]
        while clock and not clock[-1]:
            clock.pop()
        if len(clock) == 1:
            clock.append(0)
        arguments = [_Item("", _Atom(repr(part))) for part in (*parts, *clock)]
        if aware:
            arguments.append(_Item("tzinfo=", _Atom(self.names(_UTC))))
        return _Group(f"{name}(", tuple(arguments), ")", is_call=True)

    def _decimal(self, value: Decimal128) -> Node:
        if Decimal128(str(value)).bid == value.bid:
            return self._call("Decimal128", self._text(str(value)))
        # Not each NaN has a text.
        name = self.names(Import("bson", "Decimal128"))
        return call_of(f"{name}.from_bid", self._text(value.bid))

    def _code(self, value: Code, path: tuple[str, ...]) -> Node:
        text = self._text(str.__str__(value))
        if value.scope is None:
            return self._call("Code", text)
        return self._call("Code", text, self._mapping(value.scope, (*path, "scope")))

    def _regex(self, value: Regex[Any]) -> Node:
        pattern = self._pattern_text(value.pattern)
        letters = "".join(_REGEX_LETTERS[flag] for flag in _REGEX_LETTERS if value.flags & flag)
        return self._call("Regex", pattern, *([self._text(letters)] if letters else []))

    def _pattern(self, value: re.Pattern[Any]) -> Node:
        module = self.names(_RE)
        flags = [name for name in _RE_FLAGS if value.flags & re.RegexFlag[name]]
        arguments: list[Node] = [self._pattern_text(value.pattern)]
        if flags:
            arguments.append(_Atom(" | ".join(f"{module}.{name}" for name in flags)))
        return call_of(f"{module}.compile", *arguments)

    def _pattern_text(self, pattern: str | bytes) -> _Text:
        return _Text(pattern, self.ascii_only, raw=True)

    def _reference(self, value: DBRef, path: tuple[str, ...]) -> Node:
        extras: dict[str, Any] = dict(value.as_doc())
        for known in ("$ref", "$id", "$db"):
            extras.pop(known, None)
        arguments = [
            _Item("", self._text(value.collection)),
            _Item("", self.node(value.id, (*path, "$id"))),
        ]
        if value.database is not None:
            arguments.append(_Item("", self._text(value.database)))
        for name, each in extras.items():
            if name in _PARAMETERS or iskeyword(name) or not name.isidentifier():
                raise _unwritable(value, path)
            arguments.append(_Item(f"{name}=", self.node(each, (*path, name))))
        return _Group(f"{self.names(Import('bson', 'DBRef'))}(", tuple(arguments), ")", True)


# What DBRef would take for its own.
_PARAMETERS: Final = {"self", "collection", "id", "database", "_extra"}


def _float(value: float) -> Node:
    text = float.__repr__(value)
    if text in ("nan", "inf", "-inf"):
        return call_of("float", _Text(text, ascii_only=True))
    return _Atom(text.replace("e+", "e"))


def _unwritable(value: Any, path: Sequence[str]) -> ValueError:
    place = f" at {'.'.join(path)!r}" if path else ""
    return ValueError(
        f"has{place} a {type(value).__name__}, which cannot be written as source: {value!r:.80}"
    )


def _quoted(value: str | bytes, ascii_only: bool) -> str:
    """A literal with the quotes that ask for fewer escapes; double ones if that is open."""
    mark = "b" if isinstance(value, bytes) else ""
    # With a double quote in it, the text is given in single quotes.
    body: str
    if isinstance(value, bytes):
        body = repr(b'"' + value)[3:-1]
    else:
        body = (ascii if ascii_only else repr)('"' + value)[2:-1]
    doubles, singles = body.count('"'), body.count("'")
    if doubles > singles:
        return f"{mark}'{body}'"
    body = body.replace("\\'", "'").replace('"', '\\"')
    return f'{mark}"{body}"'


def _can_be_raw(text: str) -> bool:
    if "\\" not in text or '"' in text or not text.isprintable() or not text.isascii():
        return False
    return (len(text) - len(text.rstrip("\\"))) % 2 == 0
