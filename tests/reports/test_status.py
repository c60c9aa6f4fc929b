"""The standing of a model's rules, and the looks that are kept of it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from mongoengine import BooleanField, Document, IntField
from pymongo.database import Database

from lazymig import History, RuleStatus
from lazymig.odm.schema import untouched_collection
from lazymig.operations.journal.collection import client_now
from lazymig.reports.looks import Looks, _standing, look
from lazymig.reports.status import RuleStanding
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, handler, model, rule

DROP_OLD = ({"old": {"$exists": True}}, {"$unset": {"old": ""}})


def _post() -> Any:
    rules = handler(migration01__add=rule(*ADD_ENABLED), migration02__drop=rule(*DROP_OLD))
    return model(rules, enabled=BooleanField(), n=IntField())


def _fill(database: Database[Any]) -> None:
    database["post"].insert_many([{"old": 1}, {"old": 1, "enabled": True}, {"enabled": True}])


def test_each_rule_has_its_counts(any_db: Database[Any]) -> None:
    """A look counts what each rule has left, of how many documents, and which share is done."""
    _fill(any_db)
    standing = look(_post(), any_db["post"])
    assert (standing.total, standing.since, standing.refusal) == (3, None, None)
    assert [(each.name, each.remaining, each.total, each.removable) for each in standing.rules] == [
        ("migration01__add", 1, 3, False),
        ("migration02__drop", 2, 3, False),
    ]
    assert [each.done for each in standing.rules] == [2 / 3, 1 / 3]


def test_a_document_with_two_pending_rules_is_left_once(any_db: Database[Any]) -> None:
    """What is left of a model is counted in documents, not in rules."""
    _fill(any_db)
    standing = look(_post(), any_db["post"])
    assert (standing.total, standing.left, standing.at_least, standing.complete) == (
        3,
        2,
        False,
        False,
    )
    assert standing.share == pytest.approx(1 / 3)


def test_a_model_is_complete_when_no_rule_is_needed(any_db: Database[Any]) -> None:
    """A model is complete once each of its rules can go, and its share is 1 then."""
    any_db["post"].insert_one({"enabled": True})
    standing = look(_post(), any_db["post"])
    assert (standing.left, standing.complete, standing.share) == (0, True, 1.0)


def test_rules_say_whether_they_are_indexed(mongoengine_db: Database[Any]) -> None:
    """A rule has its indexes, or not; without the right to list them, nothing is known."""
    _fill(mongoengine_db)
    post, collection = _post(), mongoengine_db["post"]
    post.migration_handler(post).create_rule_indexes()
    (name,) = (name for name in collection.index_information() if "migration02" in name)
    collection.drop_index(name)
    assert [each.indexed for each in look(post, collection).rules] == [True, False]


def test_several_looks_ask_once_for_what_they_share(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """The journal is made ready once for all models of a call; each model's look is kept."""
    posts = [_post(), _post()]
    _fill(monitored_db)
    looks = Looks()
    command_log.clear()
    for each in posts:
        looks.at(each, untouched_collection(each))
    counts = Counter(command_log.names)
    assert (counts["createIndexes"], counts["update"]) == (1, 2)


def test_only_the_last_look_is_read_where_that_is_enough(any_db: Database[Any]) -> None:
    """However many looks there were, a call that shows rates reads the last of a collection."""
    _fill(any_db)
    post = _post()
    start = client_now() - timedelta(days=1)
    any_db["lazymig_journal"].insert_many(
        {
            "kind": "sample",
            "model": "Post",
            "collection": collection,
            "remaining": {"migration01__add": 10 + number},
            "at": start + timedelta(minutes=number),
            "since": start + timedelta(minutes=number),
        }
        for number in range(20)
        for collection in ("post", "archive")
    )
    standing = Looks(keep=False).at(post, any_db["post"])
    assert len(standing.samples) == 2
    assert standing.samples[0].remaining == {"migration01__add": 29}
    assert standing.since == start + timedelta(minutes=19)
    assert len(look(post, any_db["post"], keep=False).samples) == 21


def test_a_look_is_kept_and_compared_with_the_last(any_db: Database[Any]) -> None:
    """The samples of a look end with its own; the one before says since when rates are meant."""
    _fill(any_db)
    post = _post()
    first = look(post, any_db["post"])
    second = look(post, any_db["post"], keep=False)
    assert second.since is not None
    assert [len(each.samples) for each in (first, second)] == [1, 2]
    assert len(History(any_db).samples(post)) == 1


def test_looks_at_other_collections_are_apart(any_db: Database[Any]) -> None:
    """The looks at one collection of a model are none at another."""
    post = _post()
    for name in ("post", "archive"):
        any_db[name].insert_one({})
    look(post, any_db["post"])
    assert look(post, any_db["archive"]).since is None
    assert look(post, any_db["post"]).since is not None


def test_looking_at_what_is_not_there_makes_nothing(any_db: Database[Any]) -> None:
    """Of a collection that does not exist nothing is known, and no look is kept."""
    standing = look(_post(), any_db["post"])
    assert [(each.done, each.removable) for each in standing.rules] == [(None, False)] * 2
    assert any_db.list_collection_names() == []


def test_a_model_without_rules_has_its_documents(any_db: Database[Any]) -> None:
    """A model without a handler has documents, no rules, and no samples."""

    class Plain(Document):
        pass

    any_db["plain"].insert_many([{}, {}])
    standing = look(Plain, any_db["plain"])
    assert (standing.total, standing.rules, standing.samples) == (2, (), ())


def _status(remaining: int | None) -> RuleStatus:
    return RuleStatus("x", 1, "lazy", remaining, form="static", converges=True, undetermined=False)


@pytest.mark.parametrize(
    ("remaining", "total", "done"), [(5, 5, 0.0), (0, 2, 1.0), (None, 2, None)]
)
def test_a_total_that_is_too_low(remaining: int | None, total: int, done: float | None) -> None:
    """The total may be an estimate: no share is below zero."""
    standing: RuleStanding = _standing(_status(remaining), 2, [])
    assert (standing.total, standing.done) == (total, done)
