"""explain_migration(): what it says of rules is what happens."""

from __future__ import annotations

import re

import pytest
from mongoengine import BooleanField, IntField, StringField

from lazymig import without_writing
from lazymig.engines.access import is_mongomock
from tests.support.handlers import ADD_ENABLED, copying, copying_in_python, handler, model, rule

DOUBLED = [{"$set": {"words": {"$multiply": [{"$toInt": "$words"}, 2]}}}]
OLD = {"_id": 1, "login": "ada", "text": "a b"}


def counting(self):
    """A computed rule that the server computes, of texts."""
    self.target = {"text": {"$exists": True}, "words": {"$exists": False}}
    self.update = {"$set": {"words": len(self.doc["text"].split())}}


# Each rule, and a query by what it writes.
RULES = {
    "migration01__enable": ({"enabled": True}, rule(*ADD_ENABLED)),
    "migration02__rename": (
        {"name": "ada"},
        rule({"login": {"$exists": True}}, {"$rename": {"login": "name"}}),
    ),
    "migration03__copy": ({"copied": "a b"}, copying("text", "copied")),
    "migration04__count": ({"words": 2}, counting),
    "migration05__compute": ({"computed": "a b"}, copying_in_python("text", "computed")),
}


@pytest.fixture
def posts(any_db):
    """A model with these rules, and an old document."""
    any_db["post"].insert_one(OLD)
    fields = {name: StringField() for name in ("name", "text", "copied", "computed")}
    rules = handler(**{name: made for name, (_, made) in RULES.items()})
    return model(rules, enabled=BooleanField(), words=IntField(), **fields)


@pytest.fixture
def is_imitation(any_db):
    """Whether there is no server."""
    return is_mongomock(any_db)


def told(text, what):
    """The rules in one of the first lines."""
    found = re.search(rf"^Rules that queries {what}: (.*)\.$", text, re.MULTILINE)
    return found[1].split(", ") if found else []


def test_every_pending_rule_is_seen_through_or_not(posts):
    """Each rule is named as one that queries see through, or as one that they do not."""
    text = posts.objects.explain_migration()
    assert sorted(told(text, "see through") + told(text, "do not see through")) == list(RULES)


def test_queries_see_through_the_rules_that_are_named(posts, any_db, is_imitation):
    """A query by what a rule writes finds the old document; it is left alone if seen through."""
    text = posts.objects.explain_migration()
    for name, (query, _) in RULES.items():
        explained = posts.objects(**query).explain_migration()
        if name in told(text, "see through"):
            assert "Settled" not in explained
            assert posts.objects(**query).count() == 1
            assert any_db["post"].find_one() == OLD
        elif is_imitation:
            assert f"Settled by: {name}." in explained
            assert posts.objects(**query).count() == 1
            assert any_db["post"].find_one() != OLD
            any_db["post"].replace_one({"_id": 1}, OLD)
        else:
            assert re.search(rf"(Settled|Shown) by: {name}\.", explained)


def test_only_a_server_computes(posts, any_db, is_imitation):
    """Without a server a translated rule is named as computed in Python, and its query settles."""
    text = posts.objects(words=2).explain_migration()
    name = "migration04__count"
    assert (name in told(text, "see through")) is not is_imitation
    assert ("computed in Python here" in text) is is_imitation
    assert f"{name} (translated" in text


def test_aggregations_settle_where_they_are_said_to(posts, any_db, is_imitation):
    """Aggregations settle without a server, and are shown old documents with one."""
    text = posts.objects.explain_migration()
    assert ("of what a rule writes settle" in text) is is_imitation
    assert posts.objects.distinct("name") == ["ada"]
    assert (any_db["post"].find_one() != OLD) is is_imitation


def test_reads_that_write_nothing_are_explained(posts, any_db):
    """Where reads of the model write nothing, the text says that what would settle raises."""
    with without_writing(posts):
        assert "raises ShowError" in posts.objects(computed="a b").explain_migration()
    assert any_db["post"].find_one() == OLD


def test_where_old_documents_are_read_apart_both_plans_are_said(mongoengine_db):
    """Of a filter that is asked of shown documents, the plans are those of what is sent."""
    rules = {"migration03__count": rule({"words": {"$type": "string"}}, DOUBLED)}
    post = model(handler(**rules), words=IntField(), meta={"indexes": ["words"]})
    post.ensure_indexes()
    mongoengine_db["post"].insert_many([{"_id": 1, "words": "2"}, {"_id": 2, "words": 3}])
    text = post.objects(words__gt=2).explain_migration()
    old, others = text.split("Old documents are found by ")[1].split("All others are found by ")
    assert old.startswith("{'words': {'$type': 'string'}}.\nPlan: IXSCAN words_1.")
    assert "Plan: IXSCAN words_1." in others
    assert "COLLSCAN" not in text
    assert {each.key for each in post.objects(words__gt=2)} == {1, 2}
