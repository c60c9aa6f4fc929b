"""One evaluation of a rule: what it may see, and what is known of it afterwards."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from lazymig.rules.document import DocumentChanged
from lazymig.rules.rule import Evaluation, Rule, RuleHandler, evaluate


class Model:
    """Stands for a model: this layer asks nothing of it."""


def _run(method: Any, **options: Any) -> Evaluation:
    return evaluate(Rule("migration01__x", 1, "lazy", method), RuleHandler, Model, **options)


def test_a_rule_gets_a_fresh_handler_each_time() -> None:
    """Rules hold no state: what one evaluation leaves on `self`, the next does not find."""
    seen: list[Any] = []

    def method(self: Any) -> None:
        seen.append((self, self.target, getattr(self, "memory", None)))
        self.memory = True
        self.target = {"a": 1}

    _run(method)
    _run(method)
    assert seen[0][0] is not seen[1][0]
    assert [(target, memory) for _, target, memory in seen] == [(None, None), (None, None)]


def test_what_a_rule_sets_is_its_evaluation() -> None:
    """Target, update and array filters are taken over as they are."""

    def method(self: Any) -> None:
        self.target, self.update, self.array_filters = {"a": 1}, {"$set": {"a": 2}}, [{"x": 1}]

    outcome = _run(method)
    assert (outcome.target, outcome.update, outcome.array_filters, outcome.complete) == (
        {"a": 1},
        {"$set": {"a": 2}},
        [{"x": 1}],
        True,
    )


def test_a_rule_without_a_document_stops_at_the_first_look() -> None:
    """Without a document a target that is set before the first look is known, the update is not."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        self.update = {"$set": {"b": self.doc["a"]}}

    outcome = _run(method)
    assert (outcome.target, outcome.update, outcome.complete) == ({"a": 1}, None, False)
    assert outcome.asked == {"doc"}


def test_catching_exception_does_not_swallow_the_probe() -> None:
    """A rule that catches Exception around its reading is still seen to need a document."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        value = 0
        with suppress(Exception):
            value = self.doc["a"]
        self.update = {"$set": {"b": value}}

    outcome = _run(method)
    assert (outcome.update, outcome.complete) == (None, False)


def test_a_bare_except_does_not_make_a_rule_static() -> None:
    """Even a bare `except` leaves the trace that the document was asked for."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        value = 0
        with suppress(BaseException):
            value = self.doc["a"]
        self.update = {"$set": {"b": value}}

    assert "doc" in _run(method).asked


def test_what_a_rule_asks_for_is_noted() -> None:
    """Each of doc, doc_class, status and collection that a rule touches is in `asked`."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        _ = self.doc_class, self.status, self.collection, self.doc

    assert _run(method, document={"_id": 1}, collection=object()).asked == {
        "doc",
        "doc_class",
        "status",
        "collection",
    }


def test_without_a_collection_a_rule_by_hand_stops() -> None:
    """Looking at a collection that is not there ends the evaluation as a missing document does."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        self.collection.delete_many({})

    assert _run(method).complete is False


def test_a_document_that_was_not_asked_for_guards_nothing() -> None:
    """A rule that never looked at its document carries no condition on it."""

    def method(self: Any) -> None:
        self.target = {"a": 1}

    assert _run(method, document={"_id": 1, "a": 1}).guard() == []


@pytest.mark.parametrize("status", [True, False])
def test_status_is_what_the_caller_says(status: bool) -> None:
    """A rule sees `status` true only while a report is being made."""
    seen: list[bool] = []
    _run(lambda self: seen.append(self.status), status=status)
    assert seen == [status]


def test_what_a_rule_raises_comes_through() -> None:
    """An exception of the rule is not hidden by the evaluation."""

    def method(self: Any) -> None:
        raise LookupError("oh")

    with pytest.raises(LookupError, match="oh"):
        _run(method)


@pytest.mark.parametrize("name", ["doc", "doc_class", "collection", "status"])
def test_what_a_rule_may_read_it_may_not_set(name: str) -> None:
    """The handler's own attributes are read-only for a rule."""
    with pytest.raises(DocumentChanged if name == "doc" else AttributeError):
        _run(lambda self: setattr(self, name, 1))
