"""Views of a collection in today's shape: made, brought up to date, dropped, refused."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import mongoengine
import mongomock
import pytest
from bson import Regex
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from mongoengine import BooleanField, Document, IntField, StringField
from pymongo.database import Database
from pymongo.errors import ExecutionTimeout, OperationFailure

from lazymig import (
    LazyMigrationMixin,
    ModelView,
    RunError,
    RunOptionError,
    ShowError,
    ViewError,
)
from lazymig.engines import views as stored
from tests.examples.shop import Order, OrderMigration, PlainOrder, migrated_order, stored_order
from tests.support.handlers import ADD_ENABLED, copying_in_python, handler, model, rule
from tests.support.sessions import needs_bound_sessions

Raw = dict[str, Any]

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})


@pytest.fixture(autouse=True)
def _in_python() -> None:
    """Rules are translated, as they are for users; other tests here switch that off."""


@pytest.fixture
def posts(mongoengine_db: Database[Raw]) -> Any:
    """The collection of `Post`, with an old document and one of today."""
    collection = mongoengine_db["post"]
    collection.insert_many([{"_id": 1, "mail": "a"}, {"_id": 2, "email": "b", "enabled": False}])
    return collection


def post(**rules: Any) -> Any:
    """The model `Post` with these rules, or with two."""
    rules = rules or {"migration01__rename": rule(*RENAME), "migration02__add": rule(*ADD_ENABLED)}
    fields = {"email": StringField(), "enabled": BooleanField()}
    return model(handler(**rules), meta={"strict": False}, **fields)


def on(a_model: Any) -> Any:
    """The calls of a model's handler."""
    return a_model.migration_handler(a_model)


def renamed(source: str, goal: str) -> Any:
    """A rule that renames a field."""
    return rule({source: {"$exists": True}}, {"$rename": {source: goal}})


def rows(collection: Any) -> list[Raw]:
    """The documents of a collection or view, by `_id`."""
    return sorted(collection.find(), key=lambda each: str(each["_id"]))


TODAY = [{"_id": 1, "email": "a", "enabled": True}, {"_id": 2, "email": "b", "enabled": False}]


def test_a_view_shows_today_s_shape_and_writes_nothing(posts):
    """The view has each document as the rules will leave it; what is stored stays as it is."""
    before = rows(posts)
    found = on(post()).create_view("today")
    assert found == ModelView("today", "Post", posts.full_name, True, None)
    assert rows(posts.database.today) == TODAY
    assert rows(posts) == before
    posts.insert_one({"_id": 3, "mail": "c"})
    assert posts.database.today.find_one({"email": "c"}) == {
        "_id": 3,
        "email": "c",
        "enabled": True,
    }


def test_the_view_of_a_shop_is_the_migrated_shop(mongoengine_db):
    """Rules in ordinary Python are shown field by field as a script would have migrated them."""
    numbers = range(0, 10_000, 97)
    mongoengine_db["orders"].insert_many([stored_order(number) for number in numbers])
    OrderMigration(Order).create_view("orders_today")
    view = mongoengine_db["orders_today"]
    assert rows(view) == sorted(map(migrated_order, numbers), key=lambda each: str(each["_id"]))
    by_status = [{"$group": {"_id": "$status", "total": {"$sum": "$total"}}}, {"$sort": {"_id": 1}}]
    mongoengine_db["migrated"].insert_many([migrated_order(number) for number in numbers])
    assert list(view.aggregate(by_status)) == list(mongoengine_db["migrated"].aggregate(by_status))
    assert sorted(view.distinct("email")) == sorted(mongoengine_db["migrated"].distinct("email"))
    day = {"created": {"$lt": datetime(2024, 1, 2)}}
    assert view.count_documents(day) == mongoengine_db["migrated"].count_documents(day)


def test_a_model_of_mongoengine_reads_a_view(mongoengine_db):
    """A plain model with the view as its collection loads what the migrated one would."""
    mongoengine_db["orders"].insert_many([stored_order(number) for number in (5, 4_005, 9_005)])
    OrderMigration(Order).create_view("orders_today")
    fields = dict(PlainOrder._fields)
    meta = {"collection": "orders_today", "auto_create_index": False}
    today = type(Document)("OrderToday", (Document,), {"meta": meta, **fields})
    found = {each.number: each.to_mongo().to_dict() for each in today.objects.order_by("-email")}
    assert found == {number: migrated_order(number) for number in (5, 4_005, 9_005)}


def test_a_view_is_brought_up_to_date_in_place(posts):
    """Under its name again a view gets today's rules by one command, without a gap for readers."""
    on(post(migration01__rename=rule(*RENAME))).create_view("today")
    today = post()
    (found,) = on(today).views()
    assert (found.current, "older than the rules" in found.reason) == (False, True)
    cursor = posts.database.today.find({}, batch_size=1)
    next(cursor)
    assert on(today).create_view("today").current
    assert [each["_id"] for each in cursor] == [2]
    assert rows(posts.database.today) == TODAY
    assert on(today).views() == [ModelView("today", "Post", posts.full_name, True, None)]


def test_what_is_up_to_date_is_left_alone(command_log, monitored_db):
    """Where the pipeline is that of today's rules, nothing is sent but questions."""
    monitored_db["post"].insert_one({"mail": "a"})
    today = post()
    on(today).create_view("today")
    assert command_log.names.count("create") == 1
    command_log.clear()
    on(today).create_view("today")
    assert set(command_log.names) <= {"listCollections", "listIndexes"}


def test_a_view_is_current_in_other_processes(posts, server_uri):
    """The pipeline is byte for byte the same in every process, whatever its hash seed."""
    posts.database["orders"].insert_one(stored_order(1))
    on(post()).create_view("today")
    OrderMigration(Order).create_view("orders_today")
    script = (
        "import sys, mongoengine\n"
        "mongoengine.connect(sys.argv[2], host=sys.argv[1], uuidRepresentation='standard')\n"
        "from tests.operations.test_views import Order, on, post\n"
        "print([each.current for model in (post(), Order) for each in on(model).views()])\n"
    )
    root = str(Path(__file__).parents[2])
    for seed in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-c", script, server_uri, posts.database.name],
            check=True,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            timeout=120,
        )
        assert process.stdout == "[True, True]\n"


def test_classes_may_be_imported_in_any_order(mongoengine_db):
    """Processes that have imported the classes of a collection in other orders agree on a view."""
    mongoengine_db["post"].insert_one({"_id": 1, "_cls": "Human.Ant", "a": 1})
    found = []
    for names in (["Ant", "Bee", "Cat"], ["Cat", "Bee", "Ant"]):
        root = model(
            handler(migration01__rename=renamed("nom", "name")),
            name_of_class="Human",
            meta={"collection": "post", "allow_inheritance": True, "strict": False},
        )
        for name in names:
            rules = handler(migration01__rename=renamed(name[0].lower(), name[0]))
            type(Document)(name, (root,), {"migration_handler": rules})
        found.append(on(root).stages())
        on(root).create_view("today")
    assert found[0] == found[1]
    assert mongoengine_db["today"].find_one() == {"_id": 1, "_cls": "Human.Ant", "A": 1}


def test_views_are_dropped(posts):
    """A view of lazymig is dropped by its name; the collection and other views stay."""
    today = on(post())
    today.create_view("today")
    today.create_view("also_today")
    today.drop_view("today")
    assert [each.name for each in today.views()] == ["also_today"]
    assert sorted(posts.database.list_collection_names()) == ["also_today", "post", "system.views"]
    with pytest.raises(ViewError, match="there is none; lazymig's views of post are: also_today"):
        today.drop_view("today")


def test_what_lazymig_has_not_made_is_left_alone(posts):
    """Collections, foreign views and views of other collections are not replaced nor dropped."""
    database = posts.database
    database.create_collection("notes")
    for name, pipeline in {
        "theirs": [{"$set": {"x": 1}}],
        "nearly": [{"$match": {"$comment": "lazymig: view of Post", "x": 1}}],
        "nothing": [],
    }.items():
        database.command("create", name, viewOn="post", pipeline=pipeline)
    database.command(
        "create", "elsewhere", viewOn="notes", pipeline=[stored.made_by_lazymig("Post")]
    )
    before = {each["name"]: each.get("options") for each in database.list_collections()}
    today = on(post())
    for name, problem in {
        "notes": "the name of a collection",
        "post": "the name of a collection",
        "theirs": "that lazymig has not made",
        "nearly": "that lazymig has not made",
        "nothing": "that lazymig has not made",
        "elsewhere": "made of notes",
    }.items():
        with pytest.raises(ViewError, match=problem) as created:
            today.create_view(name)
        with pytest.raises(ViewError, match=problem):
            today.drop_view(name)
        assert (created.value.model, created.value.view) == ("Post", name)
        assert created.value.collection == posts.full_name
    assert {each["name"]: each.get("options") for each in database.list_collections()} == before
    assert today.views() == []


# --- Models ---------------------------------------------------------------------------------


def _jedi(**bodies: Any) -> tuple[Any, Any]:
    """A root class with a handler, and a subclass that has one of its own."""
    root = model(
        handler(migration01__rename=renamed("nom", "name")),
        name_of_class="Human",
        name=StringField(),
        meta={"collection": "post", "allow_inheritance": True},
    )
    rules = handler(
        migration01__rename=renamed("nom", "name"),
        migration02__split=rule(
            {"_cls": "Human.Jedi", "good": True}, {"$set": {"_cls": "Human.GoodJedi"}}
        ),
        legacy_classes=("Human.Jedi", "Human.Padawan"),
    )
    body = {"rank": IntField(), "good": BooleanField(), "migration_handler": rules, **bodies}
    return root, type(Document)("GoodJedi", (root,), body)


def test_the_view_of_a_subclass_holds_its_documents(mongoengine_db):
    """Today's class of a document counts; former classes that no rule names belong to it."""
    root, jedi = _jedi()
    mongoengine_db["post"].insert_many(
        [
            {"_id": 1, "_cls": "Human", "nom": "a"},
            {"_id": 2, "_cls": "Human.GoodJedi", "nom": "b"},
            {"_id": 3, "_cls": "Human.Jedi", "good": True, "nom": "c"},
            {"_id": 4, "_cls": "Human.Jedi", "good": False, "nom": "d"},
            {"_id": 5, "_cls": "Human.Padawan", "name": "e"},
            {"_id": 6, "nom": "f"},
        ]
    )
    on(root).create_view("humans")
    on(jedi).create_view("jedi")
    assert rows(mongoengine_db["jedi"]) == [
        {"_id": 2, "_cls": "Human.GoodJedi", "name": "b"},
        {"_id": 3, "_cls": "Human.GoodJedi", "good": True, "name": "c"},
        {"_id": 5, "_cls": "Human.Padawan", "name": "e"},
    ]
    assert jedi.objects.count() == 3
    assert [each["name"] for each in rows(mongoengine_db["humans"])] == list("abcdef")
    assert [(each.name, each.model, each.current) for each in on(jedi).views()] == [
        ("humans", "Human", True),
        ("jedi", "GoodJedi", True),
    ]
    assert on(root).views() == on(jedi).views()


def test_a_name_is_that_of_one_model_s_view(mongoengine_db):
    """The view of one model is not made that of another one of the same collection."""
    mongoengine_db["post"].insert_one({"_id": 1, "_cls": "Human"})
    root, jedi = _jedi()
    on(root).create_view("humans")
    with pytest.raises(ViewError, match="lazymig's view of Human, made of post"):
        on(jedi).create_view("humans")


def test_a_view_of_a_class_that_is_gone_says_so(posts):
    """A view of a model that has no rules any more is listed, with what to do, and is dropped."""
    pipeline = [stored.made_by_lazymig("Gone")]
    posts.database.command("create", "left", viewOn="post", pipeline=pipeline)
    (found,) = on(post()).views()
    assert (found.model, found.current) == ("Gone", False)
    assert "has no rules any more; drop it" in found.reason
    on(post()).drop_view("left")


def test_a_view_stays_when_its_rules_go(posts):
    """Without rules the view is older than them; created again it has no stages of rules."""
    on(post()).create_view("today")
    without = post(allmigration01__drop=rule({"x": 1}, {"$unset": {"x": ""}}))
    assert [each.current for each in on(without).views()] == [False]
    on(without).create_view("today")
    assert posts.database.today.options()["pipeline"] == [stored.made_by_lazymig("Post")]


def test_bulk_rules_are_not_shown(posts):
    """A view shows what loads and queries see: a bulk rule changes nothing before it has run."""
    rules = {
        "migration01__rename": rule(*RENAME),
        "allmigration01__drop": rule({"enabled": {"$exists": True}}, {"$unset": {"enabled": ""}}),
    }
    on(post(**rules)).create_view("today")
    assert rows(posts.database.today)[1] == {"_id": 2, "email": "b", "enabled": False}


# --- What cannot be shown -------------------------------------------------------------------


def test_a_rule_that_cannot_be_shown_is_named(posts):
    """A rule that Python alone computes makes the view impossible; nothing is created."""
    rules = {
        "migration01__rename": rule(*RENAME),
        "migration02__python": copying_in_python("email", "address"),
    }
    with pytest.raises(ShowError, match="migration02__python"):
        on(post(**rules)).create_view("today")
    assert posts.database.list_collection_names() == ["post"]


def test_a_view_whose_rules_cannot_be_shown_any_more_is_listed(posts):
    """A view older than a rule that cannot be shown says that, and stays as it was."""
    on(post()).create_view("today")
    rules = {
        "migration01__rename": rule(*RENAME),
        "migration02__python": copying_in_python("email", "address"),
    }
    (found,) = on(post(**rules)).views()
    assert not found.current
    assert "migration02__python" in found.reason
    assert rows(posts.database.today) == TODAY


def as_number(self: Any) -> None:
    """A rule that the server computes for some documents, and Python for others."""
    self.target = {"n": {"$type": "string"}}
    self.update = {"$set": {"n": int(self.doc["n"])}}


def _counted() -> Any:
    return post(migration01__as_number=as_number)


def test_documents_that_cannot_be_shown_are_counted(posts):
    """What only Python can compute has to be migrated first; the error has rule and number."""
    posts.insert_many([{"_id": 3, "n": "5"}, {"_id": 4, "n": " 6 "}, {"_id": 5, "n": "1_000"}])
    counted = _counted()
    with pytest.raises(
        ViewError, match=r"\(migration01__as_number: 2\).*migrate_pending"
    ) as raised:
        on(counted).create_view("today")
    assert "bring them up to date first, by migrate_pending()" in raised.value.problem
    assert "today" not in posts.database.list_collection_names()
    on(counted).migrate_pending()
    on(counted).create_view("today")
    assert [each["n"] for each in rows(posts.database.today) if "n" in each] == [5, 6, 1000]


def test_what_comes_later_and_cannot_be_shown_is_shown_as_stored(posts):
    """A document of later that only Python can migrate is as it is stored, without a mark."""
    on(_counted()).create_view("today")
    posts.insert_many([{"_id": 3, "n": " 6 "}, {"_id": 4, "n": "7"}])
    assert [each["n"] for each in rows(posts.database.today)[2:]] == [" 6 ", 7]
    assert not any("__lazymig" in each for each in posts.database.today.find())


def test_what_mongodb_refuses_is_shown_as_it_stays(posts):
    """A document for which MongoDB refuses the update is shown as a run would leave it."""
    posts.insert_one({"_id": 3, "tags": "none", "old": 1})
    rules = {"migration01__move": rule({"old": {"$exists": True}}, {"$rename": {"old": "tags.x"}})}
    on(post(**rules)).create_view("today")
    assert posts.database.today.find_one({"_id": 3}) == {"_id": 3, "tags": "none", "old": 1}


# --- Faults ---------------------------------------------------------------------------------


def test_a_view_compares_as_its_collection_does(mongoengine_db):
    """A view has the collation of its collection: targets, filters and sorts are the same."""
    collation = {"locale": "en", "strength": 2}
    posts = mongoengine_db.create_collection("post", collation=collation)
    posts.insert_many([{"_id": 1, "kind": "OLD"}, {"_id": 2, "kind": "b"}, {"_id": 3, "kind": "A"}])
    rules = {"migration01__new": rule({"kind": "old"}, {"$set": {"kind": "new"}})}
    on(post(**rules)).create_view("today")
    view = mongoengine_db["today"]
    shown, filtered = rows(view), list(view.find({"kind": "a"}))
    in_order = [each["_id"] for each in view.find().sort("kind")]
    on(post(**rules)).migrate_pending()
    assert (shown, filtered) == (rows(posts), list(posts.find({"kind": "a"})))
    assert in_order == [each["_id"] for each in posts.find().sort("kind")] == [3, 2, 1]


def test_a_view_with_another_collation_has_to_be_dropped(mongoengine_db):
    """MongoDB does not change the collation of a view: the error says what to do."""
    posts = mongoengine_db.create_collection("post", collation={"locale": "en", "strength": 2})
    on(post()).create_view("today")
    posts.drop()
    mongoengine_db.create_collection("post")
    with pytest.raises(ViewError, match=r"its collation is not that of post.*drop the view"):
        on(post()).create_view("today")
    on(post()).drop_view("today")
    on(post()).create_view("today")


def test_an_open_transaction_is_not_waited_for_long(posts):
    """A view that a transaction has read is left as it was after some seconds, with an error."""
    on(post(migration01__rename=rule(*RENAME))).create_view("today")
    with posts.database.client.start_session() as session, session.start_transaction():
        posts.database.today.find_one({}, session=session)
        with pytest.raises(ViewError, match=r"open transaction.*was not changed") as raised:
            on(post()).create_view("today")
        assert isinstance(raised.value.__cause__, ExecutionTimeout)
    on(post()).create_view("today")


@needs_bound_sessions
def test_views_are_not_made_in_a_transaction(posts):
    """In the transaction of a bound session nothing is sent, and the error says so."""
    client = mongoengine.get_connection()
    with client.start_session() as session, session.bind(), session.start_transaction():
        for call in (on(post()).create_view, on(post()).drop_view):
            with pytest.raises(RunError, match="within the transaction of a bound session"):
                call("today")


@pytest.mark.parametrize("name", ["a$b", "", "system.today", "a\0b", "x" * 300])
def test_names_that_mongodb_refuses(posts, name):
    """A name that is none is an error that says to choose another one."""
    with pytest.raises(
        ViewError, match=r"(MongoDB refuses it: .*|are MongoDB's own); choose another name"
    ):
        on(post()).create_view(name)


@pytest.mark.parametrize("name", [None, 5, b"today"])
def test_a_name_is_a_text(posts, name):
    """What is no text is an error before anything is asked."""
    for call in (on(post()).create_view, on(post()).drop_view):
        with pytest.raises(RunOptionError, match=r"name: is .*; give the name of a view"):
            call(name)


def test_mongomock_has_no_views():
    """On mongomock the error says what views need; none are listed."""
    collection = mongomock.MongoClient()["db"]["post"]
    for call in (on(post()).create_view, on(post()).drop_view):
        with pytest.raises(ViewError, match="views need a MongoDB server"):
            call("today", collection)
    assert on(post()).views(collection) == []


def test_a_collection_that_does_not_exist_has_no_view(mongoengine_db):
    """Of nothing there is no view: an empty or wrong database would look like a done one."""
    with pytest.raises(ViewError, match="does not exist; is this the right database"):
        on(post()).create_view("today")
    assert mongoengine_db.list_collection_names() == []


def test_time_series_have_no_view(mongoengine_db):
    """The documents of a time-series collection are none that rules bring up to date."""
    measured = mongoengine_db.create_collection("measured", timeseries={"timeField": "t"})
    with pytest.raises(ViewError, match="is a time-series collection"):
        on(post()).create_view("today", measured)


def test_views_of_views_end_somewhere(posts):
    """A view may be made of a view, up to MongoDB's depth, which the error names."""
    database = posts.database
    below = "post"
    for depth in range(20):
        database.command("create", f"v{depth}", viewOn=below, pipeline=[])
        below = f"v{depth}"
    on(post()).create_view("today", database["v3"])
    assert rows(database.today) == TODAY
    with pytest.raises(ViewError, match=r"depth.*of the collection below"):
        on(post()).create_view("deep", database["v19"])


def test_thirty_rules_are_shown(posts):
    """The stages of thirty rules, each upon the one before, are one pipeline that MongoDB takes."""
    rules = {
        f"migration{number:02}__move": renamed(f"f{number}", f"f{number + 1}")
        for number in range(1, 31)
    }
    posts.insert_one({"_id": 3, "f1": 1})
    on(post(**rules)).create_view("today")
    assert posts.database.today.find_one({"_id": 3}) == {"_id": 3, "f31": 1}


@pytest.mark.parametrize("looks", [False, True], ids=["created", "looked for first"])
def test_stages_of_more_than_16_mb_are_an_error(posts, looks):
    """A pipeline that is too large for a command is an error of lazymig's, with what to do."""
    rules = {
        f"migration{number:02}__add": rule(
            {f"f{number}": {"$exists": False}}, {"$set": {f"f{number}": "x" * 1_000_000}}
        )
        for number in range(1, 19)
    }
    if looks:
        rules["migration20__as_number"] = as_number
    with pytest.raises(ViewError, match=r"larger than MongoDB takes \(16 MB\)"):
        on(post(**rules)).create_view("today")
    assert posts.database.list_collection_names() == ["post"]


@pytest.mark.parametrize("there", [False, True], ids=["created", "dropped"])
def test_another_process_that_is_faster_is_no_error(posts, monkeypatch, there):
    """What somebody creates or drops between the look and the command is looked at again."""
    look, looks = stored.named_in, []
    older = on(post(migration01__rename=rule(*RENAME)))
    if there:
        older.create_view("today")

    def late(database: Any, name: str) -> Any:
        found = look(database, name)
        if name == "today":
            looks.append(found)
            if len(looks) == 1:
                monkeypatch.setattr(stored, "named_in", look)
                older.drop_view(name) if there else older.create_view(name)
                monkeypatch.setattr(stored, "named_in", late)
        return found

    monkeypatch.setattr(stored, "named_in", late)
    on(post()).create_view("today")
    assert rows(posts.database.today) == TODAY
    assert [each is None for each in looks] == [not there, there]


def test_options_are_read_as_bytes(posts):
    """What Python cannot decode in the options of another collection stops nothing."""
    codec = CodecOptions(document_class=RawBSONDocument)
    strange = RawBSONDocument(b"\x0f\x00\x00\x00\x02v\x00\x03\x00\x00\x00\xff\xfe\x00\x00")
    pipeline = [{"$match": {"x": {"$not": Regex("a")}}}, {"$match": {"date": strange}}]
    posts.database.with_options(codec_options=codec).command(
        "create", "odd", viewOn="post", pipeline=pipeline
    )
    on(post()).create_view("today")
    assert [each.name for each in on(post()).views()] == ["today"]


# --- Cost -----------------------------------------------------------------------------------


def _stages(plan: Any) -> set[str]:
    """The kinds of stages of a query plan."""
    if isinstance(plan, dict):
        own = {plan["stage"]} if isinstance(plan.get("stage"), str) else set()
        return own.union(*map(_stages, plan.values())) if plan else own
    return set().union(*map(_stages, plan)) if isinstance(plan, list) else set()


@pytest.mark.parametrize(
    ("query", "fast"),
    [
        ({"_id": 1}, True),
        ({"city": "x"}, True),
        ({"city": "x", "email": "a"}, True),
        ({"email": "a"}, False),
    ],
    ids=["id", "unwritten", "both", "written"],
)
def test_which_queries_of_a_view_use_indexes(posts, query, fast):
    """A condition on a field that no rule writes uses the collection's indexes; others do not."""
    posts.insert_many([{"city": str(number), "mail": str(number)} for number in range(200)])
    for path in ("city", "email"):
        posts.create_index(path)
    on(post()).create_view("today")
    command = {"find": "today", "filter": query}
    plan = posts.database.command("explain", command, verbosity="queryPlanner")
    assert ("IXSCAN" in _stages(plan["stages"])) is fast
    assert ("COLLSCAN" in _stages(plan["stages"])) is not fast


def test_a_model_that_shares_a_collection_by_hand(posts):
    """A handler that is called by hand for a model has its own view, by its own rules."""

    class Plain(LazyMigrationMixin, Document):
        meta = {"collection": "post", "strict": False}
        id = IntField(primary_key=True)

    rules = handler(migration01__rename=rule(*RENAME))
    rules(Plain).create_view("plain_today")
    assert rows(posts.database.plain_today)[0] == {"_id": 1, "email": "a"}
    assert [each.current for each in rules(Plain).views()] == [True]


def test_what_mongodb_refuses_otherwise_is_in_its_words(posts, monkeypatch):
    """Another refusal is an error in the words of MongoDB, with its own as the cause."""

    def refused(*_: Any) -> None:
        raise OperationFailure("it rains", 4711)

    monkeypatch.setattr(stored, "make_view", refused)
    with pytest.raises(ViewError, match="MongoDB refuses it: it rains; see what") as raised:
        on(post()).create_view("today")
    assert isinstance(raised.value.__cause__, OperationFailure)
