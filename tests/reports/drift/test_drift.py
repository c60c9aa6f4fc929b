"""What `diff` reports, and that it only reads."""

from __future__ import annotations

import enum
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import mongoengine
import pytest
from bson import Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS
from mongoengine import (
    BinaryField,
    BooleanField,
    ComplexDateTimeField,
    DateField,
    Decimal128Field,
    DecimalField,
    Document,
    DynamicDocument,
    DynamicField,
    EmailField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    EnumField,
    FloatField,
    GenericReferenceField,
    GeoPointField,
    IntField,
    ListField,
    MapField,
    PointField,
    ReferenceField,
    SequenceField,
    StringField,
    UUIDField,
)
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from lazymig.errors import RunOptionError
from lazymig.reports.drift.diff import diff
from lazymig.reports.drift.findings import KINDS, DriftFinding, DriftReport
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule

NO_INDEXES = {"auto_create_index": False}


def _plain(**fields: Any) -> Any:
    """A model `Post` without rules."""
    body = {"meta": {"collection": "post", **NO_INDEXES}, "key": IntField(primary_key=True)}
    return type(Document)("Post", (Document,), {**body, **fields})


def _of_data(report: DriftReport) -> list[DriftFinding]:
    """The findings but those on indexes, which mongomock has none of."""
    return [each for each in report.findings if each.kind not in ("index_missing", "index_extra")]


def _findings(report: DriftReport) -> dict[tuple[str, str], DriftFinding]:
    return {(each.kind, each.path): each for each in _of_data(report)}


def _shown(finding: DriftFinding) -> list[tuple[Any, Any]]:
    return [(each.document_id, each.value) for each in finding.examples]


# --- Findings ---------------------------------------------------------------------------


def test_an_up_to_date_collection_has_no_drift(mongoengine_db: Database[Any]) -> None:
    """What MongoEngine itself has stored is no drift, whatever the fields."""

    class Color(enum.Enum):
        RED = "red"

    class Part(EmbeddedDocument):
        n = IntField(default=1)

    class Root(Document):
        meta = {"allow_inheritance": True, **NO_INDEXES}
        tags = ListField(StringField())
        note = StringField(default="")
        nothing = StringField(null=True)

    class Whole(Root):
        number = IntField(default=0)
        long = getattr(mongoengine, "LongField", IntField)()
        float = FloatField()
        decimal = DecimalField()
        exact = Decimal128Field()
        yes = BooleanField(default=False)
        day = DateField()
        moment = ComplexDateTimeField()
        mail = EmailField()
        color = EnumField(Color, default=Color.RED)
        binary = BinaryField()
        uuid = UUIDField()
        text_uuid = UUIDField(binary=False)
        point = PointField(auto_index=False)
        legacy_point = GeoPointField()
        sequence = SequenceField()
        friend = ReferenceField("self")
        anyone = GenericReferenceField()
        dynamic = DynamicField()
        part = EmbeddedDocumentField(Part)
        parts = EmbeddedDocumentListField(Part)

    Root().save()
    first = Whole(long=1, float=1.5, decimal=1, exact="1.5", day=datetime(2020, 1, 1)).save()
    second = Whole(
        moment=datetime(2020, 1, 1),
        mail="a@b.cc",
        binary=b"x",
        uuid=uuid4(),
        text_uuid=uuid4(),
        point=[1, 2],
        legacy_point=[1, 2],
        friend=first,
        anyone=first,
        dynamic={"a": [1]},
        part=Part(),
        parts=[Part(n=2)],
        tags=["x"],
        float=2,
    ).save()
    second.tags = []
    second.note = ""
    second.save()
    assert [each.message for each in _of_data(diff(Root))] == []


def test_unknown_fields(mongoengine_db: Database[Any]) -> None:
    """A stored field that the class does not know is found with types, count and examples."""
    mongoengine_db["post"].insert_many([{"_id": 1, "x": 1}, {"_id": 2, "x": "a"}, {"_id": 3}])
    found = _findings(diff(_plain()))["unknown_field", "x"]
    assert found.count == 2
    assert dict(found.types) == {"int": 1, "string": 1}
    assert sorted(_shown(found)) == [(1, 1), (2, "a")]
    assert found.classes == ("Post",)
    assert mongoengine_db["post"].count_documents(dict(found.query or {})) == 2


@pytest.mark.parametrize("lenient", ["dynamic", "not strict"])
def test_lenient_documents_may_have_any_field(mongoengine_db: Database[Any], lenient: str) -> None:
    """In dynamic documents, and in those that are not strict, no field is unknown."""
    base = DynamicDocument if lenient == "dynamic" else Document
    meta = {"collection": "post", **NO_INDEXES}
    if lenient != "dynamic":
        meta["strict"] = False
    post = type(base)("Post", (base,), {"meta": meta, "a": IntField(default=1)})
    mongoengine_db["post"].insert_one({"x": 1, "a": "2"})
    assert [each.kind for each in diff(post).findings] == ["wrong_type"]


def test_missing_fields_with_a_default_and_required_ones(mongoengine_db: Database[Any]) -> None:
    """Missing fields are found if they have a default that MongoEngine keeps, or are required."""
    post = _plain(
        a=IntField(default=0),
        b=StringField(required=True, db_field="c"),
        optional=StringField(),
        tags=ListField(IntField()),
        note=StringField(default=""),
        needed=ListField(IntField(), required=True),
    )
    mongoengine_db["post"].insert_many([{"_id": 1, "a": 1, "c": "x", "needed": [1]}, {"_id": 2}])
    found = _findings(diff(post))
    assert found.keys() == {
        ("missing_default", "a"),
        ("missing_required", "c"),
        ("missing_required", "needed"),
    }
    assert {each.count for each in found.values()} == {1}
    assert _shown(found["missing_default", "a"]) == [(2, None)]


def test_values_of_another_type_and_what_convert_says(mongoengine_db: Database[Any]) -> None:
    """For values of another type it is told whether `$convert` turns all of them."""
    post = _plain(a=IntField(), b=IntField(), c=ListField(IntField()))
    mongoengine_db["post"].insert_many(
        [
            {"_id": 1, "a": "1", "b": "x", "c": [1, "2"]},
            {"_id": 2, "a": "2", "b": "3", "c": "x"},
            {"_id": 3, "a": 3, "b": 2**40, "c": []},
        ]
    )
    found = _findings(diff(post))
    assert {path: each.convertible for (_, path), each in found.items()} == {
        "a": True,
        "b": False,
        "c": None,
        "c[]": True,
    }
    assert dict(found["wrong_type", "a"].types) == {"int": 1, "string": 2}
    assert found["wrong_type", "a"].expected == ("int", "long")
    assert sorted(_shown(found["wrong_type", "b"])) == [(1, "x"), (2, "3")]


def test_null_is_told_from_missing(mongoengine_db: Database[Any]) -> None:
    """Null is found where MongoEngine stores nothing, and nothing where it stores null."""
    post = _plain(a=IntField(), b=IntField(null=True), c=IntField(null=True))
    mongoengine_db["post"].insert_many([{"_id": 1, "a": None, "b": None}, {"_id": 2, "a": 1}])
    found = _findings(diff(post))
    assert found.keys() == {("null", "a"), ("missing_null", "b")}
    assert found["null", "a"].count == 1
    assert found["missing_null", "b"].query == {"b": {"$exists": False}}


def test_values_outside_of_the_choices(mongoengine_db: Database[Any]) -> None:
    """Values outside of the choices are told with their numbers; a misspelt one by itself."""

    class Color(enum.Enum):
        RED = "red"
        BLUE = "blue"

    post = _plain(
        a=StringField(choices=[("new", "New"), ("closed", "Closed")]),
        b=EnumField(Color),
        c=IntField(choices=(1, 2)),
    )
    mongoengine_db["post"].insert_many(
        [
            {"_id": 1, "a": "Closed", "b": "green", "c": 1},
            {"_id": 2, "a": "void", "b": "red", "c": 3},
            {"_id": 3, "a": "void", "b": "red", "c": 2},
            {"_id": 4, "a": "new"},
        ]
    )
    report = diff(post)
    assert [(each.path, each.values, each.candidates) for each in report.findings] == [
        ("a", (("Closed", 1),), ("closed",)),
        ("a", (("void", 2),), ()),
        ("b", (("green", 1),), ()),
        ("c", (("3", 1),), ()),
    ]


@pytest.mark.parametrize(
    ("old", "field", "value", "asked"),
    [
        ("mail", StringField(), "x", True),
        ("e_mail", StringField(), "x", True),
        ("headline", StringField(), "x", False),
        ("mail", StringField(), 1, False),
    ],
)
def test_likely_renames(
    mongoengine_db: Database[Any], old: str, field: Any, value: Any, asked: bool
) -> None:
    """A rename is likely if the names are close and the types are the same."""
    mongoengine_db["post"].insert_many([{"_id": 1, old: value}, {"_id": 2, "email": "y"}])
    found = _findings(diff(_plain(email=field)))
    assert (("rename", old) in found) is asked
    assert (("unknown_field", old) in found) is not asked
    if asked:
        assert found["rename", old].candidates == ("email",)
        assert found["rename", old].message == (
            f"{old!r} is no field of Post, but stored in 1 document: loading raises "
            "FieldDoesNotExist; is it the former name of 'email'?"
        )


_EMAILS: list[dict[str, Any]] = [{"default": "none"}, {"required": True}]


def _part(field: Any, holder: Any) -> Any:
    part = type(EmbeddedDocument)("Part", (EmbeddedDocument,), {"email": field})
    return _plain(parts=holder(EmbeddedDocumentField(part)))


@pytest.mark.parametrize("options", _EMAILS, ids=["default", "required"])
def test_a_likely_rename_is_one_finding(
    mongoengine_db: Database[Any], options: dict[str, Any]
) -> None:
    """It says of both names what there is to say, also where no query could ask for them."""
    mongoengine_db["post"].insert_many([{"_id": 1, "mail": "x"}, {"_id": 2, "email": "y"}])
    (finding,) = _of_data(diff(_plain(email=StringField(**options))))
    assert (finding.kind, finding.path, finding.count) == ("rename", "mail", 1)
    mongoengine_db["post"].drop()
    parts = {"a": {"mail": "x"}, "b": {"email": "y"}}
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "parts": parts}, {"_id": 2, "parts": {"a": {"mail": "z"}}}]
    )
    (finding,) = _of_data(diff(_part(StringField(**options), MapField)))
    assert (finding.kind, finding.path, finding.count) == ("rename", "parts.*.mail", 2)


@pytest.mark.parametrize("in_list", [False, True])
@pytest.mark.parametrize("options", _EMAILS, ids=["default", "required"])
def test_what_a_rename_leaves_is_found_where_it_is(
    mongoengine_db: Database[Any], options: dict[str, Any], in_list: bool
) -> None:
    """Both names in one document, and neither, are findings of the documents that have it so."""
    email = StringField(**options)
    model = _part(email, ListField) if in_list else _plain(email=email)
    both = {"mail": "x", "email": "y"}
    parts: list[dict[str, Any]] = [{"mail": "x"}, {"mail": "y"}, both, {"email": "z"}, {}]
    mongoengine_db["post"].insert_many(
        [{"_id": n, **({"parts": [each]} if in_list else each)} for n, each in enumerate(parts)]
    )
    found = {each.kind: each for each in _of_data(diff(model))}
    missing = f"missing_{next(iter(options))}"
    assert found.keys() == {"rename", "unknown_field", missing}
    assert found["rename"].count == 3
    for kind, number in (("unknown_field", 2), (missing, 4)):
        finding = found[kind]
        assert finding.query is not None
        stored = mongoengine_db["post"].find(dict(finding.query))
        assert [each["_id"] for each in stored] == [number]
        assert (finding.count, [each.document_id for each in finding.examples]) == (1, [number])
    prefix = "parts[]." if in_list else ""
    assert found["unknown_field"].message == (
        f"'{prefix}mail' is stored beside 'email' in 1 document: which value is right?"
    )
    assert "missing, as is 'mail', in 1 document" in found[missing].message


def test_no_rename_where_the_new_field_is_there_already(mongoengine_db: Database[Any]) -> None:
    """A field that few documents lack is not the new name of one that all have."""
    documents = [{"mail": "x", "email": "y"} for _ in range(3)]
    mongoengine_db["post"].insert_many([*documents, {"mail": "x"}])
    assert ("rename", "mail") not in _findings(diff(_plain(email=StringField())))


def test_each_field_is_paired_once(mongoengine_db: Database[Any]) -> None:
    """Of several close names the closest pairs are asked about, and no field twice."""
    post = _plain(first_name=StringField(), last_name=StringField())
    mongoengine_db["post"].insert_one({"_id": 1, "firstname": "a", "lastname": "b", "name": "c"})
    renames = {e.path: e.candidates for e in diff(post).findings if e.kind == "rename"}
    assert renames == {"firstname": ("first_name",), "lastname": ("last_name",)}


# --- Classes ----------------------------------------------------------------------------


def _humans() -> tuple[Any, Any, Any]:
    class Human(Document):
        meta = {"allow_inheritance": True, "collection": "human", **NO_INDEXES}
        key = IntField(primary_key=True)
        name = StringField()

    class Jedi(Human):
        side = StringField()

    class Sith(Human):
        rage = IntField()
        title = StringField()

    return Human, Jedi, Sith


def test_unknown_classes_and_their_successors(mongoengine_db: Database[Any]) -> None:
    """An unknown `_cls` has likely successors, by its name and by the fields of its documents."""
    human, _jedi, _sith = _humans()
    mongoengine_db["human"].insert_many(
        [
            {"_id": 1, "_cls": "Human.OldJedi", "side": "light"},
            {"_id": 2, "_cls": "Human.Villain", "rage": 1, "title": "x"},
            {"_id": 3, "name": "x"},
            {"_id": 4, "_cls": "Human.Villain"},
        ]
    )
    found = {each.message: each for each in diff(human).findings}
    villain = found["the unknown _cls 'Human.Villain' in 2 documents"]
    assert (villain.kind, villain.path, villain.count) == ("unknown_class", "_cls", 2)
    assert villain.candidates[0] == "Human.Sith"
    old = found["the unknown _cls 'Human.OldJedi' in 1 document"]
    assert old.candidates[0] == "Human.Jedi"
    assert found["no _cls in 1 document"].candidates[0] == "Human"


def test_documents_of_an_unknown_class_are_held_against_its_successor(
    mongoengine_db: Database[Any],
) -> None:
    """The fields of an unknown class are compared with those of its likeliest successor."""
    human, _jedi, _sith = _humans()
    mongoengine_db["human"].insert_one(
        {"_id": 1, "_cls": "Human.OldSith", "rage": "x", "side": "y"}
    )
    found = _findings(diff(human))
    assert found["unknown_field", "side"].classes == ("Human.Sith",)
    query = dict(found["unknown_field", "side"].query or {})
    assert mongoengine_db["human"].count_documents(query) == 1


def test_a_declared_former_class_has_the_declared_successor(mongoengine_db: Database[Any]) -> None:
    """The successor of one of the `legacy_classes` is the class that declares it."""
    post = model(
        handler(legacy_classes=("Entirely.Other",)),
        meta={"allow_inheritance": True, **NO_INDEXES},
        x=IntField(),
    )
    type(post)("SubPost", (post,), {"yyy": IntField(), "__module__": __name__})
    mongoengine_db["post"].insert_one({"_cls": "Entirely.Other", "yyy": 1})
    assert _findings(diff(post))["unknown_class", "_cls"].candidates[0] == "Post"


def test_fields_are_those_of_the_class(mongoengine_db: Database[Any]) -> None:
    """What one class knows is unknown in its siblings, and what all know is one finding."""
    human, _jedi, _sith = _humans()
    mongoengine_db["human"].insert_many(
        [
            {"_id": 1, "_cls": "Human.Jedi", "side": "x", "rage": 1, "name": 1},
            {"_id": 2, "_cls": "Human.Sith", "rage": 1, "name": 2},
        ]
    )
    found = _findings(diff(human))
    assert found.keys() == {("unknown_field", "rage"), ("wrong_type", "name")}
    assert found["unknown_field", "rage"].classes == ("Human.Jedi",)
    assert found["wrong_type", "name"].classes == ("Human.Jedi", "Human.Sith")
    assert found["wrong_type", "name"].count == 2


def test_a_subclass_is_compared_by_itself(mongoengine_db: Database[Any]) -> None:
    """For a subclass, its documents are looked at, and no others."""
    _human, jedi, _sith = _humans()
    mongoengine_db["human"].insert_many(
        [{"_id": 1, "_cls": "Human", "x": 1}, {"_id": 2, "_cls": "Human.Jedi", "y": 1}]
    )
    report = diff(jedi)
    assert report.documents == 1
    assert [each.path for each in _of_data(report)] == ["y"]


# --- Samples, other collections, indexes --------------------------------------------------


def test_a_sample_is_a_sample(mongoengine_db: Database[Any]) -> None:
    """With a sample size, as many documents are looked at."""
    mongoengine_db["post"].insert_many([{"_id": number, "x": 1} for number in range(50)])
    report = diff(_plain(), 10)
    assert (report.documents, report.sample_size) == (10, 10)
    assert _findings(report)["unknown_field", "x"].count == 10


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "all"])
def test_a_sample_size_that_is_none(size: Any) -> None:
    """What is no number of documents is refused, and the option named."""
    with pytest.raises(RunOptionError, match=r"^sample_size: is .*; use a number"):
        diff(_plain(), size)


@pytest.mark.parametrize("thing", [None, "Post", Document, EmbeddedDocument, int])
def test_what_has_no_documents_is_refused(thing: Any) -> None:
    """Only a concrete document class can be compared."""
    with pytest.raises(TypeError, match="has no documents; give a MongoEngine Document class"):
        diff(thing)


def test_another_collection(mongoengine_db: Database[Any]) -> None:
    """A collection that is given is compared in place of the model's, but for its indexes."""
    mongoengine_db["other"].insert_one({"_id": 1, "x": 1})
    mongoengine_db["post"].insert_one({"_id": 1, "y": 1})
    report = diff(_plain(n=IntField(unique=True)), collection=mongoengine_db["other"])
    assert report.collection.endswith(".other")
    assert [each.path for each in report.findings] == ["x"]


def test_indexes_are_compared_and_none_is_made(mongoengine_db: Database[Any]) -> None:
    """Undeclared and missing indexes are told; asking creates none, the first use still does."""

    class Post(Document):
        meta = {"indexes": ["name", ("name", "-age")]}
        name = StringField()
        age = IntField()

    mongoengine_db["post"].create_index([("age", -1), ("old", 1)])
    mongoengine_db["post"].create_index("name")
    before = set(mongoengine_db["post"].index_information())
    found = [(each.kind, each.path) for each in diff(Post).findings]
    assert found == [
        ("index_missing", "name, age descending"),
        ("index_extra", "age descending, old"),
    ]
    assert set(mongoengine_db["post"].index_information()) == before
    assert Post.objects.first() is None
    assert len(mongoengine_db["post"].index_information()) == len(before) + 1


# --- Pending rules ------------------------------------------------------------------------


def test_what_a_pending_rule_cures_has_no_proposal(mongoengine_db: Database[Any]) -> None:
    """A finding that a lazy or bulk rule ends names the rule and offers none of its own."""
    rules = handler(
        migration01__add_enabled=rule(*ADD_ENABLED),
        migration02__copy=copying("a", "b"),
        allmigration01__remove=rule({"old": {"$exists": True}}, {"$unset": {"old": True}}),
    )
    post = model(
        rules,
        enabled=BooleanField(default=True),
        a=IntField(),
        b=IntField(required=True),
        c=IntField(default=3),
    )
    mongoengine_db["post"].insert_many(
        [{"_id": number, "a": 1, "old": 1} for number in range(3)] + [{"_id": 3, "b": 1}]
    )
    before = list(mongoengine_db["post"].find())
    report = diff(post)
    found = _findings(report)
    cures = {path: each.cured_by for (_, path), each in found.items()}
    assert cures == {
        "enabled": ("migration01__add_enabled",),
        "b": ("migration02__copy",),
        "old": ("allmigration01__remove",),
        "c": (),
    }
    assert [each.path for each in report.uncured] == ["c"]
    assert {path for (_, path), each in found.items() if each.proposal is None} == {
        "enabled",
        "b",
        "old",
    }
    assert list(mongoengine_db["post"].find()) == before
    assert mongoengine_db.list_collection_names() == ["post"]


def test_a_rule_that_cures_but_a_part_cures_nothing(mongoengine_db: Database[Any]) -> None:
    """One document that the rules leave as it is keeps the finding, however many they cure."""
    rules = handler(
        migration01__add=rule(
            {"enabled": {"$exists": False}, "age": {"$gt": 17}}, {"$set": {"enabled": True}}
        )
    )
    post = model(rules, enabled=BooleanField(default=True), age=IntField())
    mongoengine_db["post"].insert_many(
        [{"_id": number, "age": 20} for number in range(200)] + [{"_id": 200, "age": 3}]
    )
    (finding,) = [each for each in diff(post).findings if each.path == "enabled"]
    assert finding.cured_by == ()
    assert finding.proposal is not None


def _split_name(self: Any) -> None:
    """A rule that fails for every name that is no text, and for one that has no words."""
    self.target = {"name": {"$exists": True}}
    first, *_, last = self.doc["name"].split()
    self.update = {"$set": {"first": first, "last": last}, "$unset": {"name": True}}


def _named() -> Any:
    """A model `Post` whose names a pending rule splits."""
    rules = handler(migration03__split_name=_split_name)
    return model(rules, first=StringField(), last=StringField())


@pytest.mark.parametrize("rare", [(7, None), (7,), (None,), ("",)])
def test_the_examples_are_among_the_copies(mongoengine_db: Database[Any], rare: Any) -> None:
    """What a rule fails for in a document that is shown is cured by none, and the failure told."""
    names = [*["Ada B"] * 300, *rare]
    mongoengine_db["post"].insert_many([{"_id": n, "name": name} for n, name in enumerate(names)])
    report = diff(_named())
    (finding,) = _of_data(report)
    assert (300, rare[0]) in _shown(finding)
    assert (finding.kind, finding.path, finding.cured_by) == ("unknown_field", "name", ())
    assert finding.proposal is not None
    assert report.uncured == (finding,)
    (problem,) = report.problems
    assert problem.startswith(f"a pending rule fails for {len(rare)} of ")
    assert "Post.migration03__split_name: the rule raised " in problem
    assert f"  note: {problem}" in str(report).splitlines()


def test_a_type_of_which_no_example_is_shown_is_among_the_copies(
    mongoengine_db: Database[Any],
) -> None:
    """The rules are tried on a document of each type, even where there are more than examples."""
    values = [*["Ada B"] * 300, ["a"], 1.5, 7, True, datetime(2020, 1, 1)]
    mongoengine_db["post"].insert_many([{"_id": n, "name": name} for n, name in enumerate(values)])

    def split(self: Any) -> None:
        self.target = {"name": {"$exists": True}}
        if self.doc["name"] == 7:
            raise LookupError
        self.update = {"$unset": {"name": True}}

    (finding,) = _of_data(diff(model(handler(migration01__split=split))))
    assert 7 not in [each.value for each in finding.examples]
    assert finding.cured_by == ()


def test_what_rules_cure_in_every_copy_is_cured(mongoengine_db: Database[Any]) -> None:
    """Where no rule fails, the finding is cured and there is nothing to tell."""
    mongoengine_db["post"].insert_many([{"_id": number, "name": "Ada B"} for number in range(300)])
    report = diff(_named())
    (finding,) = _of_data(report)
    assert finding.cured_by == ("migration03__split_name",)
    assert report.problems == ()


def test_a_rule_that_removes_a_field_fills_no_other(mongoengine_db: Database[Any]) -> None:
    """Where a pending rule removes what may be a former name, the field is missing as before."""
    mongoengine_db["post"].insert_many([{"_id": 1, "mail": "x"}, {"_id": 2, "email": "y"}])
    target = {"mail": {"$exists": True}}
    for update, fills in (({"$rename": {"mail": "email"}}, True), ({"$unset": {"mail": 1}}, False)):
        rules = handler(migration01__mail=rule(target, update))
        found = _findings(diff(model(rules, email=StringField(required=True))))
        assert found.pop(("rename", "mail")).cured_by == ("migration01__mail",)
        missing = [] if fills else [(("missing_required", "email"), ())]
        assert [(key, finding.cured_by) for key, finding in found.items()] == missing


@pytest.mark.parametrize("scope", ["migration", "allmigration"])
def test_where_another_rule_fails_nothing_is_cured(
    mongoengine_db: Database[Any], scope: str
) -> None:
    """A finding that is gone from a copy for which a later rule fails is not cured."""
    rules = handler(
        migration01__remove=rule({"old": {"$exists": True}}, {"$unset": {"old": True}}),
        **{f"{scope}03__split_name": _split_name},
    )
    post = model(rules, first=StringField(), last=StringField(), name=DynamicField())
    mongoengine_db["post"].insert_many([{"_id": 1, "old": 1}, {"_id": 2, "old": 1, "name": 7}])
    report = diff(post)
    (finding,) = _of_data(report)
    assert (finding.path, finding.cured_by) == ("old", ())
    assert [each.partition(": ")[0] for each in report.problems] == [
        "a pending rule fails for 1 of 2 copies"
    ]


def test_a_rule_that_raises_for_no_document_cures_nothing(mongoengine_db: Database[Any]) -> None:
    """A rule that raises before it meets a document fails for all copies."""
    lost: list[bool] = []

    def raising(self: Any) -> None:
        self.target = {"key": {"$lt": 0}}
        if lost:
            raise LookupError("no such mail")
        self.update = {"$set": {"a": 1}}

    rules = handler(
        migration01__remove=rule({"old": {"$exists": True}}, {"$unset": {"old": True}}),
        allmigration02__raise=raising,
    )
    post = model(rules, a=IntField())
    assert list(post.objects) == []
    mongoengine_db["post"].insert_one({"_id": 1, "old": 1})
    lost.append(True)
    report = diff(post)
    (finding,) = _of_data(report)
    assert finding.cured_by == ()
    assert report.problems == ("Post.allmigration02__raise: it raised LookupError: no such mail",)


def test_a_rule_that_starts_on_errors_cures_what_does_not_load(
    mongoengine_db: Database[Any],
) -> None:
    """A rule that no match starts is tried on documents that fail to load."""

    def by_value(self: Any) -> None:
        if self.doc["old"] > 1:
            self.target = {"old": {"$exists": True}}
            self.update = {"$unset": {"old": True}}

    post = model(handler(migration01__remove=by_value))
    mongoengine_db["post"].insert_many([{"_id": 1, "old": 2}, {"_id": 2, "old": 3}])
    (finding,) = diff(post).findings
    assert finding.cured_by == ("migration01__remove",)


def test_a_former_class_that_a_rule_renames_is_cured(mongoengine_db: Database[Any]) -> None:
    """An unknown class is cured by the rule that gives its documents a new one."""
    rules = handler(
        legacy_classes=("OldPost",),
        migration01__class=rule({"_cls": "OldPost"}, {"$set": {"_cls": "Post"}}),
    )
    post = model(rules, meta={"allow_inheritance": True, **NO_INDEXES})
    mongoengine_db["post"].insert_one({"_id": 1, "_cls": "OldPost"})
    (finding,) = _of_data(diff(post))
    assert (finding.kind, finding.cured_by) == ("unknown_class", ("migration01__class",))


def test_a_rule_with_effects_of_its_own_is_not_run(mongoengine_db: Database[Any]) -> None:
    """A rule that writes by itself is not tried on copies."""

    def by_hand(self: Any) -> None:
        self.target = {"old": {"$exists": True}}
        if not self.status:
            self.collection.database["post"].delete_many({})

    post = model(handler(allmigration01__remove=by_hand))
    mongoengine_db["post"].insert_one({"_id": 1, "old": 1})
    (finding,) = diff(post).findings
    assert finding.cured_by == ()
    assert mongoengine_db["post"].count_documents({}) == 1


class _Writes(monitoring.CommandListener):
    """The collections that commands other than reads name."""

    def __init__(self) -> None:
        self.collections: set[str] = set()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in ("insert", "update", "delete", "findAndModify", "createIndexes"):
            self.collections.add(event.command[event.command_name])

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


def test_nothing_is_written_but_to_the_scratch_collection(
    mongoengine_db: Database[Any], server_uri: str
) -> None:
    """With rules pending, every write goes to a scratch collection."""
    post = model(handler(migration01__add=rule(*ADD_ENABLED)), enabled=BooleanField(default=True))
    mongoengine_db["post"].insert_one({"_id": 1})
    writes = _Writes()
    with MongoClient(server_uri, event_listeners=[writes]) as client:
        report = diff(post, collection=client[mongoengine_db.name]["post"])
    assert report.findings[0].cured_by
    assert writes.collections
    assert all(name.startswith("lazymig_preview_") for name in writes.collections)


# --- The report -------------------------------------------------------------------------


def test_the_report_is_plain_json(mongoengine_db: Database[Any]) -> None:
    """Every finding is JSON, whatever BSON was found, with the same keys each time."""
    values = [ObjectId(), b"x", datetime(2020, 1, 1), Decimal128("1"), {"a": [1]}, None, 2**40]
    mongoengine_db["post"].insert_many(
        [{"_id": key, "n": value, "x": value} for key, value in enumerate(values)]
        + [{"_id": ObjectId(), "tag": "z"}]
    )
    post = _plain(
        n=StringField(), kind=StringField(choices=["x"], required=True), tags=IntField(default=1)
    )
    report = json.loads(json.dumps(diff(post).to_dict()))
    assert report.keys() == {
        *("model", "collection", "documents", "sample_size"),
        *("ok", "findings", "paths", "problems"),
    }
    assert report["ok"] is False
    keys = {frozenset(each) for each in report["findings"]}
    assert keys == {
        frozenset(
            {
                *("kind", "classes", "path", "message", "count", "types", "expected"),
                *("convertible", "values", "examples", "candidates", "query", "cured_by"),
                "proposal",
            }
        )
    }
    proposals = {frozenset(each["proposal"]) for each in report["findings"] if each["proposal"]}
    assert proposals == {
        frozenset({"words", "scope", "target", "update", "array_filters", "comments", "asks"})
    }
    assert {frozenset(each) for each in report["paths"]} == {
        frozenset({"path", "classes", "types", "examples"})
    }


def test_the_paths_of_the_report(mongoengine_db: Database[Any]) -> None:
    """The report has the types at each path that was seen, with an example of each."""
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": "x"}, {"_id": 3}])
    (path,) = [each for each in diff(_plain(n=IntField())).paths if each.path == "n"]
    assert dict(path.types) == {"int": 1, "missing": 1, "string": 1}
    assert dict(path.examples) == {"int": 1, "missing": 3, "string": 2}
    assert path.classes == ("Post",)


def test_findings_come_in_the_order_of_their_rules(mongoengine_db: Database[Any]) -> None:
    """Findings are sorted by kind, so that their proposals are in the order in which they work."""
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "mail": "x", "n": None, "y": 1}, {"_id": 2, "n": "2"}]
    )
    post = _plain(email=StringField(), n=IntField(), z=IntField(default=1))
    kinds = [KINDS.index(each.kind) for each in diff(post).findings]
    assert kinds == sorted(kinds)
    assert len(set(kinds)) == 5


def test_the_report_as_text(mongoengine_db: Database[Any]) -> None:
    """A report is readable text: what was found, what cures it, what is proposed."""
    post = model(handler(migration01__add=rule(*ADD_ENABLED)), enabled=BooleanField(default=True))
    mongoengine_db["post"].insert_one({"_id": 1, "x": 1})
    lines = str(diff(post)).splitlines()
    assert lines[0] == f"Post against {mongoengine_db.name}.post: 1 document compared"
    assert "    cured by the pending migration01__add" in lines
    assert "    proposed rule: remove_x, with a question" in lines
    assert str(diff(_plain(), collection=mongoengine_db["empty"])).endswith("no drift")


def test_mongomock_is_refused(mock_db: Database[Any]) -> None:
    """A comparison needs a server, and says so instead of counting wrongly."""
    with pytest.raises(NotImplementedError, match="use a MongoDB server"):
        diff(_plain())


def test_an_empty_collection(mongoengine_db: Database[Any]) -> None:
    """Where nothing is stored, nothing is found."""
    report = diff(_plain(n=IntField(required=True)))
    assert report.ok
    assert report.documents == 0


def test_documents_do_not_leave_the_server(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """The number of commands does not depend on the number of documents."""
    post = _plain(n=IntField())
    counts = []
    for number in (10, 1000):
        monitored_db["post"].insert_many([{"n": str(each), "x": 1} for each in range(number)])
        collection = command_log.client[monitored_db.name]["post"]
        command_log.clear()
        diff(post, collection=collection)
        counts.append(command_log.names)
    assert counts[0] == counts[1]
    assert set(counts[0]) == {"aggregate", "find", "listIndexes"}


def test_a_value_that_python_cannot_hold_is_an_example(mongoengine_db: Database[Any]) -> None:
    """A date beyond the year 9999 does no harm."""
    mongoengine_db.command({"insert": "post", "documents": [{"_id": 1, "x": DatetimeMS(2**53)}]})
    (finding,) = diff(_plain()).findings
    assert finding.examples[0].document_id == 1
    json.dumps(finding.to_dict())
