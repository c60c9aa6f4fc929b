"""Which rules a match starts, and for which documents they wait for an earlier one."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.rules.binding import bind
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.discovery import discover
from lazymig.rules.order import commute, held_back, starting_rules
from lazymig.rules.rule import RuleHandler
from tests.support.handlers import copying, rule

# No proof that it ends its match.
UNPROVED = rule({"a": {"$gte": 0}}, {"$mul": {"a": -1}})
ALSO_UNPROVED = rule({"z": {"$gte": 0}}, {"$mul": {"z": -1}})


class Post:
    """Stands for a model: binding asks for its name alone."""


def _bound(**rules: Any) -> list[BoundRule]:
    handler = type("Rules", (RuleHandler,), rules)
    return [bound for each in discover(handler) if (bound := bind(each, handler, Post))]


def _targets(rules: list[BoundRule], condition: Any = None) -> dict[str, Any]:
    return {each.name: each.target for each in starting_rules(rules, condition)}


def _by_hand(self: Any) -> None:
    self.target = {"a": 1}
    self.collection.update_many(self.target, {"$set": {"a": 2}})


def _undetermined(self: Any) -> None:
    if "a" in self.doc:
        self.target = {"a": {"$exists": True}}
        self.update = {"$unset": {"a": ""}}


def test_without_a_rule_that_waits_all_start_as_they_are() -> None:
    """Rules that a match starts keep their own targets, and are the same objects."""
    rules = _bound(migration01__b=copying("a", "b"), migration02__c=copying("b", "c"))
    assert starting_rules(rules) == tuple(rules)
    assert held_back(rules) == {}


@pytest.mark.parametrize(
    "later",
    [
        copying("a", "b"),
        rule({"a": 5}, {"$set": {"b": 1}, "$unset": {"a": ""}}),
        rule({"b": {"$exists": False}}, [{"$set": {"b": {"$ifNull": ["$a", 0]}}}]),
        rule({"b": {"$exists": True}}, {"$rename": {"b": "a.x"}}),
        rule({"a.x": {"$exists": True}}, {"$unset": {"a.x": ""}}),
    ],
)
def test_what_reads_or_writes_what_an_earlier_rule_writes_waits(later: Any) -> None:
    """The target of such a rule leaves out the documents that the earlier one matches."""
    rules = _bound(migration01__first=UNPROVED, migration02__later=later)
    own = rules[1].target
    assert _targets(rules) == {"migration02__later": {**(own or {}), "$nor": [{"a": {"$gte": 0}}]}}
    (waiting,) = starting_rules(rules)
    assert waiting.declared is rules[1]
    assert waiting.matcher is not None
    assert waiting.matcher.query == waiting.target
    assert held_back(rules) == {"migration01__first": ["migration02__later"]}


def test_what_writes_what_an_earlier_rule_reads_waits() -> None:
    """A rule that would take away what an earlier one still has to read waits for it."""
    first = rule({"a": {"$gte": 0}, "source": {"$exists": True}}, [{"$set": {"a": "$input"}}])
    for path in ("source", "input"):
        later = rule({path: {"$exists": True}}, {"$unset": {path: ""}})
        rules = _bound(migration01__first=first, migration02__later=later)
        assert "$nor" in _targets(rules)["migration02__later"]


def test_what_has_no_path_in_common_does_not_wait() -> None:
    """A rule of other paths starts on all documents that it matches."""
    rules = _bound(migration01__first=UNPROVED, migration02__later=copying("c", "d"))
    assert _targets(rules) == {"migration02__later": rules[1].target}
    assert held_back(rules) == {}


def test_an_earlier_rule_waits_for_no_later_one() -> None:
    """Only what comes before a rule holds it back."""
    rules = _bound(migration01__b=copying("a", "b"), migration02__later=UNPROVED)
    assert _targets(rules) == {"migration01__b": rules[0].target}


def test_who_waits_is_waited_for() -> None:
    """A rule waits for one that waits, for the documents for which that one does."""
    rules = _bound(
        migration01__first=UNPROVED,
        migration02__b=copying("a", "b"),
        migration03__c=copying("b", "c"),
        migration04__d=copying("x", "d"),
    )
    second, third = rules[1].target, rules[2].target
    assert _targets(rules) == {
        "migration02__b": {**(second or {}), "$nor": [{"a": {"$gte": 0}}]},
        "migration03__c": {**(third or {}), "$nor": [{"$and": [second, {"a": {"$gte": 0}}]}]},
        "migration04__d": rules[3].target,
    }
    assert held_back(rules) == {"migration01__first": ["migration02__b", "migration03__c"]}


def test_each_cause_is_left_out_once() -> None:
    """Who waits for a rule by itself does not name again those that wait for the same one."""
    rules = _bound(
        migration01__first=UNPROVED,
        migration02__z=ALSO_UNPROVED,
        migration03__b=copying("a", "b"),
        migration04__c=rule({"b": {"$gt": 0}, "a": {"$lt": 5}}, {"$set": {"b": 0, "z": 1}}),
    )
    assert _targets(rules)["migration04__c"] == {
        "b": {"$gt": 0},
        "a": {"$lt": 5},
        "$nor": [{"a": {"$gte": 0}}, {"z": {"$gte": 0}}],
    }


def test_a_target_with_a_nor_of_its_own_keeps_it() -> None:
    """The condition is added, never put in place of one of the rule's own."""
    later = rule({"$nor": [{"b": 1}], "a": {"$gt": 5}}, {"$unset": {"a": ""}})
    rules = _bound(migration01__first=UNPROVED, migration02__later=later)
    assert _targets(rules)["migration02__later"] == {
        "$and": [{"$nor": [{"b": 1}], "a": {"$gt": 5}}, {"$nor": [{"a": {"$gte": 0}}]}]
    }


def test_a_rule_by_hand_may_write_anything() -> None:
    """Every later rule waits for the documents of a rule that writes by itself."""
    rules = _bound(migration01__hand=_by_hand, migration02__d=copying("c", "d"))
    assert _targets(rules)["migration02__d"]["$nor"] == [{"a": 1}]


def test_a_rule_whose_documents_are_not_known_holds_back_all() -> None:
    """Where it is not known for which documents to wait, a match does not start the later rule."""
    rules = _bound(
        migration01__any=_undetermined,
        migration02__d=copying("c", "d"),
        migration03__e=copying("d", "e"),
    )
    assert starting_rules(rules) == ()
    assert held_back(rules) == {"migration01__any": ["migration02__d", "migration03__e"]}


def test_whose_document_it_is_may_be_what_is_written() -> None:
    """A rule of a handler for some classes waits for one that writes the class."""
    first = rule({"_cls": {"$in": ["A", "B"]}}, {"$set": {"_cls": "B"}})
    rules = _bound(migration01__first=first, migration02__d=copying("c", "d"))
    assert "$nor" not in _targets(rules)["migration02__d"]
    assert "$nor" in _targets(rules, {"_cls": {"$in": ["A", "B"]}})["migration02__d"]


def test_rules_commute_if_neither_sees_what_the_other_does() -> None:
    """Two rules commute if no path that one writes is read or written by the other."""
    first, same, apart = _bound(
        migration01__b=copying("a", "b"),
        migration02__c=copying("b", "c"),
        migration03__e=copying("d", "e"),
    )
    assert not commute(first, same)
    assert not commute(same, first)
    assert commute(first, apart)
    assert not commute(first, apart, None)
    assert not commute(first, apart, frozenset({"e"}))
