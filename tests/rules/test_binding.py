"""What is known of a rule before it runs, and what is refused."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

import lazymig
from lazymig.errors import RuleDefinitionError, UpdateQueryError
from lazymig.rules import binding
from lazymig.rules.binding import bind
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.discovery import discover
from lazymig.rules.rule import RuleHandler
from tests.support.handlers import ADD_ENABLED, copying, copying_in_python, rule

PACKAGE = str(Path(lazymig.__file__).parent)


class Post:
    """Stands for a model: binding asks only its name."""


def _rules_of(**body: Any) -> type[RuleHandler]:
    return type("Rules", (RuleHandler,), body)


def _bound(method: Any, *, name: str = "migration01__x") -> BoundRule:
    handler = _rules_of(**{name: method})
    (found,) = discover(handler)
    result = bind(found, handler, Post)
    assert result is not None
    return result


def _some_rule(self: Any) -> None:
    self.target, self.update = ADD_ENABLED


# Kinds


def test_a_rule_that_reads_nothing_is_static() -> None:
    """A static rule's target, update, paths and convergence are known at definition."""
    found = _bound(_some_rule)
    assert (found.kind, found.converges, found.starts_on_match) == ("static", True, True)
    assert (found.target, found.update) == ADD_ENABLED
    assert (found.reads, found.writes, found.creates) == ({"enabled"}, {"enabled"}, {"enabled"})


def test_a_rule_that_reads_the_document_for_its_update_is_dynamic() -> None:
    """Target first, document after: the match is static, and convergence is proven by symbols."""
    found = _bound(copying_in_python("a", "b"))
    assert (found.kind, found.form, found.converges, found.update) == (
        *("dynamic", "python", True),
        None,
    )
    assert found.target == {"b": {"$exists": False}, "a": {"$exists": True}}


def test_a_rule_that_the_server_can_compute_is_static() -> None:
    """A method that is translated for all documents of its target counts by its pipeline."""
    found = _bound(copying("a", "b"))
    assert (found.kind, found.form, found.converges) == ("static", "translated", True)
    assert found.update == [{"$set": {"b": "$a"}}]
    assert (found.reads, found.writes, found.inputs) == ({"a", "b"}, {"b"}, {"a"})
    assert (found.computed.kind, found.computed.update) == ("dynamic", None)


def test_a_rule_that_reads_the_document_for_its_target_is_undetermined() -> None:
    """Document first: nothing is known, and no match starts the rule."""

    def method(self: Any) -> None:
        self.target = {"a": self.doc["b"]}
        self.update = {"$unset": {"a": ""}}

    found = _bound(method)
    assert (found.kind, found.target, found.starts_on_match) == ("undetermined", None, False)


def test_a_dynamic_rule_that_decides_by_the_document_is_judged_when_it_runs() -> None:
    """Where only the computed update can tell whether it converges, nothing is claimed before."""

    def method(self: Any) -> None:
        self.target = {"n": {"$gt": 0}}
        self.update = {"$set": {"n": 0}} if self.doc["n"] > 3 else {"$inc": {"n": 1}}

    found = _bound(method)
    assert (found.kind, found.converges, found.starts_on_match) == ("dynamic", None, True)


@pytest.mark.parametrize(
    ("target", "compute"),
    [
        ({"n": {"$type": "string", "$not": {"$type": "array"}}}, lambda value: value.split(",")),
        ({"n": {"$regex": "[A-Z]"}}, lambda value: value.lower()),
        ({"n": {"$lt": 10}}, lambda value: value + 10),
    ],
)
def test_a_value_that_may_end_the_match_is_judged_when_it_is_known(target, compute) -> None:
    """Where some values from the document would end the match, nothing is claimed before."""

    def method(self: Any) -> None:
        self.target = target
        self.update = {"$set": {"n": compute(self.doc["n"])}}

    found = _bound(method)
    assert (found.kind, found.converges, found.starts_on_match) == ("dynamic", None, True)


def test_a_value_that_cannot_end_the_match_starts_nothing() -> None:
    """Where no value from the document would end the match, no match starts the rule."""

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": True}}
        self.update = {"$set": {"n": self.doc["a"]}}

    found = _bound(method)
    assert (found.kind, found.converges, found.starts_on_match) == ("dynamic", False, False)


def test_a_rule_that_writes_by_itself_is_by_hand() -> None:
    """A rule with a target and no update that asks for the collection writes by itself."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        if not self.status:
            self.collection.update_many(self.target, {"$set": {"a": 2}})

    found = _bound(method, name="allmigration01__x")
    assert (found.kind, found.by_hand) == ("dynamic", True)


def test_a_rule_may_decline_a_model() -> None:
    """A rule that looks at doc_class and sets no target does not concern this model."""

    def method(self: Any) -> None:
        if self.doc_class is not Post:
            self.target, self.update = ADD_ENABLED

    handler = _rules_of(migration01__x=method)
    assert bind(discover(handler)[0], handler, Post) is None


def test_a_target_may_be_any_mapping() -> None:
    """A read-only mapping serves as a target, and is never changed."""
    target = types.MappingProxyType({"enabled": {"$exists": False}})
    found = _bound(rule(target, ADD_ENABLED[1]))
    assert found.converges is True
    assert found.target == {"enabled": {"$exists": False}}


# Errors of definition


def _refused(method: Any, kind: type[RuleDefinitionError]) -> RuleDefinitionError:
    with pytest.raises(RuleDefinitionError) as caught:
        _bound(method)
    assert type(caught.value) is kind
    assert (caught.value.model, caught.value.rule) == ("Post", "migration01__x")
    return caught.value


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (None, "sets no target; set self.target"),
        ("x", "no query but str"),
        ([{"a": 1}], "no query but list"),
        ({"$text": {"$search": "x"}}, "$text"),
        ({"$and": [{"a": {"$near": [0, 0]}}]}, "$near"),
        ({"a": {"$nearSphere": [0, 0]}}, "$nearSphere"),
        ({"$or": [{"$where": "true"}]}, "$where"),
        ({"a": {"$exist": False}}, "$exist"),
        ({"$andd": [{"a": 1}]}, "$andd"),
        ({"a": {"$in": 1}}, "$in"),
    ],
)
def test_a_bad_target_is_refused_at_definition(target: Any, said: str) -> None:
    """A target that MongoDB would not take is refused, naming model, rule and operator."""
    assert said in str(_refused(rule(target, {"$set": {"a": 1}}), RuleDefinitionError))


@pytest.mark.parametrize(
    "update",
    [
        {"$sett": {"a": 1}},
        {"$set": {"a": 1}, "b": 2},
        {"a": 1},
        {"$set": 1},
        {},
        "x",
        [{"$match": {"a": 1}}],
        [],
    ],
)
def test_a_bad_update_is_refused_at_definition(update: Any) -> None:
    """Unknown operators, mixed operators and fields, and what is no update are refused."""
    _refused(rule({"a": 1}, update), UpdateQueryError)


def test_a_rule_without_an_update_is_refused() -> None:
    """A rule that sets a target and nothing else does nothing, and is refused."""
    error = _refused(rule({"a": 1}, None), RuleDefinitionError)
    assert "sets no update; set self.update" in str(error)


def test_a_bad_update_of_a_dynamic_rule_is_refused_too() -> None:
    """An update that is computed from the document is checked with symbols in its place."""

    def method(self: Any) -> None:
        self.target = {"a": 1}
        self.update = {"$sett": {"b": self.doc["a"]}}

    _refused(method, UpdateQueryError)


def test_a_rule_that_raises_is_refused() -> None:
    """What a rule raises without a document is said at definition, with the rule's own cause."""

    def method(self: Any) -> None:
        raise KeyError("oh")

    error = _refused(method, RuleDefinitionError)
    assert "raised KeyError" in str(error)
    assert isinstance(error.__cause__, KeyError)


def test_every_computed_value_is_checked() -> None:
    """A value that BSON cannot encode is refused, also after an update of the same form passed."""
    bound = _bound(copying_in_python("a", "b"))
    assert bound.evaluate(document={"a": 1}).update == {"$set": {"b": 1}}
    assert bound.evaluate(document={"a": 2}).update == {"$set": {"b": 2}}
    with pytest.raises(UpdateQueryError, match="cannot encode"):
        bound.evaluate(document={"a": 2**64})


def test_every_form_of_computed_updates_is_checked() -> None:
    """An update that goes wrong for one document is refused, whatever was computed before."""

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        self.writes = ("b",)
        self.update = dict(self.doc["update"])

    bound = _bound(method)
    assert bound.evaluate(document={"update": {"$set": {"b": 1}}}).update == {"$set": {"b": 1}}
    for update in ({"$set": {}}, {"$unset": 1}, {"$set": {"b": 1}, "$unset": {"b": ""}}, {"b": 1}):
        with pytest.raises(UpdateQueryError):
            bound.evaluate(document={"update": update})


def test_the_paths_of_every_branch_are_known() -> None:
    """A rule that decides by a value is known to write what any of its branches writes."""

    def method(self: Any) -> None:
        self.target = {"old": {"$exists": True}}
        if self.doc["old"] > 3:
            self.update = {"$set": {"a": self.doc["old"]}, "$unset": {"old": 1}}
        elif "b" in self.doc:
            self.update = {"$set": {"b.c": 1}, "$unset": {"old": 1}}
        else:
            self.target = None

    bound = _bound(method)
    assert bound.writes == {"a", "b.c", "old"}
    assert bound.converges is True


def test_the_paths_of_an_except_branch_are_known() -> None:
    """What only happens when a value cannot be computed is among what a rule may write."""

    def method(self: Any) -> None:
        self.target = {"old": {"$exists": True}}
        try:
            self.update = {"$set": {"a": self.doc["old"].strip()}, "$unset": {"old": 1}}
        except AttributeError:
            self.update = {"$set": {"b": self.doc["old"]}, "$unset": {"old": 1}}

    bound = _bound(method)
    assert bound.writes == {"a", "b", "old"}
    assert bound.converges is None
    assert bound.evaluate(document={"_id": 1, "old": 3}).update["$set"] == {"b": 3}


def test_a_computed_update_beyond_what_is_known_is_refused() -> None:
    """An update that writes a path which nobody could foresee raises: queries rely on the paths."""
    paths = ["a"]

    def method(self: Any) -> None:
        self.target = {"old": {"$exists": True}}
        self.update = {"$set": {paths[0]: len(self.doc["old"])}, "$unset": {"old": 1}}

    bound = _bound(method)
    assert bound.evaluate(document={"_id": 1, "old": "x"}).update["$set"] == {"a": 1}
    paths[0] = "b"
    with pytest.raises(UpdateQueryError, match=r"writes 'b' for a document.*self\.writes"):
        bound.evaluate(document={"_id": 1, "old": "x"})


def test_a_read_beyond_what_is_known_is_refused() -> None:
    """A rule that reads a field which nobody could foresee raises: updates rely on the fields."""
    fields = ["old"]

    def method(self: Any) -> None:
        self.target = {"old": {"$exists": True}}
        self.update = {"$set": {"a": len(self.doc[fields[0]])}, "$unset": {"old": 1}}

    bound = _bound(method)
    assert bound.inputs == {"old"}
    assert bound.evaluate(document={"_id": 1, "old": "x"}).update["$set"] == {"a": 1}
    fields[0] = "other"
    with pytest.raises(UpdateQueryError, match=r"reads other.*self\.reads"):
        bound.evaluate(document={"_id": 1, "old": "x", "other": "y"})


def test_the_paths_that_an_update_is_computed_from_are_known() -> None:
    """What a rule computes from is known, so that a write to it does not come before the rule."""

    def computed(self: Any) -> None:
        self.target = {"label": {"$exists": False}}
        if "nick" in self.doc:
            self.update = {"$set": {"label": self.doc.get("nick")}}
        else:
            self.update = {"$set": {"label": self.doc["name"]["first"]}}

    def pipeline(self: Any) -> None:
        self.target = {"label": {"$exists": False}}
        self.update = [{"$set": {"label": {"$concat": [{"$ifNull": ["$name.first", "?"]}, "-"]}}}]

    def whole(self: Any) -> None:
        self.target = {"label": {"$exists": False}}
        self.update = {"$set": {"label": self.doc.copy()}}

    assert _bound(computed).inputs == {"nick", "name"}
    assert _bound(pipeline).inputs == {"name.first"}
    assert _bound(whole).inputs is None
    assert _bound(_some_rule).inputs == frozenset()


# The way of a target


def test_binding_seldom_returns_to_a_file_that_it_has_left(monkeypatch: Any) -> None:
    """Whoever follows a target through `bind` comes back to a file at most twenty times."""
    # It evaluates the rule over and over, each time in the same way.
    monkeypatch.setattr(binding, "varies_by_call", lambda *_: False)
    handler = _rules_of(migration01__x=rule({"enabled": {"$exists": False}}, ADD_ENABLED[1]))
    (found,) = discover(handler)
    files: list[str] = []

    def enter(frame: types.FrameType, event: str, _arg: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE) and files[-1:] != [name]:
            files.append(name)

    sys.setprofile(enter)
    try:
        bind(found, handler, Post)
    finally:
        sys.setprofile(None)
    assert len(files) - len(set(files)) <= 20
