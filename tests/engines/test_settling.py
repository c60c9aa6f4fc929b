"""Documents found by their `_id`s, and brought up to date."""

from __future__ import annotations

from typing import Any

from mongoengine import IntField, StringField
from pymongo.database import Database

from lazymig.engines.settling import Search, find_old, find_refused, rules_matching, settle
from lazymig.odm.plans import family_of
from lazymig.rules.plan import Plan
from tests.support.handlers import handler, model, rule

Raw = dict[str, Any]

ADD = rule({"n": {"$exists": False}}, {"$set": {"n": 1}})
WORDS = rule({"word": {"$nin": ["done", None]}}, {"$set": {"word": "done"}})


def _plan(**rules: Any) -> Plan:
    post = model(handler(**rules), n=IntField(), word=StringField())
    family = family_of(post)
    assert family is not None
    assert family.only is not None
    return family.only


def test_no_more_than_one_beyond_the_limit_is_looked_for(mongoengine_db: Database[Raw]) -> None:
    """A limit bounds what is read; without one all old documents are found, each once."""
    mongoengine_db.post.insert_many({"_id": number} for number in range(300))
    plan = _plan(migration01__add=ADD)
    search = Search()

    assert (
        len(find_old(mongoengine_db.post, plan.query_of_any(plan.starting), [{}], 5, search)) == 6
    )
    assert (
        len(
            find_old(
                mongoengine_db.post,
                plan.query_of_any(plan.starting),
                [{}, {"_id": 7}],
                None,
                search,
            )
        )
        == 300
    )
    assert (
        len(
            find_old(
                mongoengine_db.post,
                plan.query_of_any(plan.starting),
                [{"_id": {"$lt": 3}}],
                5,
                search,
            )
        )
        == 3
    )


def test_a_target_that_compares_strings_is_asked_without_the_collation(
    mongoengine_db: Database[Raw],
) -> None:
    """A query is asked under its collation, and the targets of rules by the characters."""
    documents = [{"_id": 1, "word": "DONE"}, {"_id": 2, "word": "done"}, {"_id": 3, "word": "new"}]
    mongoengine_db.post.insert_many([*documents, *({"_id": n} for n in range(10, 1500))])
    plan = _plan(migration01__words=WORDS)
    search = Search(collation={"locale": "en", "strength": 2})

    found = find_old(mongoengine_db.post, plan.query_of_any(plan.starting), [{}], 5, search)
    assert sorted(found.values()) == [1, 3]
    found = find_old(
        mongoengine_db.post, plan.query_of_any(plan.starting), [{"word": "DoNe"}], 5, search
    )
    assert list(found.values()) == [1]
    assert (
        len(find_old(mongoengine_db.post, plan.query_of_any(plan.starting), [{}], 0, search)) == 1
    )


def test_documents_with_large_ids_are_settled_in_small_updates(
    mongoengine_db: Database[Raw],
) -> None:
    """No update is larger than MongoDB takes, whatever the `_id`s are."""
    mongoengine_db.post.insert_many({"_id": f"{number}" + "x" * 600_000} for number in range(40))
    plan = _plan(migration01__add=ADD)
    found = find_old(mongoengine_db.post, plan.query_of_any(plan.starting), [{}], None, Search())

    assert settle(mongoengine_db.post, [(plan, found)]) == {}
    assert mongoengine_db.post.count_documents({"n": 1}) == 40


def test_one_refused_document_stops_no_other(mongoengine_db: Database[Raw]) -> None:
    """It is told by its `_id` and its plan, gets no later rule, and is what it is stored as."""
    mongoengine_db.post.create_index("n", unique=True, sparse=True)
    mongoengine_db.post.insert_many([{"_id": 0, "n": 7, "word": "done"}])
    mongoengine_db.post.insert_many({"_id": n, "old": min(n, 7), "word": "new"} for n in (5, 6, 7))
    plan = _plan(
        migration01__rename=rule({"old": {"$exists": True}}, {"$rename": {"old": "n"}}),
        migration02__words=WORDS,
    )
    found = find_old(mongoengine_db.post, plan.query_of_any(plan.starting), [{}], None, Search())
    names = ("migration01__rename", "migration02__words")
    assert rules_matching(mongoengine_db.post, plan, found) == names

    (refusal,) = settle(mongoengine_db.post, [(plan, found)]).values()
    assert (refusal.document_id, refusal.plan) == (7, plan)
    assert mongoengine_db.post.find_one({"_id": 7}) == {"_id": 7, "old": 7, "word": "new"}
    assert mongoengine_db.post.count_documents({"word": "done"}) == 3
    refused = {7: refusal}
    assert find_refused(mongoengine_db.post, refused, {"n": 7}, None) == {}
    assert list(find_refused(mongoengine_db.post, refused, {"old": 7}, None).values()) == [7]
