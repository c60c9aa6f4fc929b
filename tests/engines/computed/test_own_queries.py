"""Rules that query their own model while they are at work."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from mongoengine import IntField
from pymongo.database import Database

from lazymig import MigrationFailed
from lazymig.engines.computed import recursion
from tests.support.handlers import handler, model

MESSAGE = "queries its own model"


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recursion, "_logged", set())
    monkeypatch.setattr(recursion, "_found", set())


def _post(query: Any, **attributes: Any) -> Any:
    """A model whose rule sets `rank` to what a query of the model itself gives."""

    def method(self: Any) -> None:
        self.target = {"rank": {"$exists": False}, "n": {"$exists": True}}
        self.writes = ("rank",)
        value = self.doc["n"]
        self.update = {"$set": {"rank": query(post, value)}}

    rules = handler(migration01__rank=method, **attributes)
    post = model(rules, n=IntField(), rank=IntField())
    return post


def _needing_each_other(post: Any, value: int) -> int:
    """Asks for what the rule itself writes, so that every old document is needed first."""
    return int(post.objects(rank__gt=value).count())


def _next(post: Any, value: int) -> int:
    """Loads the next document, for which the rule loads the next one."""
    following = post.objects(n=value + 1).first()
    return 0 if following is None else int(following.rank) + 1


def _fill(database: Database[Any], count: int) -> None:
    database["post"].insert_many([{"_id": n, "n": n} for n in range(count)])


LOADS = {
    "iteration": lambda post: list(post.objects.order_by("key")),
    "migrate_pending": lambda post: post.migration_handler(post).migrate_pending(max_errors=100),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("query", [_needing_each_other, _next])
def test_a_rule_that_comes_round_to_itself_is_told_of_once(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture, load: str, query: Any
) -> None:
    """One line of the log for the rule, however many documents ask for each other."""
    _fill(mongoengine_db, 60)
    post = _post(query, lazy_timeout=60)
    with caplog.at_level(logging.WARNING, logger="lazymig"):
        if load == "iteration":
            with pytest.raises(MigrationFailed, match=MESSAGE) as caught:
                LOADS[load](post)
            assert (caught.value.rule, caught.value.document_id) == ("migration01__rank", 0)
        else:
            errors = LOADS[load](post).errors
            assert errors
            assert all(MESSAGE in str(error) for error in errors)
    lines = [record.getMessage() for record in caplog.records if MESSAGE in record.getMessage()]
    assert len(lines) == 1
    assert "Post.migration01__rank" in lines[0]
    assert "as_stored()" in lines[0]


def test_a_query_of_what_is_stored_is_answered(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The remedy that the message names works, on loads and in bulk."""
    _fill(mongoengine_db, 60)
    post = _post(lambda post, value: post.objects.as_stored()(n__lt=value).count())
    with caplog.at_level(logging.WARNING, logger="lazymig"):
        assert [each.rank for each in post.objects.order_by("key")] == list(range(60))
    assert caplog.records == []


def test_documents_that_need_a_few_others_are_brought_up_to_date(
    mongoengine_db: Database[Any],
) -> None:
    """A rule may load documents that need the same rule, as long as they do not go round."""
    _fill(mongoengine_db, 10)
    post = _post(_next)
    assert [each.rank for each in post.objects.order_by("key")] == list(range(9, -1, -1))


def test_a_failure_on_the_way_is_the_failure_of_the_first_document(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What fails for the last of a chain is told for the first, with its reason as the cause."""
    _fill(mongoengine_db, 5)

    def query(post: Any, value: int) -> int:
        return 1 // 0 if value == 4 else _next(post, value)

    caplog.set_level(logging.WARNING, logger="lazymig")
    with pytest.raises(MigrationFailed) as caught:
        _post(query).objects.get(key=0)
    assert caught.value.document_id == 0
    reasons = []
    reason: BaseException | None = caught.value
    while reason is not None:
        reasons.append(str(reason))
        reason = reason.__cause__
    assert "ZeroDivisionError" in " ".join(reasons)
    assert sum(MESSAGE in record.getMessage() for record in caplog.records) == 1
