"""Which lazy rules bring documents back under the target of an earlier one, as far as is proved."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from lazymig.rules.binding import bind
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.cycles import certain_cycles, may_be_reopened
from lazymig.rules.discovery import discover
from tests.support.handlers import copying, handler, rule


class Post:
    """Stands for a model."""


def _bound(*rules: Any) -> list[BoundRule]:
    named = {f"migration{number:02}__r": each for number, each in enumerate(rules, 1)}
    rules_class = handler(**named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound = [bind(each, rules_class, Post) for each in discover(rules_class)]
    return [each for each in bound if each is not None]


MISSING = {"v": {"$exists": False}}


@pytest.mark.parametrize(
    ("earlier", "later", "may", "certain"),
    [
        ({"v": {"$type": "number"}}, rule(MISSING, {"$set": {"v": 2}}), True, True),
        ({"v": {"$type": "number"}}, rule(MISSING, {"$set": {"v": "2"}}), False, False),
        ({"v": {"$type": "number"}}, rule(MISSING, {"$set": {"w": 2}}), False, False),
        ({"v": 1, "w": 1}, rule(MISSING, {"$set": {"v": 1}}), True, False),
        ({"v": {"$exists": True}}, rule({"o": 1}, {"$rename": {"o": "v"}}), True, True),
        ({"v": {"$exists": True}}, rule({"v": 1}, {"$unset": {"v": ""}}), False, False),
        ({"v": {"$exists": False}}, rule({"v": 1}, {"$unset": {"v": ""}}), True, True),
        ({"v": 7}, rule(MISSING, [{"$set": {"v": {"$literal": 7}}}]), True, True),
        ({"v": 7}, rule(MISSING, [{"$set": {"v": "$w"}}]), True, False),
        ({"v": 7}, copying("w", "v"), True, False),
        ({"l.y": 7}, rule({"n": 1}, {"$set": {"l.$[e].y": 7}}, [{"e.y": 1}]), True, False),
    ],
)
def test_what_comes_back(earlier: Any, later: Any, may: bool, certain: bool) -> None:
    """What is certain is warned of, what is excluded not looked for, the rest a run looks for."""
    first, second = rules = _bound(rule(earlier, {"$set": {"done": True}}), later)
    assert may_be_reopened(rules) == ([first] if may else [])
    assert list(certain_cycles(rules)) == ([(first, second)] if certain else [])


def test_what_an_earlier_rule_leaves_nothing_of_is_not_certain() -> None:
    """A rule for documents without a parent meets none after one that has made it."""
    rules = _bound(
        rule({"a.z": {"$exists": False}}, {"$set": {"a.z": ""}}),
        rule({"a": {"$exists": False}}, {"$set": {"a": {}}}),
    )
    assert list(certain_cycles(rules)) == []
    assert list(certain_cycles(list(reversed(rules)))) == []


def test_what_is_taken_away_again_is_not_certain() -> None:
    """A rule after both may end the match that the one between them has brought back."""
    number = {"v": {"$type": "number"}}
    between = rule(MISSING, {"$set": {"v": 2}})
    first, _, last = rules = _bound(
        rule(number, {"$set": {"v": "a"}}), between, rule(number, {"$set": {"v": "b"}})
    )
    assert list(certain_cycles(rules)) == []
    assert may_be_reopened(rules) == [first]
    text = rule({"w": 1}, {"$set": {"v": "b"}})
    again = _bound(rule(number, {"$set": {"v": "a"}}), text, between)
    assert list(certain_cycles(again)) == [(again[0], again[2])]
    assert last.name == "migration03__r"


def test_a_document_that_is_handed_over_does_not_come_back() -> None:
    """A rule that makes a document one of another class ends what the rules of its class ask."""
    leaves = rule({"v": 1}, {"$set": {"_cls": "Other"}, "$unset": {"v": ""}})
    rules = _bound(rule(MISSING, {"$set": {"v": 2}}), leaves)
    assert list(certain_cycles(rules)) == []
    assert may_be_reopened(rules) == rules[:1]


def test_an_earlier_rule_brings_nothing_back() -> None:
    """A rule that runs first feeds the later one, as it should."""
    rules = _bound(rule(MISSING, {"$set": {"v": 2}}), rule({"v": 2}, {"$set": {"v": 3}}))
    assert (may_be_reopened(rules), list(certain_cycles(rules))) == ([], [])
