"""Which rules an operation needs applied before it, and which can be applied after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lazymig.rules.binding import bind
from lazymig.rules.dependencies import Footprint, footprint_of, meet, with_dependencies
from lazymig.rules.discovery import discover
from tests.support.handlers import handler, rule

Flat = Mapping[str, int]

PATHS = "abcd"
MISSING = 0


@dataclass(frozen=True)
class Toy:
    """A rule over flat documents: what it asks for, and what it puts where.

    A value that is a string is copied from that path.
    """

    asks: Mapping[str, int]
    puts: Mapping[str, int | str]

    def matches(self, document: Flat) -> bool:
        """Whether the document is one of the rule's."""
        return all(document.get(path, MISSING) == value for path, value in self.asks.items())

    def applied(self, document: Flat) -> Flat:
        """The document after the rule."""
        if not self.matches(document):
            return document
        new = {
            path: document.get(value, MISSING) if isinstance(value, str) else value
            for path, value in self.puts.items()
        }
        return _tidy({**document, **new})

    @property
    def footprint(self) -> Footprint:
        """What the rule touches."""
        inputs = frozenset(value for value in self.puts.values() if isinstance(value, str))
        return Footprint(frozenset(self.asks), inputs, frozenset(self.puts))


def _tidy(document: Flat) -> Flat:
    return {path: value for path, value in document.items() if value != MISSING}


def _all(rules: Sequence[Toy], document: Flat) -> Flat:
    for each in rules:
        document = each.applied(document)
    return document


VALUES = st.integers(MISSING, 2)
DOCUMENTS = st.dictionaries(st.sampled_from(PATHS), VALUES).map(_tidy)
PUTS = st.dictionaries(st.sampled_from(PATHS), VALUES | st.sampled_from(PATHS), max_size=1)


@st.composite
def _toys(draw: st.DrawFn) -> Toy:
    """A rule that ends each match of its own."""
    path, value = draw(st.sampled_from(PATHS)), draw(VALUES)
    asks = {**draw(st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=1)), path: value}
    end = (value + draw(st.integers(1, 2))) % 3
    return Toy(asks, {**draw(PUTS), path: end})


RULES = st.lists(_toys(), min_size=2, max_size=5)


def _is_finished(rules: Sequence[Toy], document: Flat) -> bool:
    return not any(each.matches(document) for each in rules)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(RULES, DOCUMENTS, st.sets(st.sampled_from(PATHS), min_size=1, max_size=2))
def test_a_reader_finds_what_it_would_find_after_all_rules(
    rules: list[Toy], document: Flat, read: set[str]
) -> None:
    """The rules that are needed give what is read, and leave the others to be applied later."""
    migrated = _all(rules, document)
    assume(_is_finished(rules, migrated))
    footprints = [each.footprint for each in rules]
    needed = [n for n, each in enumerate(footprints) if meet(each.writes, read)]
    chosen = with_dependencies(footprints, needed)

    settled = _all([rules[index] for index in chosen], document)
    assert {path: settled.get(path) for path in read} == {path: migrated.get(path) for path in read}
    assert _all(rules, settled) == migrated


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(
    RULES,
    DOCUMENTS,
    st.dictionaries(
        st.sampled_from(PATHS), VALUES | st.sampled_from(PATHS), min_size=1, max_size=2
    ),
)
def test_a_writer_leaves_what_it_would_leave_after_all_rules(
    rules: list[Toy], document: Flat, puts: dict[str, int | str]
) -> None:
    """A write after the rules that it needs ends, once all are applied, as a write after all."""
    migrated = _all(rules, document)
    assume(_is_finished(rules, migrated))
    write = Toy({}, puts)
    expected = _all(rules, write.applied(migrated))
    assume(_is_finished(rules, expected))
    footprints = [each.footprint for each in rules]
    inputs = write.footprint.inputs
    needed = [
        n
        for n, each in enumerate(footprints)
        if meet(each.writes, inputs)
        or any(meet(paths, puts) for paths in (each.conditions, each.inputs, each.writes))
    ]
    restarted = [n for n, each in enumerate(footprints) if meet(each.conditions, puts)]
    chosen = with_dependencies(footprints, needed, restarted)

    settled = _all([rules[index] for index in chosen], document)
    assert _all(rules, write.applied(settled)) == expected


def _footprint(conditions: str, writes: str, inputs: str = "", chain: int = 0) -> Footprint:
    return Footprint(frozenset(conditions), frozenset(inputs), frozenset(writes), chain)


CASES: dict[str, tuple[list[Footprint], list[int], list[int]]] = {
    "alone": ([_footprint("a", "a"), _footprint("b", "b")], [1], [1]),
    "an earlier rule feeds the target": ([_footprint("a", "b"), _footprint("b", "c")], [1], [0, 1]),
    "an earlier rule feeds the update": (
        [_footprint("a", "b"), _footprint("c", "c", "b")],
        [1],
        [0, 1],
    ),
    "an earlier rule writes the same": ([_footprint("a", "c"), _footprint("b", "c")], [1], [0, 1]),
    "an earlier rule reads what is written": (
        [_footprint("c", "a"), _footprint("b", "c")],
        [1],
        [0, 1],
    ),
    "an earlier rule computes from it": (
        [_footprint("x", "a", "c"), _footprint("b", "c")],
        [1],
        [0, 1],
    ),
    "a later rule": ([_footprint("a", "a"), _footprint("a", "b", "a")], [0], [0]),
    "both read the same": ([_footprint("a", "b"), _footprint("a", "c")], [1], [1]),
    "a later rule takes back what would match again": (
        [_footprint("s", "s"), _footprint("o", "so"), _footprint("s", "s")],
        [1],
        [0, 1, 2],
    ),
    "unknown writes": (
        [Footprint(frozenset("a"), frozenset(), None), _footprint("b", "b")],
        [1],
        [0, 1],
    ),
    "other classes": ([_footprint("a", "b"), _footprint("b", "c", chain=1)], [1], [1]),
    "other classes, and the class changes": (
        [
            Footprint(frozenset("a"), frozenset(), frozenset({"b", "_cls"})),
            _footprint("b", "c", chain=1),
        ],
        [1],
        [0, 1],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_rule_depends_on(case: str) -> None:
    """With a rule come the rules that it must not overtake, and no others."""
    footprints, needed, expected = CASES[case]
    assert with_dependencies(footprints, needed) == expected


@pytest.mark.parametrize(
    ("paths", "others", "expected"),
    [
        (["a"], ["a.b"], True),
        (["a.b"], ["a"], True),
        (["a.b"], ["a.bc"], False),
        (["items.0.price"], ["items.price"], True),
        (["items.$[].price"], ["items.price"], True),
        (None, ["a"], True),
        (None, ["_id"], False),
        (None, [], False),
        (None, None, True),
        ([], ["a"], False),
    ],
)
def test_paths_that_meet(paths: Any, others: Any, expected: bool) -> None:
    """Paths meet above and below each other, elements of arrays left out; None is any but `_id`."""
    assert meet(paths, others) is expected
    assert meet(others, paths) is expected


def test_the_class_is_asked_for_where_a_handler_concerns_some_classes() -> None:
    """The condition on `_cls` counts as part of the target."""
    rules = handler(migration01__a=rule({"a": {"$exists": False}}, {"$set": {"a": 1}}))
    (found,) = discover(rules)
    bound = bind(found, rules, type("Post", (), {}))
    assert bound is not None
    assert footprint_of(bound).conditions == {"a"}
    assert footprint_of(bound, {"_cls": "Post"}).conditions == {"a", "_cls"}
