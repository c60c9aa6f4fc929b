"""Updates before they run: are they well-formed, what do they write, do they end their match.

Pure: no database and no MongoEngine. Updates are never executed here, only judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import bson
from bson import DBRef, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from lazymig.rules.matching import compile_query

__all__ = [
    "ANY_VALUE",
    "AnyValue",
    "check_update",
    "created_paths",
    "ends_match",
    "removed_paths",
    "written_paths",
]


class AnyValue:
    """The type of `ANY_VALUE`, its only instance."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ANY_VALUE"

    def __copy__(self) -> AnyValue:
        return self

    def __deepcopy__(self, memo: object) -> AnyValue:
        return self


ANY_VALUE: Final = AnyValue()
"""Some BSON value, not known before the rule runs; may stand in an update wherever a value may."""

_OPERATORS: Final = frozenset(
    {
        *("$set", "$unset", "$setOnInsert", "$rename", "$currentDate"),
        *("$inc", "$mul", "$min", "$max", "$bit"),
        *("$push", "$addToSet", "$pop", "$pull", "$pullAll"),
    }
)
_SET_STAGES: Final = ("$set", "$addFields")
_REPLACE_STAGES: Final = ("$replaceRoot", "$replaceWith")
_STAGES: Final = (*_SET_STAGES, "$unset", "$project", *_REPLACE_STAGES)


# --- Is it well-formed? -----------------------------------------------------------------


def check_update(update: Any, array_filters: Any = None) -> None:
    """Raise ValueError if `update` is no update that MongoDB could accept for stored documents.

    `update` is a mapping of update operators or a list of pipeline stages, in database field
    names, and may contain `ANY_VALUE`; `array_filters` is as in PyMongo. The message says what is
    wrong, naming operator and path, and what to do. Stricter than mongomock and as strict as the
    server about conflicting paths; what depends on a stored document is left to the server.
    """
    if isinstance(update, list) and update:
        if array_filters is not None:
            raise ValueError(
                "array_filters cannot be combined with a pipeline; "
                "drop array_filters, or write the update with operators"
            )
        for stage in update:
            _check_stage(stage)
        return
    if not isinstance(update, Mapping) or not update:
        raise ValueError(
            f"the update is {_brief(update)}; "
            "give a mapping of update operators or a list of pipeline stages, not empty"
        )
    _check_operators(update)
    _check_array_filters(update, array_filters)


def _check_operators(update: Mapping[str, Any]) -> None:
    plain = [key for key in update if not str(key).startswith("$")]
    if len(plain) == len(update):
        raise ValueError(
            f"the update is a replacement document ({_names(plain)}); "
            "put the fields into an operator such as $set"
        )
    if plain:
        raise ValueError(
            f"the update mixes operators with plain fields ({_names(plain)}); "
            "put the fields into an operator such as $set"
        )
    written: list[tuple[str, str]] = []
    for operator, fields in update.items():
        if operator not in _OPERATORS:
            raise ValueError(
                f"{operator} is not an update operator; use one of {', '.join(sorted(_OPERATORS))}"
            )
        if not isinstance(fields, Mapping) or not fields:
            raise ValueError(
                f"{operator} is given {_brief(fields)}; give it a mapping of paths, not empty"
            )
        for path, value in fields.items():
            _check_path(operator, path)
            written.append((operator, path))
            if operator == "$rename":
                _check_rename(path, value)
                written.append((operator, value))
            _check_encodes(operator, path, value)
    _check_conflicts(written)


def _check_rename(source: str, destination: Any) -> None:
    if not isinstance(destination, str):
        raise ValueError(
            f"$rename of '{source}' is given {_brief(destination)}; give the new path as a string"
        )
    _check_path("$rename", destination)
    if source == destination:
        raise ValueError(f"$rename of '{source}' to itself; give another path, or drop it")
    for path in (source, destination):
        if any(part.startswith("$") for part in path.split(".")):
            raise ValueError(
                f"$rename with the positional path '{path}'; "
                "elements of arrays cannot be renamed, use $set and $unset, or a pipeline"
            )


def _check_path(operator: str, path: Any) -> None:
    if not isinstance(path, str) or not all(path.split(".")):
        raise ValueError(
            f"{operator} has the path {_brief(path)}; "
            "give a string with no empty component before, between or after the dots"
        )
    if path.split(".")[0] == "_id":
        raise ValueError(
            f"{operator} writes '{path}'; the _id of a stored document cannot be changed, "
            "insert a new document instead"
        )


def _check_encodes(operator: str, path: str, value: Any) -> None:
    try:
        bson.encode({"value": _without_any(value)}, codec_options=_ANY_UUID)
    except (BSONError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{operator} of '{path}' holds a value that BSON cannot encode ({error}); "
            "convert it to a BSON type"
        ) from error


def _check_conflicts(written: Sequence[tuple[str, str]]) -> None:
    # Sorted by components, a path is followed directly by itself or by a path beneath it.
    ordered = sorted((tuple(path.split(".")), operator, path) for operator, path in written)
    for (parts, operator, path), (other_parts, other, other_path) in pairwise(ordered):
        if other_parts[: len(parts)] == parts:
            raise ValueError(
                f"{operator} of '{path}' and {other} of '{other_path}' conflict; "
                "write each path once, and never together with its parent"
            )


def _check_stage(stage: Any) -> None:
    if not isinstance(stage, Mapping) or len(stage) != 1:
        raise ValueError(f"a pipeline stage is {_brief(stage)}; give a mapping with one operator")
    ((name, value),) = stage.items()
    if name not in _STAGES:
        raise ValueError(
            f"{name} is not a stage that an update may use; use one of {', '.join(_STAGES)}"
        )
    if name == "$unset":
        paths = [value] if isinstance(value, str) else value
        if not isinstance(paths, list) or not paths:
            raise ValueError(
                f"the stage $unset is given {_brief(value)}; give it a path or a list of paths"
            )
        for path in paths:
            _check_path(name, path)
        _check_conflicts([(name, path) for path in paths])
        return
    if name != "$replaceWith" and (not isinstance(value, Mapping) or not value):
        raise ValueError(f"the stage {name} is given {_brief(value)}; give it a mapping, not empty")
    if name in _SET_STAGES:
        for path in value:
            _check_path(name, path)
        _check_conflicts([(name, path) for path in value])
        for path, expression in value.items():
            _check_encodes(name, path, expression)
    elif name == "$replaceRoot" and set(value) != {"newRoot"}:
        raise ValueError("the stage $replaceRoot takes one field; give it as newRoot")
    else:
        _check_encodes(name, "", value)


def _check_array_filters(update: Mapping[str, Any], array_filters: Any) -> None:
    declared: set[str] = set()
    if array_filters is not None:
        if not isinstance(array_filters, list):
            raise ValueError(f"array_filters is {_brief(array_filters)}; give a list of mappings")
        for condition in array_filters:
            if not isinstance(condition, Mapping) or not condition:
                raise ValueError(
                    f"array_filters contains {_brief(condition)}; give mappings, not empty"
                )
            identifiers = set(_identifiers(condition))
            if len(identifiers) != 1:
                raise ValueError(
                    f"an array filter names {_names(sorted(identifiers))}; "
                    "each filter names one identifier"
                )
            if identifiers & declared:
                raise ValueError(
                    f"array_filters names {_names(identifiers)} twice; "
                    "join its conditions in one filter"
                )
            declared |= identifiers
    used = {
        part[2:-1]
        for fields in update.values()
        for path in fields
        for part in path.split(".")
        if part.startswith("$[") and part != "$[]"
    }
    if used - declared:
        raise ValueError(
            f"no array filter for {_names(sorted(used - declared))}; add it to array_filters"
        )
    if declared - used:
        raise ValueError(
            f"array_filters names {_names(sorted(declared - used))}, which no path uses; "
            "drop the filter, or use its identifier as $[identifier]"
        )


def _identifiers(condition: Mapping[str, Any]) -> Iterator[str]:
    for key, value in condition.items():
        if not key.startswith("$"):
            yield key.split(".")[0]
        elif isinstance(value, list):
            for part in value:
                if isinstance(part, Mapping):
                    yield from _identifiers(part)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _names(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


# --- Which paths does it write? ----------------------------------------------------------


def written_paths(update: Any) -> frozenset[str] | None:
    """Return the dotted paths that a well-formed update may change; None: cannot tell.

    Positional components and array indexes are left out: `items.$[e].qty` gives `items.qty`, so
    that paths compare with a model's. `$setOnInsert` writes nothing, for nothing is upserted.
    """
    written: set[str] = set()
    for _, path in _changes(update):
        if path is None:
            return None
        written.add(path)
    return frozenset(written)


def removed_paths(update: Any) -> frozenset[str]:
    """Return the paths that `update` takes away: a model may no longer know them."""
    removed: set[str] = set()
    for removes, path in _changes(update):
        if path is not None:
            (removed.add if removes else removed.discard)(path)
    return frozenset(removed)


def created_paths(update: Any) -> frozenset[str] | None:
    """Return the paths that are meant to be there after `update`; None: cannot tell.

    These are all written paths but those taken away. A field that a pipeline sets in one stage and
    unsets in a later one is not among them.
    """
    created: set[str] = set()
    for removes, path in _changes(update):
        if path is None:
            return None
        if removes:
            created = {one for one in created if one != path and not one.startswith(path + ".")}
        else:
            created.add(path)
    return frozenset(created)


def _changes(update: Any) -> Iterator[tuple[bool, str | None]]:
    """Yield (takes away?, path) in the order of execution; the path None: cannot tell."""
    if isinstance(update, Mapping):
        for operator, fields in update.items():
            if operator == "$setOnInsert":
                continue
            for path, value in fields.items():
                yield operator in ("$unset", "$rename"), _model_path(path)
                if operator == "$rename":
                    yield False, _model_path(value)
        return
    for stage in update:
        ((name, value),) = stage.items()
        if name in _SET_STAGES:
            for parts, expression in _assignments(value):
                yield _is_remove(expression), _model_path(".".join(parts))
        else:
            paths = _unset_stage_paths(name, value)
            if paths is None:
                yield False, None
            else:
                for path in paths:
                    yield True, _model_path(path)


def _model_path(path: str) -> str:
    first, *others = path.split(".")
    names = (part for part in others if not (part.startswith("$") or part.isdecimal()))
    return ".".join((first, *names))


def _assignments(
    fields: Mapping[str, Any], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, expression) of a $set stage, where nested documents are merged, not set."""
    for key, expression in fields.items():
        path = (*prefix, *key.split("."))
        if isinstance(expression, Mapping) and expression and not _is_operators(expression):
            yield from _assignments(expression, path)
        else:
            yield path, expression


def _unset_stage_paths(name: str, value: Any) -> list[str] | None:
    """Return what an $unset stage, or a $project that only excludes, takes away; else None."""
    if name == "$unset":
        return [value] if isinstance(value, str) else list(value)
    excludes = name == "$project" and all(
        isinstance(flag, (bool, int)) and not flag and path != "_id" for path, flag in value.items()
    )
    return list(value) if excludes else None


def _is_operators(value: Any) -> bool:
    return isinstance(value, Mapping) and next(iter(value), "").startswith("$")


def _is_remove(expression: Any) -> bool:
    return isinstance(expression, str) and expression == "$$REMOVE"


# --- Formulas: a query in few words ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One positive question on one path; `path` is () for an element of an array itself."""

    path: tuple[str, ...]
    operator: str
    operand: Any
    extra: Mapping[str, Any] = field(default_factory=dict)  # $options of a $regex

    def condition(self) -> dict[str, Any]:
        return {self.operator: self.operand, **self.extra}


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple[_Formula, ...]


@dataclass(frozen=True, slots=True)
class _Not:
    part: _Formula


_Formula = _Leaf | _All | _Not | None  # None: a question that is not judged here

_COMPARISONS: Final = ("$eq", "$gt", "$gte", "$lt", "$lte")
_LEAF_OPERATORS: Final = frozenset(
    {*_COMPARISONS, "$exists", "$in", "$type", "$size", "$elemMatch", "$regex", "$mod"}
)


def _parse(query: Mapping[str, Any]) -> _Formula:
    parts: list[_Formula] = []
    for key, value in query.items():
        if key == "$and":
            parts.extend(_parse(part) for part in value)
        elif key in ("$or", "$nor"):
            none_holds = _All(tuple(_Not(_parse(part)) for part in value))
            parts.append(none_holds if key == "$nor" else _Not(none_holds))
        elif key == "$comment":
            continue
        elif key.startswith("$"):
            parts.append(None)
        else:
            parts.append(_parse_condition(tuple(key.split(".")), value))
    return _All(tuple(parts))


def _parse_condition(path: tuple[str, ...], condition: Any) -> _Formula:
    if not _is_operators(condition) or next(iter(condition)) in ("$ref", "$id", "$db"):
        return _parse_equality(path, condition)
    extra = {"$options": condition["$options"]} if "$options" in condition else {}
    parts: list[_Formula] = []
    for operator, operand in condition.items():
        if operator == "$options":
            continue
        if operator == "$not":
            parts.append(_Not(_parse_condition(path, operand)))
        elif operator == "$ne":
            parts.append(_Not(_Leaf(path, "$eq", operand)))
        elif operator == "$nin":
            parts.append(_Not(_Leaf(path, "$in", operand)))
        elif operator == "$exists":
            exists = _Leaf(path, "$exists", True)
            parts.append(exists if operand else _Not(exists))
        elif operator == "$all" and operand:
            parts.extend(_parse_condition(path, part) for part in operand)
        elif operator in _LEAF_OPERATORS:
            parts.append(_Leaf(path, operator, operand, extra if operator == "$regex" else {}))
        else:
            parts.append(None)
    return _All(tuple(parts))


def _parse_equality(path: tuple[str, ...], value: Any) -> _Formula:
    return _Leaf(path, "$regex" if _bracket(value) == "regex" else "$eq", value)


def _conjuncts(formula: _Formula) -> Iterator[_Formula]:
    if isinstance(formula, _All):
        for part in formula.parts:
            yield from _conjuncts(part)
    else:
        yield formula


def _fingerprint(formula: _Formula) -> Any:
    """Return a value that is equal for formulas that ask the same; unequal may mean nothing."""
    if isinstance(formula, _All):
        return frozenset(map(_fingerprint, _conjuncts(formula)))
    if isinstance(formula, _Not):
        return ("not", _fingerprint(formula.part))
    if formula is None:
        return object()
    try:
        return formula.path, bson.encode(formula.condition(), codec_options=_ANY_UUID)
    except (BSONError, ValueError):
        return object()


# --- What is known of a document after the update ------------------------------------------


@dataclass(frozen=True, slots=True)
class _Absent:
    """Nothing is stored at the path."""


@dataclass(frozen=True, slots=True)
class _Unknown:
    """The path was written, but not even its presence is known."""


@dataclass(frozen=True, slots=True)
class _Value:
    """Exactly this value, in which ANY_VALUE may occur."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Typed:
    """Some value of one of these BSON types (aliases of $type)."""

    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Document:
    """A sub-document (if `exists`) of which some fields are known, and no others."""

    children: dict[str, _Fact]
    exists: bool = False


@dataclass(frozen=True, slots=True)
class _Each:
    """An array. Elements that satisfy `condition` before (all, for None) are `element` now."""

    selector: str
    condition: _Formula
    element: _Fact
    filtered: bool


@dataclass(frozen=True, slots=True)
class _Holds:
    """An array that holds elements equal to these, among others."""

    elements: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Lacks:
    """Absent, or an array without an element for which the formula holds."""

    formula: _Formula


@dataclass(frozen=True, slots=True)
class _OneOf:
    """One of these facts."""

    facts: tuple[_Fact, ...]


_Fact = _Absent | _Unknown | _Value | _Typed | _Document | _Each | _Holds | _Lacks | _OneOf

_ABSENT: Final = _Absent()
_UNKNOWN: Final = _Unknown()
_PRESENT: Final = _Value(ANY_VALUE)

_ANY_UUID: Final = CodecOptions[dict[str, Any]](uuid_representation=4)

_NUMBERS: Final = frozenset({"int", "long", "double", "decimal"})
# One sample per BSON type that is decided by the type alone ("bool" has two values: both).
_SAMPLES: Final[Mapping[str, tuple[Any, ...]]] = {
    "int": (1,),
    "long": (Int64(1),),
    "double": (1.5,),
    "decimal": (Decimal128("1"),),
    "string": ("text",),
    "bool": (False, True),
    "date": (datetime(2000, 1, 1),),
    "timestamp": (Timestamp(1, 1),),
    "objectId": (ObjectId("0" * 24),),
    "null": (None,),
    "object": ({},),
    "array": ([],),
}
_CONTAINERS: Final = frozenset({"object", "array"})


def _bracket(value: Any) -> str | None:
    """Return the comparison bracket of a BSON value, None if it is not listed here."""
    if value is None:
        return "null"
    for kinds, bracket in (
        (bool, "bool"),
        ((int, float, Decimal128), "number"),
        (str, "string"),
        (datetime, "date"),
        (Timestamp, "timestamp"),
        (ObjectId, "objectId"),
        ((Mapping, DBRef), "object"),
        ((list, tuple), "array"),
        (Regex, "regex"),
    ):
        if isinstance(value, kinds):
            return bracket
    return "regex" if hasattr(value, "pattern") and hasattr(value, "flags") else None


def _comparands(leaf: _Leaf) -> list[Any]:
    if leaf.operator == "$in":
        return list(leaf.operand)
    return [leaf.operand] if leaf.operator in _COMPARISONS else []


def _evaluate(formula: _Formula, fact: _Fact) -> bool | None:
    """Answer the formula for every document of which `fact` is known; None: cannot tell."""
    if isinstance(formula, _Leaf):
        return _ask(fact, formula.path, formula)
    if isinstance(formula, _Not):
        answer = _evaluate(formula.part, fact)
        return None if answer is None else not answer
    if isinstance(formula, _All):
        answers = [_evaluate(part, fact) for part in formula.parts]
        if False in answers:
            return False
        return None if None in answers else True
    return None


def _ask(fact: _Fact | None, path: tuple[str, ...], leaf: _Leaf) -> bool | None:
    """Answer `leaf` where `path` is what remains of its path beneath `fact`."""
    if isinstance(fact, _Document):
        if path:
            return _ask(fact.children.get(path[0]), path[1:], leaf)
        return _ask_typed(frozenset({"object"}), path, leaf) if fact.exists else None
    if isinstance(fact, _Absent):
        return _judge({}, path, leaf)
    if isinstance(fact, _Value):
        if fact.value is ANY_VALUE:
            return True if not path and leaf.operator == "$exists" else None
        return _judge({"v": fact.value}, path, leaf)
    if isinstance(fact, _Typed):
        return _ask_typed(fact.types, path, leaf)
    if isinstance(fact, _OneOf):
        return _agreed(_ask(one, path, leaf) for one in fact.facts)
    if isinstance(fact, _Each):
        return _ask_each(fact, path, leaf)
    if isinstance(fact, _Holds):
        return _ask_holds(fact, path, leaf)
    if isinstance(fact, _Lacks):
        return _ask_lacks(fact, path, leaf)
    return None


def _agreed(answers: Iterator[bool | None]) -> bool | None:
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else None


def _judge(document: Mapping[str, Any], path: tuple[str, ...], leaf: _Leaf) -> bool | None:
    matcher = compile_query({".".join(("v", *path)): leaf.condition()})
    return matcher.judge(document)


def _ask_typed(types: frozenset[str], path: tuple[str, ...], leaf: _Leaf) -> bool | None:
    if path and types & _CONTAINERS:
        return None
    if leaf.operator == "$exists":
        return not path
    samples = [sample for name in types for sample in _SAMPLES[name]]
    answer = _agreed(_judge({"v": sample}, path, leaf) for sample in samples)
    if path or leaf.operator == "$type":
        # An array answers $type by its elements too, so that only yes is certain.
        return answer if answer or "array" not in types else None
    if "array" in types:
        return None
    brackets = {"number" if name in _NUMBERS else name for name in types} - {"null", "bool"}
    asked = {_bracket(comparand) for comparand in _comparands(leaf)}
    if leaf.operator == "$mod":
        asked.add("number")
    if leaf.operator == "$regex" or "regex" in asked:
        asked.add("string")
    return None if None in asked or asked & brackets else answer


def _ask_each(fact: _Each, path: tuple[str, ...], leaf: _Leaf) -> bool | None:
    """Answer False where no element satisfies the leaf; an empty array forbids any True."""
    if path:
        if path[0].isdecimal() or _judge({}, path, leaf) is not False:
            return None
        inner: _Formula = _Leaf(path, leaf.operator, leaf.operand, leaf.extra)
    elif leaf.operator == "$exists":
        return True
    elif leaf.operator == "$elemMatch":
        inner = _parse_element_query(leaf.operand)
    elif leaf.operator in (*_COMPARISONS, "$in", "$regex") and not any(
        _bracket(comparand) in ("array", None) for comparand in _comparands(leaf)
    ):
        inner = _Leaf((), leaf.operator, leaf.operand, leaf.extra)
    else:
        return None
    if isinstance(fact.element, _Value) and _bracket(fact.element.value) == "array":
        return None
    untouched_fail = not fact.filtered or _implies(inner, fact.condition)
    return False if untouched_fail and _evaluate(inner, fact.element) is False else None


def _parse_element_query(query: Mapping[str, Any]) -> _Formula:
    if _is_operators(query) and next(iter(query)) not in ("$and", "$or", "$nor"):
        return _parse_condition((), query)
    return _parse(query)


def _implies(stronger: _Formula, weaker: _Formula) -> bool:
    """Tell whether each conjunct of `weaker` is one of `stronger`."""
    given = {_fingerprint(part) for part in _conjuncts(stronger)}
    return given >= {_fingerprint(part) for part in _conjuncts(weaker)}


def _ask_holds(fact: _Holds, path: tuple[str, ...], leaf: _Leaf) -> bool | None:
    if not path and leaf.operator == "$exists":
        return True
    if not path and leaf.operator == "$type":
        return _ask_typed(frozenset({"array"}), path, leaf)
    if not path and leaf.operator == "$size" and leaf.operand == 0:
        return False if fact.elements else None
    # More elements can only add to the answers of these, and Python's yes stays a yes.
    monotone = leaf.operator in (*_COMPARISONS, "$in", "$exists")
    if (
        not monotone
        or any(part.isdecimal() for part in path)
        or any(_bracket(comparand) == "array" for comparand in _comparands(leaf))
    ):
        return None
    return _judge({"v": list(fact.elements)}, path, leaf) or None


def _ask_lacks(fact: _Lacks, path: tuple[str, ...], leaf: _Leaf) -> bool | None:
    if _judge({}, path, leaf) is not False:
        return None
    if path:
        inner: _Formula = _Leaf(path, leaf.operator, leaf.operand, leaf.extra)
    elif leaf.operator == "$elemMatch":
        inner = _parse_element_query(leaf.operand)
    elif leaf.operator == "$eq":
        inner = _Leaf((), "$in", [leaf.operand])
    else:
        inner = _Leaf((), leaf.operator, leaf.operand, leaf.extra)
    if isinstance(inner, _Leaf) and inner.operator == "$in":
        lacked = [
            _fingerprint(_Leaf((), "$eq", value))
            for part in _conjuncts(fact.formula)
            if isinstance(part, _Leaf) and part.operator == "$in" and not part.path
            for value in part.operand
        ]
        return (
            False
            if all(
                _bracket(value) not in ("array", "regex", None)
                and _fingerprint(_Leaf((), "$eq", value)) in lacked
                for value in inner.operand
            )
            else None
        )
    if path and path[0].isdecimal():
        return None
    return False if _implies(inner, fact.formula) else None


# --- From an update to what is known afterwards --------------------------------------------


def ends_match(target: Mapping[str, Any], update: Any, array_filters: Any = None) -> bool:
    """Tell whether it is proved that no document matches `target` any more after `update`.

    `target` is a MongoDB query and `update` an update that `check_update` accepts. True means: for
    every document that matches, the server either rejects the update, or the updated document does
    not match. False means that this is not so, or could not be proved. Raises ValueError for a
    malformed target.

    One assumption is made: wherever a path of the target or of the update names a field beneath
    another (`blog_post.tags`), what lies there is a sub-document and not an array, unless a
    positional component says so (`items.$[].qty`: then `items` is an array, and its elements are no
    arrays). Where it does not hold, MongoDB rejects the update or leaves it without effect; who
    relies on a proof must look at the document again after the update.

    The method is abstract interpretation: from the update is derived what is known of every
    document afterwards (a constant, a type, presence, absence), and the target is evaluated over
    that knowledge in three-valued logic.
    """
    formula = _parse(target)
    after = (
        _after_pipeline(formula, update)
        if isinstance(update, list)
        else _after_operators(formula, update, array_filters or [])
    )
    return _evaluate(formula, after) is False


def _after_operators(
    target: _Formula, update: Mapping[str, Any], array_filters: Sequence[Mapping[str, Any]]
) -> _Document:
    after = _Document({}, exists=True)
    conditions = {next(_identifiers(one)): _element_condition(one) for one in array_filters}
    for operator, fields in update.items():
        for path, value in fields.items():
            parts = tuple(path.split("."))
            if operator == "$rename":
                # If the source was absent, nothing happens, the destination included.
                _insert(after, parts, _ABSENT, conditions)
                moved = _PRESENT if _implies_presence(target, parts) else _UNKNOWN
                _insert(after, tuple(value.split(".")), moved, conditions)
            elif operator == "$unset" and parts[-1].isdecimal():
                _insert(after, parts, _UNKNOWN, conditions)  # an element becomes null
            elif operator == "$unset" and parts[-1].startswith("$"):
                _insert(after, parts, _Value(None), conditions)
            elif operator != "$setOnInsert":
                _insert(after, parts, _operator_fact(operator, value, target, parts), conditions)
    return after


def _element_condition(array_filter: Mapping[str, Any]) -> _Formula:
    """Parse `{'e.qty': ...}` as a query on one element, `{'qty': ...}`."""

    def without_identifier(formula: _Formula) -> _Formula:
        if isinstance(formula, _Leaf):
            return _Leaf(formula.path[1:], formula.operator, formula.operand, formula.extra)
        if isinstance(formula, _Not):
            return _Not(without_identifier(formula.part))
        if isinstance(formula, _All):
            return _All(tuple(map(without_identifier, formula.parts)))
        return None

    return without_identifier(_parse(array_filter))


def _insert(
    document: _Document,
    parts: tuple[str, ...],
    fact: _Fact,
    conditions: Mapping[str, _Formula],
) -> None:
    """Note that `fact` holds at the path `parts` of `document`, which is changed."""
    head, rest = parts[0], parts[1:]
    known = document.children.get(head)
    creates = _is_present(fact)
    if not rest:
        document.children[head] = fact
    elif rest[0].startswith("$["):
        document.children[head] = _insert_elements(known, rest, fact, conditions)
    elif rest[0] == "$":
        document.children[head] = _Typed(frozenset({"array"}))
    elif rest[0].isdecimal():
        document.children[head] = _Typed(_CONTAINERS) if creates else _UNKNOWN
    elif isinstance(known, (_Typed, _Each)) and not isinstance(fact, _Document):
        # Written both by position and by name, or not tellable: only presence is certain.
        document.children[head] = _PRESENT
    else:
        child = known if isinstance(known, _Document) else _Document({})
        _insert(child, rest, fact, conditions)
        document.children[head] = _Document(child.children, child.exists or creates)


def _insert_elements(
    known: _Fact | None, rest: tuple[str, ...], fact: _Fact, conditions: Mapping[str, _Formula]
) -> _Fact:
    """Return what is known of an array when `rest`, beginning with $[] or $[e], is written."""
    selector = rest[0]
    if known is not None and not (isinstance(known, _Each) and known.selector == selector):
        return _Typed(frozenset({"array"}))
    holder = _Document({}, exists=True)
    if isinstance(known, _Each):
        holder.children["element"] = known.element
    _insert(holder, ("element", *rest[1:]), fact, conditions)
    identifier = selector[2:-1]
    return _Each(selector, conditions.get(identifier), holder.children["element"], bool(identifier))


def _is_present(fact: _Fact | None) -> bool:
    if isinstance(fact, _OneOf):
        return all(map(_is_present, fact.facts))
    if isinstance(fact, _Document):
        return fact.exists
    return isinstance(fact, (_Value, _Typed, _Each, _Holds))


def _implies_presence(target: _Formula, parts: tuple[str, ...]) -> bool:
    """Tell whether only documents that have the path can match."""
    without = _Document({}, exists=True)
    _insert(without, parts, _ABSENT, {})
    return _evaluate(target, without) is False


def _operator_fact(operator: str, value: Any, target: _Formula, parts: tuple[str, ...]) -> _Fact:
    """Return what is known at the path `parts` once `operator` was applied with `value`."""
    if operator == "$inc":
        return _sum(target, parts, value)
    if operator in _VALUE_FACTS:
        return _VALUE_FACTS[operator](value)
    return _FIXED_FACTS[operator]


def _sum(target: _Formula, parts: tuple[str, ...], value: Any) -> _Fact:
    """Add, where the target says what the number was; a stored array is rejected."""
    known = [
        part.operand if part.operator == "$in" else [part.operand]
        for part in _conjuncts(target)
        if isinstance(part, _Leaf) and part.path == parts and part.operator in ("$eq", "$in")
    ]
    if not known or not all(map(_is_small_integer, [value, *known[0]])):
        return _Typed(_NUMBERS)
    # 1 also finds 1.0 and NumberLong(1): the sum may have any numeric type.
    return _OneOf(
        tuple(
            _Value(number)
            for total in (before + value for before in known[0])
            for number in (int(total), Int64(total), float(total), Decimal128(str(total)))
        )
    )


def _is_small_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**30


def _current_date(value: Any) -> _Fact:
    if value is ANY_VALUE:
        return _Typed(frozenset({"date", "timestamp"}))
    stamp = isinstance(value, Mapping) and value.get("$type") == "timestamp"
    return _Typed(frozenset({"timestamp" if stamp else "date"}))


def _pushed(value: Any) -> _Fact:
    if not (isinstance(value, Mapping) and "$each" in value):
        return _Holds((_as_stored(value),))
    each = value["$each"]
    if "$slice" in value or not isinstance(each, list):
        return _Holds(())
    return _Holds(tuple(map(_as_stored, each)))


def _pulled(value: Any) -> _Fact:
    if _is_operators(value):
        return _Lacks(_parse_condition((), value))
    if isinstance(value, Mapping):
        return _Lacks(_parse(value))
    if _bracket(value) in ("array", "regex", None):
        return _UNKNOWN
    return _Lacks(_Leaf((), "$in", [value]))


def _all_pulled(value: Any) -> _Fact:
    return _Lacks(_Leaf((), "$in", value)) if isinstance(value, list) else _UNKNOWN


def _value_as_stored(value: Any) -> _Fact:
    return _Value(_as_stored(value))


def _as_stored(value: Any) -> Any:
    """Return `value` as it is read back from BSON; what cannot be known becomes ANY_VALUE."""
    if value is ANY_VALUE or isinstance(value, UUID):  # how a UUID is stored, the client decides
        return ANY_VALUE
    if isinstance(value, Mapping):
        return {key: _as_stored(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_stored(item) for item in value]
    return bson.decode(bson.encode({"v": value}))["v"]


_VALUE_FACTS: Final[Mapping[str, Callable[[Any], _Fact]]] = {
    "$set": _value_as_stored,
    "$currentDate": _current_date,
    "$push": _pushed,
    "$addToSet": _pushed,
    "$pull": _pulled,
    "$pullAll": _all_pulled,
}
_FIXED_FACTS: Final[Mapping[str, _Fact]] = {
    "$unset": _ABSENT,
    "$mul": _Typed(_NUMBERS),
    "$min": _PRESENT,
    "$max": _PRESENT,
    "$bit": _Typed(frozenset({"int", "long"})),
    "$pop": _UNKNOWN,
}


def _without_any(value: Any) -> Any:
    if value is ANY_VALUE:
        return None
    if isinstance(value, Mapping):
        return {key: _without_any(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_any(item) for item in value]
    return value


# --- Pipelines ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stages:
    """What is known while the stages of a pipeline run one after another."""

    target: _Formula
    document: _Document
    original: bool = True  # what no stage has written is still as the target found it


def _after_pipeline(target: _Formula, stages: Sequence[Mapping[str, Any]]) -> _Document:
    state = _Stages(target, _Document({}, exists=True))
    for stage in stages:
        ((name, value),) = stage.items()
        if name in _SET_STAGES:
            # All expressions of a stage see the document as the stage found it.
            facts = [
                (path, _express(expression, state)) for path, expression in _assignments(value)
            ]
            for path, fact in facts:
                _insert_field(state.document, path, fact, creates=True)
            continue
        paths = _unset_stage_paths(name, value)
        if paths is None:
            state = _Stages(target, _Document({}, exists=True), original=False)
            continue
        for parts in (tuple(path.split(".")) for path in paths):
            _insert_field(state.document, parts, _ABSENT, creates=False)
    return state.document


def _insert_field(
    document: _Document, parts: tuple[str, ...], fact: _Fact, *, creates: bool
) -> None:
    """Note that a stage wrote `fact` at `parts`; a stage creates parents, whatever was there."""
    head, rest = parts[0], parts[1:]
    known = document.children.get(head)
    if not rest:
        document.children[head] = fact
    elif any(part.isdecimal() for part in rest):
        document.children[head] = _UNKNOWN
    elif known is not None and _may_be_array(known):
        document.children[head] = _UNKNOWN  # then each element is written
    elif known == _ABSENT and not creates:
        return
    else:
        if isinstance(known, _Document):
            child = known
        elif isinstance(known, _Value) and isinstance(known.value, dict):
            child = _Document({key: _Value(item) for key, item in known.value.items()}, True)
        else:
            child = _Document({}, known is not None and _is_present(known) and creates)
        _insert_field(child, rest, fact, creates=creates)
        document.children[head] = _Document(child.children, child.exists or creates)


def _may_be_array(fact: _Fact) -> bool:
    if isinstance(fact, _Value):
        return isinstance(fact.value, (list, AnyValue))
    if isinstance(fact, _Typed):
        return "array" in fact.types
    return not isinstance(fact, (_Document, _Absent))


def _express(expression: Any, state: _Stages) -> _Fact:
    """Return what an aggregation expression gives, _UNKNOWN if it may give nothing at all."""
    if expression is ANY_VALUE:
        return _UNKNOWN  # a string in it may turn out to be a path
    if isinstance(expression, str) and expression.startswith("$"):
        return _VARIABLES.get(expression) or _look_up(expression, state)
    if isinstance(expression, (list, tuple)):
        return _Value([_item(_express(item, state)) for item in expression])
    if not isinstance(expression, Mapping):
        return _value_as_stored(expression)
    if not _is_operators(expression):
        return _Typed(frozenset({"object"}))
    ((operator, argument),) = expression.items()
    if operator == "$literal":
        return _value_as_stored(argument)
    if operator == "$ifNull" and isinstance(argument, list):
        return _any_of([_not_null(_express(one, state)) for one in argument[:-1]], argument, state)
    if operator == "$cond":
        branches = (
            [argument.get("then"), argument.get("else")]
            if isinstance(argument, Mapping)
            else argument[1:]
        )
        return _OneOf(tuple(_express(branch, state) for branch in branches))
    if operator == "$switch" and "default" in argument:
        branches = [branch["then"] for branch in argument["branches"]] + [argument["default"]]
        return _OneOf(tuple(_express(branch, state) for branch in branches))
    if operator == "$dateFromString" and {"onError", "onNull"} & set(argument):
        return _UNKNOWN
    types = _RESULTS.get(operator)
    return _UNKNOWN if types is None else _Typed(types)


def _any_of(facts: list[_Fact], argument: Sequence[Any], state: _Stages) -> _Fact:
    return _OneOf((*facts, _express(argument[-1], state)))


def _item(fact: _Fact) -> Any:
    return fact.value if isinstance(fact, _Value) else ANY_VALUE


def _not_null(fact: _Fact) -> _Fact:
    """Return what is known besides `fact` of a value that is neither null nor absent."""
    if isinstance(fact, _Typed):
        return _Typed(fact.types - {"null"})
    if fact in (_UNKNOWN, _PRESENT, _ABSENT) or fact == _Value(None):
        return _PRESENT
    return fact


def _look_up(expression: str, state: _Stages) -> _Fact:
    if expression.startswith("$$"):
        return _UNKNOWN
    parts = tuple(expression[1:].split("."))
    fact: _Fact | None = state.document
    for part in parts:
        if isinstance(fact, _Document):
            fact = fact.children.get(part)
        elif isinstance(fact, _Value) and isinstance(fact.value, dict):
            fact = _Value(fact.value[part]) if part in fact.value else _ABSENT
        elif fact is not None:
            return _UNKNOWN
    if fact is None and state.original and _implies_presence(state.target, parts):
        return _PRESENT
    if isinstance(fact, _Document):
        return _Typed(frozenset({"object"})) if fact.exists else _UNKNOWN
    return fact or _UNKNOWN


_VARIABLES: Final[Mapping[str, _Fact]] = {
    "$$REMOVE": _ABSENT,
    "$$NOW": _Typed(frozenset({"date"})),
    "$$CLUSTER_TIME": _Typed(frozenset({"timestamp"})),
    "$$ROOT": _Typed(frozenset({"object"})),
    "$$CURRENT": _Typed(frozenset({"object"})),
}


def _results() -> Iterator[tuple[str, frozenset[str]]]:
    # What expressions give that never give nothing; null is what most of them make of a missing
    # input. From the operators' reference in the MongoDB manual, checked on 6.0.
    for types, operators in (
        ("string", "$toLower $toUpper $type $substr $substrBytes $substrCP"),
        ("string null", "$concat $toString $trim $ltrim $rtrim $replaceOne $replaceAll"),
        ("int", "$size $cmp $strcasecmp $strLenCP $strLenBytes"),
        ("int null", "$toInt"),
        ("long null", "$toLong"),
        ("double null", "$toDouble"),
        ("decimal null", "$toDecimal"),
        ("int long double decimal null", "$multiply $divide $mod $abs $ceil $floor $round $trunc"),
        ("int long double decimal date null", "$add $subtract"),
        ("bool", "$eq $ne $gt $gte $lt $lte $and $or $not $in $isNumber $isArray"),
        ("bool null", "$toBool"),
        ("date null", "$toDate $dateFromString"),
        ("objectId null", "$toObjectId"),
        ("object", "$mergeObjects"),
        ("object null", "$arrayToObject"),
        ("array", "$range"),
        ("array null", "$split $map $filter $concatArrays $setUnion $reverseArray $objectToArray"),
    ):
        for operator in operators.split():
            yield operator, frozenset(types.split())


_RESULTS: Final = dict(_results())
