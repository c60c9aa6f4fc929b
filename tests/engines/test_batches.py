"""What a batch costs: commands are counted, never seconds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from mongoengine import Document, IntField, ListField, ReferenceField
from pymongo.database import Database

from lazymig import DocumentMigration
from tests.support.commands import CommandLog
from tests.support.handlers import copying, handler, model, rule

FIELDS = 10


def _adding(name: str) -> Any:
    """A static rule that adds a field."""
    return rule({name: {"$exists": False}}, {"$set": {name: 1}})


def _static_rules(count: int) -> type[DocumentMigration]:
    return handler(**{f"migration{n:02}__add_f{n}": _adding(f"f{n}") for n in range(count)})


def _counting_model(rules: Any) -> Any:
    fields = {f"f{n}": IntField() for n in range(FIELDS)}
    return model(rules, n=IntField(), **fields)


def _plain_model() -> Any:
    fields = {f"f{n}": IntField() for n in range(FIELDS)}
    key = IntField(primary_key=True)
    namespace = {"meta": {"collection": "post"}, "key": key, "n": IntField(), **fields}
    return type(Document)("Plain", (Document,), {**namespace, "__module__": __name__})


def _commands_of(log: CommandLog, work: Any) -> Counter[str]:
    """How often each command was sent meanwhile."""
    log.clear()
    work()
    return Counter(log.names)


def _insert(database: Database[Any], count: int, **more: Any) -> None:
    database["post"].insert_many([{"_id": n, "n": n, **more} for n in range(count)])


@pytest.mark.parametrize("rules", [1, 10])
@pytest.mark.parametrize(("documents", "batches"), [(1, 1), (100, 1), (1000, 10)])
def test_a_stale_batch_costs_one_update_and_one_find(
    monitored_db: Database[Any], command_log: CommandLog, documents: int, batches: int, rules: int
) -> None:
    """A stale batch adds one `update` and one `find`, however many rules there are."""
    _insert(monitored_db, documents)
    plain, post = _plain_model(), _counting_model(_static_rules(rules))
    usual = _commands_of(command_log, lambda: list(plain.objects))
    found: list[Any] = []
    costs = _commands_of(command_log, lambda: found.extend(post.objects))
    assert costs - usual == Counter({"update": batches, "find": batches})
    assert [(each.n, each.f0) for each in found] == [(n, 1) for n in range(documents)]


def test_rules_that_build_on_each_other_are_sent_in_order(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Their bulk write is ordered and has one multi-update for each, by stale ids and target."""
    _insert(monitored_db, 100)
    targets = [{"f0": {"$exists": False}}, *({f"f{n - 1}": 1, f"f{n}": None} for n in (1, 2))]
    rules = {
        f"migration{n:02}__x": rule(each, {"$set": {f"f{n}": 1}}) for n, each in enumerate(targets)
    }
    list(_counting_model(handler(**rules)).objects)
    (command,) = [command for name, command in command_log.commands if name == "update"]
    assert command["ordered"] is True
    assert [entry["multi"] for entry in command["updates"]] == [True] * 3
    conditions = [dict(entry["q"]) for entry in command["updates"]]
    assert all(len(condition.pop("_id")["$in"]) == 100 for condition in conditions)
    assert conditions == targets


@pytest.mark.parametrize("rules", [1, 10])
def test_in_bulk_takes_a_thousand_at_once(
    monitored_db: Database[Any], command_log: CommandLog, rules: int
) -> None:
    """in_bulk of 1,000 stale documents is one batch: one `update` and one more `find`."""
    _insert(monitored_db, 1000)
    plain, post = _plain_model(), _counting_model(_static_rules(rules))
    usual = _commands_of(command_log, lambda: plain.objects.in_bulk(list(range(1000))))
    found: dict[int, Any] = {}
    costs = _commands_of(command_log, lambda: found.update(post.objects.in_bulk(list(range(1000)))))
    assert costs - usual == Counter({"update": 1, "find": 1})
    assert {each.f0 for each in found.values()} == {1}
    assert len(found) == 1000


@pytest.mark.parametrize("load", [list, lambda qs: qs.first(), lambda qs: qs.get(n=5)])
@pytest.mark.parametrize("rules", [1, 10])
def test_an_up_to_date_batch_costs_nothing(
    monitored_db: Database[Any], command_log: CommandLog, load: Any, rules: int
) -> None:
    """Up-to-date documents send exactly the commands of plain MongoEngine."""
    _insert(monitored_db, 250, **{f"f{n}": 1 for n in range(FIELDS)})
    plain, post = _plain_model(), _counting_model(_static_rules(rules))
    usual = _commands_of(command_log, lambda: load(plain.objects))
    assert _commands_of(command_log, lambda: load(post.objects)) == usual


def test_only_the_stale_documents_of_a_batch_are_written(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """The write and the reread of a mixed batch name the stale documents and no other."""
    _insert(monitored_db, 10, f0=1)
    monitored_db["post"].update_many({"_id": {"$in": [3, 7]}}, {"$unset": {"f0": ""}})
    list(_counting_model(_static_rules(1)).objects)
    (update,) = [command for name, command in command_log.commands if name == "update"]
    reread = command_log.commands[-1][1]
    assert update["updates"][0]["q"]["_id"] == {"$in": [3, 7]}
    assert reread["filter"] == {"_id": {"$in": [3, 7]}}


@pytest.mark.parametrize("rules", [1, 3])
@pytest.mark.parametrize("documents", [2, 100])
def test_a_dynamic_rule_costs_one_read_and_one_write(
    monitored_db: Database[Any], command_log: CommandLog, documents: int, rules: int
) -> None:
    """Each dynamic rule adds one write to a batch, and one read unless nothing was written yet."""
    _insert(monitored_db, documents)
    post = _counting_model(
        handler(**{f"migration{n:02}__copy": copying("n", f"f{n}") for n in range(rules)})
    )
    found: list[Any] = []
    costs = _commands_of(command_log, lambda: found.extend(post.objects))
    # The load itself, a read for each rule but the first, the reread of the batch.
    assert costs == Counter({"find": 1 + (rules - 1) + 1, "update": rules})
    assert [each.f0 for each in found] == list(range(documents))


def test_static_rules_around_a_dynamic_one_keep_the_order(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Static, dynamic, static: three writes, one read between, each rule builds on those before."""
    _insert(monitored_db, 50)
    post = _counting_model(
        handler(
            migration01__a=_adding("f0"),
            migration02__b=copying("f0", "f1"),
            migration03__c=rule({"f1": 1, "f2": {"$exists": False}}, {"$set": {"f2": 2}}),
        )
    )
    found: list[Any] = []
    costs = _commands_of(command_log, lambda: found.extend(post.objects))
    assert costs == Counter({"find": 3, "update": 3})
    assert {(each.f0, each.f1, each.f2) for each in found} == {(1, 1, 2)}


@pytest.mark.parametrize(
    "target",
    [
        {"$expr": {"$lt": [{"$abs": {"$ifNull": ["$f0", 0]}}, 1]}},
        {"$jsonSchema": {"not": {"required": ["f0"]}}},
    ],
)
def test_what_memory_cannot_judge_costs_one_query(
    monitored_db: Database[Any], command_log: CommandLog, target: Any
) -> None:
    """A target that only MongoDB can judge is asked for once per batch, stale or not."""
    _insert(monitored_db, 100)
    # The field that $set writes makes the proof that the match ends; a certain "no" asks nothing.
    guarded = {**target, "f0": {"$exists": False}}
    post = _counting_model(handler(migration01__a=rule(guarded, {"$set": {"f0": 1}})))
    stale = _commands_of(command_log, lambda: list(post.objects))
    assert stale == Counter({"find": 3, "update": 1})
    assert monitored_db["post"].count_documents({"f0": 1}) == 100
    assert _commands_of(command_log, lambda: list(post.objects)) == Counter({"find": 1})


def test_a_question_that_every_document_answers_with_no_costs_one_query(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Documents that only MongoDB can clear cost one query for the batch and no write."""
    _insert(monitored_db, 100)
    target = {"$expr": {"$gt": [{"$abs": "$n"}, 1000]}, "f0": {"$exists": False}}
    post = _counting_model(handler(migration01__a=rule(target, {"$set": {"f0": 1}})))
    assert _commands_of(command_log, lambda: list(post.objects)) == Counter({"find": 2})


def test_an_expression_that_memory_judges_costs_no_query(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Where all operators of an `$expr` are known in memory, nobody asks MongoDB about it."""
    _insert(monitored_db, 100)
    target = {"$expr": {"$gte": ["$n", 50]}, "f0": {"$exists": False}}
    post = _counting_model(handler(migration01__a=rule(target, {"$set": {"f0": 1}})))
    stale = _commands_of(command_log, lambda: list(post.objects))
    assert stale == Counter({"find": 2, "update": 1})
    assert _commands_of(command_log, lambda: list(post.objects)) == Counter({"find": 1})
    assert monitored_db["post"].count_documents({"f0": 1}) == 50


def test_several_questions_are_one_query(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """However many rules only MongoDB can judge, a batch asks once."""
    _insert(monitored_db, 100)
    rules = {
        f"migration{n:02}__x": rule(
            {"$expr": {"$gt": [{"$abs": "$n"}, 1000 + n]}, f"f{n}": {"$exists": False}},
            {"$set": {f"f{n}": 1}},
        )
        for n in range(5)
    }
    post = _counting_model(handler(**rules))
    assert _commands_of(command_log, lambda: list(post.objects)) == Counter({"find": 2})


def test_a_list_of_references_is_one_batch(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Stale documents behind a ListField(ReferenceField) cost one `update`, one `find` more."""
    _insert(monitored_db, 50)
    post = _counting_model(_static_rules(10))
    holder = type(Document)(
        "Holder",
        (Document,),
        {"posts": ListField(ReferenceField(post)), "__module__": __name__},
    )
    monitored_db["holder"].insert_one({"_id": 1, "posts": list(range(50))})
    found = holder.objects.first()
    command_log.clear()
    assert {each.f9 for each in found.posts} == {1}
    assert Counter(command_log.names) == Counter({"find": 2, "update": 1})


def test_the_second_load_is_an_up_to_date_one(any_db: Any) -> None:
    """What one load migrated, the next finds in its new shape, on every backend."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(250)])
    post = _counting_model(_static_rules(3))
    assert [(each.f0, each.f1, each.f2) for each in post.objects] == [(1, 1, 1)] * 250
    stored = list(any_db["post"].find({}, {"_id": 0}))
    assert stored == [{"n": n, "f0": 1, "f1": 1, "f2": 1} for n in range(250)]


def test_dynamic_rules_give_each_document_its_own_value(any_db: Any) -> None:
    """A dynamic rule writes each document of a batch its own value, on every backend."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(150)])
    post = _counting_model(handler(migration01__copy=copying("n", "f0")))
    assert [each.f0 for each in post.objects] == list(range(150))
    assert {doc["_id"]: doc["f0"] for doc in any_db["post"].find()} == {n: n for n in range(150)}


def test_a_thousand_questions_are_answered_at_once(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Questions, and the reads of dynamic rules, take one round trip for 1,000 documents too."""
    _insert(monitored_db, 1000)
    target = {"$expr": {"$gte": [{"$abs": "$n"}, 0]}, "f1": {"$exists": False}}
    plain = _plain_model()
    post = _counting_model(
        handler(migration01__x=rule(target, {"$set": {"f1": 1}}), migration02__y=copying("n", "f2"))
    )
    ids = list(range(1000))
    usual = _commands_of(command_log, lambda: plain.objects.in_bulk(ids))
    costs = _commands_of(command_log, lambda: post.objects.in_bulk(ids))
    # One read for the dynamic rule behind the static one, one for the batch.
    assert costs - usual == Counter({"find": 2, "update": 2})
    monitored_db["post"].update_many({}, {"$unset": {"f1": ""}})
    costs = _commands_of(command_log, lambda: post.objects.in_bulk(ids))
    # The question, the read for the dynamic rule, the batch.
    assert costs - usual == Counter({"find": 3, "update": 1})
