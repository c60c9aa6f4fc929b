"""What is stored, and what is secret, stays out of errors, logs and reports."""

from __future__ import annotations

import logging
import pickle
import traceback
from typing import Any

import pytest
from bson.errors import InvalidDocument
from mongoengine import EmailField, IntField
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, WriteError

from lazymig import MigrationFailed
from lazymig.engines.reading.decoding import Undecodable
from lazymig.odm.querysets.rewrites import rewrites_of
from lazymig.redaction import bare, excerpt, shape_of
from tests.support.handlers import handler, model, rule

SECRET = "jane.doe@example.org"

MESSAGES = {
    f'E11000 duplicate key error index: u_1 dup key: {{ mail: "{SECRET}", n: 1 }}': (
        "E11000 duplicate key error index: u_1 dup key: { mail: …, n: … }"
    ),
    f'BSONObj size: 1 is invalid. First element: q: {{ p: "{SECRET}': "BSONObj size: 1 is invalid.",
    f"Cannot create field 'x' in element {{a: \"{SECRET} }}\"}}": (
        "Cannot create field 'x' in element { a: … }"
    ),
    f"Failed to parse number '{SECRET}' in $convert with no onError value": (
        "Failed to parse number 'jan…' in $convert with no onError value"
    ),
    f"Document failed validation, full error: {{'errInfo': '{SECRET}'}}": (
        "Document failed validation"
    ),
    f"Invalid document {{'mail': '{SECRET}'}} | cannot encode object: 1j, of type: <class "
    "'complex'>": "cannot encode object: 1j, of type: <class 'com…'>",
    f'Can\'t extract geo keys: {{ _id: 1, loc: [ 1, 2 ], mail: "{SECRET}" }}  Point must be': (
        "Can't extract geo keys: { _id: …, loc: …, mail: … } Point must be"
    ),
    f"not authorized on db to execute command {{ update: \"m\", updates: [ {{ q: '{SECRET}' }}": (
        "not authorized on db to execute command { update: …, updates: … }"
    ),
    "Updating the path 'a.b' would create a conflict at 'a'": (
        "Updating the path 'a.b' would create a conflict at 'a'"
    ),
    f"time data '{SECRET}' does not match format": "time data 'jan…' does not match format",
}


@pytest.mark.parametrize(("message", "shown"), MESSAGES.items())
def test_a_message_keeps_names_and_loses_values(message: str, shown: str) -> None:
    """Of what a server or a driver says, names of fields stay, and values do not."""
    assert excerpt(message) == shown


def test_a_message_is_short() -> None:
    """However long a message is, an excerpt of it can be read."""
    assert len(excerpt("word " * 1_000_000)) < 400
    assert len(excerpt(InvalidDocument("x" * 10_000_000))) < 400


@pytest.mark.parametrize(
    "error",
    [
        WriteError("no", 121, {"code": 121, "errmsg": "no", "errInfo": {"value": SECRET}}),
        OperationFailure(f"no, full error: {SECRET}", 9, {"errmsg": "no", "x": SECRET}),
        BulkWriteError(
            {
                "nMatched": 1,
                "nModified": 1,
                "writeErrors": [
                    {"index": 0, "code": 1, "errmsg": f'{{ m: "{SECRET}" }}', "op": {"q": SECRET}}
                ],
            }
        ),
        InvalidDocument(f"Invalid document {{'m': '{SECRET}'}} | cannot encode"),
    ],
)
def test_a_cause_keeps_its_type_and_code(error: Any) -> None:
    """What is printed as the cause of an error has the driver's type and code, and no content."""
    shown = bare(error)

    assert type(shown) is type(error)
    assert getattr(shown, "code", None) == getattr(error, "code", None)
    assert SECRET not in f"{shown} {shown!r} {getattr(shown, 'details', None)}"


def test_an_error_of_decoding_survives_pickling() -> None:
    """A worker's error about an odd document reaches whoever has sent the work."""
    error = pickle.loads(pickle.dumps(Undecodable("a", "why")))
    assert (error.path, error.reason, "'a'" in str(error)) == ("a", "why", True)


def _duplicate(self: Any) -> None:
    self.target = {"mail": {"$exists": False}}
    self.update = {"$set": {"mail": self.doc["name"]}}


def _not_a_number(self: Any) -> None:
    self.target = {"mail": {"$exists": False}}
    self.update = {"$set": {"mail": int(self.doc["name"])}}


CONVERT = rule({"mail": {"$exists": False}}, [{"$set": {"mail": {"$toInt": "$name"}}}])


@pytest.mark.parametrize("method", [_duplicate, _not_a_number, CONVERT])
def test_no_error_and_no_log_shows_what_is_stored(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture, method: Any
) -> None:
    """Refusals of the server and of a rule, on loads and in runs, the server's as causes too."""
    caplog.set_level(logging.DEBUG, "lazymig")
    mongoengine_db["post"].create_index("mail", unique=True, sparse=True)
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "mail": SECRET, "name": SECRET}, {"_id": 2, "name": SECRET}]
    )
    post = model(handler(migration01__mail=method), name=EmailField(), mail=EmailField())

    with pytest.raises(MigrationFailed) as caught:
        post.objects.get(key=2)
    report = post.migration_handler(post).migrate_pending(max_errors=5)

    shown = ""
    for error in (caught.value, *report.errors):
        # The cause is the rule's own exception, if it has raised.
        whole = not isinstance(error.__cause__, ValueError)
        shown += "".join(traceback.format_exception(error)) if whole else str(error)
    assert [error.document_id for error in report.errors] == [2]
    assert SECRET not in shown + caplog.text
    journal = str(list(mongoengine_db["lazymig_journal"].find()))
    assert SECRET not in journal


def test_a_log_shows_the_shape_of_a_filter(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Fields and operators of a rewritten filter are logged once a shape, values never."""
    caplog.set_level(logging.DEBUG, "lazymig")
    post = model(
        handler(migration01__n=rule({"old": {"$exists": True}}, {"$rename": {"old": "mail"}})),
        mail=EmailField(),
        n=IntField(),
    )
    for _ in range(2):
        post.objects(mail=SECRET, n__gt=4711).count()

    told = [record for record in caplog.records if "is asked as" in record.getMessage()]
    assert len(told) == 1
    assert SECRET not in caplog.text
    assert "4711" not in caplog.text
    assert "{'$gt': 'int'}" in caplog.text
    assert "'$exists'" in caplog.text


def test_what_was_logged_is_not_kept_for_ever(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A program that asks for ever new fields does not grow by it."""
    caplog.set_level(logging.DEBUG, "lazymig")
    post = model(
        handler(migration01__n=rule({"old": {"$exists": True}}, {"$rename": {"old": "mail"}})),
        mail=EmailField(),
    )
    for number in range(600):
        post.objects(__raw__={"mail": "a", f"field{number}": 1}).count()
    rewrites = rewrites_of(post)
    assert rewrites is not None
    assert len(rewrites.logged) <= 300


def test_the_shape_of_a_filter_keeps_names() -> None:
    """Names and operators stay, what is compared becomes its type."""
    query = {"a": 1, "$or": [{"b": {"$in": [1]}}, {"c": {"$exists": False}}], "d.e": {"$gt": "x"}}
    assert shape_of(query) == {
        "a": "int",
        "$or": [{"b": {"$in": ["…"]}}, {"c": {"$exists": False}}],
        "d.e": {"$gt": "str"},
    }
