"""A model whose rules meet on one path: one writes what an earlier one looks for."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from mongoengine import Document, IntField, ListField, StringField

from tests.equivalence.changes import (
    LISTS,
    NUMBERS,
    STRINGS,
    Bodies,
    Change,
    Draw,
    Group,
    Path,
    Raw,
    World,
    maybe,
    missing,
)


def _states(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Ticket",
        bases,
        {
            "meta": {"collection": "subject", "indexes": ["state"], "ordering": ["state", "id"]},
            "state": IntField(),
            "name": StringField(),
            "words": ListField(StringField()),
            "size": IntField(),
            **bodies.get("Ticket", {}),
        },
    )
    return {"Ticket": model}


def _document(draw: Draw) -> Raw:
    document: Raw = {"state": draw(st.sampled_from([2, 3, 4]))}
    maybe(draw, document, "name", STRINGS)
    maybe(draw, document, "words", LISTS)
    maybe(draw, document, "size", NUMBERS)
    return document


def _was(state: int) -> Any:
    def before(draw: Draw, document: Raw) -> None:
        document["state"] = state

    return before


def _with_flag(draw: Draw, document: Raw) -> None:
    document["flag"] = "x"
    document["state"] = draw(st.sampled_from([1, 2, 5]))


def _lower_words(doc: Any) -> Raw:
    words = []
    for number, word in enumerate(doc["words"]):
        words.insert(number, str(word).lower())
    return {"$set": {"words": words, "size": len(words)}}


def _numbered(doc: Any) -> Raw:
    values = {}
    for name in ("size", "weight"):
        if isinstance(doc.get(name), str):
            values["size"] = int(doc[name] or 0)
    return {"$set": values, "$unset": {"weight": ""}}


def _weighed(draw: Draw, document: Raw) -> None:
    document["weight"] = draw(st.sampled_from(["0", "1", "7"]))
    document.pop("size", None)


STATES_PATHS = (
    Path("state", "state", st.sampled_from([1, 2, 3, 4, 5]), "number"),
    Path("name", "name", STRINGS, "string"),
    Path("words", "words", STRINGS, "list"),
    Path("size", "size", NUMBERS, "number"),
)
STATES_CHANGES = (
    Change("first", {"state": 1}, {"$set": {"state": 2}}, _was(1)),
    Change(
        "flag_dropped",
        {"flag": {"$exists": True}},
        {"$set": {"state": 1}, "$unset": {"flag": ""}},
        _with_flag,
    ),
    Change("again", {"state": 1}, {"$set": {"state": 3}}, _was(1)),
    Change("fifth", {"state": 5}, {"$set": {"state": 4}}, _was(5)),
    Change(
        "named",
        {"name": {"$exists": False}, "state": 2},
        {"$set": {"name": "two"}},
        missing("name"),
    ),
    Change(
        "lowered",
        {"words": {"$elemMatch": {"$regex": "[A-Z]"}}},
        _lower_words,
        lambda draw, document: document.update(words=["A", "b"]),
    ),
    Change("weighed", {"weight": {"$exists": True}}, _numbered, _weighed),
    Change(
        "sized",
        {"size": {"$exists": False}, "words": {"$exists": True}},
        [{"$set": {"size": {"$cond": [{"$isArray": "$words"}, {"$size": "$words"}, 0]}}}],
        missing("size"),
    ),
)

STATES_WORLD = World(
    "states",
    _states,
    (Group("Ticket"),),
    STATES_PATHS,
    STATES_CHANGES,
    _document,
    ("flag", "weight"),
)
