"""A run in which a later rule brings documents back to an earlier one is not complete."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from mongoengine import DynamicField, StringField
from pymongo.database import Database

from lazymig import ConvergenceWarning, History
from tests.support.handlers import copying, handler, model, rule

AS_TEXT = rule({"v": {"$type": "number"}}, [{"$set": {"v": {"$toString": "$v"}}}])
TWO = rule({"v": {"$exists": False}}, {"$set": {"v": 2}})


def _post(rules: Any) -> Any:
    return model(rules, v=DynamicField(), n=DynamicField(), s=StringField())


@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
def test_a_rule_that_is_led_back_to_is_named(any_db: Database[Any]) -> None:
    """The report and the journal name it; the next run applies it, and is complete."""
    any_db["post"].insert_many([{"_id": 1, "v": 1}, {"_id": 2}])
    text = rule({"v": {"$in": [1, 2]}}, {"$set": {"v": "a number"}})
    rules = handler(migration01__text=text, migration02__two=TWO)
    migration = rules(_post(rules))
    report = migration.migrate_pending()
    assert (report.state, report.complete, report.reopened) == (
        "finished",
        False,
        ("migration01__text",),
    )
    (run,) = History(any_db).runs()
    assert (run.state, run.complete, run.reopened) == ("finished", False, ("migration01__text",))
    report = migration.migrate_pending()
    assert (report.complete, report.reopened) == (True, ())
    assert {raw["v"] for raw in any_db["post"].find()} == {"a number"}


def test_documents_that_stay_away_leave_it_complete(mongoengine_db: Database[Any]) -> None:
    """Where later rules may lead back and did not, nothing is named."""
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": "b"}])
    rules = handler(migration01__text=AS_TEXT, migration02__copy=copying("n", "v"))
    migration = rules(_post(rules))
    report = migration.migrate_pending()
    assert (report.complete, report.reopened) == (False, ("migration01__text",))
    mongoengine_db["post"].insert_one({"_id": 3, "n": "c"})
    assert migration.migrate_pending().complete


def test_an_update_that_certainly_leads_back_is_warned_of() -> None:
    """The definition warns of a later rule whose every document matches an earlier one again."""
    with pytest.warns(ConvergenceWarning) as caught:
        _post(handler(migration01__text=AS_TEXT, migration02__two=TWO))
    (said,) = [str(each.message) for each in caught]
    assert said.startswith("Post.migration02__two: after its update each document matches ")
    assert "migration01__text again" in said


TEXT_TWO = rule({"v": {"$exists": False}}, {"$set": {"v": "2"}})


@pytest.mark.parametrize(
    "rules",
    [
        {"migration01__two": TWO, "migration02__text": AS_TEXT},
        {"migration01__text": AS_TEXT, "migration02__two": TEXT_TWO},
    ],
)
def test_whoever_follows_the_advice_has_no_warning(rules: dict[str, Any]) -> None:
    """The other order, or a value that is as the earlier rule would make it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _post(handler(**rules))


def test_a_refused_document_is_not_named_again(mongoengine_db: Database[Any]) -> None:
    """What is in quarantine is told as refused, not as brought back."""
    mongoengine_db["post"].insert_many([{"_id": 1, "v": 1, "s": "x"}, {"_id": 2, "v": 1}])
    mongoengine_db["post"].create_index("v", unique=True, partialFilterExpression={"v": "1"})
    rules = handler(migration01__text=AS_TEXT, migration02__copy=copying("n", "v"))
    report = rules(_post(rules)).migrate_pending(max_errors=5)
    assert len(report.errors) == 1
    assert report.reopened == ()
