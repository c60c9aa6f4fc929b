"""Findings that pending rules cure: who is credited, and what is not cured."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import (
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    MapField,
    ObjectIdField,
    ReferenceField,
    StringField,
)
from pymongo.database import Database

from lazymig import LazyMigrationMixin, check_documents, diff
from tests.support.handlers import handler, model, rule

ONE, TWO = "migration01__one", "migration02__two"


class Line(EmbeddedDocument):
    sku = StringField(required=True)
    note = StringField()


class Shape(EmbeddedDocument):
    meta = {"allow_inheritance": True}
    x = StringField()


class Circle(Shape):
    r = StringField()


class Mark(Document):
    meta = {"collection": "mark", "auto_create_index": False}


def _to_text(path: str) -> Any:
    """A rule that turns one integer into a text."""
    return rule({path: {"$type": "int"}}, {"$set": {path: "text"}})


def _mapped(self: Any) -> None:
    self.target = {"lines": {"$type": "object"}}
    self.update = {"$set": {"parts": dict(self.doc["lines"])}, "$unset": {"lines": ""}}


NO_LIST = {"lines": {"$type": "object", "$not": {"$type": "array"}}}


def _lines_from_map(self: Any) -> None:
    self.target = NO_LIST
    self.update = {"$set": {"lines": list(self.doc["lines"].values())}}


def _object_ids(self: Any) -> None:
    self.target = {"readers": {"$type": "string"}}
    self.update = {"$set": {"readers": [Mark.id.to_python(each) for each in self.doc["readers"]]}}


def _editor(self: Any) -> None:
    self.target = {"editor": {"$type": "string"}}
    self.update = {"$set": {"editor": Mark.id.to_python(self.doc["editor"])}}


RENAME = rule({"old": {"$exists": True}}, {"$rename": {"old": "new"}})
UNRELATED = rule({"x": {"$exists": True}}, {"$unset": {"x": ""}})

# Fields, a document, the rules, and who cures what: path and kind by check or diff.
CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "a rename cures both ends": (
        {"new": StringField(required=True)},
        {"old": "a", "x": 1},
        {ONE: RENAME, TWO: UNRELATED},
        {
            ("old", "unknown_field"): (ONE,),
            ("new", "missing_required"): (ONE,),
            ("new", "required"): (ONE,),
            ("x", "unknown_field"): (TWO,),
        },
    ),
    "a rename into what the field does not take cures neither": (
        {"new": StringField(required=True, max_length=1)},
        {"old": "long"},
        {ONE: RENAME},
        {("old", "unknown_field"): (), ("new", "missing_required"): (), ("new", "required"): ()},
    ),
    "two computed rules, each its own": (
        {"readers": ListField(ObjectIdField()), "editor": ObjectIdField()},
        {"readers": ["0" * 24], "editor": "0" * 24},
        {ONE: _object_ids, TWO: _editor},
        {
            ("readers[]", "wrong_type"): (ONE,),
            ("editor", "wrong_type"): (TWO,),
        },
    ),
    "another field of the same embedded document": (
        {"line": EmbeddedDocumentField(Line)},
        {"line": {"sku": 1, "note": 2}},
        {ONE: _to_text("line.sku"), TWO: _to_text("line.note")},
        {
            ("line.sku", "wrong_type"): (ONE,),
            ("line.sku", "invalid"): (ONE,),
            ("line.note", "wrong_type"): (TWO,),
            ("line.note", "invalid"): (TWO,),
        },
    ),
    "the embedded document as a whole": (
        {"line": EmbeddedDocumentField(Line)},
        {"line": {"note": 2}},
        {ONE: rule({"line.note": {"$type": "int"}}, {"$unset": {"line": ""}})},
        {
            ("line.note", "wrong_type"): (ONE,),
            ("line.note", "invalid"): (ONE,),
            ("line.sku", "missing_required"): (ONE,),
            ("line.sku", "required"): (ONE,),
        },
    ),
    "two keys of a map": (
        {"parts": MapField(EmbeddedDocumentField(Line)), "x": StringField()},
        {"parts": {"a": {"sku": 1}, "b": {"sku": 2}}, "x": 3},
        {
            ONE: _to_text("parts.a.sku"),
            TWO: _to_text("parts.b.sku"),
            "migration03__three": _to_text("x"),
        },
        {
            ("parts.*.sku", "wrong_type"): (ONE, TWO),
            ("parts.*.sku", "invalid"): (ONE, TWO),
            ("x", "wrong_type"): ("migration03__three",),
            ("x", "invalid"): ("migration03__three",),
        },
    ),
    "one of two keys of a map": (
        {"parts": MapField(StringField())},
        {"parts": {"a": 1, "b": 2}},
        {ONE: _to_text("parts.a")},
        {("parts.*", "wrong_type"): (), ("parts.*", "invalid"): ()},
    ),
    "items of a list, two rules one after the other": (
        {"lines": EmbeddedDocumentListField(Line)},
        {"lines": [{"sku": "a", "note": 1}, {"note": "b"}]},
        {
            "allmigration01__note": rule(
                {"lines.note": {"$type": "int"}},
                {"$set": {"lines.$[line].note": "text"}},
                [{"line.note": {"$type": "int"}}],
            ),
            "allmigration02__sku": rule(
                {"lines": {"$elemMatch": {"sku": {"$exists": False}}}},
                {"$set": {"lines.$[line].sku": "text"}},
                [{"line.sku": {"$exists": False}}],
            ),
        },
        {
            ("lines[].note", "wrong_type"): ("allmigration01__note",),
            ("lines[].note", "invalid"): ("allmigration01__note",),
            ("lines[].sku", "missing_required"): ("allmigration02__sku",),
            ("lines[].sku", "required"): ("allmigration02__sku",),
        },
    ),
    "two rules for one value": (
        {"n": StringField(max_length=3)},
        {"n": 7},
        {
            "allmigration01__text": rule({"n": {"$type": "int"}}, {"$set": {"n": "a long text"}}),
            "allmigration02__cut": rule({"n": "a long text"}, {"$set": {"n": "a"}}),
            "allmigration03__other": rule({"y": {"$exists": False}}, {"$unset": {"z": ""}}),
        },
        {
            ("n", "wrong_type"): ("allmigration01__text",),
            ("n", "invalid"): ("allmigration01__text", "allmigration02__cut"),
        },
    ),
    "a value that is as wrong as before": (
        {"n": StringField(choices=["a"])},
        {"n": True},
        {ONE: rule({"n": {"$type": "bool"}}, {"$set": {"n": "true"}})},
        {("n", "wrong_type"): (), ("n", "choices"): ()},
    ),
    "a list in a document's clothes": (
        {"lines": EmbeddedDocumentListField(Line)},
        {"lines": {"0": {"sku": "a"}}},
        {ONE: _lines_from_map},
        {("lines", "wrong_type"): (ONE,), ("lines", "invalid"): (ONE,)},
    ),
    "a list around a document that is one": (
        {"lines": EmbeddedDocumentListField(Line)},
        {"lines": {"0": {"sku": "a"}}},
        {ONE: rule(NO_LIST, {"$set": {"lines": [{"0": {"sku": "a"}}]}})},
        {("lines", "wrong_type"): (), ("lines", "invalid"): ()},
    ),
    "the class of an embedded document": (
        {"shape": EmbeddedDocumentField(Shape)},
        {"shape": {"_cls": "Shape", "x": "a", "r": "b"}},
        {
            ONE: rule(
                {"shape._cls": "Shape", "shape.r": {"$exists": True}},
                {"$set": {"shape._cls": "Shape.Circle"}},
            )
        },
        {("shape.r", "unknown_field"): (ONE,)},
    ),
    "a field that moves into a map": (
        {"parts": MapField(StringField())},
        {"lines": {"a": "b"}},
        {ONE: _mapped},
        {("lines", "unknown_field"): (ONE,)},
    ),
    "a value that becomes a dangling reference": (
        {"mark": ReferenceField(Mark)},
        {"mark": 7},
        {ONE: rule({"mark": {"$type": "int"}}, {"$set": {"mark": Mark.id.to_python("1" * 24)}})},
        {("mark", "wrong_type"): (ONE,), ("mark", "dangling_reference"): ()},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_is_credited(mongoengine_db: Database[Any], name: str) -> None:
    """A rule cures what the rehearsal has shown at the finding, by `diff` and by check."""
    fields, document, rules, cures = CASES[name]
    mongoengine_db["post"].insert_one({"_id": 1, **document})
    post = model(handler(**rules), **fields)
    seen = {
        (each.path, each.kind): each.cured_by
        for report in (diff(post), check_documents(post, None))
        for each in report.findings
        if each.kind != "rename"
    }
    assert seen == cures
    assert mongoengine_db.list_collection_names() == ["post"]


def test_the_class_of_a_document(mongoengine_db: Database[Any]) -> None:
    """A change of class cures the unknown class, and the field that the new class knows."""

    class Animal(LazyMigrationMixin, Document):
        meta = {"allow_inheritance": True, "collection": "post", "auto_create_index": False}
        migration_handler = handler(
            migration01__bird=rule(
                {"_cls": "Animal", "wings": {"$exists": True}}, {"$set": {"_cls": "Animal.Bird"}}
            ),
            migration02__dog=rule({"_cls": "Animal.Wolf"}, {"$set": {"_cls": "Animal.Dog"}}),
        )

    class Bird(Animal):
        wings = IntField()

    class Dog(Animal):
        name = StringField()

    mongoengine_db["post"].insert_many(
        [{"_cls": "Animal", "wings": 2}, {"_cls": "Animal.Wolf", "name": "x"}]
    )
    for report in (diff(Animal), check_documents(Animal, None)):
        assert {
            (each.path, each.kind): each.cured_by
            for each in report.findings
            if each.kind != "index_missing"
        } == {
            ("wings", "unknown_field"): ("migration01__bird",),
            ("_cls", "unknown_class"): ("migration02__dog",),
        }


def test_each_of_several_documents(mongoengine_db: Database[Any]) -> None:
    """Rules that cure the same finding in different documents are credited together."""
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "n": 1}, {"_id": 2, "n": True}, {"_id": 3, "n": 1, "x": 1}]
    )
    rules = {ONE: _to_text("n"), TWO: rule({"n": True}, {"$set": {"n": "yes"}})}
    report = check_documents(model(handler(**rules), n=StringField(), x=IntField()), None)
    assert [(each.path, each.cured_by) for each in report.findings] == [("n", (ONE, TWO))]


# --- What bulk runs have refused ---------------------------------------------------------------


def _doubles(scope: str) -> Any:
    """A model whose second document is refused by its unique index, and not by a copy's."""
    name = f"{'all' if scope == 'bulk' else ''}migration01__rename"
    rules = handler(
        **{
            name: RENAME,
            "migration05__x": UNRELATED,
        }
    )
    return model(rules, new=StringField(unique=True, sparse=True))


@pytest.mark.parametrize("scope", ["lazy", "bulk"])
def test_what_was_refused_is_not_cured(mongoengine_db: Database[Any], scope: str) -> None:
    """A finding is not cured by a rule that a bulk run was refused for one of its documents."""
    post = _doubles(scope)
    post.ensure_indexes()
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "new": "a"}, {"_id": 2, "old": "a", "x": 1}, {"_id": 3, "old": "c"}]
    )
    migration = post.migration_handler(post)
    for look in (diff, check_documents):
        assert look(post).uncured == ()
    call = migration.migrate_pending if scope == "lazy" else migration.migrate_all
    report = call(max_errors=5)
    assert [error.document_id for error in report.errors] == [2]
    place = report.errors[0].rule
    for look in (diff, check_documents):
        found = look(post)
        uncured = {(each.path, each.kind) for each in found.uncured}
        assert ("old", "unknown_field") in uncured
        assert ("x", "unknown_field") not in uncured
        assert any(f"Post.{place} was refused for 1 document" in each for each in found.problems)

    mongoengine_db["post"].delete_one({"_id": 1})
    assert migration.retry_quarantined(report.run_id).complete
    for look in (diff, check_documents):
        assert look(post).uncured == ()


def test_what_was_refused_in_another_journal(mongoengine_db: Database[Any]) -> None:
    """The quarantine of a journal with another name is looked at where it is named."""
    post = _doubles("bulk")
    post.ensure_indexes()
    mongoengine_db["post"].insert_many([{"_id": 1, "new": "a"}, {"_id": 2, "old": "a"}])
    post.migration_handler(post).migrate_all(journal="notes")
    assert diff(post).uncured == ()
    assert len(diff(post, journal="notes").uncured) > 0
    assert check_documents(post).uncured == ()
    assert len(check_documents(post, journal="notes").uncured) > 0
