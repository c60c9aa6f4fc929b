"""Only a rule that provably ends its match starts on a match (invariant 3 of the design)."""

from __future__ import annotations

import itertools
import warnings
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from mongoengine import (
    DateTimeField,
    DictField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)
from pymongo.database import Database

from lazymig import ConvergenceWarning, MigrationFailed
from tests.support.handlers import handler, model, rule


class Blog(EmbeddedDocument):
    """A blog post inside a document."""

    title = StringField()
    tags = ListField(StringField())


def _emptying(**attributes: Any) -> Any:
    method = rule({"blog_post": {"$exists": True}}, {"$set": {"blog_post.tags": []}})
    with pytest.warns(
        ConvergenceWarning, match=r"Post\.migration01__add_tags: .*narrow the target"
    ):
        return model(
            handler(migration01__add_tags=method, **attributes),
            blog_post=EmbeddedDocumentField(Blog),
            n=IntField(),
        )


def test_the_blog_posts_keep_their_tags(mongoengine_db: Database[Any]) -> None:
    """A rule "blog_post exists: set its tags to []" warns, and empties none, ever."""
    mongoengine_db["post"].insert_one({"_id": 1, "blog_post": {"title": "x", "tags": ["a"]}})
    post = _emptying()
    assert post.objects.get().blog_post.tags == ["a"]
    report = post.migration_handler(post).migrate_pending()
    assert (report.matched, report.modified, report.complete) == (0, 0, False)
    assert "would still match" in str(report.errors[0])
    post.migration_handler(post).migrate(1)
    stored = mongoengine_db["post"].find_one()
    assert stored == {"_id": 1, "blog_post": {"title": "x", "tags": ["a"]}}


def test_a_rule_that_does_not_converge_starts_on_a_load_error(
    mongoengine_db: Database[Any],
) -> None:
    """A document that fails to load starts also the rules that no match starts."""
    mongoengine_db["post"].insert_one({"_id": 1, "lost": 1, "n": 1})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__drop=rule({"n": 1}, {"$unset": {"lost": ""}})), n=IntField()
        )
    assert post.objects.get().n == 1
    assert mongoengine_db["post"].find_one() == {"_id": 1, "n": 1}


def test_migrate_pending_refuses_what_would_match_again(mongoengine_db: Database[Any]) -> None:
    """In bulk a rule that would leave its match is refused, but for documents that do not load.

    To those it is applied, as a load would do it; they match still, and are told of as well.
    """
    mongoengine_db["post"].insert_many([{"_id": n, "n": 1, "hits": 0} for n in range(10)])
    mongoengine_db["post"].update_many({"_id": {"$in": [3, 7]}}, {"$set": {"lost": 1}})
    update = {"$unset": {"lost": ""}, "$inc": {"hits": 1}}
    rules = handler(migration01__drop=rule({"n": 1}, update))
    with pytest.warns(ConvergenceWarning):
        post = model(rules, n=IntField(), hits=IntField())
    report = rules(post).migrate_pending(max_errors=10)
    assert (report.matched, report.modified, report.complete) == (2, 2, False)
    reasons = {error.document_id: str(error) for error in report.errors}
    assert sorted(reasons) == list(range(10))
    for number, reason in reasons.items():
        assert ("still matches after" in reason) is (number in (3, 7))
        assert ("would still match" in reason) is (number not in (3, 7))
    hits = {doc["_id"]: doc["hits"] for doc in mongoengine_db["post"].find()}
    assert hits == {n: int(n in (3, 7)) for n in range(10)}
    assert len(list(post.objects)) == 10


def test_a_converging_rule_gives_no_warning(mongoengine_db: Database[Any]) -> None:
    """A rule whose update provably ends its match is defined in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(handler(migration01__x=rule({"a": 1}, {"$set": {"a": 2}})), a=IntField())


def test_a_bulk_rule_need_not_converge(mongoengine_db: Database[Any]) -> None:
    """A rule that only migrate_all runs is run once on what matches, and warns of nothing."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1})
    rules = handler(allmigration01__x=rule({"n": {"$gt": 0}}, {"$inc": {"n": 1}}))
    report = rules(model(rules, n=IntField())).migrate_all()
    assert (report.matched, report.modified) == (1, 1)
    assert mongoengine_db["post"].find_one() == {"_id": 1, "n": 2}


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)


def test_now_means_the_time_of_the_migration(mongoengine_db: Database[Any]) -> None:
    """A static rule's update is evaluated when it is applied, not when the class is defined."""

    def method(self: Any) -> None:
        self.target = {"at": {"$exists": False}}
        self.update = {"$set": {"at": _now()}}

    post = model(handler(migration01__at=method), at=DateTimeField())
    defined = _now()
    mongoengine_db["post"].insert_one({"_id": 1})
    loaded = post.objects.get()
    assert loaded.at >= defined - timedelta(milliseconds=1)


def test_a_static_update_that_varies_is_taken_as_it_is(mongoengine_db: Database[Any]) -> None:
    """Each application of a static rule writes the update of its own evaluation."""
    counter = itertools.count()

    def method(self: Any) -> None:
        self.target = {"serial": {"$exists": False}}
        self.update = {"$set": {"serial": next(counter)}}

    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])
    post = model(handler(migration01__serial=method), serial=IntField())
    serials = [post.objects.get(key=n).serial for n in range(3)]
    assert len(set(serials)) == 3
    stored = [doc["serial"] for doc in mongoengine_db["post"].find().sort("_id")]
    assert stored == serials


def test_a_static_update_that_stops_converging_is_not_applied(
    mongoengine_db: Database[Any],
) -> None:
    """An update that no longer ends the match, whatever the definition said, is not started."""
    value = ["new"]

    def method(self: Any) -> None:
        self.target = {"state": "old"}
        self.update = {"$set": {"state": value[0], "touched": 1}}

    post = model(handler(migration01__x=method), state=StringField(), touched=IntField())
    value[0] = "old"
    mongoengine_db["post"].insert_one({"_id": 1, "state": "old"})
    with pytest.raises(MigrationFailed, match="would still match"):
        post.objects.get()
    report = post.migration_handler(post).migrate_pending()
    assert (report.modified, [error.document_id for error in report.errors]) == (0, [1])
    assert mongoengine_db["post"].find_one() == {"_id": 1, "state": "old"}
    value[0] = "new"
    assert post.objects.get().state == "new"


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_computed_update_that_does_not_converge_is_refused(
    mongoengine_db: Database[Any], on_error: str
) -> None:
    """Where only the document can tell, each document's own update decides whether it is applied.

    One that would match again is never written, and is treated as any that cannot be migrated.
    """

    def method(self: Any) -> None:
        self.target = {"n": {"$gt": 0}}
        self.update = {"$set": {"n": 0}} if self.doc["n"] < 5 else {"$inc": {"n": 1}}

    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(10)])
    post = model(handler(migration01__x=method, on_error=on_error), n=IntField())
    for _ in range(2):
        if on_error == "skip":
            assert [p.n for p in post.objects.order_by("key")] == [0, 0, 0, 0, 0, 5, 6, 7, 8, 9]
        else:
            with pytest.raises(MigrationFailed, match="would still match"):
                list(post.objects.order_by("key"))
            assert [p.n for p in post.objects(key__lt=5).order_by("key")] == [0, 0, 0, 0, 0]
        stored = [doc["n"] for doc in mongoengine_db["post"].find().sort("_id")]
        assert stored == [0, 0, 0, 0, 0, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("load", [lambda post: list(post.objects), lambda post: post.objects.get()])
def test_the_users_target_is_never_changed(mongoengine_db: Database[Any], load: Any) -> None:
    """Targets and updates shared by a module are the same after loads, reports and bulk runs."""
    target: dict[str, Any] = {"sub": {"$exists": False}, "$or": [{"n": 1}, {"n": {"$in": [2]}}]}
    update: dict[str, Any] = {"$set": {"sub": {"a": [1]}}}
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1})
    rules = handler(migration01__x=rule(target, update), allmigration01__y=rule(target, update))
    post = model(rules, n=IntField(), sub=DictField())
    assert load(post)
    rules(post).migrate_pending()
    rules(post).migrate_all()
    rules(post).get_deprecated()
    rules(post).get_status()
    assert target == {"sub": {"$exists": False}, "$or": [{"n": 1}, {"n": {"$in": [2]}}]}
    assert update == {"$set": {"sub": {"a": [1]}}}
