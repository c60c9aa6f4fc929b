"""The rules of a model as the engines use them: judging a batch, projections, whose rules count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lazymig.raw.paths import overlaps
from lazymig.rules.binding import bind
from lazymig.rules.discovery import discover
from lazymig.rules.once import once
from lazymig.rules.plan import Family, Plan
from lazymig.rules.rule import RuleHandler
from tests.support.handlers import rule


class Post:
    """Stands for a model."""


def _plan_of(*, validates: bool = False, **rules: Any) -> Plan:
    handler = type("Rules", (RuleHandler,), rules)
    bound = tuple(filter(None, (bind(found, handler, Post) for found in discover(handler))))
    return Plan(
        doc_class=Post,
        handler_class=handler,
        lazy=bound,
        bulk=(),
        class_filter=None,
        inherited_filters={},
        on_error="raise",
        lazy_timeout=5,
        validates=validates,
        starting=tuple(each for each in bound if each.starts_on_match),
    )


def _unset(path: str) -> Any:
    return rule({path: {"$exists": True}}, {"$unset": {path: ""}})


def _sent(self: Any) -> None:
    self.target, self.update = {"b": {"$exists": True}}, {"$unset": {"b": ""}}
    if self.status:
        return


def _named(found: dict[int, list[Any]]) -> dict[int, list[str]]:
    return {index: [each.name for each in rules] for index, rules in found.items()}


@pytest.mark.parametrize(
    ("path", "other", "expected"),
    [
        ("a", "a", True),
        ("a.b", "a", True),
        ("a", "a.b.c", True),
        ("a.b", "a.c", False),
        ("ab", "a", False),
        ("a", "ab", False),
    ],
)
def test_paths_overlap_where_one_holds_the_other(path: str, other: str, expected: bool) -> None:
    """Paths overlap if they are the same or one lies below the other, by whole names."""
    assert overlaps(path, other) is expected


def test_a_plan_gives_the_queries_of_its_rules() -> None:
    """The filter on classes is part of each query, wider in reports; a claim keeps a once rule."""
    old = {"$exists": True}
    plan = replace(
        _plan_of(migration01__a=_unset("a"), migration02__b=once(_sent)),
        class_filter={"_cls": "Post"},
        inherited_filters={"migration02__b": {"_cls": {"$in": ["Post", "Note"]}}},
    )
    first, second = plan.lazy
    assert plan.query_of(first) == {"_cls": "Post", "a": old}
    assert plan.query_of_any([first]) == plan.query_of(first)
    assert plan.query_of_any([first, second]) == {
        "_cls": "Post",
        "$or": [{"a": old}, {"b": old}],
    }
    wider = {"_cls": {"$in": ["Post", "Note"]}}
    assert plan.reported_query_of(second) == {**wider, "b": old}
    assert plan.needing_query_of(first) == plan.query_of(first)
    left_behind = {"_lazymig.rule": "migration02__b"}
    assert plan.needing_query_of(second) == {**wider, "$or": [{"b": old}, left_behind]}
    # The index of each rule is found in its branch alone, which names the class for that.
    assert replace(plan, starting=(first, second)).search == {
        "$or": [{"_cls": "Post", "a": old}, {"_cls": "Post", "b": old}]
    }


def test_judging_finds_the_rules_of_each_document() -> None:
    """A batch is judged by every starting rule; documents without a match are not mentioned."""
    plan = _plan_of(migration01__a=_unset("a"), migration02__b=_unset("b"))
    certain, asked = plan.judge([{"_id": 1, "a": 1}, {"_id": 2}, {"_id": 3, "a": 1, "b": 1}])
    assert _named(certain) == {0: ["migration01__a"], 2: ["migration01__a", "migration02__b"]}
    assert asked == {}


def test_what_cannot_be_judged_is_a_question() -> None:
    """A target that memory cannot judge is never guessed: it becomes a question for MongoDB."""
    target = {"$expr": {"$gt": [{"$abs": "$a"}, "$b"]}, "c": {"$exists": False}}
    plan = _plan_of(migration01__a=rule(target, {"$set": {"c": 1}}))
    certain, asked = plan.judge([{"_id": 1, "a": 2, "b": 1}, {"_id": 2, "c": 1}])
    assert (certain, _named(asked)) == ({}, {0: ["migration01__a"]})


def test_only_documents_among_are_judged() -> None:
    """The indexes of a judged part are those of the whole batch."""
    plan = _plan_of(migration01__a=_unset("a"))
    certain, _ = plan.judge([{"_id": 1, "a": 1}, {"_id": 2, "a": 1}, {"_id": 3}], among=[1, 2])
    assert _named(certain) == {1: ["migration01__a"]}


@pytest.mark.parametrize(
    ("carried", "excluded", "expected"),
    [
        (["a"], [], ["migration01__a"]),
        (["c"], [], None),
        (["b"], [], ["migration02__b"]),
        (["b.x.y"], [], ["migration02__b"]),
        (["a", "b"], [], ["migration01__a", "migration02__b"]),
        (None, [], ["migration01__a", "migration02__b"]),
        (None, ["a"], ["migration02__b"]),
        (None, ["b"], ["migration01__a"]),
        (None, ["b.x.y"], ["migration01__a", "migration02__b"]),
        (None, ["a", "b.x"], None),
    ],
)
def test_a_projection_concerns_the_rules_that_write_what_it_carries(
    carried: list[str] | None, excluded: list[str], expected: list[str] | None
) -> None:
    """Of a plan, a projection concerns exactly the rules that write a path which it carries."""
    plan = _plan_of(migration01__a=_unset("a"), migration02__b=_unset("b.x"))
    narrowed = plan.concerned_by(carried, excluded)
    found = None if narrowed is None else [each.name for each in narrowed.starting]
    assert found == expected


def test_a_projection_that_concerns_every_rule_keeps_the_plan() -> None:
    """Nothing is made anew where nothing is narrowed."""
    plan = _plan_of(migration01__a=_unset("a"))
    assert plan.concerned_by(["a"], []) is plan


def test_a_rule_that_prepares_a_concerned_one_is_concerned() -> None:
    """A rule that writes what a concerned later rule's target reads is concerned too."""
    plan = _plan_of(
        migration01__a=rule({"a": {"$exists": False}}, {"$set": {"a": 1}}),
        migration02__b=rule({"a": 1, "b": {"$exists": False}}, {"$set": {"b": 1}}),
        migration03__c=_unset("c"),
    )
    narrowed = plan.concerned_by(["b"], [])
    assert narrowed is not None
    assert [each.name for each in narrowed.starting] == ["migration01__a", "migration02__b"]


def test_a_rule_with_unknown_writes_concerns_every_projection() -> None:
    """Where it cannot be told what a rule writes, no projection may ignore it."""
    replacing = rule({"a": {"$exists": True}}, [{"$replaceWith": {"b": "$a"}}])
    plan = _plan_of(migration01__a=replacing)
    plan = replace(plan, starting=plan.lazy)
    assert plan.concerned_by(["z"], []) is plan


def test_a_rule_that_prepares_the_input_of_a_concerned_one_is_concerned() -> None:
    """A rule that writes what a concerned later rule computes from is concerned too."""

    def computed(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        self.update = {"$set": {"b": len(self.doc["a"])}}

    plan = _plan_of(
        migration01__a=rule({"a": {"$exists": False}}, {"$set": {"a": "x"}}),
        migration02__b=computed,
        migration03__c=_unset("c"),
    )
    narrowed = plan.concerned_by(["b"], [])
    assert narrowed is not None
    assert [each.name for each in narrowed.starting] == ["migration01__a", "migration02__b"]


def test_the_class_name_says_whose_rules_count() -> None:
    """A document obeys its class's plan; one of an unknown or former class the root's."""
    root, sub = _plan_of(migration01__a=_unset("a")), _plan_of(migration01__b=_unset("b"))
    family = Family(root, {"Post": root, "Post.Sub": sub, "Post.Free": None})
    documents: list[dict[str, Any]] = [
        {"_cls": "Post"},
        {"_cls": "Post.Sub"},
        {"_cls": "Post.Free"},
        {"_cls": "Gone"},
        {},
        {"_cls": 5},
    ]
    assert [family.plan_of(each) for each in documents] == [root, sub, None, root, root, root]
    groups = [(plan, list(indexes or [])) for plan, indexes in family.split(documents)]
    assert groups == [(root, [0, 3, 4, 5]), (sub, [1])]


def test_a_family_with_one_plan_looks_at_no_class() -> None:
    """Where every class obeys the same plan, a batch is not divided."""
    plan = _plan_of(migration01__a=_unset("a"))
    family = Family(plan, {"Post": plan})
    assert family.only is plan
    assert family.split([{"_cls": "Post"}, {}]) == [(plan, None)]


def test_a_family_validates_if_one_plan_does() -> None:
    """Validation on load is on as soon as one class of the collection needs it."""
    root, sub = (
        _plan_of(migration01__a=_unset("a")),
        _plan_of(validates=True, migration01__b=_unset("b")),
    )
    assert not Family(root, {"Post": root}).validates
    assert Family(root, {"Post.Sub": sub}).validates
