"""The index by which the documents of a rule's target are found, however large the collection is.

Where MongoDB allows it, it is a partial index that holds only those documents: it shrinks to
nothing as they are brought up to date. Its filter is what queries for old documents say in any
case, as `lazymig.query.indexable` words them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bson import MaxKey, MinKey

from lazymig.query.checks import is_regex
from lazymig.query.indexable import implied_types, indexable
from lazymig.query.operators import is_expression, parse
from lazymig.query.tree import Compare, Node, Not, Or, Path, conjuncts

__all__ = [
    "IndexSpec",
    "Needed",
    "index_name",
    "index_of_nothing",
    "indexes_for",
    "is_rule_index",
]

_PREFIX: Final = "lazymig_"
_NAME: Final = re.compile(r"lazymig_(all)?migration\d")

_COMPARISONS: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})
_TELLING: Final = frozenset({"$exists", "$type", "$in", *_COMPARISONS})
_CLASS: Final = "_cls"

# The start of a pattern that MongoDB finds by the order of an index.
_BEGINS_WITH: Final = re.compile(r"\^[A-Za-z0-9 _@:/-]+")


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index: its keys, all ascending, and the filter of what it holds; `None`: everything.

    `reason` says why it is there if it is not for what is old.
    """

    keys: tuple[str, ...]
    filter: Mapping[str, Any] | None
    reason: str | None = None

    @property
    def pattern(self) -> list[tuple[str, int]]:
        """The keys as PyMongo takes them."""
        return [(key, 1) for key in self.keys]


@dataclass(frozen=True, slots=True)
class Needed:
    """The indexes that serve a target, each a part of it; none: `reason` says why.

    With indexes, `reason` says why they hold more than what is old, `None` if they do not.
    """

    specs: tuple[IndexSpec, ...]
    reason: str | None = None


def index_name(rule: str, number: int) -> str:
    """Return the name of the index with this number, from 1 on, of a rule."""
    return f"{_PREFIX}{rule}" if number == 1 else f"{_PREFIX}{rule}_{number}"


def is_rule_index(name: str) -> bool:
    """Return whether an index was made for a rule, as its name says."""
    return _NAME.match(name) is not None


def indexes_for(
    target: Mapping[str, Any] | None,
    class_filter: Mapping[str, Any] | None = None,
    sources: Collection[str] = (),
) -> Needed:
    """Return the indexes that answer "is anything old?", and find what is.

    :param target: that of the rule; `None` if it needs a document.
    :param class_filter: the condition on `_cls` that is part of it, if there is one.
    :param sources: paths that the update copies: queries for what it writes ask for these.
    """
    if target is None:
        return Needed((), "its target needs a document, so that no query finds what is old")
    parts = _read(parse(indexable(target)))
    if parts.impossible:
        return Needed((), "its target matches no document")
    condition = (class_filter or {}).get(_CLASS)
    if condition is None or any(part.path == _CLASS for part in parts.held):
        return _needed(parts, sources)
    if "$in" in condition:
        parts.held.append(_part(_CLASS, "$in", condition["$in"]))
        return _needed(parts, sources)
    # No filter may hold a `$nin`, but the order of an index helps to pass over other classes.
    needed = _needed(parts, sources)
    return Needed(
        tuple(IndexSpec((*spec.keys, _CLASS), spec.filter) for spec in needed.specs),
        needed.reason,
    )


def index_of_nothing(target: Mapping[str, Any] | None, source: str, path: str) -> IndexSpec | None:
    """Return the index of the documents of today's shape that have nothing at a renamed path.

    In an index on that path they stand among the old ones, which have nothing there either. An
    ascending order begins with them, and passes over no old document where it has this index.

    :param target: that of the rule which renames `source` to `path`.
    :return: None where no filter says which documents are not old.
    """
    if target != {source: {"$exists": True}} or "." in source:
        return None
    reason = f"it holds what comes first by '{path}' and is not old, for orders"
    return IndexSpec((path,), {source: None, path: None}, reason)


@dataclass(frozen=True, slots=True)
class _Part:
    """A condition that a filter may hold."""

    path: str
    operator: str
    operand: Any


def _part(path: str, operator: str, operand: Any) -> _Part:
    # Servers before 6.0 take no $in; that of one value asks for the same as an equality.
    if operator == "$in" and len(operand) == 1:
        return _Part(path, "$eq", operand[0])
    return _Part(path, operator, operand)


@dataclass(slots=True)
class _Parts:
    """The conditions of a target: those that a filter may hold, and the others.

    `sought` are paths of others that the order of an index finds, `unions` are the branches of each
    `$or` that some document may match, and `left_out` names what neither helps with. `impossible`:
    no document matches.
    """

    held: list[_Part] = field(default_factory=list)
    sought: list[str] = field(default_factory=list)
    unions: list[list[_Parts]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    impossible: bool = False


def _read(node: Node) -> _Parts:
    parts = _Parts()
    nodes = list(conjuncts(node))
    said = {(part.path, part.operator): part.operand for part in nodes if isinstance(part, Compare)}
    for part in nodes:
        if isinstance(part, Compare):
            parts.impossible |= part.operator == "$in" and not part.operand
            if not _is_implied_by_elements(part, said):
                _take(part, parts)
        elif isinstance(part, Or):
            branches = [each for each in map(_read, part.parts) if not each.impossible]
            parts.unions.append(branches)
            parts.impossible |= not branches
        elif isinstance(part, Not) and isinstance(part.part, Compare):
            if not _is_implied(part.part, said):
                _take_denied(part.part, parts)
        else:
            parts.left_out.append("what only MongoDB judges")
    return parts


def _is_implied(denied: Compare, said: Mapping[tuple[Path, str], Any]) -> bool:
    """Return whether another condition, which `indexable` has added, says this in a filter."""
    if denied.operator == "$exists":
        return len(denied.path) == 1 and (denied.path, "$eq") in said
    if denied.operator != "$type" or (denied.path, "$type") not in said:
        return False
    if said.get(((*denied.path, "0"), "$eq"), said) is None:
        return True
    return implied_types(said[denied.path, "$type"], denied.operand)


def _is_implied_by_elements(part: Compare, said: Mapping[tuple[Path, str], Any]) -> bool:
    """Return whether `indexable` has said of the elements all that `$elemMatch` asks of them."""
    if part.inner is None or not isinstance(part.inner, Compare):
        return False
    return ((*part.path, *part.inner.path), part.inner.operator) in said


def _take(part: Compare, parts: _Parts) -> None:
    path = ".".join(part.path)
    if _may_be_held(part):
        parts.held.append(_part(path, part.operator, part.operand))
    elif _is_found_by_order(part):
        # MongoDB knows that each of these implies that something is there.
        parts.held.append(_Part(path, "$exists", True))
        parts.sought.append(path)
    else:
        parts.left_out.append(f"{part.operator} on '{path}'")


def _take_denied(part: Compare, parts: _Parts) -> None:
    path = ".".join(part.path)
    values = part.operand if part.operator == "$in" else [part.operand]
    if part.operator == "$eq" and part.operand is None and len(part.path) == 1:
        parts.held.append(_Part(path, "$exists", True))
    elif part.operator == "$exists" or (
        part.operator in ("$eq", "$in") and values and all(map(_is_scalar, values))
    ):
        parts.sought.append(path)
    elif part.operator == "$type":
        parts.left_out.append(f"$not on '{path}'")
    else:
        parts.left_out.append(f"the opposite of {part.operator} on '{path}'")


def _may_be_held(part: Compare) -> bool:
    """Return whether the filter of a partial index may hold a condition."""
    operand = part.operand
    if part.path == ():
        return False
    if part.operator in _COMPARISONS:
        # These compare with every type, and MongoDB takes what is missing for one of them; and by
        # an index it does not find the lists of lists that are above another one.
        return operand is not None and not isinstance(operand, (MinKey, MaxKey, list, tuple))
    if part.operator == "$in":
        return bool(operand) and not any(map(is_regex, operand))
    if part.operator == "$eq":
        return not is_regex(operand)
    return part.operator in ("$exists", "$type")


def _is_found_by_order(part: Compare) -> bool:
    pattern = part.operand
    is_plain = part.operator == "$regex" and isinstance(pattern, str) and not part.options
    return is_plain and _begins(pattern)


def _begins(pattern: str) -> bool:
    found = _BEGINS_WITH.match(pattern)
    # A quantifier after them would make the last one of the characters optional.
    return found is not None and (found.end() == len(pattern) or pattern[found.end()] in "$(.[")


def _is_scalar(value: Any) -> bool:
    return (
        value is not None
        and not is_regex(value)
        and not isinstance(value, (Mapping, list, tuple, MinKey, MaxKey))
    )


def _needed(parts: _Parts, sources: Collection[str]) -> Needed:
    key = _key_of(parts, sources)
    if key is not None:
        return _one_index(key, parts)
    if parts.unions:
        return _one_for_each_branch(parts.unions[0], parts, sources)
    left_out = parts.left_out
    reason = f"no index finds documents by {_joined(left_out)}" if left_out else None
    if any(part.path == "_id" for part in parts.held):
        reason = "its target asks for nothing but the _id, which has its index"
    return Needed((), reason or "its target matches every document")


def _key_of(parts: _Parts, sources: Collection[str]) -> str | None:
    """Return the path that is the key: one by which the documents are told apart best."""
    if parts.sought:
        return parts.sought[0]

    def rank(part: _Part) -> int:
        if part.path in sources:
            return 0
        is_whole = part.operator == "$type" and part.operand in ("object", ["object"])
        if is_whole and any(other.path.startswith(f"{part.path}.") for other in parts.held):
            # A whole sub-document is a large key.
            return 4
        if part.operator in _TELLING:
            return 1
        return 3 if part.operand is None else 2

    # The filter may hold conditions on _id and _cls, but neither tells old documents apart.
    able = [part for part in parts.held if part.path != "_id"]
    others = [part for part in able if part.path != _CLASS]
    best = min(others or able, key=rank, default=None)
    if best is None or (best.path == _CLASS and parts.unions):
        return None
    return best.path


def _one_index(key: str, parts: _Parts) -> Needed:
    held = _filter_of(parts.held)
    left_out = list(parts.left_out)
    for branches in parts.unions:
        if "$or" in held or any(each.sought or each.unions or each.left_out for each in branches):
            left_out.append("$or")
        else:
            held["$or"] = [_filter_of(each.held) for each in branches]
    reason = None
    if left_out:
        reason = f"it holds more than what is old: no filter may hold {_joined(left_out)}"
    elif not held:
        reason = f"it holds every document: no filter may hold the condition on '{key}'"
    return Needed((IndexSpec((key,), held or None),), reason)


def _one_for_each_branch(
    branches: Sequence[_Parts], parts: _Parts, sources: Collection[str]
) -> Needed:
    """One index for each branch of an `$or`, which is then found by itself."""
    specs: list[IndexSpec] = []
    reasons: list[str] = []
    for inner in branches:
        inner.held.extend(part for part in parts.held if part.path == _CLASS)
        needed = _needed(inner, sources)
        if not needed.specs:
            return Needed((), f"of a branch of its $or, {needed.reason}")
        specs.extend(spec for spec in needed.specs if spec not in specs)
        if needed.reason is not None:
            reasons.append(needed.reason)
    if parts.left_out or len(parts.unions) > 1:
        others = [*parts.left_out, *(["a second $or"] if len(parts.unions) > 1 else [])]
        reasons.append(f"it holds more than what is old: no filter may hold {_joined(others)}")
    return Needed(tuple(specs), reasons[0] if reasons else None)


def _filter_of(parts: Sequence[_Part]) -> dict[str, Any]:
    """Return the filter that holds these conditions."""
    held: dict[str, dict[str, Any]] = {}
    aside: list[dict[str, Any]] = []
    for part in parts:
        own = held.setdefault(part.path, {})
        if part.operator not in own:
            own[part.operator] = part.operand
        elif own[part.operator] != part.operand:
            aside.append({part.path: {part.operator: part.operand}})
    found: dict[str, Any] = dict(_conditions(held))
    return {**found, "$and": aside} if aside else found


def _conditions(held: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for path, condition in held.items():
        if condition.keys() == {"$eq"}:
            value = condition["$eq"]
            yield path, condition if is_expression(value) or isinstance(value, Mapping) else value
        elif "$type" in condition:
            # What is of a type is there.
            yield path, {name: value for name, value in condition.items() if name != "$exists"}
        else:
            yield path, condition


def _joined(texts: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(texts))
