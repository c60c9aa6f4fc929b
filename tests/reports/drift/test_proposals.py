"""Proposed rules: offered without a question only if copies load and are valid afterwards."""

from __future__ import annotations

import warnings
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from bson import DBRef, Decimal128, Int64, ObjectId
from mongoengine import (
    BooleanField,
    DateTimeField,
    Decimal128Field,
    DecimalField,
    DictField,
    Document,
    EmailField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    EnumField,
    FloatField,
    IntField,
    ListField,
    MapField,
    ObjectIdField,
    ReferenceField,
    SortedListField,
    StringField,
    UUIDField,
)
from pymongo.database import Database

from lazymig import check_documents, diff
from lazymig.reports.drift.doubts import doubt_about
from lazymig.reports.drift.proposals import RuleProposal
from tests.support.handlers import handler, model

TAG, GONE = ObjectId("1" * 24), ObjectId("2" * 24)
DAY = datetime(2020, 5, 6)


class State(Enum):
    READY = "ready"
    YES = "true"


class Number(Enum):
    ONE = 1


class Title(EmbeddedDocument):
    title = StringField(required=True)
    note = StringField(max_length=3)


class Loose(EmbeddedDocument):
    title = StringField()


class Label(Document):
    meta = {"collection": "label", "auto_create_index": False}


# Field, what is stored, and whether the rule for it has to ask.
CASES: dict[str, tuple[Any, list[Any], bool]] = {
    "a text for a list": (ListField(StringField()), ["x"], False),
    "a text for a list of anything": (ListField(), ["x"], False),
    "a number for a sorted list": (SortedListField(IntField()), [3], False),
    "one of several texts is a list written down": (ListField(StringField()), ["x", "a,b"], True),
    "an empty text for a list": (ListField(StringField()), [""], True),
    "a document for a list": (EmbeddedDocumentListField(Title), [{"title": "x"}], False),
    "a document that lacks what is required": (EmbeddedDocumentListField(Title), [{"note": "x"}], True),  # noqa: E501
    "a document with an unknown field": (EmbeddedDocumentListField(Title), [{"title": "x", "y": 1}], True),  # noqa: E501
    "a list with numbers as names": (EmbeddedDocumentListField(Title), [{"0": {"title": "x"}}], True),  # noqa: E501
    "numbers as names where anything goes": (ListField(DictField()), [{"0": {"a": 1}}], True),
    "an empty document for a list": (EmbeddedDocumentListField(Loose), [{}], True),
    "an empty document for a list of anything": (ListField(), [{}], True),
    "a choice for a list": (ListField(StringField(choices=["p", "q"])), ["p"], False),
    "no choice for a list": (ListField(StringField(choices=["p", "q"])), ["p", "z"], True),
    "no choice of the list itself": (ListField(StringField(), choices=["p"]), ["z"], True),
    "a reference for a list": (ListField(ReferenceField(Label)), [TAG], False),
    "a dangling reference for a list": (ListField(ReferenceField(Label)), [GONE], True),
    "a list of lists": (ListField(ListField(IntField())), [[1]], False),
    "a list for a text": (StringField(), [["x"]], True),
    "a document for a text": (StringField(), [{"a": 1}], True),
    "a list for a document": (EmbeddedDocumentField(Loose), [[{"title": "x"}]], True),
    "digits for a number": (IntField(), ["12", "13"], False),
    "digits with a leading zero": (IntField(), ["12", "012"], True),
    "digits beyond the largest number": (IntField(max_value=5), ["3", "12"], True),
    "whole doubles for a number": (IntField(), [1.0], False),
    "a fraction for a number": (IntField(), [1.0, 1.5], True),
    "a date for a number": (IntField(), [DAY], True),
    "a date for a double": (FloatField(), [DAY], True),
    "a decimal text": (FloatField(), ["1.5"], False),
    "a decimal text for a decimal": (DecimalField(precision=2), ["1.50"], False),
    "a decimal text for a Decimal128": (Decimal128Field(), ["1.50"], False),
    "a Decimal128 for a decimal": (DecimalField(), [Decimal128("1.5")], False),
    "a number for a text": (StringField(), [5], False),
    "a double for a text": (StringField(), [12.0], False),
    "a long double for a text": (StringField(), [12.0, 1606577151.0], True),
    "a double of seven digits for a text": (StringField(), [123456.78], True),
    "a number for a text that is too long": (StringField(max_length=1), [5, 55], True),
    "a number for a choice": (StringField(choices=["5"]), [5], False),
    "a number for no choice": (StringField(choices=["5"]), [5, 6], True),
    "a number for an address": (EmailField(), [5], True),
    "true for a member": (EnumField(State), [True], False),
    "false for no member": (EnumField(State), [True, False], True),
    "digits for a member": (EnumField(Number), ["1"], False),
    "digits for no member": (EnumField(Number), ["1", "7"], True),
    "0 and 1 for a bool": (BooleanField(), [0, 1], False),
    "a number for a bool": (BooleanField(), [0, 1, 5], True),
    "yes and no for a bool": (BooleanField(), ["yes", " No"], False),
    "a text for a bool": (BooleanField(), ["yes", "maybe"], True),
    "a list for a bool": (BooleanField(), [[False]], True),
    "a date for a bool": (BooleanField(), [DAY], True),
    "milliseconds": (DateTimeField(), [Int64(1606577151000)], False),
    "milliseconds as a double": (DateTimeField(), [1606577151000.0], False),
    "seconds": (DateTimeField(), [Int64(1606577151)], True),
    "seconds as a double": (DateTimeField(), [1606577151.0], True),
    "seconds as a Decimal128": (DateTimeField(), [Decimal128("1606577151")], True),
    "microseconds": (DateTimeField(), [Int64(1606577151000000)], True),
    "seconds among many milliseconds": (DateTimeField(), [*[Int64(1606577151000)] * 200, Int64(1606577151), Int64(1606577152000)], True),  # noqa: E501
    "seconds in a list": (ListField(DateTimeField()), [[Int64(1606577151)]], True),
    "milliseconds in a list": (ListField(DateTimeField()), [[Int64(1606577151000)]], False),
    "the text of a date": (DateTimeField(), ["2020-01-02"], False),
    "the text of a date that means none": (DateTimeField(), ["0001-01-01"], True),
    "an ObjectId for a date": (DateTimeField(), [TAG], True),
    "the text of an ObjectId": (ObjectIdField(), [str(TAG)], False),
    "the text of a reference": (ReferenceField(Label), [str(TAG)], False),
    "the text of a dangling reference": (ReferenceField(Label), [str(TAG), str(GONE)], True),
    "a DBRef": (ReferenceField(Label), [DBRef("label", TAG)], False),
    "a DBRef to another collection": (ReferenceField(Label), [DBRef("other", TAG)], True),
    "a DBRef to another database": (ReferenceField(Label), [DBRef("label", TAG, "x")], True),
    "an ObjectId for a DBRef": (ReferenceField(Label, dbref=True), [TAG], True),
    "the text of a UUID": (UUIDField(), [str(UUID(int=1))], True),
    "null with a default": (StringField(default="x"), [None], False),
    "null with a default that is no choice": (StringField(default="z", choices=["a"]), [None], True),  # noqa: E501
    "null in a list": (ListField(IntField()), [[None, 1]], False),
    "null alone in a required list": (ListField(IntField(), required=True), [[None]], True),
    "a number in an embedded document": (EmbeddedDocumentField(Loose), [{"title": 5}], False),
    "a number too long in one": (EmbeddedDocumentField(Title), [{"title": "x", "note": 12345}], True),  # noqa: E501
    "a number in a list of them": (EmbeddedDocumentListField(Loose), [[{"title": 5}, {}]], False),
    "a number too long in a list of them": (EmbeddedDocumentListField(Title), [[{"title": "x", "note": 5}, {"title": "y", "note": 12345}]], True),  # noqa: E501
}  # fmt: skip


def _documents(database: Database[Any], field: Any, values: list[Any]) -> Any:
    database["label"].insert_one({"_id": TAG})
    database["post"].insert_many([{"_id": n, "f": value} for n, value in enumerate(values)])
    return model(None, f=field)


def _written(proposal: RuleProposal) -> Any:
    def method(self: Any) -> None:
        self.target, self.update = proposal.target, proposal.update
        self.array_filters = proposal.array_filters and list(proposal.array_filters)

    return method


@pytest.mark.parametrize("name", CASES)
def test_a_rule_asks_unless_it_is_right(mongoengine_db: Database[Any], name: str) -> None:
    """What would make a document worse, or may mean something else, is a question."""
    field, values, asks = CASES[name]
    post = _documents(mongoengine_db, field, values)
    before = list(mongoengine_db["post"].find())
    report = diff(post)
    (proposal,) = report.proposals
    assert proposal.asks == asks
    assert proposal.comments[-1].endswith(("?", "instead.")) == asks
    assert list(mongoengine_db["post"].find()) == before
    assert sorted(mongoengine_db.list_collection_names()) == ["label", "post"]
    if asks:
        return
    rules = handler(**{proposal.name(1): _written(proposal)})
    migration = rules(model(rules, f=field))
    assert migration.migrate_pending().complete
    assert migration.migrate_all().complete
    assert check_documents(post, None).ok
    assert diff(post).ok


def test_a_document_in_a_map_gets_no_rule(mongoengine_db: Database[Any]) -> None:
    """What no update can name is proposed nothing for."""
    post = _documents(mongoengine_db, MapField(IntField()), [{"a": "x"}])
    (finding,) = diff(post).findings
    assert (finding.path, finding.proposal) == ("f.*", None)


def test_a_default_that_the_field_does_not_take_is_a_question(
    mongoengine_db: Database[Any],
) -> None:
    """The default that a rule would write is validated as well."""
    mongoengine_db["post"].insert_one({"_id": 1})
    (finding,) = diff(model(None, f=StringField(default="z", choices=["a"]))).findings
    assert finding.proposal is not None
    assert finding.proposal.asks
    assert "it makes 'f' wrong (choices)" in finding.proposal.comments[-1]


def test_documents_of_another_rule_are_not_tried(mongoengine_db: Database[Any]) -> None:
    """A default for those that lack a field is right, although others have its former name."""
    mongoengine_db["post"].insert_many([{"_id": 1, "titel": "x"}, {"_id": 2}, {"_id": 3}])
    report = diff(model(None, title=StringField(default="none")))
    assert [(each.words, each.asks) for each in report.proposals] == [
        ("rename_titel_to_title", True),
        ("add_title", False),
    ]


def test_what_mongodb_refuses_is_a_question(mongoengine_db: Database[Any]) -> None:
    """A rule that the collection's validator refuses is not offered as if it worked."""
    mongoengine_db.create_collection("post")
    mongoengine_db["post"].insert_one({"_id": 1, "f": None})
    mongoengine_db.command("collMod", "post", validator={"f": None})
    (finding,) = diff(model(None, f=StringField(default="x"))).findings
    assert finding.proposal is not None
    assert finding.proposal.asks
    assert "MongoDB refuses it" in finding.proposal.comments[-1]


def test_the_sample_is_what_is_tried(mongoengine_db: Database[Any]) -> None:
    """With a sample the documents are those of the sample, and the collection is only read."""
    mongoengine_db["post"].insert_many([{"_id": n, "f": str(n)} for n in range(50)])
    report = diff(model(None, f=IntField()), 20)
    assert [proposal.asks for proposal in report.proposals] == [False]


@pytest.mark.parametrize(
    ("before", "after", "is_sure"),
    [
        ("1", 1, True),
        ("abc", 1, False),
        (Decimal128("NaN"), 1, False),
        (float("nan"), 0, False),
        (True, 1, True),
        ({"a": 1}, 1, False),
        (Decimal128("1.50"), "1.50", True),
        ("x", "y", True),
        (None, [None], True),
    ],
)
def test_doubts(before: Any, after: Any, is_sure: bool) -> None:
    """A new value is doubted if it need not say what the old one said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (doubt_about(before, after, None) is None) == is_sure
