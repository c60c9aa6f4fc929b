"""The forecast whether one document would still match a query after an update; nothing is written.

It never decides what is stored, only whether a rule may be applied. Where the answer is not certain
it is `None`, and MongoDB is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions

from lazymig.query.matching import Matcher, query_paths
from lazymig.raw.encoding import UNSTORABLE
from lazymig.raw.paths import root
from lazymig.updates.operators import OPERATORS, NotForeseen
from lazymig.updates.update import written_paths

__all__ = ["Forecast"]


class Forecast:
    """The question whether documents would still match a query.

    :param matcher: the compiled query.
    :param codec_options: those that the documents were decoded with.
    """

    def __init__(self, matcher: Matcher, codec_options: CodecOptions[Any]) -> None:
        paths = query_paths(matcher.query)
        self._judge = matcher.judge
        self._codec_options = codec_options
        self._roots = None if paths is None else frozenset(map(root, paths))
        self._dotted = [path for path in paths or () if "." in path]

    @property
    def roots(self) -> frozenset[str] | None:
        """The top-level fields that decide; `None` if they are not known."""
        return self._roots

    def still_matches(self, document: Mapping[str, Any], update: Any) -> bool | None:
        """Return whether a document that matches would match after the update; `None`: not certain.

        :param document: a raw document with the fields of `roots`, and those that the update
            renames.
        :param update: operators or a pipeline, as `check_update` accepts them.
        """
        written = written_paths(update)
        if self._roots is None or written is None:
            return None
        touched = self._roots & set(map(root, written))
        if not touched:
            # What the query reads is unchanged, and so is the answer.
            return True
        try:
            return self._judge(self._updated(document, update, touched))
        except NotForeseen:
            return None

    def meets_array(self, document: Mapping[str, Any], update: Any) -> bool:
        """Return whether a parent on a dotted path of the query or the update is an array here.

        What is proved of an update in general takes these parents for sub-documents.
        """
        written = () if _is_flat(update) else written_paths(update) or ()
        return any(_leads_into_array(document, path) for path in (*self._dotted, *written))

    def _updated(
        self, document: Mapping[str, Any], update: Any, roots: frozenset[str]
    ) -> dict[str, Any]:
        """The document as it would be, in those of its top-level fields.

        :raises NotForeseen: that is not certain.
        """
        if not isinstance(update, Mapping):
            raise NotForeseen
        after = dict(document)
        for place, operator, path, value in _changes(update):
            touched = {root(path), root(place)}
            if touched.isdisjoint(roots):
                continue
            effect = OPERATORS[operator].effect
            if effect is None:
                raise NotForeseen
            effect(document, after, path, self._stored(value))
        return after

    def _stored(self, value: Any) -> Any:
        """A value as it is read again."""
        try:
            encoded = bson.encode({"": value}, codec_options=self._codec_options)
            return bson.decode(encoded, codec_options=self._codec_options)[""]
        except UNSTORABLE as exc:
            raise NotForeseen from exc


def _is_flat(update: Any) -> bool:
    """Return whether it is certain that an update writes top-level fields alone."""
    if type(update) is not dict or "$rename" in update:
        return False
    return not any("." in path for fields in update.values() for path in fields)


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
        (value if OPERATORS[operator].moves else path, operator, path, value)
        for operator, fields in update.items()
        if OPERATORS[operator].writes
        for path, value in fields.items()
    ]
    return sorted(changes, key=lambda change: change[0].split("."))
