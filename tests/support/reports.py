"""For the tests of the HTML report: databases in mid-migration, and pages taken apart."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import html5lib
import mongoengine
from bson import ObjectId
from mongoengine import BooleanField, IntField, StringField
from pymongo import MongoClient

from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import NewRun
from lazymig.operations.journal.journal import Journal
from lazymig.reports.drift.checks import check_documents
from lazymig.reports.drift.diff import diff
from lazymig.reports.drift.findings import CheckReport, DriftReport
from lazymig.reports.page.page import render_report
from tests.support.handlers import handler, model, rule
from tests.support.registry import restored_registry
from tests.support.server import CLIENT_OPTIONS

DAY = timedelta(days=1)
EXISTS = {"$exists": True}
MISSING = {"$exists": False}

# What names begin with in a tree of html5lib.
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"

Scene = tuple[Any, CheckReport, DriftReport]


def rendered(uri: str, build: Callable[[Any], Any], **options: Any) -> str:
    """The page of a scene, of one model or of several, in a database of its own that is dropped."""
    name = f"lazymig_{uuid.uuid4().hex}"
    client: MongoClient[dict[str, Any]]
    with restored_registry(), MongoClient(uri, **CLIENT_OPTIONS) as client:
        mongoengine.connect(name, host=uri, **CLIENT_OPTIONS)
        try:
            found = build(client[name])
            models, checks, drift = (each if isinstance(each, list) else [each] for each in found)
            return render_report(models, checks=checks, drift=drift, **options)
        finally:
            client.drop_database(name)


def parsed(page: str) -> Any:
    """The page as a tree; the parser accepts no error at all."""
    return html5lib.HTMLParser(strict=True).parse(page)


def text_of(element: Any) -> str:
    """The text in an element, with every run of blanks as one."""
    return " ".join("".join(element.itertext()).split())


def body_of(page: str) -> str:
    """What can be read on the page."""
    return text_of(parsed(page).find(f"{HTML}body"))


def rows_of(page: str, place: str) -> dict[str, list[str]]:
    """The rows of the tables that are labelled by an id or a text, by their first cell."""
    tables = [
        each
        for each in parsed(page).iter(f"{HTML}table")
        if place in (each.get("aria-labelledby"), each.get("aria-label"))
    ]
    assert tables
    return {
        text_of(row[0]): [text_of(cell) for cell in row[1:]]
        for table in tables
        for row in table.find(f"{HTML}tbody").iter(f"{HTML}tr")
    }


def post_model() -> Any:
    """A model with rules of every kind: pending, done, not countable, staying matched."""

    def by_document(self: Any) -> None:
        if self.doc.get("raw"):
            self.target = {"raw": EXISTS}
            self.update = {"$unset": {"raw": ""}}

    rules = handler(
        migration01__add_enabled=rule({"enabled": MISSING}, {"$set": {"enabled": True}}),
        migration02__rename_title=rule({"titel": EXISTS}, {"$rename": {"titel": "title"}}),
        migration03__by_document=by_document,
        allmigration01__count=rule({}, {"$inc": {"views": 1}}),
        allmigration02__drop_legacy=rule({"legacy": EXISTS}, {"$unset": {"legacy": ""}}),
    )
    return model(
        rules,
        enabled=BooleanField(default=True),
        title=StringField(required=True),
        views=IntField(),
        password=StringField(),
    )


def fill(database: Any) -> None:
    """Four hundred posts: a quarter has no `enabled`, ten have the old name of the title."""
    posts: list[dict[str, Any]] = [
        {"_id": number, "title": f"Post {number}", "views": number, "enabled": True}
        for number in range(400)
    ]
    for post in posts[::4]:
        del post["enabled"]
    for post in posts[:10]:
        post["titel"] = post.pop("title")
    posts[20]["views"] = "many"
    posts[21]["password"] = 4711
    posts[22]["stray"] = {"deep": ["a", 1]}
    posts[23].pop("title")
    database.post.insert_many(posts)


def add_samples(database: Any, name: str = "Post") -> list[dict[str, int | None]]:
    """Ten days of samples: one rule comes down to a hundred, one was deleted meanwhile."""
    start = client_now() - 10 * DAY
    remaining: list[dict[str, int | None]] = [
        {
            "migration01__add_enabled": 400 - 30 * day,
            "migration02__rename_title": max(10, 300 - 60 * day),
            "migration03__by_document": None,
            "migration00__former": max(0, 200 - 50 * day),
        }
        for day in range(10)
    ]
    database.lazymig_journal.insert_many(
        {
            "kind": "sample",
            "model": name,
            "collection": "post",
            "remaining": values,
            "at": start + day * DAY,
            "since": start + day * DAY,
        }
        for day, values in enumerate(remaining)
    )
    return remaining


def add_run(
    database: Any,
    *,
    started: datetime,
    seconds: float = 600,
    state: str = "finished",
    rules: tuple[str, ...] = ("migration01__add_enabled", "migration02__rename_title"),
    quarantined: int = 0,
    waited: dict[str, float] | None = None,
    **values: Any,
) -> ObjectId:
    """A run of the past, as the runner would have written it."""
    journal = Journal(database)
    entry = journal.begin(
        NewRun(
            model=values.pop("model", "Post"),
            collection=values.pop("collection", "post"),
            handler="PostMigration",
            scope="lazy",
            rules=tuple((name, f"digest{name}") for name in rules),
            options=values.pop("options", {"chunk_size": "auto", "max_rate": 500.0}),
            note=values.pop("note", None),
        )
    )
    first = {
        "rules.0.state": "done",
        "rules.0.done": 400,
        "rules.0.total": 400,
        "rules.0.exact": True,
        "rules.0.matched": 123,
        "rules.0.modified": 120,
        "rules.0.quarantined": quarantined,
        "rules.0.seconds": 41.5,
    }
    ended = None if state == "running" else started + timedelta(seconds=seconds)
    journal.collection.update_one(
        {"_id": entry.id},
        {
            "$set": {
                "state": state,
                "started": started,
                "heartbeat": started + timedelta(seconds=seconds),
                "ended": ended,
                "host": "db-worker-3",
                "pid": 4242,
                "waited": waited or {},
                **first,
                **values,
            }
        },
    )
    return entry.id


def add_quarantined(database: Any, run: ObjectId, ids: Any, **values: Any) -> None:
    """Documents that a run has refused."""
    found = {"rule": "migration01__add_enabled", "error": "refused by the validator", **values}
    found.setdefault("type", "MigrationFailed")
    found.setdefault("at", client_now())
    database.lazymig_journal.insert_many(
        {
            "collection": "post",
            **found,
            "_id": {"run": run, "rule": found["rule"], "document_id": each},
            "kind": "quarantine",
            "run": run,
            "document_id": each,
        }
        for each in ids
    )


def scene(database: Any) -> Scene:
    """All of it: a model, and what was found."""
    post = post_model()
    fill(database)
    add_samples(database)
    now = client_now()
    failed = add_run(
        database,
        started=now - 3 * DAY,
        seconds=5000,
        state="failed",
        quarantined=25,
        waited={"max_rate": 1800.0, "nice": 250.0, "max_replication_lag": 12.5},
        note="ticket 4711, before the release",
        error="25 documents were refused, and max_errors is 20; they are in quarantine",
    )
    add_quarantined(database, failed, range(25))
    add_run(database, started=now - 2 * DAY, seconds=100_000)
    add_run(database, started=now - DAY / 2, state="stopped", error="stopped through the journal")
    return post, check_documents(post, None), diff(post)


SIX = {"Account": 8, "Order": 7, "Product": 7, "Invoice": 6, "Address": 6, "Ticket": 5}
"""Models and how many rules each has: 39 in all."""


def six_models(database: Any) -> tuple[list[Any], list[CheckReport], list[DriftReport]]:
    """Six models in the middle of their migration: two are done, three documents are refused."""
    models = [_one_of_six(name, count) for name, count in SIX.items()]
    now = client_now()
    for number, each in enumerate(models):
        name = each.__name__.lower()
        is_done = number in (1, 4)
        database[name].insert_many(
            {"_id": key, "f1": 1, "stray": key} if is_done or key % 3 else {"_id": key, "o2": key}
            for key in range(300)
        )
        for hours in range(6):
            run = add_run(
                database,
                started=now - DAY + timedelta(hours=hours),
                model=each.__name__,
                collection=name,
                rules=tuple(rule for rule in vars(each.migration_handler) if "migration" in rule),
            )
        if not number:
            add_quarantined(
                database, run, (0, 3, 6), collection=name, rule="migration02__rename_f2"
            )
    checks = [check_documents(each, None) for each in models]
    return models, checks, [diff(each) for each in models]


def _one_of_six(name: str, count: int) -> Any:
    rules: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for number in range(1, count + 1):
        old, new = f"o{number}", f"f{number}"
        if number % 2:
            added = rule({new: MISSING, "f1": MISSING}, {"$set": {new: 1}})
            rules[f"migration{number:02}__add_{new}"] = added
        else:
            renamed = rule({old: EXISTS}, {"$rename": {old: new}})
            rules[f"migration{number:02}__rename_{new}"] = renamed
        fields[new] = IntField()
    return model(handler(**rules), name_of_class=name, meta={"collection": name.lower()}, **fields)


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "quotes": "\"'><img src=x onerror=alert(1)>",
    "link": "javascript:alert(1)",
    "long": "long_" * 400,
    "rtl": "\u202egnp.exe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "control": "nul\x00bell\x07esc\x1b[31m\x85\ufffe",
    "comment": "--></style></title></svg><!-- ]]> {{ 7 * 7 }} {% raw %} &amp; &lt;",
}
"""Texts that want to be something else than text."""


def hostile_scene(database: Any) -> Scene:
    """Hostile names of fields, `_id`s, values, notes, hosts, errors and reasons."""
    post = post_model()
    fill(database)
    # MongoDB takes any name for a field but an empty one with a dollar, and no NUL in it.
    names = {text.replace("\x00", "").replace(".", "_"): text for text in HOSTILE.values()}
    database.post.insert_many(
        {"_id": text, "title": f"t{number}", name: {name: text}, "views": text}
        for number, (name, text) in enumerate(names.items())
    )
    start = client_now() - DAY
    database.lazymig_journal.insert_many(
        {
            "kind": "sample",
            "model": "Post",
            "collection": "post",
            "remaining": {
                text.replace("\x00", "").replace(".", "_"): 5 + number for text in names.values()
            },
            "at": start + number * DAY / 4,
            "since": start + number * DAY / 4,
        }
        for number in range(3)
    )
    for number, text in enumerate(HOSTILE.values()):
        run = add_run(
            database,
            started=start + number * DAY / 20,
            rules=(text, text),
            note=text,
            state="failed",
            quarantined=1,
            waited={text.replace("\x00", "").replace(".", "_"): 5.0},
            options={"throttle": text},
            host=text,
            handler=text,
            error=text,
            model=text,
        )
        add_quarantined(database, run, [text], rule=text, error=text, type=text)
    return post, check_documents(post, None), diff(post)
