"""What a preview tells, and that it leaves the collection alone."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, json_util
from bson.datetime_ms import DatetimeMS
from mongoengine import (
    BooleanField,
    DictField,
    Document,
    IntField,
    ListField,
    StringField,
    connect,
    disconnect,
)
from pymongo import MongoClient
from pymongo.database import Database

from lazymig import ConvergenceWarning, LazyMigrationMixin, once, signals
from lazymig.errors import RunOptionError
from lazymig.odm.loading import builder_of
from lazymig.odm.plans import plan_for
from lazymig.odm.schema import collection_of
from lazymig.raw.differences import MISSING, Change
from lazymig.reports.dryrun.preview import PreviewReport, QueryPlan, preview_of
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, copying, copying_in_python, handler, model, rule
from tests.support.rights import guarded  # noqa: F401 - a fixture
from tests.support.server import CLIENT_OPTIONS
from tests.support.translations import translate_by_name

FIELDS: dict[str, Any] = {
    "enabled": BooleanField(),
    "name": StringField(),
    "mail": StringField(),
    "n": IntField(),
    "copy": IntField(),
    "tags": ListField(StringField()),
    "inner": DictField(),
}
RENAME = ({"login": {"$exists": True}}, {"$rename": {"login": "name"}})
SCRATCH = re.compile(r"lazymig_preview_[0-9a-f]{24}")


def _post(rules: Any, **body: Any) -> Any:
    return model(rules, **{**FIELDS, **body})


def _preview(post: Any, **options: Any) -> PreviewReport:
    """What `DocumentMigration.preview` does."""
    return preview_of(
        plan_for(post.migration_handler, post),
        options.pop("collection", collection_of(post)),
        builder=builder_of(post),
        **options,
    )


def _counts(report: PreviewReport) -> list[tuple[int | None, int | None]]:
    return [(each.remaining, each.reached) for each in report.rules]


def _scratches(database: Database[Any]) -> list[str]:
    return [name for name in database.list_collection_names() if "lazymig_preview" in name]


# --- Counts -----------------------------------------------------------------------------


def test_each_rule_is_counted_now_and_behind_the_earlier_ones(any_db: Database[Any]) -> None:
    """`remaining` is what a target matches now, `reached` what it will match in its turn."""
    any_db["post"].insert_many(
        [{"_id": 1, "login": "a"}, {"_id": 2, "login": "b", "mail": "m"}, {"_id": 3, "name": "c"}]
    )
    post = _post(
        handler(
            migration01__rename=rule(*RENAME),
            migration02__enable=rule(
                {"name": {"$exists": True}, "enabled": {"$exists": False}},
                {"$set": {"enabled": True}},
            ),
            migration03__other=rule({"mail": {"$exists": True}}, {"$unset": {"mail": ""}}),
            allmigration01__mark=rule({"enabled": True}, {"$set": {"enabled": False}}),
        )
    )
    report = _preview(post)
    assert report.total == 3
    assert _counts(report) == [(2, 2), (1, 3), (1, 1), (0, 3)]
    assert [(each.name, each.scope, each.kind) for each in report.rules] == [
        ("migration01__rename", "lazy", "static"),
        ("migration02__enable", "lazy", "static"),
        ("migration03__other", "lazy", "static"),
        ("allmigration01__mark", "bulk", "static"),
    ]


def test_reached_is_what_a_run_then_matches(mongoengine_db: Database[Any]) -> None:
    """The count behind the earlier rules is exact: a run of those rules leaves just as many."""
    mongoengine_db["post"].insert_many(
        [
            {"_id": 1, "login": "a", "n": 1},
            {"_id": 2, "login": "b", "n": 2, "name": "old"},
            {"_id": 3, "n": 1},
            {"_id": 4, "name": "a", "n": 2},
        ]
    )
    post = _post(
        handler(
            migration01__rename=rule(*RENAME),
            migration02__number=rule({"name": "a", "n": {"$ne": 7}}, {"$set": {"n": 7}}),
            migration03__count=rule(
                {"n": {"$in": [2, 7]}, "enabled": {"$exists": False}}, {"$set": {"enabled": True}}
            ),
        )
    )
    report = _preview(post)
    run = post.migration_handler(post).migrate_pending()
    assert [each.reached for each in report.rules] == [each.matched for each in run.rules]


@pytest.mark.parametrize(
    "earlier",
    [
        copying_in_python("n", "copy"),
        rule({"copy": {"$exists": False}}, [{"$set": {"copy": {"$abs": "$n"}}}]),
        rule({"copy": {"$exists": False}}, {"$inc": {"copy": 1}}),
    ],
    ids=["dynamic", "pipeline", "inc"],
)
def test_what_cannot_be_counted_exactly_is_not_guessed(
    mongoengine_db: Database[Any], earlier: Any
) -> None:
    """Where nothing is known of what an earlier rule gives a path, `reached` is None."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 5})
    post = _post(
        handler(
            migration01__copy=earlier,
            migration02__enable=rule({"copy": 5, "enabled": None}, {"$set": {"enabled": True}}),
            migration03__apart=rule({"mail": {"$exists": False}}, {"$set": {"mail": ""}}),
        )
    )
    assert _counts(_preview(post)) == [(1, 1), (0, None), (1, 1)]


@pytest.mark.parametrize(
    "earlier",
    [
        copying("n", "copy"),
        rule({"copy": {"$exists": False}}, [{"$set": {"copy": {"$ifNull": ["$n", 0]}}}]),
    ],
    ids=["translated", "pipeline"],
)
def test_what_the_server_computes_is_counted(mongoengine_db: Database[Any], earlier: Any) -> None:
    """Where an earlier rule is a pipeline, `reached` counts by what that gives; a run agrees."""
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "n": 5}, {"_id": 2, "n": 4}, {"_id": 3, "copy": 5}, {"_id": 4}]
    )
    post = _post(
        handler(
            migration01__copy=earlier,
            migration02__enable=rule({"copy": 5, "enabled": None}, {"$set": {"enabled": True}}),
        )
    )
    report = _preview(post)
    assert _counts(report)[1] == (1, 2)
    run = post.migration_handler(post).migrate_pending()
    assert [each.reached for each in report.rules] == [each.matched for each in run.rules]


def test_a_value_of_the_moment_is_not_counted_on(mongoengine_db: Database[Any]) -> None:
    """A static rule that sets another value each time says nothing exact about what it sets."""
    mongoengine_db["post"].insert_one({"_id": 1})

    def stamp(self: Any) -> None:
        self.target = {"name": {"$exists": False}}
        self.update = {"$set": {"name": uuid.uuid4().hex}}

    post = _post(
        handler(
            migration01__stamp=stamp,
            migration02__enable=rule(
                {"name": {"$gt": "8"}, "enabled": None}, {"$set": {"enabled": True}}
            ),
        )
    )
    assert _counts(_preview(post)) == [(1, 1), (0, None)]


def test_constants_are_not_judged_under_a_collation(mongoengine_db: Database[Any]) -> None:
    """In a collection with a collation `reached` is None where it would compare what a rule set."""
    mongoengine_db.create_collection("post", collation={"locale": "en", "strength": 2})
    mongoengine_db["post"].insert_one({"_id": 1})
    post = _post(
        handler(
            migration01__name=rule({"name": None}, {"$set": {"name": "ADA"}}),
            migration02__enable=rule({"name": "ada", "enabled": None}, {"$set": {"enabled": True}}),
        )
    )
    report = _preview(post)
    assert _counts(report) == [(1, 1), (0, None)]
    assert report.samples[0].rules == ("migration01__name", "migration02__enable")


def test_rules_that_errors_start_are_counted_as_such(mongoengine_db: Database[Any]) -> None:
    """A rule that no match starts says so; what comes after it and reads its paths is unknown."""
    mongoengine_db["post"].insert_one({"_id": 1, "tags": "x", "n": 1})
    with pytest.warns(ConvergenceWarning):
        post = _post(
            handler(
                migration01__empty=rule({"tags": {"$exists": True}}, {"$set": {"tags": []}}),
                migration02__later=rule({"n": 1}, {"$set": {"n": 2}}),
                allmigration01__tags=rule({"tags": []}, {"$unset": {"tags": ""}}),
                allmigration02__mail=rule({"mail": None}, {"$set": {"mail": "-"}}),
            )
        )
    report = _preview(post)
    assert _counts(report) == [(1, 1), (1, 1), (0, None), (1, 1)]
    assert report.rules[0].problems[0].startswith("no match starts it on loads")
    (sample,) = report.samples
    assert sample.rules == (
        "migration01__empty",
        "migration02__later",
        "allmigration01__tags",
        "allmigration02__mail",
    )
    assert "migration01__empty: the document still matches after" in str(sample.problem)


def test_only_the_documents_of_the_class_are_concerned(any_db: Database[Any]) -> None:
    """A rule of a subclass counts, samples and changes no document of a sibling."""

    class Animal(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        enabled = BooleanField()
        meta = {"allow_inheritance": True, "collection": "post"}

    class Cat(Animal):
        migration_handler = handler(migration01__enable=rule(*ADD_ENABLED))

    class Dog(Animal):
        pass

    any_db["post"].insert_many([{"_id": 1, "_cls": "Animal.Cat"}, {"_id": 2, "_cls": "Animal.Dog"}])
    report = _preview(Cat)
    assert report.total == 2
    assert _counts(report) == [(1, 1)]
    assert [sample.document_id for sample in report.samples] == [1]
    assert Dog.objects.count() == 1


def test_another_collection_can_be_previewed(any_db: Database[Any]) -> None:
    """The collection that is given is counted and sampled, not the model's own."""
    any_db["archive"].insert_one({"_id": 5})
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)))
    report = _preview(post, collection=any_db["archive"])
    assert report.collection == f"{any_db.name}.archive"
    assert [sample.document_id for sample in report.samples] == [5]


def test_an_empty_collection_has_nothing_to_show(any_db: Database[Any]) -> None:
    """Without a collection there are counts of zero, and no scratch collection is made."""
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)))
    report = _preview(post)
    assert (report.total, _counts(report), report.samples, report.problems) == (0, [(0, 0)], (), ())
    assert any_db.list_collection_names() == []


# --- Query plans ------------------------------------------------------------------------


def test_the_plan_names_what_is_scanned(mongoengine_db: Database[Any]) -> None:
    """A target's plan tells its index, each index of an `$or`, or a collection scan."""
    mongoengine_db["post"].create_index("enabled")
    mongoengine_db["post"].create_index("name")
    mongoengine_db["post"].insert_one({"_id": 1})
    either = {"$or": [{"enabled": None}, {"name": None}], "n": None}
    post = _post(
        handler(
            migration01__enable=rule(*ADD_ENABLED),
            migration02__either=rule(either, {"$set": {"n": 1}}),
            migration03__mail=rule({"mail": None}, {"$set": {"mail": ""}}),
        )
    )
    assert [each.plan for each in _preview(post).rules] == [
        QueryPlan("IXSCAN enabled_1", ("enabled_1",)),
        QueryPlan("IXSCAN enabled_1, IXSCAN name_1", ("enabled_1", "name_1")),
        QueryPlan("COLLSCAN"),
    ]


def test_the_plan_is_that_of_the_filter_of_count_and_update(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """What is explained is the very filter that is counted, with the condition on the class."""
    monitored_db["post"].insert_one({"_id": 1, "_cls": "Base.Sub"})

    class Base(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        meta = {"allow_inheritance": True, "collection": "post"}

    class Sub(Base):
        enabled = BooleanField()
        migration_handler = handler(migration01__enable=rule(*ADD_ENABLED))

    collection_of(Base)
    command_log.clear()
    _preview(Sub, sample=0)
    (explained,) = [command for name, command in command_log.commands if name == "explain"]
    (counted,) = [command for name, command in command_log.commands if name == "aggregate"]
    assert explained["verbosity"] == "queryPlanner"
    assert explained["explain"]["find"] == "post"
    assert explained["explain"]["filter"] == counted["pipeline"][0]["$match"]
    assert explained["explain"]["filter"] == {
        "_cls": {"$in": ["Base.Sub"]},
        "enabled": {"$exists": False, "$eq": None},
    }


def test_a_scan_of_a_large_collection_is_warned_of(mongoengine_db: Database[Any]) -> None:
    """There is a warning if more than `large` documents are scanned, and none for an index."""
    mongoengine_db["post"].create_index("enabled")
    mongoengine_db["post"].insert_many([{"_id": number} for number in range(3)])
    post = _post(
        handler(
            migration01__enable=rule(*ADD_ENABLED),
            migration02__mail=rule({"mail": None}, {"$set": {"mail": ""}}),
        )
    )
    by_index, by_scan = (each.plan for each in _preview(post, large=2, sample=0).rules)
    assert by_index is not None
    assert by_index.warning is None
    assert by_scan is not None
    assert "reads all of about 3 documents" in str(by_scan.warning)
    assert all(
        each.plan is not None and each.plan.warning is None
        for each in _preview(post, large=3, sample=0).rules
    )


def test_mongomock_has_no_plans(mock_db: Database[Any]) -> None:
    """Where there is no explain, the plan is None and the rest is there."""
    mock_db["post"].insert_one({"_id": 1})
    report = _preview(_post(handler(migration01__enable=rule(*ADD_ENABLED))))
    assert report.rules[0].plan is None
    assert report.samples[0].changes == (Change("enabled", MISSING, True),)


# --- Samples ----------------------------------------------------------------------------


def test_a_sample_shows_before_after_and_changes(any_db: Database[Any]) -> None:
    """The lazy and then the bulk rules are at work on a copy, and the differences are told."""
    any_db["post"].insert_one({"_id": 1, "login": "ada", "n": 5, "inner": {"a": 1}})
    post = _post(
        handler(
            migration01__rename=rule(*RENAME),
            migration02__copy=copying("n", "copy"),
            migration03__never=rule({"never": 1}, {"$unset": {"never": ""}}),
            allmigration01__inner=rule({"inner.b": None}, {"$set": {"inner.b": 2}}),
        )
    )
    (sample,) = _preview(post).samples
    assert sample.document_id == 1
    assert sample.before == {"_id": 1, "login": "ada", "n": 5, "inner": {"a": 1}}
    assert sample.after == {"_id": 1, "name": "ada", "n": 5, "inner": {"a": 1, "b": 2}, "copy": 5}
    assert sample.rules == ("migration01__rename", "migration02__copy", "allmigration01__inner")
    assert sample.changes == (
        Change("copy", MISSING, 5),
        Change("inner.b", MISSING, 2),
        Change("login", "ada", MISSING),
        Change("name", MISSING, "ada"),
    )
    assert sample.problem is None


def test_a_sample_is_what_runs_leave(mongoengine_db: Database[Any]) -> None:
    """What becomes of the copies is what becomes of the documents when the rules are run."""

    def convert(self: Any) -> None:
        if "legacy" in self.doc:
            self.target = {"legacy": {"$exists": True}}
            self.update = {"$set": {"name": str(self.doc["legacy"])}, "$unset": {"legacy": ""}}

    def same(self: Any) -> None:
        # Its update ends the match unless it sets null.
        self.target = {"copy": None}
        self.update = {"$set": {"copy": self.doc.get("n")}}

    old: list[dict[str, Any]] = [
        {"login": "a", "n": 1},
        {"legacy": 5, "n": 2, "inner": {"a": [1]}},
        {"tags": "x", "n": None},
        {"tags": "x", "n": 3},
        {"n": "word", "login": "b", "legacy": 7},
        {"unheard_of": 1, "n": None},
        {"n": 7, "mail": "m", "enabled": False, "copy": 7},
    ]
    documents = [{"_id": number, **body} for number, body in enumerate(old)]
    mongoengine_db["post"].insert_many(documents)
    with pytest.warns(ConvergenceWarning):
        post = _post(
            handler(
                migration01__tags=rule(
                    {"tags": {"$exists": True}, "n": {"$gt": 0}}, {"$set": {"tags": []}}
                ),
                migration02__rename=rule(*RENAME),
                migration03__same=same,
                migration04__enable=rule(*ADD_ENABLED),
                allmigration01__raise=_failing,
                allmigration02__convert=convert,
                allmigration03__count=rule({"copy": {"$gte": 0}}, {"$inc": {"copy": 1}}),
                on_error="skip",
            )
        )
    report = _preview(post, sample=100)
    assert len(report.samples) == len(documents)
    migration = post.migration_handler(post)
    reports = [run(max_errors=100) for run in (migration.migrate_pending, migration.migrate_all)]
    shown = {sample.document_id: sample.after for sample in report.samples}
    assert shown == {raw["_id"]: raw for raw in mongoengine_db["post"].find()}
    refused = {error.document_id for each in reports for error in each.errors}
    assert refused == {
        sample.document_id for sample in report.samples if "Post." in str(sample.problem)
    }
    assert refused != set()


@pytest.mark.parametrize(
    ("scope", "names", "changed"),
    [
        ("lazy", ["migration01__enable"], {"enabled"}),
        ("bulk", ["allmigration01__mail"], {"mail"}),
        (None, ["migration01__enable", "allmigration01__mail"], {"enabled", "mail"}),
    ],
)
def test_the_scope_chooses_the_rules(
    any_db: Database[Any], scope: Any, names: list[str], changed: set[str]
) -> None:
    """The lazy, the bulk or all rules are counted and tried."""
    any_db["post"].insert_one({"_id": 1})
    post = _post(
        handler(
            migration01__enable=rule(*ADD_ENABLED),
            allmigration01__mail=rule({"mail": None}, {"$set": {"mail": ""}}),
        )
    )
    report = _preview(post, scope=scope)
    assert [each.name for each in report.rules] == names
    assert {change.path for change in report.samples[0].changes} == changed


def test_the_sample_is_of_documents_that_match(any_db: Database[Any]) -> None:
    """At most `sample` documents are tried, each once, and all of them match some rule."""
    any_db["post"].insert_many(
        [{"_id": number, "enabled": True} for number in range(20)]
        + [{"_id": number} for number in range(20, 30)]
        + [{"_id": number, "enabled": True, "login": "x"} for number in range(30, 40)]
    )
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED), migration02__rename=rule(*RENAME)))
    few = {sample.document_id for sample in _preview(post, sample=7).samples}
    assert len(few) == 7
    assert few <= set(range(20, 40))
    every = [sample.document_id for sample in _preview(post, sample=100).samples]
    assert sorted(every) == list(range(20, 40))


def test_a_rule_whose_target_needs_the_document_draws_from_all(any_db: Database[Any]) -> None:
    """For an undetermined rule any document may be sampled; the others keep half of the sample."""

    def convert(self: Any) -> None:
        if self.doc.get("legacy"):
            self.target = {"legacy": {"$exists": True}}
            self.update = {"$rename": {"legacy": "name"}}

    any_db["post"].insert_many(
        [{"_id": number, "legacy": "x", "mail": "m"} for number in range(300)]
        + [{"_id": number} for number in range(300, 330)]
    )
    post = _post(
        handler(
            allmigration01__mail=rule({"mail": None}, {"$set": {"mail": ""}}),
            allmigration02__convert=convert,
        )
    )
    report = _preview(post, sample=20)
    assert [each.kind for each in report.rules] == ["static", "undetermined"]
    assert _counts(report) == [(30, 30), (None, None)]
    assert report.rules[1].plan is None
    applied = [sample.rules for sample in report.samples]
    assert len(applied) <= 20
    assert applied.count(("allmigration01__mail",)) >= 10
    assert applied.count(("allmigration02__convert",)) >= 1
    assert set(applied) == {("allmigration01__mail",), ("allmigration02__convert",)}


def test_a_sample_of_none_makes_no_scratch_collection(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """With `sample=0` there are counts and plans, and no command that writes."""
    monitored_db["post"].insert_one({"_id": 1})
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)))
    collection_of(post)
    command_log.clear()
    report = _preview(post, sample=0)
    assert report.samples == ()
    assert _counts(report) == [(1, 1)]
    assert set(command_log.names) == {"listCollections", "count", "aggregate", "explain"}


@pytest.mark.parametrize(
    "document_id",
    [
        1,
        "a",
        ObjectId("6b0000000000000000000001"),
        {"a": 1, "b": [2]},
        datetime(2020, 1, 1),
        b"x",
        None,
        1.5,
    ],
    ids=repr,
)
def test_documents_of_any_id_are_shown(mongoengine_db: Database[Any], document_id: Any) -> None:
    """A sample is known by its `_id`, of whatever type."""
    mongoengine_db["post"].insert_one({"_id": document_id, "n": 1})
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED), migration02__copy=_COPY))
    (sample,) = _preview(post).samples
    assert sample.document_id == document_id
    assert sample.rules == ("migration01__enable", "migration02__copy")


_COPY = copying("n", "copy")


def test_values_that_python_cannot_hold_are_copied_as_they_are(
    mongoengine_db: Database[Any],
) -> None:
    """The copies are those of MongoDB's bytes: a date beyond Python's years changes nothing."""
    mongoengine_db["post"].insert_one({"_id": 1, "at": DatetimeMS(2**62)})
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)))
    (sample,) = _preview(post).samples
    assert sample.changes == (Change("enabled", MISSING, True),)
    assert "does not load" in str(sample.problem)
    assert json.dumps(sample.to_dict())


# --- The collection is left alone -------------------------------------------------------

_READS = {"listCollections", "listIndexes", "count", "aggregate", "find", "getMore", "explain"}


def test_the_collection_is_only_read(monitored_db: Database[Any], command_log: CommandLog) -> None:
    """Every command that is no reading names the scratch collection, and contents stay the same."""

    def convert(self: Any) -> None:
        if "legacy" in self.doc:
            self.target = {"legacy": {"$exists": True}}
            self.update = {"$unset": {"legacy": ""}}

    monitored_db["post"].create_index("name", unique=True, sparse=True)
    monitored_db["post"].insert_many(
        [
            {"_id": 1, "n": 1},
            {"_id": 2, "legacy": 1},
            {"_id": 3, "n": "x"},
            {"_id": 4, "login": "a"},
        ]
    )
    before = list(monitored_db["post"].find().sort("_id"))
    post = _post(
        handler(
            migration01__enable=rule(*ADD_ENABLED),
            migration02__copy=copying("n", "copy"),
            migration03__convert=convert,
            allmigration01__name=rule({"login": {"$exists": True}}, {"$set": {"name": "a"}}),
            allmigration02__raise=_failing,
        )
    )
    collection_of(post)
    command_log.clear()
    report = _preview(post)
    assert len(report.samples) == 4
    writes = [(name, command[name]) for name, command in command_log.commands if name not in _READS]
    assert {name for name, _ in writes} == {"create", "createIndexes", "insert", "update", "drop"}
    assert all(SCRATCH.fullmatch(collection) for _, collection in writes)
    stages = [
        stage
        for name, command in command_log.commands
        if name == "aggregate"
        for stage in command["pipeline"]
    ]
    assert not any("$out" in stage or "$merge" in stage for stage in stages)
    assert list(monitored_db["post"].find().sort("_id")) == before
    assert monitored_db.list_collection_names() == ["post"]


def _failing(self: Any) -> None:
    self.target = {"n": {"$exists": True}}
    self.update = {"$set": {"n": int(self.doc["n"]) // (self.doc["n"] != 1)}}


def test_what_a_model_looks_up_while_it_validates_is_not_migrated(
    mongoengine_db: Database[Any],
) -> None:
    """A model that queries itself in its validation starts no migration."""
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
    seen = []

    def look(_value: Any) -> None:
        seen.append([each.enabled for each in post.objects])

    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)), n=IntField(validation=look))
    _preview(post)
    assert len(seen) == 2
    assert mongoengine_db["post"].count_documents({"enabled": True}) == 0


def test_nobody_is_told_of_the_copies(any_db: Database[Any]) -> None:
    """No signal is sent for what happens to copies."""
    any_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "unheard_of": 1, "n": 2}])
    with pytest.warns(ConvergenceWarning):
        post = _post(
            handler(
                migration01__enable=rule(*ADD_ENABLED),
                migration02__lost=rule({"n": {"$gt": 0}}, {"$unset": {"unheard_of": ""}}),
                allmigration01__raise=_failing,
            )
        )
    heard: list[Any] = []

    def hear(sender: Any, **keywords: Any) -> None:
        heard.append((sender, keywords))

    all_signals = (signals.pre_migration, signals.post_migration, signals.migration_failed)
    for signal in all_signals:
        signal.connect(hear)
    try:
        report = _preview(post)
    finally:
        for signal in all_signals:
            signal.disconnect(hear)
    assert {name for sample in report.samples for name in sample.rules} >= {
        "migration01__enable",
        "migration02__lost",
    }
    assert heard == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_an_interrupted_preview_drops_its_copies(
    any_db: Database[Any], interruption: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a preview leaves no scratch collection behind."""
    translate_by_name(monkeypatch)
    any_db["post"].insert_many([{"_id": number, "n": 1} for number in range(3)])
    seen: list[list[str]] = []

    def interrupt(self: Any) -> None:
        self.target = {"copy": {"$exists": False}}
        value = self.doc["n"] if kind == "dynamic" else 1
        if armed and isinstance(value, int):
            seen.append(_scratches(any_db))
            raise interruption
        self.update = {"$set": {"copy": value}}

    armed = False
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED), migration02__interrupt=interrupt))
    plan = plan_for(post.migration_handler, post)
    armed = True
    with pytest.raises(interruption):
        preview_of(plan, collection_of(post), builder=builder_of(post))
    assert len(seen[0]) == 1
    assert _scratches(any_db) == []


def test_copies_that_a_dead_process_left_are_dropped(mongoengine_db: Database[Any]) -> None:
    """A preview drops scratch collections that are older than an hour, and no other collection."""
    now = int(time.time())
    names = {
        f"lazymig_preview_{made:08x}{uuid.uuid4().hex[:16]}": stays
        for made, stays in ((now - 2 * 3600, False), (now - 1800, True), (now, True), (1, False))
    }
    others = ["lazymig_preview_results", f"xlazymig_preview_{1:08x}{'0' * 16}"]
    for name in (*names, *others):
        mongoengine_db[name].insert_one({"_id": 1})
    mongoengine_db["post"].insert_one({"_id": 1})
    _preview(_post(handler(migration01__enable=rule(*ADD_ENABLED))))
    staying = {name for name, stays in names.items() if stays}
    assert set(mongoengine_db.list_collection_names()) == {"post", *others, *staying}


# --- What goes wrong --------------------------------------------------------------------


def test_a_rule_that_raises_is_told_for_the_document(any_db: Database[Any]) -> None:
    """A failing document has a problem and no later rule, its neighbours go on, the rule tells."""
    any_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
    post = _post(
        handler(
            allmigration01__enable=rule(*ADD_ENABLED),
            allmigration02__raise=_failing,
            allmigration03__mail=rule({"mail": None}, {"$set": {"mail": "m"}}),
        )
    )
    report = _preview(post)
    bad, good = sorted(report.samples, key=lambda sample: int(sample.document_id))
    assert good.rules[-1] == "allmigration03__mail"
    assert bad.rules == ("allmigration01__enable",)
    assert "Post.allmigration02__raise: the rule raised ZeroDivisionError" in str(bad.problem)
    (problem,) = [each for each in report.rules[1].problems if "failed" in each]
    assert problem.startswith("it failed for 1 of 2 sampled documents: Post.allmigration02__raise")
    assert report.rules[0].problems == report.rules[2].problems == ()


def test_a_static_rule_that_raises_is_told_once(any_db: Database[Any]) -> None:
    """A rule that raises when it is applied has a problem; the report is there all the same."""
    any_db["post"].insert_one({"_id": 1})
    broken = False

    def moody(self: Any) -> None:
        self.target = {"mail": None}
        self.update = {"$set": {"mail": "m"}}
        if broken:
            raise LookupError("no such mail")

    post = _post(handler(migration01__moody=moody, migration02__enable=rule(*ADD_ENABLED)))
    plan = plan_for(post.migration_handler, post)
    broken = True
    report = preview_of(plan, collection_of(post), builder=builder_of(post))
    assert report.rules[0].problems == ("it raised LookupError: no such mail",)
    assert report.samples[0].rules == ("migration02__enable",)


def test_what_the_model_refuses_is_a_problem(any_db: Database[Any]) -> None:
    """The result is loaded and validated through the model, and what that raises is told."""
    any_db["post"].insert_many([{"_id": 1}, {"_id": 2, "unheard_of": 1}, {"_id": 3, "n": "x"}])
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)))
    problems = {sample.document_id: sample.problem for sample in _preview(post).samples}
    assert problems[1] is None
    assert str(problems[2]).startswith("it does not load: FieldDoesNotExist")
    assert str(problems[3]).startswith("it is not valid: ValidationError")


def test_what_an_index_refuses_is_seen(mongoengine_db: Database[Any]) -> None:
    """The copies lie under the collection's indexes: two documents of one unique key are told."""
    mongoengine_db["post"].create_index("name", unique=True, sparse=True)
    mongoengine_db["post"].insert_many([{"_id": 1}, {"_id": 2}])
    post = _post(handler(allmigration01__name=rule({"name": None}, {"$set": {"name": "x"}})))
    report = _preview(post)
    problems = [sample.problem for sample in report.samples if sample.problem is not None]
    assert len(problems) == 1
    assert "MongoDB refused the update: E11000 duplicate key" in problems[0]


def test_indexes_of_every_kind_are_copied(mongoengine_db: Database[Any]) -> None:
    """Text, wildcard, partial, collated and expiring indexes hinder no preview; none expires."""
    collection = mongoengine_db.create_collection("post", collation={"locale": "de"})
    collection.create_index(
        [("name", "text")], default_language="english", collation={"locale": "simple"}
    )
    collection.create_index([("$**", 1)])
    collection.create_index("n", partialFilterExpression={"n": {"$gt": 5}}, unique=True)
    collection.create_index("mail", collation={"locale": "simple"}, hidden=True)
    collection.create_index("at", expireAfterSeconds=0)
    collection.create_index([("place", "2dsphere")])
    collection.insert_one({"_id": 1, "at": datetime(2000, 1, 1), "name": "x"})
    specs: list[Any] = []

    def look(self: Any) -> None:
        self.target = {"copy": {"$exists": False}}
        self.update = {"$set": {"copy": len(self.doc)}}
        for name in _scratches(mongoengine_db):
            specs.extend(mongoengine_db[name].list_indexes())

    post = _post(handler(migration01__look=look), at=StringField(), auto_create_index=False)
    report = _preview(post, collection=collection)
    assert report.problems == ()
    wanted = {
        index["name"]: (index["key"], index.get("collation", {}).get("locale"))
        for index in collection.list_indexes()
    }
    assert {
        index["name"]: (index["key"], index.get("collation", {}).get("locale")) for index in specs
    } == wanted
    assert not any("expireAfterSeconds" in index for index in specs)


def test_what_the_validator_refuses_is_seen(mongoengine_db: Database[Any]) -> None:
    """A copy may break the collection's validator, as an old document may; an update may not."""
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "login": "a"}])
    mongoengine_db.command("collMod", "post", validator={"n": {"$type": "int"}})
    post = _post(
        handler(
            migration01__rename=rule(*RENAME),
            migration02__enable=rule({"n": {"$gt": 0}, "enabled": None}, ADD_ENABLED[1]),
        )
    )
    report = _preview(post)
    problems = {sample.document_id: sample.problem for sample in report.samples}
    assert problems[1] is None
    assert "Document failed validation" in str(problems[2])
    run = post.migration_handler(post).migrate_pending()
    assert [error.document_id for error in run.errors] == [2]


def test_a_rule_that_does_not_end_its_match_is_told(mongoengine_db: Database[Any]) -> None:
    """A rule that matches a copy which it was applied to would be applied again by each run."""
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 0}, {"_id": 2, "n": 0}])
    post = _post(
        handler(
            allmigration01__count=rule({"n": {"$exists": True}}, {"$inc": {"n": 1}}),
            allmigration02__enable=rule(*ADD_ENABLED),
        )
    )
    report = _preview(post)
    assert (
        report.rules[0]
        .problems[0]
        .startswith("it still matches 2 of 2 sampled documents after it was applied")
    )
    assert report.rules[1].problems == ()
    assert [sample.after["n"] for sample in report.samples if sample.after] == [1, 1]


# --- Rules that are not run on copies ---------------------------------------------------


def _by_hand(self: Any) -> None:
    self.target = {"n": {"$exists": False}}
    if self.status:
        return
    ran.append("by hand")
    self.collection.update_many(self.target, {"$set": {"n": 1}})


def _looks_around(self: Any) -> None:
    self.target = {"copy": {"$exists": False}}
    number = self.doc["_id"]
    ran.append(number)
    self.update = {
        "$set": {"copy": max(self.collection.count_documents({}) for _ in range(number))}
    }


def _sends_mail(self: Any) -> None:
    self.target = {"mail": {"$exists": False}}
    address = str(self.doc["_id"])
    ran.append(address)
    self.update = {"$set": {"mail": address}}


def _tells(self: Any) -> None:
    self.target = {"tags": {"$exists": False}}
    if not self.status:
        ran.append("told")
    self.update = {"$set": {"tags": []}}


ran: list[Any] = []


def test_rules_with_other_effects_are_not_run(
    mongoengine_db: Database[Any],
) -> None:
    """What writes by itself or is marked once is counted, never run on copies, and named."""
    mongoengine_db["post"].insert_many([{"_id": 1}, {"_id": 2, "n": 5}])
    post = _post(
        handler(
            allmigration01__hand=_by_hand,
            allmigration02__look=_looks_around,
            allmigration03__mail=once(_sends_mail),
            allmigration04__tell=_tells,
            allmigration05__enable=rule(*ADD_ENABLED),
        )
    )
    plan = plan_for(post.migration_handler, post)
    ran.clear()
    report = preview_of(plan, collection_of(post), builder=builder_of(post))
    assert ran == []
    kinds = ["by_hand", "dynamic", "once", "static", "static"]
    assert [each.kind for each in report.rules] == kinds
    assert [each.remaining for each in report.rules] == [1, 2, 2, 2, 2]
    assert all(each.problems[0].startswith("not run on the samples") for each in report.rules[:4])
    assert report.rules[4].problems == ()
    skipped = tuple(each.name for each in report.rules[:4])
    assert {sample.document_id: sample.not_run for sample in report.samples} == {
        1: skipped,
        2: skipped[1:],
    }
    assert all(sample.rules == ("allmigration05__enable",) for sample in report.samples)


def test_a_rule_that_is_not_run_is_named_once(mongoengine_db: Database[Any]) -> None:
    """A document that does not load comes to every lazy rule again; the report names each once."""
    mongoengine_db["post"].insert_one({"_id": 1, "unheard_of": 1, "n": 1})
    with pytest.warns(ConvergenceWarning):
        post = _post(
            handler(
                migration01__look=_looks_around,
                migration02__lost=rule({"n": 1}, {"$unset": {"unheard_of": ""}}),
            )
        )
    (sample,) = _preview(post).samples
    assert sample.rules == ("migration02__lost",)
    assert sample.not_run == ("migration01__look",)


def test_without_a_rule_to_run_there_are_no_copies(mongoengine_db: Database[Any]) -> None:
    """Where every rule writes by itself, nothing is sampled."""
    mongoengine_db["post"].insert_one({"_id": 1})
    report = _preview(_post(handler(allmigration01__hand=_by_hand)))
    assert report.samples == ()
    assert _counts(report) == [(1, 1)]


# --- Rights -----------------------------------------------------------------------------


@pytest.fixture
def as_user(guarded: str) -> Iterator[Any]:  # noqa: F811
    """Connect MongoEngine as a user with a role in the database `rights`, which root has filled."""
    with MongoClient[Any](guarded, username="admin", password="admin") as root:

        def log_in(role: str) -> Database[Any]:
            root["rights"].command("createUser", "user", pwd="user", roles=[role])
            connect(
                "rights",
                host=guarded,
                username="user",
                password="user",
                authentication_source="rights",
                **CLIENT_OPTIONS,
            )
            return root["rights"]

        yield log_in
        disconnect()
        root["rights"].command("dropUser", "user")
        root.drop_database("rights")


def test_who_may_only_read_gets_counts_and_plans(as_user: Any) -> None:
    """Without the right to make a collection there are no samples, and the reason is told."""
    database = as_user("read")
    database["post"].insert_one({"_id": 1})
    left_over = f"lazymig_preview_{1:08x}{'0' * 16}"
    database[left_over].insert_one({"_id": 1})
    report = _preview(_post(handler(migration01__enable=rule(*ADD_ENABLED))))
    assert report.samples == ()
    (problem,) = report.problems
    assert problem.startswith("no samples: MongoDB refused")
    assert "not authorized" in problem
    assert _counts(report) == [(1, 1)]
    assert report.rules[0].plan == QueryPlan("COLLSCAN")
    assert set(database.list_collection_names()) == {"post", left_over}


def test_who_may_not_pass_a_validator_gets_samples_without_it(as_user: Any) -> None:
    """An ordinary user may not copy past a validator: it is left out then, and that is told."""
    database = as_user("readWrite")
    database["post"].create_index("name", unique=True, sparse=True)
    database["post"].insert_one({"_id": 1, "login": "a"})
    database.command("collMod", "post", validator={"n": {"$type": "int"}})
    report = _preview(_post(handler(migration01__rename=rule(*RENAME))))
    (problem,) = report.problems
    assert "validator was left out" in problem
    assert report.samples[0].after == {"_id": 1, "name": "a"}
    assert database.list_collection_names() == ["post"]


def test_a_view_has_no_samples(mongoengine_db: Database[Any]) -> None:
    """MongoDB updates no document of a view: the report says so, and tries nothing."""
    mongoengine_db["origin"].insert_one({"_id": 1})
    mongoengine_db.command("create", "post", viewOn="origin", pipeline=[])
    report = _preview(_post(handler(migration01__enable=rule(*ADD_ENABLED))))
    assert report.samples == ()
    assert "is a view" in report.problems[0]
    assert _counts(report) == [(1, 1)]


# --- The report -------------------------------------------------------------------------


def _report(database: Database[Any]) -> PreviewReport:
    database["post"].insert_many(
        [
            {"_id": 1, "n": Int64(1), "price": Decimal128("1.0"), "at": datetime(2020, 1, 1)},
            {"_id": 2, "login": "ada", "n": "x", "uuid": uuid.UUID(int=1)},
        ]
    )
    post = _post(
        handler(
            migration01__enable=rule(*ADD_ENABLED),
            allmigration01__raise=_failing,
            allmigration02__hand=_by_hand,
        ),
        meta={"strict": False},
    )
    return _preview(post, large=1)


def test_the_report_is_json(mongoengine_db: Database[Any]) -> None:
    """`to_dict` gives JSON's types alone, from which the very values can be read back."""
    report = _report(mongoengine_db)
    told = json.loads(json.dumps(report.to_dict()))
    assert list(told) == ["model", "collection", "total", "rules", "samples", "problems"]
    options = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=False, uuid_representation=4)
    for sample, text in zip(report.samples, told["samples"], strict=True):
        values = json_util.loads(json.dumps(text), json_options=options)
        assert values["before"] == sample.before
        assert values["after"] == sample.after
        assert values["rules"] == list(sample.rules)
        assert len(values["changes"]) == len(sample.changes)
    assert told["rules"][0] == {
        "name": "migration01__enable",
        "scope": "lazy",
        "kind": "static",
        "remaining": 2,
        "reached": 2,
        "plan": {
            "summary": "COLLSCAN",
            "indexes": [],
            "warning": "it reads all of about 2 documents to find what is old; lazymig indexes "
            "--create -m tests.support.handlers:Post ends that",
        },
        "problems": [],
        "form": "static",
        "left_to_python": None,
        "in_python": None,
    }


def test_the_report_is_plain_text(mongoengine_db: Database[Any]) -> None:
    """The text names the rules, counts, plans, warnings, changes and problems."""
    report = _report(mongoengine_db)
    text = report.format()
    assert str(report) == text
    assert text.startswith(f"Post in {mongoengine_db.name}.post: about 2 documents\n")
    for part in (
        "migration01__enable (lazy, static): matches 2 documents",
        "    plan: COLLSCAN",
        "    warning: it reads all of about 2 documents",
        "allmigration02__hand (bulk, by_hand): matches 0 documents",
        "    not run on the samples, because it writes by itself",
        "2 documents sampled; 0 would stay as is",
        "_id 1: migration01__enable",
        "    + enabled: True",
        "    problem: Post.allmigration01__raise: the rule raised",
    ):
        assert part in text
    assert str(report.samples[0]) in text
    assert str(report.rules[0]) in text


def test_documents_that_stay_as_they_are_are_only_counted(mongoengine_db: Database[Any]) -> None:
    """The text of a report spares the samples that nothing happens to."""
    mongoengine_db["post"].insert_many([{"_id": number, "n": 1} for number in range(3)])

    def undetermined(self: Any) -> None:
        if "gone" in self.doc:
            self.target = {"gone": {"$exists": True}}
            self.update = {"$unset": {"gone": ""}}

    report = _preview(_post(handler(migration01__gone=undetermined)))
    assert len(report.samples) == 3
    assert "3 documents sampled; 3 would stay as is" in report.format()
    assert "_id" not in report.format()
    one = replace(report, samples=report.samples[:1])
    assert "1 document sampled" in one.format()


@pytest.mark.parametrize(
    ("option", "value"),
    [("sample", -1), ("sample", True), ("sample", "20"), ("scope", "all"), ("scope", "")],
)
def test_an_option_that_is_none_is_refused(
    mongoengine_db: Database[Any], option: str, value: Any
) -> None:
    """A wrong value of an option is an error that names the option."""
    post = _post(handler(migration01__enable=rule(*ADD_ENABLED)))
    with pytest.raises(RunOptionError) as failure:
        _preview(post, **{option: value})
    assert failure.value.option == option
