"""An old version of the application that writes during a load, and rules that are not to blame."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

import mongoengine
import pytest
from mongoengine import BooleanField, IntField, StringField
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from lazymig import MigrationConflict, MigrationError, MigrationFailed
from tests.support.handlers import handler, model, rule
from tests.support.server import CLIENT_OPTIONS


class OldApplication(monitoring.CommandListener):
    """Writes to the database right after lazymig's own writes, as often as it is told to."""

    def __init__(self, write: Callable[[], object]) -> None:
        self.write = write
        self.left = 0
        self.seen: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing to do yet."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """A write that has failed changes nothing."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Write the old shape back behind a write of lazymig."""
        if event.command_name in ("update", "findAndModify"):
            self.seen.append(event.command_name)
            if self.left:
                self.left -= 1
                # The time limit of the load is none of its own.
                Context().run(self.write)


@pytest.fixture
def old_application(
    server_uri: str, database: Database[Any], client: MongoClient[Any]
) -> Iterator[OldApplication]:
    """The old application; MongoEngine's default alias is a client that it listens to."""
    posts = client[database.name]["post"]
    listener = OldApplication(lambda: posts.update_one({"_id": 1}, {"$set": {"status": "OLD"}}))
    mongoengine.connect(
        database.name, host=server_uri, event_listeners=[listener], **CLIENT_OPTIONS
    )
    yield listener
    mongoengine.disconnect()


def _computed(self: Any) -> None:
    self.target = {"status": "OLD"}
    self.update = {"$set": {"status": str(self.doc["status"]).lower()}}


def _never_twice(self: Any) -> None:
    self.target = {"status": "OLD"}
    self.update = {"$set": {"status": "old"}, "$inc": {"n": 1}}


RULES = {
    "static": rule({"status": "OLD"}, {"$set": {"status": "old"}}),
    "computed": _computed,
    "not repeatable": _never_twice,
    "judged by MongoDB": rule(
        {"status": "OLD", "$expr": {"$eq": ["$status", "OLD"]}}, {"$set": {"status": "old"}}
    ),
    "pipeline": rule({"status": "OLD"}, [{"$set": {"status": "old"}}]),
}

LOADS = {
    "get": lambda post: post.objects.get(key=1),
    "iteration": lambda post: {each.key: each for each in post.objects}[1],
    "in_bulk": lambda post: post.objects.in_bulk([1])[1],
    "only": lambda post: post.objects.only("status").get(key=1),
    "exclude": lambda post: post.objects.exclude("n").get(key=1),
    "reload": lambda post: post(key=1).reload(),
}


def _post(method: Any, **attributes: Any) -> Any:
    rules = handler(migration01__lower=method, **attributes)
    return model(rules, status=StringField(), n=IntField(), enabled=BooleanField())


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("times", [1, 2])
def test_what_was_written_back_is_brought_up_to_date(
    old_application: OldApplication,
    database: Database[Any],
    caplog: pytest.LogCaptureFixture,
    load: Any,
    method: Any,
    times: int,
) -> None:
    """A document that is old again after lazymig's write is loaded and stored in the new shape."""
    database["post"].insert_many([{"_id": n, "status": "OLD", "n": 0} for n in range(3)])
    post = _post(method)
    old_application.left = times
    with caplog.at_level(logging.WARNING, logger="lazymig"):
        assert load(post).status == "old"
    assert database["post"].find_one({"_id": 1})["status"] == "old"
    assert caplog.records == []
    assert old_application.left == 0


def test_another_old_shape_is_brought_up_to_date_as_well(
    old_application: OldApplication, database: Database[Any]
) -> None:
    """What is written meanwhile may be of another old shape than the document was."""
    database["post"].insert_one({"_id": 1, "status": "new"})
    rules = handler(
        migration01__lower=RULES["static"],
        migration02__enable=rule({"enabled": {"$exists": False}}, {"$set": {"enabled": True}}),
    )
    post = model(rules, status=StringField(), enabled=BooleanField())
    old_application.left = 1
    loaded = post.objects.get(key=1)
    assert (loaded.status, loaded.enabled) == ("old", True)


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("load", ["get", "only"])
def test_who_writes_back_at_each_attempt_is_told_of(
    old_application: OldApplication,
    database: Database[Any],
    caplog: pytest.LogCaptureFixture,
    load: str,
    method: Any,
) -> None:
    """After a bounded number of attempts the error says who is to blame, and it is no rule."""
    database["post"].insert_one({"_id": 1, "status": "OLD", "n": 0})
    post = _post(method)
    old_application.left = 1000
    caplog.set_level(logging.WARNING, logger="lazymig")
    with pytest.raises(MigrationConflict) as caught:
        LOADS[load](post)
    assert [record.getMessage() for record in caplog.records] == [str(caught.value)]
    assert "old version of the application" in str(caught.value)
    assert "end the match" not in str(caught.value)
    assert (caught.value.rule, caught.value.document_id) == (None, 1)
    assert len(old_application.seen) <= 10


def test_neighbours_of_a_document_that_is_written_back_are_loaded(
    old_application: OldApplication, database: Database[Any]
) -> None:
    """The documents of the same batch are up to date, whatever happens to one of them."""
    database["post"].insert_many([{"_id": n, "status": "OLD"} for n in range(3)])
    post = _post(RULES["static"], on_error="skip")
    old_application.left = 1000
    assert [each.status for each in post.objects.order_by("key")] == ["old", "OLD", "old"]


def test_no_attempt_outlasts_the_time_limit(
    old_application: OldApplication, database: Database[Any]
) -> None:
    """When the time of the load is up, it is not tried again."""
    database["post"].insert_one({"_id": 1, "status": "OLD"})
    post = _post(RULES["static"], lazy_timeout=0.05)
    write = old_application.write

    def write_late() -> None:
        time.sleep(0.1)
        write()

    old_application.write = write_late
    old_application.left = 1000
    with pytest.raises(MigrationError):
        post.objects.get(key=1)
    assert len(old_application.seen) <= 2


def test_a_rule_that_leaves_its_match_is_tried_once_more_and_named(
    old_application: OldApplication, database: Database[Any]
) -> None:
    """Where the update itself leaves the document old, the error names the rule, as ever."""
    nested = [{"old": 1}, {"old": 2}]
    database["post"].insert_one({"_id": 1, "parts": nested, "n": 0})
    method = rule({"parts.old": {"$exists": True}}, {"$unset": {"parts.old": ""}, "$inc": {"n": 1}})
    post = model(handler(migration01__drop=method), parts=mongoengine.DynamicField(), n=IntField())
    with pytest.raises(MigrationFailed, match="let the update end the match") as caught:
        post.objects.get(key=1)
    assert caught.value.rule == "migration01__drop"
    assert database["post"].find_one() == {"_id": 1, "parts": nested, "n": 2}
