"""The rules that findings offer: run on the drifted documents, they end the drift."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from bson import DBRef, ObjectId
from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    FloatField,
    IntField,
    ListField,
    ObjectIdField,
    ReferenceField,
    StringField,
)
from pymongo.database import Database

from lazymig.reports.drift.diff import diff
from lazymig.reports.drift.findings import DriftReport
from tests.support.handlers import handler, rule

Raw = dict[str, Any]
LOST = "The values are lost: is it right?"


def _written(report: DriftReport) -> Any:
    """A handler with the proposed rules, as `lazymig new --from-diff` writes them."""
    numbers = {"lazy": 0, "bulk": 0}
    body = {}
    for proposal in report.proposals:
        numbers[proposal.scope] += 1
        filters = proposal.array_filters
        body[proposal.name(numbers[proposal.scope])] = rule(
            proposal.target, proposal.update, None if filters is None else list(filters)
        )
    return handler(**body)


def _repaired(model: Any) -> list[Raw]:
    """The documents after the proposed rules; no rule warns, none is refused, no drift is left."""
    report = diff(model)
    assert not report.ok
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        migration = _written(report)(model)
        for run in (migration.migrate_pending(), migration.migrate_all()):
            assert run.errors == ()
    statuses = migration.get_status()
    assert [each.remaining for each in statuses] == [0] * len(statuses)
    assert all(each.converges for each in statuses if each.scope == "lazy")
    assert [each for each in diff(model).findings if each.kind != "index_missing"] == []
    return list(model._get_collection().find().sort("_id"))


def _model(**fields: Any) -> Any:
    meta = {"collection": "post", "auto_create_index": False}
    key = IntField(primary_key=True)
    return type(Document)("Post", (Document,), {"meta": meta, "key": key, **fields})


def _embedded(**fields: Any) -> Any:
    return type(EmbeddedDocument)("Part", (EmbeddedDocument,), fields)


# What holds a field: it makes the document's fields of the field, and a document of a part.
HOLDERS: dict[str, tuple[Callable[[Raw], Raw], Callable[[Raw], Raw]]] = {
    "document": (lambda fields: fields, lambda part: part),
    "embedded": (
        lambda fields: {"part": EmbeddedDocumentField(_embedded(**fields))},
        lambda part: {"part": part},
    ),
    "list": (
        lambda fields: {"parts": EmbeddedDocumentListField(_embedded(**fields))},
        lambda part: {"parts": [part, dict(part)]},
    ),
    "list in embedded": (
        lambda fields: {
            "outer": EmbeddedDocumentField(
                type(EmbeddedDocument)(
                    "Outer",
                    (EmbeddedDocument,),
                    {"parts": EmbeddedDocumentListField(_embedded(**fields))},
                )
            )
        },
        lambda part: {"outer": {"parts": [part]}},
    ),
    "list of lists": (
        lambda fields: {
            "outers": EmbeddedDocumentListField(
                type(EmbeddedDocument)(
                    "Outer",
                    (EmbeddedDocument,),
                    {"parts": EmbeddedDocumentListField(_embedded(**fields))},
                )
            )
        },
        lambda part: {"outers": [{"parts": [part]}, {}]},
    ),
}
in_each_holder = pytest.mark.parametrize("holder", HOLDERS)

# Fields, drifted parts, and what becomes of each.
CASES: dict[str, tuple[Callable[[], Raw], list[Raw], list[Raw]]] = {
    "unknown": (
        lambda: {"a": IntField()},
        [{"a": 1, "gone": 1}, {"gone": {"x": 1}}, {"a": 3}],
        [{"a": 1}, {}, {"a": 3}],
    ),
    "missing default": (
        lambda: {"a": BooleanField(default=True, db_field="b")},
        [{}, {"b": False}],
        [{"b": True}, {"b": False}],
    ),
    "missing list default": (
        lambda: {"a": ListField(IntField(), default=lambda: [1, 2])},
        [{}, {"a": []}],
        [{"a": [1, 2]}, {"a": []}],
    ),
    "missing required": (
        lambda: {"a": StringField(required=True), "n": FloatField(required=True)},
        [{}, {"a": "x", "n": 1.5}],
        [{"a": "", "n": 0.0}, {"a": "x", "n": 1.5}],
    ),
    "null": (
        lambda: {"a": StringField(), "b": IntField(default=3)},
        [{"a": None, "b": 1}, {"a": "x", "b": None}],
        [{"b": 1}, {"a": "x", "b": 3}],
    ),
    "null in a list": (
        lambda: {"a": ListField(StringField())},
        [{"a": [None, "x", None]}, {"a": ["y"]}],
        [{"a": ["x"]}, {"a": ["y"]}],
    ),
    "convertible": (
        lambda: {"a": IntField(), "b": StringField(), "c": DateTimeField(), "d": FloatField()},
        [
            {"a": "12", "b": 5, "c": "2020-01-01T00:00:00Z", "d": "1.5"},
            {"a": 3.0, "b": True, "c": datetime(2021, 1, 1), "d": 2},
        ],
        [
            {"a": 12, "b": "5", "c": datetime(2020, 1, 1), "d": 1.5},
            {"a": 3, "b": "true", "c": datetime(2021, 1, 1), "d": 2},
        ],
    ),
    "too long for 32 bits": (
        lambda: {"a": IntField()},
        [{"a": "1"}, {"a": str(2**40)}],
        [{"a": 1}, {"a": 2**40}],
    ),
    "texts for booleans": (
        lambda: {"a": BooleanField()},
        [{"a": "true"}, {"a": "No"}, {"a": " YES "}, {"a": False}],
        [{"a": True}, {"a": False}, {"a": True}, {"a": False}],
    ),
    "partly convertible": (
        lambda: {"a": IntField(), "b": IntField(default=7)},
        [{"a": "12", "b": "x"}, {"a": "twelve", "b": "8"}],
        [{"a": 12, "b": 7}, {"b": 8}],
    ),
    "not convertible": (
        lambda: {"a": IntField(), "b": DictField(), "c": IntField(required=True)},
        [{"a": [1], "b": "x", "c": {"y": 1}}, {"a": 1, "b": {"y": 1}, "c": 2}],
        [{"b": {}, "c": 0}, {"a": 1, "b": {"y": 1}, "c": 2}],
    ),
    "items of another type": (
        lambda: {"a": ListField(StringField()), "b": ListField(IntField())},
        [{"a": ["x", 1, 2.5], "b": [1, "2", "x", {"y": 1}]}],
        [{"a": ["x", "1", "2.5"], "b": [1, 2]}],
    ),
    "a value in place of a list": (
        lambda: {"a": ListField(StringField())},
        [{"a": "x"}, {"a": ["y"]}],
        [{"a": ["x"]}, {"a": ["y"]}],
    ),
    "lists of lists": (
        lambda: {"a": ListField(ListField(IntField()))},
        [{"a": [[1, "2"], [3], 4]}],
        [{"a": [[1, 2], [3], [4]]}],
    ),
    "outside of the choices": (
        lambda: {
            "a": StringField(choices=["new", "closed"]),
            "b": IntField(choices=[1], default=1),
        },
        [{"a": "New", "b": 1}, {"a": "void", "b": 2}, {"a": "new", "b": 1}],
        [{"a": "new", "b": 1}, {"b": 1}, {"a": "new", "b": 1}],
    ),
    "items outside of the choices": (
        lambda: {"a": ListField(StringField(choices=["red", "blue"]))},
        [{"a": ["red", "Blue", "dark"]}],
        [{"a": ["red", "blue"]}],
    ),
    "a rename": (
        lambda: {"email": StringField(), "qty": IntField(default=1)},
        [{"mail": "x", "quantity": 2}, {"email": "y", "qty": 3}],
        [{"email": "x", "qty": 2}, {"email": "y", "qty": 3}],
    ),
    "a rename with a rest": (
        lambda: {"email": StringField(default="none")},
        [{"e_mail": "x"}, {"e_mail": "y"}, {"e_mail": "old", "email": "new"}, {}],
        [{"email": "x"}, {"email": "y"}, {"email": "new"}, {"email": "none"}],
    ),
    "the attribute's name for the stored one": (
        lambda: {"amount": IntField(db_field="x")},
        [{"amount": 1}, {"x": 2}],
        [{"x": 1}, {"x": 2}],
    ),
    "an embedded default": (
        lambda: {
            "a": EmbeddedDocumentField(
                type(EmbeddedDocument)(
                    "Inner", (EmbeddedDocument,), {"n": IntField(default=2), "s": StringField()}
                ),
                required=True,
            )
        },
        [{}, {"a": "x"}, {"a": {"n": 1}}],
        [{"a": {"n": 2}}, {"a": {"n": 2}}, {"a": {"n": 1}}],
    ),
}


@in_each_holder
@pytest.mark.parametrize("case", CASES)
def test_the_proposed_rules_end_the_drift(
    mongoengine_db: Database[Any], case: str, holder: str
) -> None:
    """Wherever a field lies: after the rules `diff` finds nothing, and good values stay."""
    fields, before, after = CASES[case]
    held, part = HOLDERS[holder]
    model = _model(**held(fields()))
    mongoengine_db["post"].insert_many(
        [{"_id": number, **part(each)} for number, each in enumerate(before)]
    )
    assert _repaired(model) == [{"_id": number, **part(each)} for number, each in enumerate(after)]


def test_rules_for_classes_leave_the_other_classes_alone(mongoengine_db: Database[Any]) -> None:
    """A rule about a field of some classes names them, and the rules about classes come first."""

    class Human(Document):
        meta = {"allow_inheritance": True, "collection": "human", "auto_create_index": False}
        key = IntField(primary_key=True)
        name = StringField()

    class Jedi(Human):
        side = StringField(default="light")

    class Sith(Human):
        side = IntField()
        title = StringField(required=True)

    mongoengine_db["human"].insert_many(
        [
            {"_id": 1, "_cls": "Human", "name": "a", "title": "x"},
            {"_id": 2, "_cls": "Human.Jedi", "name": 1},
            {"_id": 3, "_cls": "Human.Sith", "side": "2"},
            {"_id": 4, "_cls": "Human.DarkSith", "side": 1, "title": "x"},
            {"_id": 5, "name": "e"},
            {"_id": 6, "_cls": "Human.Jedy", "side": "dark", "title": "y"},
        ]
    )
    assert _repaired(Human) == [
        {"_id": 1, "_cls": "Human", "name": "a"},
        {"_id": 2, "_cls": "Human.Jedi", "name": "1", "side": "light"},
        {"_id": 3, "_cls": "Human.Sith", "side": 2, "title": ""},
        {"_id": 4, "_cls": "Human.Sith", "side": 1, "title": "x"},
        {"_id": 5, "_cls": "Human", "name": "e"},
        {"_id": 6, "_cls": "Human.Jedi", "side": "dark"},
    ]


def test_rules_of_a_subclass_leave_its_siblings_alone(mongoengine_db: Database[Any]) -> None:
    """What is proposed for a subclass by itself names its class in every target."""

    class Human(Document):
        meta = {"allow_inheritance": True, "collection": "human", "auto_create_index": False}
        key = IntField(primary_key=True)
        n = IntField(default=1)

    class Jedi(Human):
        pass

    mongoengine_db["human"].insert_many(
        [{"_id": 1, "_cls": "Human"}, {"_id": 2, "_cls": "Human.Jedi", "x": 1}]
    )
    assert {each.proposal.target["_cls"] for each in diff(Jedi).findings if each.proposal} == {
        "Human.Jedi"
    }
    assert _repaired(Jedi) == [
        {"_id": 1, "_cls": "Human"},
        {"_id": 2, "_cls": "Human.Jedi", "n": 1},
    ]


def test_rules_for_embedded_classes_leave_the_others_alone(mongoengine_db: Database[Any]) -> None:
    """In a list of several embedded classes, a rule concerns the elements of its class."""

    class Shape(EmbeddedDocument):
        meta = {"allow_inheritance": True}

    class Circle(Shape):
        r = IntField(default=1)
        size = IntField()

    class Square(Shape):
        a = IntField()
        size = StringField()

    class Page(Document):
        key = IntField(primary_key=True)
        shapes = EmbeddedDocumentListField(Shape)
        shape = EmbeddedDocumentField(Shape)

    circle, square, base = {"_cls": "Circle"}, {"_cls": "Square"}, {"_cls": "Shape"}
    mongoengine_db["page"].insert_one(
        {
            "_id": 1,
            "shape": {**circle, "a": 1},
            "shapes": [
                {**circle, "a": 1, "r": "3", "size": "7"},
                {**square, "a": "2", "r": 1, "size": "8"},
                circle,
                square,
                base,
                {"a": 1},
            ],
        }
    )
    assert _repaired(Page) == [
        {
            "_id": 1,
            "shape": {**circle, "r": 1},
            "shapes": [
                {**circle, "r": 3, "size": 7},
                {**square, "a": 2, "size": "8"},
                {**circle, "r": 1},
                square,
                base,
                {},
            ],
        }
    ]


def test_a_reference_of_the_old_kind_becomes_the_key(mongoengine_db: Database[Any]) -> None:
    """A DBRef in a field that stores keys is converted, and so is a key that is a text."""

    class Author(Document):
        pass

    key = ObjectId()
    model = _model(author=ReferenceField(Author), authors=ListField(ReferenceField(Author)))
    mongoengine_db["post"].insert_many(
        [
            {"_id": 1, "author": DBRef("author", key), "authors": [DBRef("author", key), str(key)]},
            {"_id": 2, "author": str(key), "authors": [key]},
        ]
    )
    assert _repaired(model) == [
        {"_id": 1, "author": key, "authors": [key, key]},
        {"_id": 2, "author": key, "authors": [key]},
    ]


def test_a_rule_for_single_values_spares_lists_that_hold_such_a_value(
    mongoengine_db: Database[Any],
) -> None:
    """Where a list may be, a rule about single values does not take a list of them for one."""
    model = _model(a=IntField(), b=StringField())
    mongoengine_db["post"].insert_many([{"_id": 1, "a": "1", "b": None}, {"_id": 2, "a": ["2"]}])
    (text, null) = (
        next(each for each in diff(model).findings if each.count and each.path == path)
        for path in ("a", "b")
    )
    assert text.proposal is not None
    assert null.proposal is not None
    found = mongoengine_db["post"].count_documents(dict(text.proposal.target))
    assert found == 1
    # A look at a sample does not know all documents: it never relies on there being no list.
    for each in diff(model, 2).findings:
        if each.proposal is not None and each.kind in ("wrong_type", "null"):
            kind = each.proposal.target[each.path]
            assert "array" in (kind["$type"], kind.get("$not", {}).get("$type"))


def test_no_rule_makes_an_embedded_document(mongoengine_db: Database[Any]) -> None:
    """Where there is no embedded document, nothing is missed in it, and nothing put into it."""
    model = _model(part=EmbeddedDocumentField(_embedded(a=IntField(default=1))))
    mongoengine_db["post"].insert_many([{"_id": 1, "part": {}}, {"_id": 2}])
    assert [each.count for each in diff(model).findings] == [1]
    assert _repaired(model) == [{"_id": 1, "part": {"a": 1}}, {"_id": 2}]


def test_a_rule_about_elements_spares_what_is_none(mongoengine_db: Database[Any]) -> None:
    """A rule that converts in the elements of a list leaves other things in it as they are."""
    model = _model(parts=EmbeddedDocumentListField(_embedded(a=IntField())))
    mongoengine_db["post"].insert_one({"_id": 1, "parts": ["x", {"a": "12"}, None]})
    assert _written(diff(model))(model).migrate_all().errors == ()
    assert mongoengine_db["post"].find_one() == {"_id": 1, "parts": ["x", {"a": 12}, None]}


# --- What is not proposed ---------------------------------------------------------------


def _proposals(model: Any) -> dict[tuple[str, str], Any]:
    return {(each.kind, each.path): each.proposal for each in diff(model).findings}


def test_what_differs_for_each_document_is_not_proposed(mongoengine_db: Database[Any]) -> None:
    """No constant is proposed for an identifier, a unique field, or a reference."""
    model = _model(
        code=ObjectIdField(default=ObjectId),
        name=StringField(unique=True, default="x"),
        mail=StringField(unique=True, required=True),
        author=ReferenceField("Post", required=True),
    )
    mongoengine_db["post"].insert_one({"_id": 1})
    found = _proposals(model)
    assert found["missing_default", "code"] is None
    assert found["missing_default", "name"] is None
    assert found["missing_required", "mail"] is None
    assert found["missing_required", "author"] is None


def test_what_no_update_can_name_is_not_proposed(mongoengine_db: Database[Any]) -> None:
    """Items of a map, `_id`s, and names with a dot or a dollar are reported without a rule."""
    model = _model(sizes=DictField(IntField()))
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "sizes": {"a": "1"}}, {"_id": "x", "a.b": 1, "$c": 1, "0": 1}]
    )
    assert _proposals(model) == {
        ("wrong_type", "sizes.*"): None,
        ("wrong_type", "_id"): None,
        ("unknown_field", "a.b"): None,
        ("unknown_field", "$c"): None,
        ("unknown_field", "0"): None,
    }


def test_what_loses_values_asks(mongoengine_db: Database[Any]) -> None:
    """A rule that takes values away, or guesses, has a question among its comments."""
    model = _model(a=IntField(), b=StringField(required=True), c=IntField(default=1))
    mongoengine_db["post"].insert_many([{"_id": 1, "x": 1, "a": [1]}, {"_id": 2, "a": "12"}])
    found = _proposals(model)
    assert found["unknown_field", "x"].asks
    assert LOST in found["unknown_field", "x"].comments
    assert found["missing_required", "b"].asks
    assert not found["missing_default", "c"].asks
    asks = {each.proposal.asks for each in diff(model).findings if each.kind == "wrong_type"}
    assert asks == {True, False}


def test_a_rename_is_a_question_and_its_alternative_is_not_run(
    mongoengine_db: Database[Any],
) -> None:
    """A likely rename is proposed as a question; nothing removes or fills what it would move."""
    model = _model(email=StringField(default="none"))
    mongoengine_db["post"].insert_many([{"_id": 1, "mail": "x"}, {"_id": 2, "email": "y"}])
    found = _proposals(model)
    rename = found["rename", "mail"]
    assert rename.asks
    assert rename.comments[-1].startswith("Is 'mail' the former name of 'email'?")
    assert rename.update == {"$rename": {"mail": "email"}}
    assert rename.target == {"mail": {"$exists": True}, "email": {"$exists": False}}
    assert found == {("rename", "mail"): rename}


def test_names_and_words_of_rules(mongoengine_db: Database[Any]) -> None:
    """A proposal has the words of its method's name, which a number makes a rule's name."""
    model = _model(a=IntField(default=1), tags=ListField(StringField()))
    mongoengine_db["post"].insert_many([{"_id": 1, "tags": ["x", 1], "odd name!": 1}])
    names = [each.name(3) for each in diff(model).proposals]
    assert names == [
        "allmigration03__convert_tags_from_int",
        "migration03__remove_odd_name",
        "migration03__add_a",
    ]
