"""Documents that Python cannot decode: each fails by itself, on every way."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from bson import DBRef
from bson.errors import InvalidBSON
from mongoengine import CachedReferenceField, DynamicField, IntField, ReferenceField, StringField
from pymongo.database import Database

from lazymig import MigrationFailed, once
from lazymig.engines.bulk import Work
from lazymig.odm.plans import plan_for
from lazymig.rules.rule import Scope
from tests.support.handlers import copying, handler, model, rule
from tests.support.oddities import KINDS, TOO_LATE, odd_value, with_broken_text

COUNT = 250
ODD = 3
OTHERS = [n for n in range(COUNT) if n != ODD]


def _reading_odd() -> Any:
    def method(self: Any) -> None:
        self.target = {"m": {"$exists": False}}
        self.update = {"$set": {"m": str(self.doc["odd"])}}

    return method


def _reading_all() -> Any:
    def method(self: Any) -> None:
        self.target = {"m": {"$exists": False}}
        self.update = {"$set": {"m": str(len(dict(self.doc)))}}

    return method


def _post(**rules: Any) -> Any:
    return model(
        handler(**rules), n=IntField(), m=DynamicField(), odd=DynamicField(), text=StringField()
    )


def _fill(database: Database[Any], kind: str = "late") -> None:
    database["post"].insert_many([{"_id": n, "n": n, "odd": n} for n in OTHERS])
    database["post"].insert_one(odd_value(kind, ODD))


def _loaded(iterator: Iterator[Any]) -> tuple[list[int], list[Exception]]:
    """Iterate to the end, whatever is raised on the way."""
    keys, errors = [], []
    while True:
        try:
            keys.append(next(iterator).key)
        except StopIteration:
            return keys, errors
        except (InvalidBSON, MigrationFailed) as exc:
            errors.append(exc)


def _migrated(database: Database[Any]) -> int:
    return database["post"].count_documents({"m": {"$exists": True}})


@pytest.mark.parametrize("kind", KINDS)
def test_a_load_gives_the_neighbours(mongoengine_db: Database[Any], kind: str) -> None:
    """All others of a batch are migrated and handed out; the odd one is an error in its turn."""
    _fill(mongoengine_db, kind)
    post = _post(migration01__m=_reading_odd())

    keys, errors = _loaded(post.objects.order_by("key").no_cache())

    assert keys == OTHERS
    assert [(type(e), getattr(e, "document_id", None)) for e in errors] == [(MigrationFailed, ODD)]
    assert "'odd' cannot be decoded" in str(errors[0])
    assert isinstance(errors[0].__cause__, InvalidBSON)
    assert _migrated(mongoengine_db) == COUNT - 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_up_to_date_one_is_pymongos_own_error(mongoengine_db: Database[Any], kind: str) -> None:
    """Where no rule concerns it, what PyMongo raises for a batch is raised for the one document."""
    _fill(mongoengine_db, kind)
    post = _post(migration01__text=rule({"text": "old"}, {"$set": {"text": "new"}}))

    keys, errors = _loaded(post.objects.order_by("key").no_cache())

    assert keys == OTHERS
    assert [isinstance(e, InvalidBSON) for e in errors] == [True]
    for load in (
        lambda: post.objects.get(key=ODD),
        lambda: post.objects(key=ODD).first(),
        lambda: post.objects.order_by("key")[ODD],
        lambda: post.objects.in_bulk([ODD]),
        lambda: post.objects(key=ODD).modify(set__n=7),
    ):
        with pytest.raises(InvalidBSON):
            load()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"chunk_size": 7}, {"transactions": True}])
def test_a_run_does_the_others(
    mongoengine_db: Database[Any], kind: str, options: dict[str, Any]
) -> None:
    """A computed rule is applied to all others; the odd document is in quarantine, and stays."""
    _fill(mongoengine_db, kind)
    post = _post(migration01__m=_reading_odd())
    rules = post.migration_handler(post)

    report = rules.migrate_pending(max_errors=5, **options)

    assert (report.state, report.modified) == ("finished", COUNT - 1)
    assert [error.document_id for error in report.errors] == [ODD]
    assert _migrated(mongoengine_db) == COUNT - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_that_does_without_it_is_applied(mongoengine_db: Database[Any], kind: str) -> None:
    """A rule that reads other fields migrates the odd document as well, in bulk and on loads."""
    _fill(mongoengine_db, kind)

    def whatever(self: Any) -> None:
        self.target = {"m": {"$exists": False}}
        name = "n"
        self.update = {"$set": {"m": self.doc[name * 1]}}

    post = _post(migration01__m=whatever)
    with pytest.raises(InvalidBSON):
        post.objects.get(key=ODD)
    assert mongoengine_db["post"].count_documents({"_id": ODD, "m": ODD}) == 1
    mongoengine_db["post"].update_many({}, {"$unset": {"m": 1}})
    report = post.migration_handler(post).migrate_pending()

    assert (report.state, report.modified, report.errors) == ("finished", COUNT, ())


def test_a_rule_that_reads_all_is_refused(mongoengine_db: Database[Any]) -> None:
    """What a rule has read cannot be compared where it cannot be decoded: that is a refusal."""
    _fill(mongoengine_db)
    post = _post(migration01__m=_reading_all())

    report = post.migration_handler(post).migrate_pending(max_errors=5)

    assert (report.modified, [e.document_id for e in report.errors]) == (COUNT - 1, [ODD])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "update",
    [{"$unset": {"odd": ""}}, [{"$set": {"odd": {"$cond": [True, 5, 6]}}}]],
    ids=["static", "pipeline"],
)
def test_a_rule_may_cure_it(mongoengine_db: Database[Any], kind: str, update: Any) -> None:
    """A document that MongoDB can bring into a shape that Python can hold is loaded in it."""
    post = _post(migration01__odd=rule({"odd": {"$type": ["date", "object", "string"]}}, update))
    loads = {
        "iterate": lambda: next(d for d in post.objects if d.key == ODD),
        "get": lambda: post.objects.get(key=ODD),
        "first": lambda: post.objects(key=ODD).first(),
        "index": lambda: post.objects.order_by("key")[ODD],
        "limit": lambda: list(post.objects.order_by("key").limit(ODD + 2))[ODD],
        "limit, step by step": lambda: next(d for d in post.objects.limit(COUNT) if d.key == ODD),
        "sorted by what is written": lambda: next(
            d for d in post.objects(key__lte=ODD).order_by("-odd").limit(9) if d.key == ODD
        ),
        "in_bulk": lambda: post.objects.in_bulk([ODD])[ODD],
        "only": lambda: post.objects.only("odd").get(key=ODD),
        "modify": lambda: post.objects(key=ODD).modify(set__text="x", new=True),
    }
    for name, load in loads.items():
        mongoengine_db["post"].drop()
        _fill(mongoengine_db, kind)
        document = load()
        assert document.key == ODD, name
        assert document.odd in (None, 5), name


def test_few_but_large_documents_are_decoded_one_by_one(mongoengine_db: Database[Any]) -> None:
    """Where a limit takes several answers, each document comes once, though a later one is odd."""
    post = _post(migration01__m=_reading_odd())
    size = 6 << 20
    for n in range(4):
        mongoengine_db["post"].insert_one({"_id": n, "odd": n, "text": "x" * size})
    mongoengine_db["post"].insert_one({**odd_value("late", 9), "text": "x" * size})

    keys, errors = _loaded(post.objects.order_by("key").limit(5).no_cache())

    assert keys == [0, 1, 2, 3]
    assert [(type(e), getattr(e, "document_id", None)) for e in errors] == [(MigrationFailed, 9)]


def test_a_reference_leads_to_a_cured_document(mongoengine_db: Database[Any]) -> None:
    """References are migrated before they are decoded, one by one and in lists."""
    post = _post(migration01__odd=rule({"odd": {"$type": "date"}}, {"$unset": {"odd": ""}}))
    fields = {
        "to": ReferenceField(post),
        "cached": CachedReferenceField(post, fields=["text"]),
        "dynamic": DynamicField(),
    }
    owner = model(name_of_class="Owner", meta={"collection": "owner"}, **fields)
    generic = {"_cls": post.__name__, "_ref": DBRef("post", ODD)}
    stored = {"to": ODD, "cached": {"_id": ODD}, "dynamic": generic}
    for name, value in stored.items():
        for collection in ("post", "owner"):
            mongoengine_db[collection].drop()
        _fill(mongoengine_db)
        mongoengine_db["owner"].insert_one({"_id": 1, name: value})

        assert getattr(owner.objects.get(), name).key == ODD, name


def test_an_operation_is_settled_for_the_others(mongoengine_db: Database[Any]) -> None:
    """What has to be brought up to date first is so, except for the odd document."""
    _fill(mongoengine_db)
    post = _post(migration01__m=_reading_odd())

    assert post.objects(m="7").update(set__n=-1) == 1
    assert _migrated(mongoengine_db) == COUNT - 1


def test_modify_names_the_field(mongoengine_db: Database[Any]) -> None:
    """The image that modify() gives back fails as a load does: with the field and the rules."""
    _fill(mongoengine_db)
    post = _post(migration01__x=rule({"x": {"$exists": True}}, {"$unset": {"x": ""}}))
    with pytest.raises(InvalidBSON, match="'odd'"):
        post.objects(key=ODD).modify(set__n=1)


def test_a_preview_shows_the_others(mongoengine_db: Database[Any]) -> None:
    """In a preview the odd document is a sample with a problem; its neighbours are migrated."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n, "odd": n} for n in range(4) if n != ODD])
    mongoengine_db["post"].insert_one(odd_value("late", ODD))
    post = _post(migration01__m=_reading_odd())

    report = post.migration_handler(post).preview()

    problems = {sample.document_id: sample.problem for sample in report.samples}
    assert {key for key, problem in problems.items() if problem} == {ODD}
    assert "cannot be decoded" in str(problems[ODD])


def test_its_error_goes_to_another_process_with_its_note(mongoengine_db: Database[Any]) -> None:
    """The note names the rules that were tried; on Python 3.10 it is part of the text."""
    _fill(mongoengine_db)
    post = _post(migration01__x=rule({"x": {"$exists": True}}, {"$unset": {"x": ""}}))
    with pytest.raises(InvalidBSON) as caught:
        post.objects.get(key=ODD)
    for copied in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert str(copied) == str(caught.value)
        assert getattr(copied, "__notes__", None) == getattr(caught.value, "__notes__", None)


def test_skip_leaves_it_out(mongoengine_db: Database[Any]) -> None:
    """With `on_error = "skip"` an iteration passes over the odd document."""
    _fill(mongoengine_db)
    post = model(
        handler(on_error="skip", migration01__m=_reading_odd()),
        n=IntField(),
        m=DynamicField(),
        odd=DynamicField(),
    )

    assert [document.key for document in post.objects.order_by("key")] == OTHERS
    with pytest.raises(InvalidBSON):
        post.objects.get(key=ODD)


@pytest.mark.parametrize("key", [TOO_LATE, {"d": TOO_LATE}])
def test_an_odd_id_still_names_its_document(mongoengine_db: Database[Any], key: Any) -> None:
    """A document whose `_id` is a date that Python does not have is migrated like all others."""
    mongoengine_db["post"].insert_many([{"_id": key, "n": 1}, {"_id": 1, "n": 2}])
    post = _post(migration01__m=copying("n", "m"))

    keys, errors = _loaded(post.objects.no_cache())

    assert (keys, len(errors)) == ([1], 1)
    assert _migrated(mongoengine_db) == 2


def test_a_document_that_no_filter_can_name_stops_no_other(mongoengine_db: Database[Any]) -> None:
    """An `_id` that is no text of UTF-8 cannot be sent; the others are migrated, and it is told."""
    mongoengine_db["post"].insert_one(with_broken_text({"_id": "broken", "n": 1}))
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(5)])
    post = _post(migration01__m=copying("n", "m"))

    keys, errors = _loaded(post.objects.no_cache())

    assert (sorted(keys), len(errors)) == (list(range(5)), 1)
    assert "'_id' cannot be decoded" in str(errors[0])
    assert _migrated(mongoengine_db) == 5


def test_a_once_rule_lets_go_of_it(mongoengine_db: Database[Any]) -> None:
    """The claim on a document that a once rule cannot read is released at once."""
    _fill(mongoengine_db)
    post = _post(migration01__m=once(_reading_odd()))

    report = post.migration_handler(post).migrate_pending(max_errors=5)

    assert (report.modified, [e.document_id for e in report.errors]) == (COUNT - 1, [ODD])
    assert mongoengine_db["post"].count_documents({"__lazymig": {"$exists": True}}) == 0


def _counting(self: Any) -> None:
    self.target = {"n": {"$lt": 1000}, "m": {"$exists": False}}
    self.update = {"$inc": {"n": 1000}, "$set": {"m": 1}}


@pytest.mark.parametrize(
    ("method", "refused"),
    [(_reading_odd(), 1), (once(_reading_odd()), 1), (_counting, 0)],
    ids=["computed", "once", "static"],
)
@pytest.mark.parametrize("scope", ["lazy", "bulk"])
def test_work_goes_past_a_document_that_no_filter_can_name(
    mongoengine_db: Database[Any], method: Any, refused: int, scope: Scope
) -> None:
    """It is one refusal, where a rule needs to name it, and all others are migrated."""
    mongoengine_db["post"].insert_one(with_broken_text({"_id": "broken", "n": 1, "odd": 1}))
    mongoengine_db["post"].insert_many([{"_id": n, "n": n, "odd": n} for n in range(5)])
    name = "migration01__m" if scope == "lazy" else "allmigration01__m"
    post = _post(**{name: method})
    plan = plan_for(post.migration_handler, post)
    (each,) = plan.lazy if scope == "lazy" else plan.bulk

    tally = Work(mongoengine_db["post"], plan, scope).apply(each)

    assert (tally.modified, len(tally.errors)) == (6 - refused, refused)
    assert all("'_id' cannot be decoded" in str(error) for error in tally.errors)
