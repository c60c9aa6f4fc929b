"""What shows a finding in a document, and what else is wrong there: counted, to be compared.

A rule is credited with what it changes of that; a rule that puts something wrong in the place of
what it ends has cured nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import bson
from bson.errors import BSONError
from pymongo.collection import Collection

from lazymig.engines.scratch import readable
from lazymig.odm.examining import Examiner, Problem
from lazymig.raw.differences import MISSING
from lazymig.raw.encoding import ANY_UUID
from lazymig.raw.values import is_array
from lazymig.redaction import excerpt
from lazymig.reports.drift.model_paths import ModelPath

__all__ = ["Evidence", "FaultKey", "Faults", "evidence_of", "fault_keys", "values_at"]

# What shows a finding in one document: equal for two documents only if nothing has changed.
Evidence: TypeAlias = "Counter[Any]"
# A fault: its path, its kind, and the value as it is stored.
FaultKey: TypeAlias = "tuple[str, str, bytes]"

# Seen only where nothing else is wrong, so that they may show once something else is cured.
_HIDDEN_BY_OTHERS: Final = frozenset({"not_decodable", "unreadable"})


def values_at(
    places: Sequence[ModelPath], name: str | None, document: Any, *, told_apart: bool
) -> Iterator[Any]:
    """What a document has in some places: `MISSING` where the object is there without the field.

    :param places: fields, items of lists or maps, or with `name` objects, or what holds them, whose
        field of that name is meant.
    :param told_apart: whether `_cls` distinguishes the classes of the documents themselves.
    """
    for place in places:
        for value in _walk(document, place.chain, told_apart=told_apart):
            if name is None:
                yield value
            elif isinstance(value, Mapping):
                yield value.get(name, MISSING)


def _walk(value: Any, chain: Sequence[ModelPath], *, told_apart: bool) -> Iterator[Any]:
    if not chain:
        yield value
        return
    place, *rest = chain
    if place.role == "object":
        known = isinstance(value, Mapping) and (
            (place.parent is None and not told_apart) or value.get("_cls") in place.names
        )
        if known:
            yield from _walk(value, rest, told_apart=told_apart)
    elif place.role == "field":
        assert place.facts is not None
        inner = value.get(place.facts.stored, MISSING)
        yield from _walk(inner, rest, told_apart=told_apart)
    else:
        assert place.parent is not None
        items: Iterable[Any] = ()
        if place.parent.is_map:
            items = value.values() if isinstance(value, Mapping) else ()
        elif is_array(value):
            items = value
        for item in items:
            yield from _walk(item, rest, told_apart=told_apart)


def evidence_of(values: Iterable[Any]) -> Evidence:
    """Values, each as it is stored, and how often."""
    return Counter(MISSING if value is MISSING else _stored(value) for value in values)


def fault_keys(problems: Iterable[Problem]) -> Counter[FaultKey]:
    """The faults of a document that show whatever else is wrong in it."""
    return Counter(
        (problem.path, str(problem.kind), _stored(problem.value))
        for problem in problems
        if problem.path and problem.kind not in _HIDDEN_BY_OTHERS
    )


def _stored(value: Any) -> bytes:
    try:
        return bson.encode({"": value}, codec_options=ANY_UUID)
    except (BSONError, TypeError, ValueError, OverflowError):
        return repr(value).encode()


class Faults:
    """The faults of raw documents, each examined once; to be asked within `examining`.

    :param examine: gives what is wrong with a raw document.
    """

    def __init__(self, examine: Callable[[Any], Iterable[Problem]]) -> None:
        self._examine = examine
        # The documents are kept with it: an id is given again once its object is gone.
        self._known: dict[int, tuple[Any, Counter[FaultKey]]] = {}

    @classmethod
    def by(cls, examiner: Examiner, collection: Collection[Any]) -> Faults:
        """Those that an examiner finds in documents as `read_raw` gives them."""

        def examine(raw: Any) -> Iterable[Problem]:
            def decode() -> dict[str, Any]:
                return readable(raw, collection, as_is=True)

            try:
                decode()
            except BSONError as exc:
                return [Problem("", "not_decodable", type(exc).__name__, excerpt(exc))]
            return examiner.problems(decode)

        return cls(examine)

    def __call__(self, raw: Any) -> Counter[FaultKey]:
        """The faults of a document; of one that is gone there are none."""
        if raw is None:
            return Counter()
        if id(raw) not in self._known:
            self._known[id(raw)] = raw, fault_keys(self._examine(raw))
        return self._known[id(raw)][1]
