"""Rule indexes in a database: built, listed, dropped, left alone by everybody else."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import Document, IntField, StringField
from pymongo.errors import OperationFailure

from lazymig import History, LazyMigrationMixin, RuleIndexError, diff
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, handler, model, rule

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
OPEN = {"strict": False}


def _names(database: Any) -> list[str]:
    return sorted(database["post"].index_information())


def test_what_was_built_is_listed_and_dropped(mongoengine_db: Any) -> None:
    """Each rule has its index, which holds what is old and shrinks with it, until it is dropped."""
    rules = handler(
        migration01__rename=rule(*RENAME),
        allmigration01__enable=rule(*ADD_ENABLED),
        allmigration02__size=rule({"tags": {"$size": 0}}, {"$unset": {"tags": ""}}),
    )
    migration = rules(model(rules, meta=OPEN))
    mongoengine_db["post"].insert_many(
        [{"_id": n, "email": "e", "enabled": True} for n in range(5)] + [{"_id": 9, "mail": "m"}]
    )
    before = migration.rule_indexes()
    assert [(each.name, each.exists, each.documents) for each in before] == [
        ("lazymig_migration01__rename", False, None),
        ("lazymig_allmigration01__enable", False, None),
        (None, False, None),
    ]
    assert before[2].reason == "no index finds documents by $size on 'tags'"
    assert _names(mongoengine_db) == ["_id_"]

    built = migration.create_rule_indexes()

    assert [(each.keys, each.filter, each.documents) for each in built[:2]] == [
        (("mail",), {"mail": {"$exists": True}}, 1),
        (("enabled",), {"enabled": None}, 1),
    ]
    assert migration.create_rule_indexes() == built
    migration.migrate_pending()
    assert [each.documents for each in migration.rule_indexes()] == [0, 1, None]
    assert migration.drop_rule_indexes() == [each.name for each in built[:2]]
    assert _names(mongoengine_db) == ["_id_"]
    assert migration.drop_rule_indexes() == []


def test_an_index_that_cannot_be_built_takes_back_the_others(mongoengine_db: Any) -> None:
    """The error names model, rule, index and what to do, and nothing is left half-done."""
    rules = handler(
        migration01__rename=rule(*RENAME),
        migration02__enable=rule(*ADD_ENABLED),
    )
    migration = rules(model(rules, meta=OPEN))
    posts = mongoengine_db["post"]
    for n in range(62):
        posts.create_index(f"field{n}")
    before = _names(mongoengine_db)

    with pytest.raises(RuleIndexError) as caught:
        migration.create_rule_indexes()

    assert _names(mongoengine_db) == before
    error = caught.value
    assert (error.model, error.rule) == ("Post", "migration02__enable")
    assert error.index == "lazymig_migration02__enable"
    assert "64" in str(error)
    assert str(error).startswith("Post.migration02__enable: the index lazymig_migration02__enable")
    assert isinstance(error.__cause__, OperationFailure)


def test_an_index_of_another_target_is_named_and_can_be_dropped(mongoengine_db: Any) -> None:
    """A rule whose target has changed is told that the index of its name is for the former one."""
    former = handler(migration01__rename=rule({"nick": "a"}, {"$unset": {"nick": ""}}))
    former(model(former, meta=OPEN)).create_rule_indexes()
    rules = handler(migration01__rename=rule(*RENAME))
    migration = rules(model(rules, meta=OPEN))

    (row,) = migration.rule_indexes()
    assert not row.exists
    assert "another target" in str(row.reason)
    with pytest.raises(RuleIndexError, match=r"drop_rule_indexes\(\)"):
        migration.create_rule_indexes()
    migration.drop_rule_indexes()
    assert migration.create_rule_indexes()[0].exists


def test_what_a_rule_has_left_that_is_gone_is_listed_last(mongoengine_db: Any) -> None:
    """The index of a rule that was deleted is shown with a reason, and dropped with the others."""
    former = handler(migration01__enable=rule(*ADD_ENABLED), migration02__rename=rule(*RENAME))
    former(model(former, meta=OPEN)).create_rule_indexes()
    rules = handler(migration02__rename=rule(*RENAME))
    migration = rules(model(rules, meta=OPEN))

    rows = migration.rule_indexes()

    assert [(row.rule, row.reason) for row in rows] == [
        ("migration02__rename", None),
        ("migration01__enable", "the rule is gone, and so may the index"),
    ]
    assert migration.drop_rule_indexes() == [
        "lazymig_migration01__enable",
        "lazymig_migration02__rename",
    ]


def test_an_index_that_is_there_by_another_name_serves(mongoengine_db: Any) -> None:
    """MongoDB builds no index twice, so one of the user's counts, and is never dropped."""
    mongoengine_db["post"].create_index("mail", partialFilterExpression=RENAME[0])
    rules = handler(migration01__rename=rule(*RENAME), migration02__again=rule(*RENAME))
    migration = rules(model(rules, meta=OPEN))

    rows = migration.create_rule_indexes()

    assert [row.name for row in rows] == ["mail_1", "mail_1"]
    assert migration.drop_rule_indexes() == []
    assert "mail_1" in _names(mongoengine_db)


COLLATION = {"locale": "en", "strength": 2}


@pytest.mark.parametrize(("own", "serves"), [(COLLATION, True), ({"locale": "simple"}, False)])
def test_an_index_serves_that_has_the_collation_of_the_collection(
    mongoengine_db: Any, own: Any, serves: bool
) -> None:
    """Indexes have the default collation of their collection, which its queries have, too."""
    mongoengine_db.create_collection("post", collation=COLLATION)
    mongoengine_db["post"].create_index(
        "mail", partialFilterExpression=RENAME[0], collation=own, name="own"
    )
    rules = handler(migration01__rename=rule(*RENAME), migration02__enable=rule(*ADD_ENABLED))
    migration = rules(model(rules, meta=OPEN))

    rows = migration.create_rule_indexes()

    name = "own" if serves else "lazymig_migration01__rename"
    assert [(row.name, row.exists) for row in rows] == [
        (name, True),
        ("lazymig_migration02__enable", True),
    ]
    assert migration.create_rule_indexes() == rows


def test_rules_of_two_classes_have_indexes_of_their_own(mongoengine_db: Any) -> None:
    """In one collection an inherited rule shares its index; another one of its name does not."""
    rename, enable = rule(*RENAME), rule(*ADD_ENABLED)

    class BaseRules(handler(migration01__change=rename, migration02__enable=enable)):  # type: ignore[misc]
        pass

    class SubRules(BaseRules):
        migration01__change = rule({"nick": {"$exists": True}}, {"$unset": {"nick": ""}})

    class Base(LazyMigrationMixin, Document):
        meta = {"collection": "post", "allow_inheritance": True, "strict": False}
        migration_handler = BaseRules

    class Sub(Base):
        migration_handler = SubRules

    base, sub = BaseRules(Base), SubRules(Sub)
    base.create_rule_indexes()
    rows = sub.create_rule_indexes()

    assert [(row.name, row.keys) for row in rows] == [
        ("lazymig_migration01__change_Sub", ("nick",)),
        ("lazymig_migration02__enable", ("enabled",)),
    ]
    assert "lazymig_migration01__change" in _names(mongoengine_db)
    assert base.drop_rule_indexes() == [
        "lazymig_migration01__change",
        "lazymig_migration02__enable",
    ]
    assert sub.drop_rule_indexes() == ["lazymig_migration01__change_Sub"]


def test_declared_indexes_are_compared_without_them(mongoengine_db: Any) -> None:
    """MongoEngine calls no rule index extra, nor takes one for a declared index that is missing."""
    rules = handler(migration01__rename=rule(*RENAME))
    post = model(
        rules,
        mail=StringField(),
        email=StringField(),
        meta={"indexes": ["mail"], "auto_create_index": False},
    )
    rules(post).create_rule_indexes()
    mongoengine_db["post"].create_index("size")

    assert post.compare_indexes() == {"missing": [[("mail", 1)]], "extra": [[("size", 1)]]}
    assert [each.path for each in diff(post).findings if each.kind.startswith("index")] == [
        "mail",
        "size",
    ]
    post.ensure_indexes()
    assert post.compare_indexes()["missing"] == []
    assert _names(mongoengine_db) == ["_id_", "lazymig_migration01__rename", "mail_1", "size_1"]


def test_mongomock_says_that_it_has_none(mock_db: Any) -> None:
    """Without a server nothing is built, and the error says that answers are the same without."""
    rules = handler(migration01__rename=rule(*RENAME))
    migration = rules(model(rules, key=IntField(primary_key=True), meta=OPEN))
    with pytest.raises(RuleIndexError, match="need a server"):
        migration.create_rule_indexes()
    assert [row.exists for row in migration.rule_indexes()] == [False]
    assert migration.drop_rule_indexes() == []


def test_a_view_takes_none(mongoengine_db: Any) -> None:
    """A view has no indexes, so that the error names the collection that has."""
    mongoengine_db.command("create", "seen", viewOn="post", pipeline=[])
    rules = handler(migration01__rename=rule(*RENAME))
    with pytest.raises(RuleIndexError, match="is a view"):
        rules(model(rules, meta=OPEN)).create_rule_indexes(mongoengine_db["seen"])


def test_no_right_is_said_with_the_right_that_is_missing(
    mongoengine_db: Any, monkeypatch: Any
) -> None:
    """Who may not build indexes learns which right that takes."""
    rules = handler(migration01__rename=rule(*RENAME))
    migration = rules(model(rules, meta=OPEN))

    def refuse(*_args: Any, **_options: Any) -> None:
        raise OperationFailure("not authorized on db to execute command { createIndexes }", 13)

    monkeypatch.setattr("pymongo.collection.Collection.create_index", refuse)
    with pytest.raises(RuleIndexError, match="createIndex, of the role readWrite"):
        migration.create_rule_indexes()


def test_a_run_over_a_whole_collection_can_use_them(
    monitored_db: Any, command_log: CommandLog
) -> None:
    """The one update of a static rule is worded so that its index finds what is old."""
    rules = handler(migration01__enable=rule(*ADD_ENABLED))
    migration = rules(model(rules, meta=OPEN))
    posts = monitored_db["post"]
    posts.insert_many([{"_id": n, "enabled": True} for n in range(50)] + [{"_id": 99}])
    migration.create_rule_indexes()
    command_log.clear()

    assert migration.migrate_pending(chunk_size=None).modified == 1

    (query,) = (
        entry["q"]
        for name, command in command_log.commands
        if name == "update" and command["update"] == "post"
        for entry in command["updates"]
    )
    assert "lazymig_migration01__enable" in str(posts.find(query).explain()["queryPlanner"])


def test_a_run_builds_them_beside_its_work(mongoengine_db: Any) -> None:
    """With `rule_indexes` a run has built the indexes of all rules when it is at its end."""
    rules = handler(migration01__rename=rule(*RENAME), allmigration01__enable=rule(*ADD_ENABLED))
    migration = rules(model(rules, meta=OPEN))
    mongoengine_db["post"].insert_many([{"_id": n, "mail": "m"} for n in range(20)])

    report = migration.migrate_pending(rule_indexes=True)

    assert (report.modified, report.complete) == (20, True)
    assert [row.exists for row in migration.rule_indexes()] == [True, True]


def test_a_run_whose_indexes_cannot_be_built_has_ended(mongoengine_db: Any) -> None:
    """The error comes once the run has ended, and its documents are up to date."""
    rules = handler(migration01__rename=rule(*RENAME))
    migration = rules(model(rules, meta=OPEN))
    posts = mongoengine_db["post"]
    posts.insert_one({"_id": 1, "mail": "m"})
    posts.create_index("other", name="lazymig_migration01__rename")

    with pytest.raises(RuleIndexError, match="the run itself has ended") as caught:
        migration.migrate_pending(rule_indexes=True)

    assert caught.value.index == "lazymig_migration01__rename"
    assert posts.find_one() == {"_id": 1, "email": "m"}
    (run,) = History(mongoengine_db).runs(None, "post")
    assert run.state == "finished"


def test_a_run_on_mongomock_refuses_the_option_at_once(mock_db: Any) -> None:
    """Where there cannot be indexes the run does not begin."""
    rules = handler(migration01__rename=rule(*RENAME))
    mock_db["post"].insert_one({"_id": 1, "mail": "m"})
    with pytest.raises(RuleIndexError, match="need a server"):
        rules(model(rules, meta=OPEN)).migrate_pending(rule_indexes=True)
    assert mock_db["post"].find_one() == {"_id": 1, "mail": "m"}


def test_a_target_of_other_types_is_asked_of_mongomock_too(any_db: Any) -> None:
    """mongomock, which knows no list of types, is asked without; its answers are MongoDB's."""
    rules = handler(
        migration01__age=rule(
            {"age": {"$exists": True, "$not": {"$type": "int"}}}, {"$set": {"age": 0}}
        )
    )
    post = model(rules, age=IntField())
    any_db["post"].insert_many([{"_id": 1, "age": 5}, {"_id": 2, "age": "x"}, {"_id": 3}])
    (status,) = rules(post).get_status()
    assert status.remaining == 1
    assert post.objects(age=0).count() == 1
    assert [each.key for each in post.objects.order_by("age").limit(2)] == [3, 2]
    assert rules(post).get_deprecated()["active"] == []
