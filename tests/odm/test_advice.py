"""The advice in messages about rules: it fits the fault, and whoever follows it is done."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import pytest
from mongoengine import IntField, ListField

from lazymig import ConvergenceWarning, DocumentMigration, RuleDefinitionError
from tests.support.handlers import handler, model, rule

FIELDS = {"x": IntField, "n": IntField, "mark": IntField, "tags": ListField}


def _post(method: Any) -> Any:
    fields: dict[str, Any] = {name: make() for name, make in FIELDS.items()}
    return model(handler(migration01__r=method), **fields)


def _problem(method: Any) -> str:
    with pytest.raises(RuleDefinitionError) as caught:
        _post(method)
    return str(caught.value)


TARGET = {"x": {"$exists": False}}


class Scripts(DocumentMigration):
    """What a loop over `find()` would do."""

    def sets(self) -> None:
        self.target = TARGET
        self.doc["x"] = 1  # type: ignore[index]

    def sets_after_reading(self) -> None:
        self.target = TARGET
        self.doc["x"] = self.doc["n"] + 1  # type: ignore[index]

    def adds(self) -> None:
        self.target = TARGET
        self.doc["x"] += 1  # type: ignore[index]

    def deletes(self) -> None:
        self.target = TARGET
        del self.doc["x"]  # type: ignore[attr-defined]

    def pops(self) -> None:
        self.target = TARGET
        self.doc.pop("x")  # type: ignore[attr-defined]

    def updates(self) -> None:
        self.target = TARGET
        self.doc.update(x=1)  # type: ignore[attr-defined]

    def merges(self) -> None:
        self.target = TARGET
        self.doc |= {"x": 1}  # type: ignore[misc, operator]

    def sets_an_attribute(self) -> None:
        self.target = TARGET
        self.doc.x = 1  # type: ignore[attr-defined]

    def replaces(self) -> None:
        self.target = TARGET
        self.doc = {"x": 1}  # type: ignore[misc]

    def sets_below(self) -> None:
        self.target = TARGET
        self.doc["a"]["b"] = 1

    def appends(self) -> None:
        self.target = TARGET
        self.doc["tags"].append(1)

    def changes_elements(self) -> None:
        self.target = TARGET
        for each in self.doc["tags"]:
            each["q"] = 1


@pytest.mark.parametrize("name", [name for name in vars(Scripts) if not name.startswith("_")])
def test_a_rule_that_changes_the_document_is_told_to_set_an_update(name: str) -> None:
    """However it does so, the message names self.doc and self.update, and nothing about order."""
    said = _problem(getattr(Scripts, name))
    assert "self.doc" in said
    assert "set self.update" in said
    assert "first" not in said


@pytest.mark.parametrize(
    ("name", "stored"), [("sets", {}), ("deletes", {"x": 1}), ("pops", {"x": 1})]
)
def test_the_example_of_the_message_is_an_update(name: str, stored: dict[str, Any]) -> None:
    """With the values filled in, the example says what the rule had meant."""
    (example,) = re.findall(r"such as (\{.*\})$", _problem(getattr(Scripts, name)))
    update = ast.literal_eval(example.replace("...", "1"))
    target = {"x": {"$exists": bool(stored)}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posts = _post(rule(target, update))
    assert posts.migration_handler(posts) is not None
    assert list(update) == ["$unset" if stored else "$set"]


def test_a_fault_of_the_rule_is_told_as_one() -> None:
    """What a rule raises before it has looked at a document has nothing to do with one."""

    def divides(self: Any) -> None:
        self.target = TARGET
        self.update = {"$set": {"x": 1 // 0}}

    said = _problem(divides)
    assert "raised ZeroDivisionError" in said
    assert said.endswith("correct the rule")
    assert "self.doc" not in said


def _advice(target: Any, update: Any) -> str:
    with pytest.warns(ConvergenceWarning) as caught:
        _post(rule(target, update))
    return str(caught[0].message).rpartition("; ")[2]


@pytest.mark.parametrize(
    ("update", "advice", "target", "followed"),
    [
        ({"$set": {"x": 1}}, "lack what the update writes", {"x": {"$ne": 1}}, None),
        ([{"$set": {"x": 1}}], "lack what the update writes", {"x": {"$exists": False}}, None),
        ({"$push": {"tags": 1}}, "lack what the update writes", {"tags": {"$ne": 1}}, None),
        ({"$addToSet": {"tags": 1}}, "lack what the update writes", {"tags": {"$ne": 1}}, None),
        ({"$unset": {"old": ""}}, "such as {'old': {'$exists': True}}", ..., None),
        ({"$rename": {"old": "x"}}, "such as {'old': {'$exists': True}}", ..., None),
        ({"$pull": {"tags": 1}}, "ask for the elements", {"tags": 1}, None),
        (
            {"$inc": {"x": 1}},
            "also set a field of the model that the target asks to be missing",
            {"mark": {"$exists": False}},
            {"$inc": {"x": 1}, "$set": {"mark": 1}},
        ),
    ],
)
def test_the_advice_on_a_match_that_stays_fits_the_operator(
    update: Any, advice: str, target: Any, followed: Any
) -> None:
    """A warning says what to change, and the rule that does it has no warning."""
    said = _advice({"n": 1}, update)
    assert advice in said
    if target is ...:
        target = ast.literal_eval(re.findall(r"such as (\{.*\})$", said)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _post(rule({"n": 1, **target}, followed or update))
