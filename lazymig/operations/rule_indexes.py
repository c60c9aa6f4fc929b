"""The indexes of a model's rules: listed, built and dropped. MongoDB serves everybody meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from lazymig.engines.access import describe, is_mongomock, on_primary
from lazymig.engines.driver_errors import is_away
from lazymig.errors import RuleIndexError
from lazymig.odm.indexes import NeededIndexes, needed_by_others, needed_indexes
from lazymig.operations.journal.collection import UNAUTHORIZED
from lazymig.raw.encoding import encoded
from lazymig.raw.json_values import JsonValue
from lazymig.redaction import excerpt
from lazymig.rules.plan import Plan
from lazymig.rules.rule_indexes import IndexSpec, is_rule_index

__all__ = [
    "RuleIndex",
    "build_indexes",
    "check_place",
    "drop_indexes",
    "indexed_rules",
    "indexes_of_rules",
    "needless_indexes",
]

logger = logging.getLogger(__name__)

_NOT_FOUND: Final = frozenset({26, 27})
_REMEDIES: Final[Mapping[int | None, str]] = {
    UNAUTHORIZED: "give the user the right createIndex, of the role readWrite or dbAdmin, or let "
    "somebody call it who has that",
    67: "if it has 64 indexes, which is the most, drop one that nobody needs; servers before 6.0 "
    "take no $in or $or in a filter, and find what is old without this index",
    85: "drop the index that is in the way, or leave this one out",
    86: "drop the index that is in the way, or leave this one out",
    171: "there are arrays in two of its paths; name one of them alone in the target",
    16746: "a name in the target is that of a field, and the place of an element in an array",
}
_OTHERWISE: Final = "see what MongoDB says, and call it again"

_Stored = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RuleIndex(JsonValue):
    """An index that a rule needs, and how it stands.

    :ivar rule: the rule's name.
    :ivar name: the index's name, `None` where no index serves the rule.
    :ivar keys: the paths that are its keys, all ascending.
    :ivar filter: which documents it holds; `None` for all of the collection.
    :ivar exists: it is in the database.
    :ivar documents: those that it holds now, `None` if it is not there, or that is not known.
    :ivar reason: why there is none, why it holds more than what is old, or why what is in the
        database under its name is not this index.
    """

    rule: str
    name: str | None
    keys: tuple[str, ...]
    filter: Any
    exists: bool
    documents: int | None
    reason: str | None


def indexes_of_rules(collection: Collection[Any], plan: Plan) -> list[RuleIndex]:
    """The indexes that the rules of a plan need, lazy rules first. Only reads.

    What is left in the database of rules that are gone comes last.

    :raises pymongo.errors.PyMongoError: the connection, or the right to list indexes.
    """
    needed = needed_indexes(plan)
    stored = _stored(collection)
    found = [row for each in needed for row in _rows(collection, each, stored)]
    left = [name for name in _names_of(plan, stored) if name not in {each.name for each in found}]
    for name in left:
        keys, held = _shown(stored[name])
        count = _count(collection, name, held)
        reason = "the rule is gone, and so may the index"
        found.append(RuleIndex(_rule_in(name), name, keys, held, True, count, reason))
    return found


def indexed_rules(collection: Collection[Any], needed: Sequence[NeededIndexes]) -> dict[str, bool]:
    """Return whether each rule has its indexes; a rule that none can serve is left out.

    Where the indexes cannot be listed, nothing is known of any rule. Only reads.

    :param needed: the rules, each with the indexes that serve it.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    if is_mongomock(collection):
        return {}
    try:
        stored = _stored(collection)
    except OperationFailure as exc:
        if is_away(exc):
            raise
        return {}
    return {
        each.rule.name: all(_name_of(spec, name, stored) for name, spec in each.specs.items())
        for each in needed
        if each.specs
    }


def _rows(
    collection: Collection[Any], each: NeededIndexes, stored: Mapping[str, _Stored]
) -> Iterator[RuleIndex]:
    rule, reason = each.rule.name, each.needed.reason
    if not each.specs:
        yield RuleIndex(rule, None, (), None, False, None, reason)
    for name, spec in each.specs.items():
        there = _name_of(spec, name, stored)
        reason = spec.reason or each.needed.reason
        if there is None:
            other = name in stored
            why = "an index of this name is there, for another target; drop it first"
            reason_of_this = why if other else reason
            yield RuleIndex(rule, name, spec.keys, spec.filter, False, None, reason_of_this)
        else:
            count = _count(collection, there, spec.filter)
            yield RuleIndex(rule, there, spec.keys, spec.filter, True, count, reason)


def build_indexes(collection: Collection[Any], plan: Plan) -> list[RuleIndex]:
    """Build those indexes that the rules of a plan need and that are not there.

    :return: as `indexes_of_rules`, afterwards.
    :raises RuleIndexError: one cannot be built; those that this call has built are dropped again.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    model = plan.model_name
    check_place(collection, model)
    needed = needed_indexes(plan)
    try:
        stored = _stored(collection)
    except OperationFailure as exc:
        raise _refused(model, None, None, exc) from exc
    missing = [
        (each.rule.name, name, spec)
        for each in needed
        for name, spec in each.specs.items()
        if _name_of(spec, name, stored) is None
    ]
    for rule, name, _spec in missing:
        if name in stored:
            raise RuleIndexError(
                f"there is an index {name}, for another target than the rule has now; drop it "
                "first, with drop_rule_indexes() or lazymig indexes --drop",
                model=model,
                rule=rule,
                index=name,
            )
    built: list[str] = []
    for rule, name, spec in missing:
        try:
            _build(collection, name, spec)
        except PyMongoError as exc:
            _take_back(collection, built)
            if isinstance(exc, OperationFailure):
                raise _refused(model, rule, name, exc) from exc
            raise
        built.append(name)
        logger.info("%s.%s: %s has the index %s", model, rule, collection.full_name, name)
    return indexes_of_rules(collection, plan)


def _build(collection: Collection[Any], name: str, spec: IndexSpec) -> None:
    partial: dict[str, Any] = {}
    if spec.filter is not None:
        partial["partialFilterExpression"] = spec.filter
    # Two rules may need the same index, which is there by now.
    if _name_of(spec, name, _stored(collection)) is None:
        collection.create_index(spec.pattern, name=name, **partial)


def _take_back(collection: Collection[Any], names: Sequence[str]) -> None:
    for name in names:
        with suppress(PyMongoError):
            collection.drop_index(name)


def drop_indexes(
    collection: Collection[Any], plan: Plan, rules: Sequence[str] | None = None
) -> list[str]:
    """Drop the indexes of a plan's rules, those of other targets or of rules that are gone, too.

    Those of other rules, which other classes of the collection have, stay.

    :param rules: the names of those rules whose indexes go; `None` for all.
    :return: the names of the indexes that were dropped.
    :raises RuleIndexError: one cannot be dropped.
    :raises pymongo.errors.PyMongoError: the connection, or the right to list indexes.
    """
    names = needless_indexes(collection, plan, rules)
    dropped = []
    for name in names:
        try:
            collection.drop_index(name)
        except OperationFailure as exc:
            if exc.code not in _NOT_FOUND:
                raise _refused(plan.model_name, _rule_in(name), name, exc, done="dropped") from exc
            continue
        dropped.append(name)
    return dropped


def needless_indexes(
    collection: Collection[Any], plan: Plan, rules: Sequence[str] | None = None
) -> list[str]:
    """The names of the indexes in a collection that nobody needs without some rules of a plan.

    :param rules: the names of these rules; `None` for all.
    """
    if is_mongomock(collection):
        return []
    stored = _stored(collection)
    needed = needed_indexes(plan)
    own = {name for each in needed for name in each.specs}
    staying = {
        name: spec
        for each in needed
        if rules is not None and each.rule.name not in rules
        for name, spec in each.specs.items()
    }
    return [
        name
        for name in _names_of(plan, stored)
        if name not in staying
        # One of two rules that need the same has built it under its own name.
        and not (name in own and any(_is(spec, stored[name]) for spec in staying.values()))
    ]


def _names_of(plan: Plan, stored: Mapping[str, _Stored]) -> Iterator[str]:
    """The names of the rule indexes in a collection that are no other class's."""
    own = {name for each in needed_indexes(plan) for name in each.specs}
    others = {name for each in needed_by_others(plan) for name in each.specs} - own
    return (name for name in stored if is_rule_index(name) and name not in others)


def check_place(collection: Collection[Any], model: str) -> None:
    """Do nothing with a collection that may have rule indexes.

    :raises RuleIndexError: it is none of a server, or a view.
    """
    if is_mongomock(collection):
        raise RuleIndexError(
            f"rule indexes need a server, and {collection.full_name} is a collection of mongomock; "
            "queries have the same answers without them",
            model=model,
        )
    description = describe(collection)
    if description is not None and description.kind != "collection":
        raise RuleIndexError(
            f"{collection.full_name} is a {description.kind}, which takes no rule indexes; build "
            "them in the collection that it is made of",
            model=model,
        )


def _refused(
    model: str, rule: str | None, name: str | None, exc: OperationFailure, done: str = "built"
) -> RuleIndexError:
    remedy = _REMEDIES.get(exc.code, _OTHERWISE)
    what = "the indexes cannot be listed" if name is None else f"the index {name} cannot be {done}"
    return RuleIndexError(f"{what}: {excerpt(exc)}; {remedy}", model=model, rule=rule, index=name)


def _stored(collection: Collection[Any]) -> dict[str, _Stored]:
    """The indexes of a collection by name; none where there is no collection.

    One with the collation of the collection is said to have none: it is built and used without.
    """
    stored = {name: dict(info) for name, info in on_primary(collection).index_information().items()}
    default = stored.get("_id_", {}).get("collation")
    for info in stored.values():
        if info.setdefault("collation", None) == default:
            del info["collation"]
    return stored


def _name_of(spec: IndexSpec, name: str, stored: Mapping[str, _Stored]) -> str | None:
    """The name under which an index is there; MongoDB builds none twice."""
    if name in stored and _is(spec, stored[name]):
        return name
    return next((other for other, each in stored.items() if _is(spec, each)), None)


def _is(spec: IndexSpec, stored: _Stored) -> bool:
    held = stored.get("partialFilterExpression")
    if (
        [*map(tuple, stored["key"])] != spec.pattern
        or stored.get("sparse")
        or "collation" in stored
    ):
        return False
    if held is None or spec.filter is None:
        return held is spec.filter
    return encoded(dict(held)) == encoded(dict(spec.filter))


def _shown(stored: _Stored) -> tuple[tuple[str, ...], Any]:
    return tuple(str(key) for key, _way in stored["key"]), stored.get("partialFilterExpression")


def _count(collection: Collection[Any], name: str, held: Any) -> int | None:
    reader = on_primary(collection)
    try:
        if held is None:
            return int(reader.estimated_document_count())
        return int(reader.count_documents({}, hint=name))
    except OperationFailure:
        # It was dropped in between, or the user may not read.
        return None


def _rule_in(name: str) -> str:
    return name.removeprefix("lazymig_")
