"""What is known of a document without having it, and what a formula answers over that.

Three-valued: True and False hold for every document of which the fact is known, None tells
nothing. How the facts come about is told in `aftermath` and `pipelines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import bson
from bson import DBRef, Decimal128, Int64, ObjectId, Timestamp

from lazymig.rules.bson_values import (
    ARRAY,
    BOOL,
    NULL,
    NUMBER,
    REGEX,
    STRING,
    bracket,
    is_array,
)
from lazymig.rules.formulas import (
    COMPARISONS,
    All,
    Formula,
    Leaf,
    Not,
    comparands,
    conjuncts,
    fingerprint,
    own_bracket,
    parse_element_query,
)
from lazymig.rules.matching import compile_judge
from lazymig.rules.updates import ANY_UUID, ANY_VALUE

__all__ = [
    "ABSENT",
    "CONTAINERS",
    "NUMBERS",
    "PRESENT",
    "UNKNOWN",
    "Absent",
    "Document",
    "Each",
    "Fact",
    "Holds",
    "Lacks",
    "OneOf",
    "Typed",
    "Unknown",
    "Value",
    "ask",
    "constant",
    "implies_presence",
    "is_present",
]


# --- Facts --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing is stored at the path."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The path was written, but not even its presence is known."""


@dataclass(frozen=True, slots=True)
class Value:
    """Exactly this value, in which ANY_VALUE may occur."""

    value: Any


@dataclass(frozen=True, slots=True)
class Typed:
    """Some value of one of these BSON types (aliases of $type)."""

    types: frozenset[str]


@dataclass(frozen=True, slots=True)
class Document:
    """A sub-document (if `exists`) of which some fields are known, and no others."""

    children: dict[str, Fact]
    exists: bool = False


@dataclass(frozen=True, slots=True)
class Each:
    """An array. Elements that satisfy `condition` before (all, for None) are `element` now."""

    selector: str
    condition: Formula
    element: Fact
    filtered: bool


@dataclass(frozen=True, slots=True)
class Holds:
    """An array that holds elements equal to these, among others."""

    elements: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Lacks:
    """Absent, or an array without an element for which the formula holds."""

    formula: Formula


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these facts."""

    facts: tuple[Fact, ...]


Fact: TypeAlias = "Absent | Unknown | Value | Typed | Document | Each | Holds | Lacks | OneOf"

ABSENT: Final = Absent()
UNKNOWN: Final = Unknown()
PRESENT: Final = Value(ANY_VALUE)

NUMBERS: Final = frozenset({"int", "long", "double", "decimal"})
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
CONTAINERS: Final = frozenset({"object", "array"})


def constant(value: Any) -> Value:
    """Return the fact that exactly `value` was stored, as it is read back from BSON."""
    return Value(_as_stored(value))


def _as_stored(value: Any) -> Any:
    """Return `value` as it is read back; what cannot be known becomes ANY_VALUE."""
    if value is ANY_VALUE or isinstance(value, UUID):
        return value  # how a UUID is stored, the client decides: as binary data in any case
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        return {key: _as_stored(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_stored(item) for item in value]
    return bson.decode(bson.encode({"v": value}, codec_options=ANY_UUID))["v"]


def is_present(fact: Fact | None) -> bool:
    """Tell whether something is certainly stored where `fact` is known."""
    if isinstance(fact, OneOf):
        return all(map(is_present, fact.facts))
    if isinstance(fact, Document):
        return fact.exists
    return isinstance(fact, (Value, Typed, Each, Holds))


# --- Questions ----------------------------------------------------------------------------


def implies_presence(target: Formula, parts: tuple[str, ...]) -> bool:
    """Tell whether only documents that have the path can match."""
    if any(part.isdecimal() for part in parts[1:]):
        return False  # it may name an element of an array
    without: Fact = ABSENT
    for part in reversed(parts):
        without = Document({part: without})
    return ask(target, without) is False


def ask(formula: Formula, fact: Fact) -> bool | None:
    """Answer the formula for every document of which `fact` is known; None: cannot tell."""
    if isinstance(formula, Leaf):
        return _ask_leaf(fact, formula.path, formula)
    if isinstance(formula, Not):
        answer = ask(formula.part, fact)
        return None if answer is None else not answer
    if isinstance(formula, All):
        answers = [ask(part, fact) for part in formula.parts]
        if False in answers:
            return False
        return None if None in answers else True
    return None


def _ask_leaf(fact: Fact | None, path: tuple[str, ...], leaf: Leaf) -> bool | None:
    """Answer `leaf` where `path` is what remains of its path beneath `fact`."""
    if isinstance(fact, Document):
        if path:
            return _ask_leaf(fact.children.get(path[0]), path[1:], leaf)
        return _ask_typed(frozenset({"object"}), path, leaf) if fact.exists else None
    if isinstance(fact, Absent):
        return _judge({}, path, leaf)
    if isinstance(fact, Value):
        if fact.value is ANY_VALUE:
            return True if not path and leaf.operator == "$exists" else None
        return _judge({"v": fact.value}, path, leaf)
    if isinstance(fact, Typed):
        return _ask_typed(fact.types, path, leaf)
    if isinstance(fact, OneOf):
        return _agreed(_ask_leaf(one, path, leaf) for one in fact.facts)
    if isinstance(fact, Each):
        return _ask_each(fact, path, leaf)
    if isinstance(fact, Holds):
        return _ask_holds(fact, path, leaf)
    if isinstance(fact, Lacks):
        return _ask_lacks(fact, path, leaf)
    return None


def _agreed(answers: Iterable[bool | None]) -> bool | None:
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else None


def _judge(document: Mapping[str, Any], path: tuple[str, ...], leaf: Leaf) -> bool | None:
    judge = compile_judge({".".join(("v", *path)): leaf.condition()})
    return judge(document)


def _ask_typed(types: frozenset[str], path: tuple[str, ...], leaf: Leaf) -> bool | None:
    if path and types & CONTAINERS:
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
    # The samples are all the values there are of null and bool, and no others.
    open_brackets = set(map(bracket, samples)) - {NULL, BOOL}
    asked = set(map(own_bracket, comparands(leaf)))
    if leaf.operator == "$mod":
        asked.add(NUMBER)
    if leaf.operator == "$regex" or REGEX in asked:
        asked.add(STRING)
    return None if None in asked or asked & open_brackets else answer


def _ask_each(fact: Each, path: tuple[str, ...], leaf: Leaf) -> bool | None:
    """Answer False where no element satisfies the leaf; an empty array forbids any True."""
    if path:
        if path[0].isdecimal() or _judge({}, path, leaf) is not False:
            return None
        inner: Formula = replace(leaf, path=path)
    elif leaf.operator == "$exists":
        return True
    elif leaf.operator == "$elemMatch":
        inner = parse_element_query(leaf.operand)
    elif _asks_elements(leaf):
        inner = replace(leaf, path=())
    else:
        return None
    if isinstance(fact.element, Value) and is_array(fact.element.value):
        return None
    untouched_fail = not fact.filtered or _implies(inner, fact.condition)
    return False if untouched_fail and ask(inner, fact.element) is False else None


def _implies(stronger: Formula, weaker: Formula) -> bool:
    """Tell whether each conjunct of `weaker` is one of `stronger`."""
    given = {fingerprint(part) for part in conjuncts(stronger)}
    return given >= {fingerprint(part) for part in conjuncts(weaker)}


def _ask_holds(fact: Holds, path: tuple[str, ...], leaf: Leaf) -> bool | None:
    if not path and leaf.operator == "$exists":
        return True
    if not path and leaf.operator == "$type":
        return _ask_typed(frozenset({"array"}), path, leaf)
    if not path and leaf.operator == "$size" and leaf.operand == 0:
        return False if fact.elements else None
    # More elements can only add to the answers of these, and Python's yes stays a yes.
    monotone = leaf.operator in (*COMPARISONS, "$in", "$exists")
    if (
        not monotone
        or any(part.isdecimal() for part in path)
        or any(map(is_array, comparands(leaf)))
    ):
        return None
    return _judge({"v": list(fact.elements)}, path, leaf) or None


def _ask_lacks(fact: Lacks, path: tuple[str, ...], leaf: Leaf) -> bool | None:
    """Answer False where whatever satisfies the leaf satisfies what no element does."""
    if _judge({}, path, leaf) is not False:
        return None
    if path:
        if path[0].isdecimal():
            return None
        inner: Formula = replace(leaf, path=path)
    elif leaf.operator == "$elemMatch":
        inner = parse_element_query(leaf.operand)
    elif not _asks_elements(leaf):
        return None
    elif leaf.operator in ("$eq", "$in"):
        return False if _lacks_values(fact, comparands(leaf)) else None
    else:
        inner = replace(leaf, path=())
    return False if _implies(inner, fact.formula) else None


def _asks_elements(leaf: Leaf) -> bool:
    """Tell whether an array answers the leaf by its elements alone, and never as a whole."""
    return leaf.operator in (*COMPARISONS, "$in", "$regex", "$mod") and not any(
        own_bracket(comparand) in (ARRAY, None) for comparand in comparands(leaf)
    )


def _lacks_values(fact: Lacks, values: Sequence[Any]) -> bool:
    """Tell whether none of the values is an element."""
    first, *others = conjuncts(fact.formula)
    if not isinstance(first, Leaf) or first.path or first.operator not in ("$eq", "$in"):
        return False
    if others:
        return False  # they leave some of the values where they are
    lacked = set(map(_fingerprint_of_value, comparands(first)))
    return all(
        bracket(value) != REGEX and _fingerprint_of_value(value) in lacked for value in values
    )


def _fingerprint_of_value(value: Any) -> Any:
    return fingerprint(Leaf((), "$eq", value))
