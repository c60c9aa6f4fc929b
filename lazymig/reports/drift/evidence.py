"""The evidence of a finding in a document, and the faults there: counted, to be compared.

A rule is credited with what it changes of that; a rule that puts something wrong in the place of
what it ends has cured nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from bson.errors import BSONError
from pymongo.collection import Collection

from lazymig.engines.access import readable
from lazymig.odm.examining import Examiner, Problem
from lazymig.raw.differences import MISSING
from lazymig.raw.encoding import UNSTORABLE, stored_bytes
from lazymig.raw.values import is_array
from lazymig.redaction import excerpt
from lazymig.reports.drift.model_paths import ModelPath

__all__ = ["Evidence", "FaultKey", "Faults", "evidence_of", "fault_keys", "faults_by", "values_at"]

# What shows a finding in one document: equal for two documents only if nothing has changed.
Evidence: TypeAlias = "Counter[Any]"
# A fault: its path, its kind, and the value as it is stored.
FaultKey: TypeAlias = "tuple[str, str, bytes]"
# Gives what is wrong with a raw document.
Faults: TypeAlias = "Callable[[Any], Counter[FaultKey]]"

# Seen only where nothing else is wrong, so that they may show once something else is cured.
_HIDDEN_BY_OTHERS: Final = frozenset({"not_decodable", "unreadable"})


def values_at(
    places: Sequence[ModelPath], name: str | None, document: Any, *, by_class: bool
) -> Iterator[Any]:
    """What a document has in some places: `MISSING` where the object is there without the field.

    :param places: fields, items of lists or maps, or with `name` objects, or what holds them, whose
        field of that name is meant.
    :param by_class: whether `_cls` distinguishes the classes of the documents themselves.
    """
    for place in places:
        # Without classes each document is one of the model's.
        for value in _walk(document, place.chain if by_class else place.chain[1:]):
            if name is None:
                yield value
            elif isinstance(value, Mapping):
                yield value.get(name, MISSING)


def _walk(value: Any, chain: Sequence[ModelPath]) -> Iterator[Any]:
    if not chain:
        yield value
        return
    place, *rest = chain
    if place.role == "object":
        if isinstance(value, Mapping) and value.get("_cls") in place.names:
            yield from _walk(value, rest)
    elif place.role == "field":
        assert place.facts is not None
        yield from _walk(value.get(place.facts.stored, MISSING), rest)
    else:
        assert place.parent is not None
        items: Iterable[Any] = ()
        if place.parent.is_map:
            items = value.values() if isinstance(value, Mapping) else ()
        elif is_array(value):
            items = value
        for item in items:
            yield from _walk(item, rest)


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
        return stored_bytes(value)
    except UNSTORABLE:
        return repr(value).encode()


def faults_by(examiner: Examiner, collection: Collection[Any]) -> Faults:
    """The faults that an examiner finds in documents as `read_raw` gives them, each examined once.

    To be asked within `examining`. A document that is gone, `None`, has no faults.
    """
    # The documents are kept with their faults: an id is given again once its object is gone.
    known: dict[int, tuple[Any, Counter[FaultKey]]] = {}

    def faults(raw: Any) -> Counter[FaultKey]:
        if raw is not None and id(raw) not in known:
            known[id(raw)] = raw, fault_keys(_problems(raw, examiner, collection))
        return known[id(raw)][1] if raw is not None else Counter()

    return faults


def _problems(raw: Any, examiner: Examiner, collection: Collection[Any]) -> Iterable[Problem]:
    def decode() -> dict[str, Any]:
        return readable(raw, collection, as_is=True)

    try:
        decode()
    except BSONError as exc:
        return [Problem("", "not_decodable", type(exc).__name__, excerpt(exc))]
    return examiner.problems(decode)
