"""Rules in Python for documents with values that Python cannot hold as they are stored."""

from __future__ import annotations

from typing import Any

import pytest
from bson.raw_bson import RawBSONDocument
from mongoengine import DynamicField, StringField
from pymongo.database import Database

from lazymig import without_writing
from tests.support.handlers import handler, model
from tests.support.oddities import document, element, text, whole

VALUES = {
    "undefined": (6, b""),
    "pointer": (12, text(b"other") + bytes(12)),
    "reference with other keys first": (
        3,
        document(element(2, b"type", text(b"a")), element(2, b"$ref", text(b"#/a"))),
    ),
    "key that comes twice": (
        3,
        document(element(16, b"a", whole(1)), element(16, b"a", whole(2))),
    ),
    "pattern with odd flags": (11, b"a\x00xi\x00"),
    "what Python holds": (2, text(b"a")),
}


def note_kind(self):
    """A rule that no server computes: it reads the odd field."""
    self.target = {"odd": {"$exists": True}}
    kind = type(self.doc["odd"]).__name__
    self.update = {"$set": {"kind": kind.swapcase()}, "$unset": {"odd": ""}}


def note_whole(self):
    """The same, which reads the document as a whole."""
    self.target = {"odd": {"$exists": True}}
    kind = type({**self.doc}["odd"]).__name__
    self.update = {"$set": {"kind": kind.swapcase()}, "$unset": {"odd": ""}}


def require_kind(self):
    """A rule that is started by errors alone, as its target needs the document."""
    kind = type(self.doc["odd"]).__name__
    self.target = {"kind": {"$exists": False}}
    self.update = {"$set": {"kind": kind.swapcase()}}


def _load(post: Any) -> None:
    list(post.objects)


def _run(post: Any) -> None:
    assert post.migration_handler(post).migrate_pending().complete


def _posts(database: Database[Any], rule: Any, value: tuple[int, bytes]) -> Any:
    kind, content = value
    elements = [element(16, b"_id", whole(0)), element(kind, b"odd", content)]
    database["post"].insert_one(RawBSONDocument(document(*elements)))
    database["post"].insert_many([{"_id": number, "odd": 1} for number in range(1, 9)])
    return model(
        handler(migration01__kind=rule), kind=StringField(required=True), odd=DynamicField()
    )


# A run cannot look for documents whose target needs them.
@pytest.mark.parametrize(
    ("rule", "migrate"),
    [
        (note_kind, _load),
        (note_kind, _run),
        (note_whole, _load),
        (note_whole, _run),
        (require_kind, _load),
    ],
)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_python_holds_otherwise_is_compared_as_it_is_stored(
    mongoengine_db: Database[Any], value: tuple[int, bytes], rule: Any, migrate: Any
) -> None:
    """A document whose values Python alters is migrated, and neither refused nor passed over."""
    post = _posts(mongoengine_db, rule, value)
    migrate(post)
    assert mongoengine_db["post"].count_documents({"kind": {"$exists": False}}) == 0


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_what_python_holds_otherwise_is_shown(
    mongoengine_db: Database[Any], value: tuple[int, bytes]
) -> None:
    """A load that writes nothing shows such a document as a load that writes leaves it."""
    post = _posts(mongoengine_db, note_kind, value)
    with without_writing(post):
        shown = [each.kind for each in post.objects]
    assert shown == [each.kind for each in post.objects]
