"""Whether one document would still match a query after an update, told without writing anything.

Nothing that is told here decides what is stored: only whether a rule may be applied. Where the
answer is not certain it is `None`, and MongoDB is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import bson
from bson import Int64
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from lazymig.query.matching import Matcher, query_paths
from lazymig.updates.update import written_paths

__all__ = ["Forecast"]

_INT32: Final = range(-(2**31), 2**31)


class _Unknown(Exception):
    """What becomes of the document is left to MongoDB."""


class Forecast:
    """The question whether documents would still match a query.

    :param matcher: the compiled query.
    :param codec_options: those that the documents were decoded with.
    """

    def __init__(self, matcher: Matcher, codec_options: CodecOptions[Any]) -> None:
        paths = query_paths(matcher.query)
        self._judge = matcher.judge
        self._codec_options = codec_options
        self._roots = None if paths is None else frozenset(map(_root, paths))
        self._dotted = [path for path in paths or () if "." in path]

    @property
    def roots(self) -> frozenset[str] | None:
        """The top-level fields that decide; `None` if they are not known."""
        return self._roots

    def still_matches(self, document: Mapping[str, Any], update: Any) -> bool | None:
        """Whether a document that matches would match after the update; `None`: not certain.

        :param document: a raw document with the fields of `roots`, and those that the update
            renames.
        :param update: operators or a pipeline, as `check_update` accepts them.
        """
        written = written_paths(update)
        if self._roots is None or written is None:
            return None
        concerned = self._roots & set(map(_root, written))
        if not concerned:
            # What the query reads stays as it is, and so does the answer.
            return True
        try:
            return self._judge(self._updated(document, update, concerned))
        except _Unknown:
            return None

    def meets_array(self, document: Mapping[str, Any], update: Any) -> bool:
        """Whether a parent on a dotted path of the query or the update is an array here.

        What is proved of an update in general takes these parents for sub-documents.
        """
        written = written_paths(update) or frozenset()
        return any(_leads_into_array(document, path) for path in (*self._dotted, *written))

    def _updated(
        self, document: Mapping[str, Any], update: Any, roots: frozenset[str]
    ) -> dict[str, Any]:
        """The document as it would be, in those of its top-level fields.

        :raises _Unknown: that is not certain.
        """
        if not isinstance(update, Mapping):
            raise _Unknown
        after = dict(document)
        for place, operator, path, value in _changes(update):
            touched = {_root(path), _root(place)}
            if touched.isdisjoint(roots):
                continue
            if operator == "$rename":
                _rename(document, after, path, place)
            elif operator in _OPERATORS:
                _OPERATORS[operator](after, _names(path), self._stored(value))
            else:
                raise _Unknown
        return after

    def _stored(self, value: Any) -> Any:
        """A value as it is read again."""
        try:
            encoded = bson.encode({"": value}, codec_options=self._codec_options)
            return bson.decode(encoded, codec_options=self._codec_options)[""]
        except (BSONError, ValueError, OverflowError, TypeError, RecursionError) as exc:
            raise _Unknown from exc


def _leads_into_array(document: Mapping[str, Any], path: str) -> bool:
    value: Any = document
    for name in path.split(".")[:-1]:
        value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, (list, tuple)):
            return True
    return False


def _changes(update: Mapping[str, Any]) -> list[tuple[str, str, str, Any]]:
    """Place, operator, path and value, in the order in which MongoDB adds new fields."""
    changes = [
        (value if operator == "$rename" else path, operator, path, value)
        for operator, fields in update.items()
        if operator != "$setOnInsert"
        for path, value in fields.items()
    ]
    return sorted(changes, key=lambda change: change[0].split("."))


def _root(path: str) -> str:
    return path.partition(".")[0]


def _names(path: str) -> list[str]:
    """The names on a path that leads through sub-documents alone."""
    names = path.split(".")
    if any(name.isdecimal() or name.startswith("$") for name in names):
        raise _Unknown
    return names


def _holder(document: dict[str, Any], names: list[str], create: bool) -> dict[str, Any] | None:
    """The sub-document that holds the last name, copied into `document`; `None` if it is missing.

    :param create: make what is missing on the way.
    """
    holder = document
    for name in names[:-1]:
        if name not in holder:
            if not create:
                return None
            inner: dict[str, Any] = {}
        elif isinstance(holder[name], Mapping):
            inner = dict(holder[name])
        else:
            # An array, or something that MongoDB refuses to go through.
            raise _Unknown
        holder[name] = inner
        holder = inner
    return holder


def _set(document: dict[str, Any], names: list[str], value: Any) -> None:
    holder = _holder(document, names, create=True)
    assert holder is not None
    holder[names[-1]] = value


def _unset(document: dict[str, Any], names: list[str], _value: Any) -> None:
    holder = _holder(document, names, create=False)
    if holder is not None:
        holder.pop(names[-1], None)


def _increase(document: dict[str, Any], names: list[str], value: Any) -> None:
    holder = _holder(document, names, create=True)
    assert holder is not None
    if names[-1] not in holder:
        holder[names[-1]] = value
        return
    before = holder[names[-1]]
    if not _is_int32(before) or not _is_int32(value) or not _is_int32(before + value):
        raise _Unknown
    holder[names[-1]] = before + value


def _rename(
    before: Mapping[str, Any], document: dict[str, Any], source: str, destination: str
) -> None:
    """Move what lay at a path before the update; nothing happens if nothing did."""
    names, other_names = _names(source), _names(destination)
    untouched = dict(before)
    holder = _holder(untouched, names, create=False)
    # Whether its parents are documents is asked of MongoDB even if nothing is moved.
    _holder(untouched, other_names, create=False)
    if holder is None or names[-1] not in holder:
        return
    _unset(document, names, None)
    _set(document, other_names, holder[names[-1]])


def _is_int32(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, (bool, Int64)) and value in _INT32


_OPERATORS: Final[Mapping[str, Callable[[dict[str, Any], list[str], Any], None]]] = {
    "$set": _set,
    "$unset": _unset,
    "$inc": _increase,
}
