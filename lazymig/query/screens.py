"""The screen of a query: the hot path, run for every batch that is loaded.

A screen gives the indexes of the documents that match, or perhaps do; one list comprehension
per condition, without a call per document. What survives is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import gt, itemgetter, lt
from typing import Any, Final, NamedTuple, TypeAlias

from bson import DBRef, Int64
from bson.son import SON

from lazymig.query.checks import Judge, Test
from lazymig.query.tree import And, Compare, Node, Not, Or
from lazymig.raw.values import (
    HIDDEN,
    MISSING,
    NULL,
    NUMBER,
    REGEX,
    STRING,
    TYPE_BRACKETS,
    TYPE_CODES,
    bracket,
    is_nan,
    may_have_code,
)

__all__ = ["Screen", "screen_of"]

Screen: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], list[int]]

_TYPES: Final = frozenset(TYPE_BRACKETS) - {type(MISSING), type(HIDDEN)}
_ARRAYS: Final = frozenset({list, tuple})
_CONTAINERS: Final = _ARRAYS | {dict, SON, DBRef}
_PLAIN: Final = _TYPES - _CONTAINERS
_ONLY_DICT: Final = frozenset({dict})
_NUMBERS: Final = frozenset({int, float, Int64})
_STRINGS: Final = frozenset({str})

# The order in which the conditions of a query are tried: what old documents alone have is first.
_ABSENCE, _VALUE, _PRESENCE, _EXCLUSION, _CLASS, _CHOICE = range(6)


@dataclass(frozen=True, slots=True)
class _Ranked:
    rank: int
    screen: Screen


class _Form(NamedTuple):
    """What a field's value is screened by.

    A value of one of the types `quick` survives if its comparison gives `wanted`, another
    one unless it is of a type in `dropped`, and a missing one if `absent`.
    """

    name: str
    quick: frozenset[type]
    dropped: frozenset[type]
    wanted: bool
    absent: bool


def screen_of(tree: Node, judge: Judge) -> Screen:
    """Build the screen of a compiled query; `judge` serves where no quicker way is known."""
    found = _screened(tree, negated=False)
    if found is not None:
        return found.screen

    def judged(documents: Sequence[Mapping[str, Any]]) -> list[int]:
        return [i for i, document in enumerate(documents) if judge(document) is not False]

    return judged


def _screened(node: Node, *, negated: bool) -> _Ranked | None:
    if isinstance(node, Compare):
        return _at(node, negated=negated)
    if isinstance(node, Not):
        return _screened(node.part, negated=not negated)
    if not isinstance(node, (And, Or)):
        return None
    parts = [_screened(part, negated=negated) for part in node.parts]
    known = [part for part in parts if part is not None]
    if isinstance(node, And) is not negated:
        return _one_after_another(known)
    return _either(known) if known and len(known) == len(parts) else None


def _one_after_another(parts: list[_Ranked]) -> _Ranked | None:
    """Every part must let a document pass: each looks at what the ones before it left."""
    if len(parts) < 2:
        return parts[0] if parts else None
    ordered = sorted(parts, key=lambda part: part.rank)
    first, rest = ordered[0].screen, [part.screen for part in ordered[1:]]

    def screen(documents: Sequence[Mapping[str, Any]]) -> list[int]:
        found = first(documents)
        for following in rest:
            if not found:
                break
            found = [found[i] for i in following([documents[i] for i in found])]
        return found

    return _Ranked(ordered[0].rank, screen)


def _either(parts: list[_Ranked]) -> _Ranked:
    screens = [part.screen for part in parts]

    def screen(documents: Sequence[Mapping[str, Any]]) -> list[int]:
        found: set[int] = set()
        for part in screens:
            found.update(part(documents))
        return sorted(found)

    return parts[0] if len(parts) == 1 else _Ranked(_CHOICE, screen)


# --- One condition ----------------------------------------------------------------------


def _at(leaf: Compare, *, negated: bool) -> _Ranked | None:
    *outer, name = leaf.path
    test = leaf.test  # compiled with the judge
    assert test is not None
    absent = test.check(MISSING) is not negated
    found = _in_field(name, test, absent=absent, negated=negated)
    if found is None:
        return None
    screen = found.screen
    for parent in reversed(outer):
        screen = _below(parent, screen, absent=absent)
    return _Ranked(_CLASS if name == "_cls" else found.rank, screen)


def _in_field(name: str, test: Test, *, absent: bool, negated: bool) -> _Ranked | None:
    if test.kind == "exists":
        return _presence(name, wanted=not negated)
    dropped = _dropped_if_negated(test) if negated else _dropped(test)
    if test.kind in {"$gt", "$gte", "$lt", "$lte"}:
        return _ordered(name, test, dropped, absent=absent, negated=negated)
    constants = _constants(test)
    quick = _quick_types(constants, test, negated=negated)
    if quick:
        members = frozenset(item for item in constants if type(item) in quick)
        rank = _EXCLUSION if negated else _VALUE
        return _Ranked(rank, _membership(members, _Form(name, quick, dropped, not negated, absent)))
    return _Ranked(_VALUE, _by_type(name, dropped, absent=absent)) if dropped else None


def _constants(test: Test) -> list[Any]:
    if test.kind == "equal":
        return [test.operand]
    if test.kind != "in":
        return []
    strings, others = test.operand
    return [*strings, *(other.operand for other in others if other.kind == "equal")]


def _quick_types(constants: list[Any], test: Test, *, negated: bool) -> frozenset[type]:
    """Give the types whose values are decided by membership in the set of constants alone."""
    if not constants:
        return frozenset()
    strings = any(type(item) is str for item in constants)
    numbers = [item for item in constants if bracket(item) == NUMBER]
    plain = all(type(item) in _NUMBERS and not is_nan(item) for item in numbers)
    if not negated and test.kind == "in":
        kinds = {other.kind for other in test.operand[1]}
        if not kinds <= {"equal", "null", "regex"}:
            return frozenset()
        strings = strings and "regex" not in kinds
    quick: frozenset[type] = _STRINGS if strings else frozenset()
    return quick | _NUMBERS if numbers and plain else quick


def _dropped(test: Test) -> frozenset[type]:
    """Give the types of which no value passes `test`; arrays pass through their elements."""
    if test.kind == "type":
        codes: frozenset[int] = test.operand
        return frozenset(own for own in _TYPES - _ARRAYS if not _has_code(own, codes))
    if test.kind == "in":
        kept: set[int] = {STRING} if test.operand[0] else set()
        for other in test.operand[1]:
            brackets = _brackets(other)
            if brackets is None:
                return frozenset()
            kept |= brackets
    else:
        known = _brackets(test)
        if known is None:
            return frozenset()
        kept = known
    return frozenset(own for own in _TYPES - _ARRAYS if TYPE_BRACKETS[own] not in kept)


def _brackets(test: Test) -> set[int] | None:
    """Give the brackets, arrays aside, that hold a value which passes `test`; None: any may."""
    if test.kind in {"equal", "$gt", "$gte", "$lt", "$lte"}:
        own = bracket(test.operand)
        return None if own is None else {own}
    return _KIND_BRACKETS.get(test.kind)


_KIND_BRACKETS: Final[dict[str, set[int]]] = {
    "null": {NULL},
    "mod": {NUMBER},
    "regex": {STRING, REGEX},
    "size": set(),
    "element": set(),
    "never": set(),
}


def _dropped_if_negated(test: Test) -> frozenset[type]:
    """Give the types of which every value passes `test`."""
    if test.kind == "null":
        return frozenset({type(None)})
    if test.kind != "type":
        return frozenset()
    codes: frozenset[int] = test.operand
    named = {own for own, code in TYPE_CODES.items() if code in codes}
    return frozenset(named | {int} if {16, 18} <= codes else named)


def _has_code(own: type, codes: frozenset[int]) -> bool:
    """Return whether some value of a type may be stored with one of the type numbers `codes`."""
    if own is int:
        return not codes.isdisjoint({16, 18})
    return TYPE_CODES[own] in codes or _twin_in(own, codes)


def _twin_in(own: type, codes: frozenset[int]) -> bool:
    samples: dict[type, Any] = {type(None): None, str: "", DBRef: DBRef("", None)}
    return own in samples and may_have_code(samples[own], codes) is not False


def _ordered(
    name: str, test: Test, dropped: frozenset[type], *, absent: bool, negated: bool
) -> _Ranked | None:
    constant = test.operand
    quick = next((types for types in (_STRINGS, _NUMBERS) if type(constant) in types), None)
    if quick is None:
        return _Ranked(_VALUE, _by_type(name, dropped, absent=absent)) if dropped else None
    if negated:
        quick -= {float}  # NaN is not ordered: it passes the negation, whatever the bound
    strict = test.kind in {"$gt", "$lt"}
    upward = test.kind in {"$gt", "$lte"}  # `$lte` is what is not greater
    form = _Form(name, quick, dropped, strict is not negated, absent)
    return _Ranked(_VALUE, _beyond(gt if upward else lt, constant, form))


# --- The comprehensions -----------------------------------------------------------------
# Written out, one per form: a call per document would cost more than all the rest.


def _presence(name: str, *, wanted: bool) -> _Ranked:
    if wanted:
        return _Ranked(
            _PRESENCE,
            lambda documents: [i for i, document in enumerate(documents) if name in document],
        )
    return _Ranked(
        _ABSENCE,
        lambda documents: [i for i, document in enumerate(documents) if name not in document],
    )


def _by_type(name: str, dropped: frozenset[type], *, absent: bool) -> Screen:
    return _membership(frozenset(), _Form(name, frozenset(), dropped, wanted=True, absent=absent))


def _membership(members: frozenset[Any], form: _Form) -> Screen:
    name, quick, dropped, wanted, absent = form
    return lambda documents: [
        i
        for i, document in enumerate(documents)
        if (
            (
                (value in members) is wanted
                if type(value := document[name]) in quick
                else type(value) not in dropped
            )
            if name in document
            else absent
        )
    ]


def _beyond(holds: Callable[[Any, Any], bool], bound: Any, form: _Form) -> Screen:
    name, quick, dropped, wanted, absent = form
    return lambda documents: [
        i
        for i, document in enumerate(documents)
        if (
            (
                holds(value, bound) is wanted
                if type(value := document[name]) in quick
                else type(value) not in dropped
            )
            if name in document
            else absent
        )
    ]


def _below(parent: str, inner_screen: Screen, *, absent: bool) -> Screen:
    """Screen sub-documents; what is no plain sub-document survives if it might match."""
    value_of = itemgetter(parent)

    def screen(documents: Sequence[Mapping[str, Any]]) -> list[int]:
        try:
            inner: list[Any] = [*map(value_of, documents)]
        except KeyError:
            inner = [document.get(parent) for document in documents]
        if _ONLY_DICT.issuperset(map(type, inner)):
            return inner_screen(inner)
        return _mixed(inner, inner_screen, absent=absent)

    return screen


def _mixed(values: list[Any], inner_screen: Screen, *, absent: bool) -> list[int]:
    kept = [i for i, value in enumerate(values) if type(value) is dict]
    found = [kept[i] for i in inner_screen([values[i] for i in kept])]
    others: Iterable[int] = (
        i
        for i, value in enumerate(values)
        if type(value) is not dict and (absent or type(value) not in _PLAIN)
    )
    return sorted([*found, *others])
