"""`@once`: what it accepts, and what is known of such a rule before it runs."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import lazymig
from lazymig.errors import RuleDefinitionError, UpdateQueryError
from lazymig.rules.binding import bind
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.discovery import discover
from lazymig.rules.document import ReadDocument
from lazymig.rules.once import CLAIM, OnceOptions, once, once_options
from lazymig.rules.rule import RuleHandler

TARGET = {"mailed": {"$exists": False}}
UPDATE = {"$set": {"mailed": True}}


class Post:
    """Stands for a model: binding asks only its name."""


def _bound(method: Any, name: str = "migration01__mail") -> BoundRule | None:
    rules = type("Rules", (RuleHandler,), {name: method})
    (found,) = discover(rules)
    return bind(found, rules, Post)


def _refused(method: Any) -> str:
    with pytest.raises(RuleDefinitionError) as caught:
        _bound(method)
    assert (caught.value.model, caught.value.rule) == ("Post", "migration01__mail")
    return str(caught.value)


# The decorator


def test_the_decorator_gives_the_method_back() -> None:
    """A marked method is the same function, with options that the rule carries."""

    def method(self: Any) -> None:
        self.target = TARGET
        self.update = {"$set": {"mailed": self.doc["_id"]}}

    assert lazymig.once is once
    assert once(method) is method
    bound = _bound(method)
    assert bound is not None
    assert bound.once == OnceOptions(lease=60.0, wait=5.0)


def test_the_decorator_takes_options() -> None:
    """`@once(...)` sets lease and wait in seconds, `@once()` neither."""
    assert once_options(once(lease=2, wait=0)(lambda _self: None)) == OnceOptions(2.0, 0.0)
    assert once_options(once()(lambda _self: None)) == OnceOptions()
    assert once_options(lambda _self: None) is None


@pytest.mark.parametrize(
    "options",
    [
        {"lease": 0.5},
        {"lease": -1},
        {"lease": None},
        {"lease": "60"},
        {"lease": True},
        {"lease": float("inf")},
        {"lease": float("nan")},
        {"wait": -0.1},
        {"wait": None},
        {"wait": float("inf")},
    ],
)
def test_an_impossible_option_is_an_error(options: dict[str, Any]) -> None:
    """A lease below a second, or what is no number of seconds, is refused at once."""
    ((name, _),) = options.items()
    with pytest.raises(RuleDefinitionError, match=rf"once\({name}="):
        once(**options)


@pytest.mark.parametrize("thing", [60, property(lambda _self: None), int])
def test_what_is_no_function_cannot_be_marked(thing: Any) -> None:
    """`@once` on anything that is no function says so."""
    with pytest.raises(RuleDefinitionError, match="is no rule"):
        once(thing)


@pytest.mark.parametrize("name", ["helper", "mail", "_migration01__mail"])
def test_a_marked_method_must_be_a_rule(name: str) -> None:
    """A method that is marked but not named as a rule is an error, and not silently no rule."""
    with pytest.raises(RuleDefinitionError, match="marked with once and is no rule"):
        discover(type("Rules", (RuleHandler,), {name: once(lambda _self: None)}))


def test_an_override_without_the_mark_is_no_once_rule() -> None:
    """The mark belongs to the method: a subclass that overrides a rule decides anew."""
    rules = type("Rules", (RuleHandler,), {"migration01__a": once(lambda _self: None)})
    again = type("Again", (rules,), {"migration01__a": lambda _self: None})
    assert [rule.once for rule in discover(rules)] == [OnceOptions()]
    assert [rule.once for rule in discover(again)] == [None]


# The look at a rule


def test_a_look_stops_at_the_document() -> None:
    """Not even a stand-in for the document is handed to the effect when the rule is looked at."""
    sent: list[Any] = []

    def method(self: Any) -> None:
        self.target = TARGET
        sent.append(self.doc)
        self.update = UPDATE

    bound = _bound(once(method))
    assert bound is not None
    assert sent == []
    assert (bound.target, bound.kind, bound.update) == (TARGET, "dynamic", None)
    assert (bound.writes, bound.inputs, bound.converges) == ({"mailed"}, None, None)
    assert bound.starts_on_match


def test_a_look_stops_at_the_collection() -> None:
    """A rule that works through `self.collection` is stopped before its effect."""

    def method(self: Any) -> None:
        self.target = TARGET
        self.collection.database["mail"].insert_one({})
        self.update = UPDATE

    bound = _bound(once(method))
    assert bound is not None
    assert (bound.writes, bound.asks) == ({"mailed"}, {"collection"})


def test_a_rule_is_looked_at_once() -> None:
    """A once rule never meets a symbolic document, with which its effect would happen."""
    looks: list[Any] = []

    def method(self: Any) -> None:
        self.target = TARGET
        looks.append(self.status)
        _ = self.doc["_id"]

    _bound(once(method))
    assert looks == [True]


def test_a_rule_that_runs_to_its_end_is_an_error() -> None:
    """An effect that happens when the rule is defined is found, and the error names the remedy."""

    def method(self: Any) -> None:
        self.target = TARGET
        self.update = UPDATE

    message = _refused(once(method))
    assert "its effect has happened" in message
    assert "return if self.status" in message


@pytest.mark.parametrize("name", ["migration01__mail", "allmigration01__mail"])
def test_an_update_set_before_status_is_known(name: str) -> None:
    """What a rule sets before it returns for `self.status` is what it is taken to write."""

    def method(self: Any) -> None:
        self.target = TARGET
        self.update = UPDATE
        if self.status:
            return
        raise AssertionError

    bound = _bound(once(method), name)
    assert bound is not None
    assert (bound.kind, bound.converges, bound.by_hand) == ("dynamic", True, False)
    assert (bound.writes, bound.creates, bound.inputs) == ({"mailed"}, {"mailed"}, set())


def test_a_return_for_status_without_an_update_is_no_rule_by_hand() -> None:
    """What a once rule writes after an early return is known; in bulk, too, it is claimed."""

    def method(self: Any) -> None:
        self.target = TARGET
        if self.status:
            return
        self.update = UPDATE

    bound = _bound(once(method), "allmigration01__mail")
    assert bound is not None
    assert (bound.by_hand, bound.writes, bound.converges) == (False, {"mailed"}, None)


def test_a_known_update_must_end_the_match() -> None:
    """A once rule whose known update leaves the match is an error: it would run at each load."""

    def method(self: Any) -> None:
        self.target = {"name": {"$exists": True}}
        self.update = UPDATE
        if self.status:
            return

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "does not provably end the match" in _refused(once(method))


def test_a_known_update_is_checked() -> None:
    """An update that is none is an error of definition, if it is known."""

    def method(self: Any) -> None:
        self.target = TARGET
        self.update = {"$sett": {"mailed": True}}
        if self.status:
            return

    with pytest.raises(UpdateQueryError, match=r"\$sett"):
        _bound(once(method))


def test_a_once_rule_needs_a_target_without_a_document() -> None:
    """A target that needs the document is an error: nobody could claim by it."""

    def method(self: Any) -> None:
        self.target = {"name": self.doc["name"]}
        self.update = UPDATE

    assert "set self.target before self.doc is read" in _refused(once(method))


def test_a_once_rule_may_leave_a_model_alone() -> None:
    """A once rule that looks at `self.doc_class` and sets nothing does not concern that model."""

    def method(self: Any) -> None:
        if self.doc_class is Post:
            return
        self.target = TARGET

    assert _bound(once(method)) is None


# What other rules see


def test_a_claim_is_no_part_of_a_document() -> None:
    """A rule that reads the document as a whole meets no claim, and still guards by all of it."""
    raw = {"_id": 1, "a": 2, CLAIM: {"rule": "migration01__mail"}}
    document = ReadDocument(raw)
    assert dict(document) == {"_id": 1, "a": 2}
    assert len(document) == 2
    assert document.guard() == [{"$expr": {"$eq": ["$$ROOT", {"$literal": raw}]}}]
