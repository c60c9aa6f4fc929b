"""The knowledge of a document that is not at hand, and what a formula answers over it.

Three-valued: True and False hold for every document of which the fact is known, None says nothing.
The facts come from `aftermath` and `pipelines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeAlias

from bson import Decimal128, Int64, ObjectId, Timestamp

from lazymig.query.checks import own_bracket
from lazymig.query.implication import implies
from lazymig.query.operators import OPERATORS, comparands
from lazymig.query.predicates import at_path, test_of
from lazymig.query.tree import And, Compare, Denial, Node, Not, Or, conjuncts, identity
from lazymig.raw.encoding import ANY_VALUE, as_read_back
from lazymig.raw.values import (
    ARRAY,
    BOOL,
    NULL,
    REGEX,
    STRING,
    bracket,
    is_array,
)

__all__ = [
    "ABSENT",
    "ARRAY_TYPE",
    "BARREN",
    "CONTAINERS",
    "NUMBERS",
    "PRESENT",
    "SINGLE",
    "UNKNOWN",
    "Absent",
    "Arrays",
    "Document",
    "Elements",
    "Fact",
    "Holds",
    "Lacks",
    "OneOf",
    "Single",
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


class Arrays(Enum):
    """What may be there instead of a sub-document."""

    NONE = "no array"
    ALIKE = "an array of such things, and of arrays of them"
    ANY = "any array"


@dataclass(frozen=True, slots=True)
class Document:
    """A sub-document; or, unless it `exists`, a scalar or nothing, which have no fields.

    `children` are the fields that are known, `others` is what is known of each other field. There
    may be an array instead, as `array` says; `holds`: then a sub-document is among its elements.
    """

    children: dict[str, Fact]
    exists: bool = False
    array: Arrays = Arrays.NONE
    holds: bool = False
    others: Fact | None = None

    def child(self, name: str) -> Fact | None:
        """Return what is known of a field, None where that is nothing."""
        return self.children.get(name, self.others)


@dataclass(frozen=True, slots=True)
class Nested:
    """An array of which nothing is known, as an element of another one."""


@dataclass(frozen=True, slots=True)
class Barren:
    """Whatever has no fields: neither a sub-document nor an array with one among its elements."""


@dataclass(frozen=True, slots=True)
class Single:
    """Whatever is no array; perhaps nothing."""


@dataclass(frozen=True, slots=True)
class Elements:
    """An array. Elements that satisfy `condition` before (all, for None) are `element` now.

    `nested`: the others may be arrays.
    """

    selector: str
    condition: Node
    element: Fact
    filtered: bool
    nested: bool


@dataclass(frozen=True, slots=True)
class Holds:
    """An array that holds elements equal to these, among others."""

    elements: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Lacks:
    """Absent, or an array without an element for which the formula holds.

    `nested`: elements may be arrays.
    """

    formula: Node
    nested: bool = True


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these facts."""

    facts: tuple[Fact, ...]


Fact: TypeAlias = (
    "Absent | Unknown | Value | Typed | Document | Nested | Barren | Single"
    "| Elements | Holds | Lacks | OneOf"
)

ABSENT: Final = Absent()
UNKNOWN: Final = Unknown()
PRESENT: Final = Value(ANY_VALUE)
BARREN: Final = Barren()
NESTED: Final = Nested()
SINGLE: Final = Single()
ARRAY_TYPE: Final = Typed(frozenset({"array"}))

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
    return Value(as_read_back(value))


def is_present(fact: Fact | None) -> bool:
    """Return whether something is certainly stored where `fact` is known."""
    if isinstance(fact, OneOf):
        return all(map(is_present, fact.facts))
    if isinstance(fact, Document):
        return fact.exists
    return isinstance(fact, (Value, Typed, Elements, Holds, Nested))


# --- Questions ----------------------------------------------------------------------------


def implies_presence(
    target: Node,
    parts: tuple[str, ...],
    may_be_array: Callable[[tuple[str, ...]], bool] = lambda _: False,
) -> bool:
    """Return whether only documents that have the path can match.

    `may_be_array` says it of the parents of the path, none of which is taken for an array by
    default; below an array, some element has the path.
    """
    if any(part.isdecimal() for part in parts[1:]):
        return False  # it may name an element of an array
    without: Fact = ABSENT
    for place in reversed(range(len(parts))):
        spreads = place > 0 and may_be_array(parts[:place])
        without = Document({parts[place]: without}, array=Arrays.ALIKE if spreads else Arrays.NONE)
    return ask(target, without) is False


def ask(formula: Node, fact: Fact) -> bool | None:
    """Answer the formula for every document of which `fact` is known; None: not known."""
    if isinstance(formula, Compare):
        return _ask_leaf(fact, formula.path, formula)
    if isinstance(formula, (Denial, Not)):
        answer = ask(formula.part, fact)
        return None if answer is None else not answer
    if isinstance(formula, (And, Or)):
        answers = {ask(part, fact) for part in formula.parts}
        ends = isinstance(formula, Or)
        if ends in answers:
            return ends
        return None if None in answers else not ends
    return None


def _ask_leaf(fact: Fact | None, path: tuple[str, ...], leaf: Compare) -> bool | None:
    """Answer `leaf` where `path` is what remains of its path beneath `fact`."""
    if isinstance(fact, Document):
        return _ask_document(fact, path, leaf)
    if isinstance(fact, Nested):
        return _ask_nested(path, leaf)
    if isinstance(fact, Barren):
        return _ask_barren(path, leaf)
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
    if isinstance(fact, Elements):
        return _ask_each(fact, path, leaf)
    if isinstance(fact, Holds):
        return _ask_holds(fact, path, leaf)
    if isinstance(fact, Lacks):
        return _ask_lacks(fact, path, leaf)
    if isinstance(fact, Single):
        return False if not path and leaf.operator in ("$elemMatch", "$size") else None
    return None


def _ask_document(fact: Document, path: tuple[str, ...], leaf: Compare) -> bool | None:
    if path:
        answer = _ask_leaf(fact.child(path[0]), path[1:], leaf)
        if fact.array is Arrays.NONE:
            return answer
        if fact.array is Arrays.ANY or path[0].isdecimal():
            return None
        # One element that answers yes is enough, and there may be none at all.
        return answer if answer is False or fact.holds else None
    if not fact.exists:
        return None
    answer = _ask_typed(frozenset({"object"}), (), leaf)
    if fact.array is Arrays.NONE:
        return answer
    if leaf.operator == "$exists":
        return True
    if fact.array is Arrays.ANY:
        return None
    if leaf.operator == "$elemMatch":
        inner = leaf.inner
        assert inner is not None
        element = replace(fact, array=Arrays.NONE)
        fails = ask(inner, element) is False and ask(inner, NESTED) is False
        return False if fails else None
    if leaf.operator == "$type" and answer and fact.holds:
        return True
    return False if answer is False and _ask_nested((), leaf) is False else None


def _ask_nested(path: tuple[str, ...], leaf: Compare) -> bool | None:
    """Answer for an array as a whole: its elements are not looked at; its fields are numbers."""
    if path:
        return None if path[0].isdecimal() else _judge({}, path, leaf)
    if not test_of(leaf).spreads:
        return None
    if any(own_bracket(comparand) in (ARRAY, None) for comparand in comparands(leaf)):
        return None
    return _judge({"v": []}, (), leaf)


def _ask_barren(path: tuple[str, ...], leaf: Compare) -> bool | None:
    if path:
        return False if not path[0].isdecimal() and _judge({}, path, leaf) is False else None
    if leaf.operator == "$type" and leaf.operand in ("object", ["object"], 3, [3]):
        return False
    return None


def _agreed(answers: Iterable[bool | None]) -> bool | None:
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else None


def _judge(document: Mapping[str, Any], path: tuple[str, ...], leaf: Compare) -> bool | None:
    return at_path(("v", *path), test_of(leaf))(document)


def _ask_typed(types: frozenset[str], path: tuple[str, ...], leaf: Compare) -> bool | None:
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
    looked_at = OPERATORS[leaf.operator].brackets
    if looked_at is None:
        return None
    asked = looked_at.union(map(own_bracket, comparands(leaf)))
    if REGEX in asked:
        asked |= {STRING}
    return None if None in asked or asked & open_brackets else answer


def _ask_each(fact: Elements, path: tuple[str, ...], leaf: Compare) -> bool | None:
    """Answer False where no element satisfies the leaf; an empty array forbids any True."""
    element = fact.element
    if path:
        if path[0].isdecimal() or _judge({}, path, leaf) is not False:
            return None
        inner: Node = replace(leaf, path=path)
        if isinstance(element, Document):
            element = replace(element, array=Arrays.NONE)  # no path goes into an array in an array
    elif leaf.operator in ("$exists", "$type"):
        return _ask_typed(ARRAY_TYPE.types, path, leaf)
    elif leaf.inner is not None:
        inner = leaf.inner
        if fact.nested and ask(inner, NESTED) is not False:
            return None
    elif _asks_elements(leaf):
        inner = replace(leaf, path=())
    else:
        return None
    if isinstance(element, Value) and is_array(element.value):
        return None
    untouched_fail = not fact.filtered or implies(inner, fact.condition)
    return False if untouched_fail and ask(inner, element) is False else None


def _ask_holds(fact: Holds, path: tuple[str, ...], leaf: Compare) -> bool | None:
    if not path and leaf.operator == "$exists":
        return True
    if not path and leaf.operator == "$type":
        return _ask_typed(frozenset({"array"}), path, leaf)
    if not path and leaf.operator == "$size" and leaf.operand == 0:
        return False if fact.elements else None
    # More elements can only add to the answers of these, and Python's yes stays a yes.
    if (
        not OPERATORS[leaf.operator].grows
        or any(part.isdecimal() for part in path)
        or any(map(is_array, comparands(leaf)))
    ):
        return None
    return _judge({"v": list(fact.elements)}, path, leaf) or None


def _ask_lacks(fact: Lacks, path: tuple[str, ...], leaf: Compare) -> bool | None:
    """Answer False where whatever satisfies the leaf satisfies what no element does."""
    if _judge({}, path, leaf) is not False:
        return None
    if path:
        if path[0].isdecimal():
            return None
        inner: Node = replace(leaf, path=path)
    elif leaf.inner is not None:
        inner = leaf.inner
        if fact.nested and ask(inner, NESTED) is not False:
            return None
    elif not _asks_elements(leaf):
        return None
    elif leaf.operator in ("$eq", "$in"):
        return False if _lacks_values(fact, comparands(leaf)) else None
    else:
        inner = replace(leaf, path=())
    return False if implies(inner, fact.formula) else None


def _asks_elements(leaf: Compare) -> bool:
    """Return whether an array answers the leaf by its elements alone, and never as a whole."""
    return OPERATORS[leaf.operator].by_elements and not any(
        own_bracket(comparand) in (ARRAY, None) for comparand in comparands(leaf)
    )


def _lacks_values(fact: Lacks, values: Sequence[Any]) -> bool:
    """Return whether none of the values is an element."""
    first, *others = conjuncts(fact.formula)
    if not isinstance(first, Compare) or first.path or first.operator not in ("$eq", "$in"):
        return False
    if others:
        return False  # they leave some of the values where they are
    lacked = set(map(identity, comparands(first)))
    return all(bracket(value) != REGEX and identity(value) in lacked for value in values)
