"""Models without structure: plain fields, other names in the database, and dynamic fields."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from mongoengine import BooleanField, Document, FloatField, IntField, ListField, StringField

from tests.equivalence.changes import (
    BOOLEANS,
    FLOATS,
    LISTS,
    NO_ARRAY,
    NUMBERS,
    STRINGS,
    Bodies,
    Change,
    Draw,
    Group,
    Path,
    Raw,
    World,
    beside,
    called,
    converted,
    inside,
    maybe,
    missing,
)

# --- One flat model ---------------------------------------------------------------------


def _flat(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Flat",
        bases,
        {
            "meta": {"collection": "subject", "indexes": ["enabled", "$name"]},
            "name": StringField(),
            "age": IntField(),
            "enabled": BooleanField(),
            "score": FloatField(),
            "label": StringField(default="none"),
            "tags": ListField(StringField()),
            "version": IntField(),
            "count": IntField(),
            "code": StringField(),
            "slug": StringField(),
            **bodies.get("Flat", {}),
        },
    )
    return {"Flat": model}


def _flat_document(draw: Draw) -> Raw:
    document: Raw = {}
    maybe(draw, document, "name", STRINGS)
    maybe(draw, document, "age", NUMBERS)
    maybe(draw, document, "enabled", BOOLEANS)
    maybe(draw, document, "score", FLOATS)
    maybe(draw, document, "tags", LISTS)
    document["version"] = draw(NUMBERS)
    return document


def _status(draw: Draw, document: Raw) -> None:
    document["status"] = draw(st.sampled_from(["on", "off"]))
    document.pop("enabled", None)


FLAT_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("age", "age", NUMBERS, "number"),
    Path("enabled", "enabled", BOOLEANS, "bool"),
    Path("score", "score", FLOATS, "number"),
    Path("label", "label", STRINGS, "string"),
    Path("tags", "tags", STRINGS, "list"),
    Path("version", "version", NUMBERS, "number"),
)
FLAT_CHANGES = (
    Change(
        "renamed",
        {"nick": {"$exists": True}},
        {"$rename": {"nick": "name"}},
        called("nick", "name"),
    ),
    Change(
        "retyped",
        {"age": {"$type": "string"}},
        lambda doc: {"$set": {"age": int(doc["age"])}},
        converted("age", str, int),
    ),
    Change(
        "retyped_by_pipeline",
        {"age": {"$type": "string"}},
        [{"$set": {"age": {"$toInt": "$age"}}}],
        converted("age", str, int),
    ),
    Change(
        "switched_on",
        {"status": "on"},
        {"$set": {"enabled": True}, "$unset": {"status": ""}},
        _status,
    ),
    Change(
        "switched_off",
        {"status": "off"},
        {"$set": {"enabled": False}, "$unset": {"status": ""}},
        _status,
    ),
    Change(
        "added",
        {"enabled": {"$exists": False}},
        {"$set": {"enabled": True}},
        missing("enabled"),
    ),
    Change("added_null", {"enabled": None}, {"$set": {"enabled": False}}, missing("enabled")),
    Change(
        "removed",
        {"legacy": {"$exists": True}},
        {"$unset": {"legacy": ""}},
        beside("legacy", STRINGS),
    ),
    Change(
        "computed",
        {"label": {"$exists": False}},
        lambda doc: {"$set": {"label": f"{doc.get('name')}!"}},
        missing("label"),
    ),
    Change(
        "computed_by_pipeline",
        {"label": {"$exists": False}},
        [{"$set": {"label": {"$concat": [{"$ifNull": ["$name", "?"]}, "-"]}}}],
        missing("label"),
    ),
    Change(
        "renamed_by_pipeline",
        {"nick": {"$exists": True}},
        [{"$set": {"name": "$nick"}}, {"$unset": "nick"}],
        called("nick", "name"),
    ),
    Change(
        "chosen_by_pipeline",
        {"status": {"$exists": True}},
        [{"$set": {"enabled": {"$eq": ["$status", "on"]}}}, {"$unset": "status"}],
        _status,
    ),
    Change(
        "labelled_by_pipeline",
        {"label": {"$exists": False}, "slug": {"$exists": False}},
        [
            {"$set": {"label": {"$cond": [{"$gt": ["$age", 0]}, "$name", "young"]}}},
            {"$set": {"slug": {"$concat": ["c", {"$ifNull": ["$label", ""]}]}}},
        ],
        missing("label", "slug"),
    ),
    Change(
        "copied",
        {"score": {"$exists": False}, "version": {"$exists": True}},
        lambda doc: {"$set": {"score": doc["version"] * 0.5}},
        missing("score"),
    ),
    Change(
        "listed",
        {"tags": NO_ARRAY},
        lambda doc: {"$set": {"tags": [doc["tags"]]}},
        converted("tags", lambda tags: tags[0] if tags else "a", list),
    ),
    Change(
        "counted",
        {"count": {"$exists": False}},
        {"$set": {"count": 1}, "$inc": {"version": 1}},
        missing("count"),
    ),
    Change("pushed", {"tags": {"$ne": "z"}, "name": "a"}, {"$push": {"tags": "z"}}, missing()),
    Change(
        "replaced", {"name": "b"}, {"$set": {"name": "a"}}, converted("name", lambda _: "b", str)
    ),
    Change(
        "moved_if",
        {"version": {"$lt": 0}},
        {"$set": {"version": 0, "score": 9.0}, "$rename": {"nick": "name"}},
        missing(),
    ),
)


FLAT_WORLD = World(
    "flat",
    _flat,
    (Group("Flat"),),
    FLAT_PATHS,
    FLAT_CHANGES,
    _flat_document,
    ("nick", "status"),
)


# --- Other names in the database --------------------------------------------------------


def _named(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Named",
        bases,
        {
            "meta": {"collection": "subject", "ordering": ["-title", "id"]},
            "title": StringField(db_field="t"),
            "views": IntField(db_field="v"),
            "owner": StringField(db_field="title"),
            "live": BooleanField(db_field="l", default=False),
            **bodies.get("Named", {}),
        },
    )
    return {"Named": model}


def _named_document(draw: Draw) -> Raw:
    document: Raw = {}
    maybe(draw, document, "t", STRINGS)
    maybe(draw, document, "v", NUMBERS)
    maybe(draw, document, "title", STRINGS)
    maybe(draw, document, "l", BOOLEANS)
    return document


def _swapped(draw: Draw, document: Raw) -> None:
    document["o"] = document.pop("title", "a")
    if "t" in document:
        document["title"] = document.pop("t")


NAMED_PATHS = (
    Path("title", "t", STRINGS, "string"),
    Path("views", "v", NUMBERS, "number"),
    Path("owner", "title", STRINGS, "string"),
    Path("live", "l", BOOLEANS, "bool"),
)
NAMED_CHANGES = (
    Change(
        "title_shortened",
        {"o": {"$exists": True}, "title": {"$exists": True}},
        {"$rename": {"title": "t"}},
        _swapped,
    ),
    Change(
        "owner_called_title",
        {"o": {"$exists": True}, "title": {"$exists": False}},
        {"$rename": {"o": "title"}},
        _swapped,
    ),
    Change(
        "views_shortened",
        {"views": {"$exists": True}},
        {"$rename": {"views": "v"}},
        called("views", "v"),
    ),
    Change(
        "counted",
        {"v": {"$exists": False}, "views": {"$exists": False}},
        {"$set": {"v": 0}},
        missing("v"),
    ),
    Change("live", {"l": {"$in": [None, "yes"]}}, {"$set": {"l": True}}, missing("l")),
)


NAMED_WORLD = World(
    "named",
    _named,
    (Group("Named"),),
    NAMED_PATHS,
    NAMED_CHANGES,
    _named_document,
    ("views", "o"),
)


# --- A dynamic model --------------------------------------------------------------------


def _dynamic(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Dynamic",
        bases,
        {"meta": {"collection": "subject"}, "name": StringField(), **bodies.get("Dynamic", {})},
    )
    return {"Dynamic": model}


def _dynamic_document(draw: Draw) -> Raw:
    document: Raw = {}
    maybe(draw, document, "name", STRINGS)
    maybe(draw, document, "age", NUMBERS)
    maybe(draw, document, "extra", st.one_of(STRINGS, NUMBERS, LISTS))
    if draw(BOOLEANS):
        document["info"] = {}
        maybe(draw, document["info"], "x", st.one_of(STRINGS, NUMBERS))
    return document


DYNAMIC_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("age", "age", NUMBERS, "number"),
    Path("extra", "extra", STRINGS, "string"),
    Path("info__x", "info.x", STRINGS, "string"),
)
DYNAMIC_CHANGES = (
    FLAT_CHANGES[0],
    FLAT_CHANGES[1],
    Change(
        "extra_added", {"extra": {"$exists": False}}, {"$set": {"extra": "a"}}, missing("extra")
    ),
    Change(
        "x_moved_in",
        {"x": {"$exists": True}},
        {"$rename": {"x": "info.x"}},
        beside("x", STRINGS),
    ),
    Change(
        "info_dropped",
        {"info.x": {"$in": [None, 0]}},
        {"$set": {"info.x": 1}},
        inside("info", missing("x")),
    ),
    Change(
        "aged",
        {"age": {"$exists": False}, "name": {"$exists": True}},
        lambda doc: {"$set": {"age": len(doc["name"] or "")}},
        missing("age"),
    ),
)


DYNAMIC_WORLD = World(
    "dynamic",
    _dynamic,
    (Group("Dynamic"),),
    DYNAMIC_PATHS,
    DYNAMIC_CHANGES,
    _dynamic_document,
    ("x", "info", "nick"),
)
