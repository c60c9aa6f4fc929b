"""Models with subclasses: a handler on the root, on a subclass, or on both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st
from mongoengine import BooleanField, Document, IntField, StringField

from tests.equivalence.changes import (
    BOOLEANS,
    NUMBERS,
    STRINGS,
    Bodies,
    Change,
    Draw,
    Group,
    Path,
    Raw,
    World,
    called,
    converted,
    maybe,
    missing,
)

# --- A tree of classes ------------------------------------------------------------------


def _tree(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    human = type(Document)(
        "Human",
        bases,
        {
            "meta": {"collection": "subject", "allow_inheritance": True},
            "name": StringField(),
            "alive": BooleanField(),
            **bodies.get("Human", {}),
        },
    )
    good = type(Document)("GoodJedi", (human,), {"rank": IntField()})
    bad = type(Document)("BadSith", (human,), {"anger": IntField()})
    grand = type(Document)("GrandMaster", (good,), {"seat": StringField()})
    return {"Human": human, "GoodJedi": good, "BadSith": bad, "GrandMaster": grand}


def _tree_document(draw: Draw) -> Raw:
    name = draw(
        st.sampled_from(
            ["Human", "Human.GoodJedi", "Human.BadSith", "Human.GoodJedi.GrandMaster"],
        )
    )
    document: Raw = {"_cls": name}
    maybe(draw, document, "name", STRINGS)
    maybe(draw, document, "alive", BOOLEANS)
    if "GoodJedi" in name:
        maybe(draw, document, "rank", NUMBERS)
    if name == "Human.BadSith":
        maybe(draw, document, "anger", NUMBERS)
    if name.endswith("GrandMaster"):
        maybe(draw, document, "seat", STRINGS)
    return document


def _class_before(names: Mapping[Any, Raw]) -> Callable[[Draw, Raw], None]:
    def before(draw: Draw, document: Raw) -> None:
        document.update(names.get(document.get("_cls"), {}))

    return before


def _without_class(draw: Draw, document: Raw) -> None:
    if document.get("_cls") == "Human":
        del document["_cls"]


TREE_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("alive", "alive", BOOLEANS, "bool"),
    Path("rank", "rank", NUMBERS, "number"),
    Path("anger", "anger", NUMBERS, "number"),
    Path("seat", "seat", STRINGS, "string"),
)
_JEDI = {
    "Human.GoodJedi": {"_cls": "Human.Jedi", "dark_side": False},
    "Human.BadSith": {"_cls": "Human.Jedi", "dark_side": True},
}
TREE_CHANGES = (
    Change(
        "split_good",
        {"_cls": "Human.Jedi", "dark_side": False},
        {"$set": {"_cls": "Human.GoodJedi"}, "$unset": {"dark_side": ""}},
        _class_before(_JEDI),
    ),
    Change(
        "split_bad",
        {"_cls": "Human.Jedi", "dark_side": True},
        {"$set": {"_cls": "Human.BadSith"}, "$unset": {"dark_side": ""}},
        _class_before(_JEDI),
    ),
    Change(
        "renamed_class",
        {"_cls": {"$in": ["Human.Grand", "Human.Jedi.Grand"]}},
        {"$set": {"_cls": "Human.GoodJedi.GrandMaster"}},
        _class_before({"Human.GoodJedi.GrandMaster": {"_cls": "Human.Grand"}}),
    ),
    Change(
        "classed",
        {"_cls": {"$exists": False}},
        {"$set": {"_cls": "Human"}},
        _without_class,
    ),
    Change(
        "promoted",
        {"_cls": "Human.GoodJedi", "rank": 2},
        {"$set": {"_cls": "Human.GoodJedi.GrandMaster", "seat": "a"}},
        _class_before({"Human.GoodJedi.GrandMaster": {"_cls": "Human.GoodJedi", "rank": 2}}),
    ),
    Change("alive", {"alive": {"$exists": False}}, {"$set": {"alive": True}}, missing("alive")),
    Change(
        "rank_renamed",
        {"level": {"$exists": True}},
        {"$rename": {"level": "rank"}},
        called("level", "rank"),
    ),
    Change(
        "anger_computed",
        {"_cls": "Human.BadSith", "anger": {"$exists": False}},
        lambda doc: {"$set": {"anger": len(str(doc.get("name")))}},
        missing("anger"),
    ),
    Change(
        "class_computed",
        {"_cls": "Human.Clone"},
        lambda doc: {
            "$set": {"_cls": "Human.BadSith" if doc.get("name") == "b" else "Human.GoodJedi"}
        },
        _class_before({"Human.BadSith": {"_cls": "Human.Clone", "name": "b"}}),
    ),
)


TREE_WORLD = World(
    "tree",
    _tree,
    (Group("Human"),),
    TREE_PATHS,
    TREE_CHANGES,
    _tree_document,
    ("dark_side", "level", "_cls"),
)


# --- A handler on a subclass ------------------------------------------------------------


def _branch(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    animal = type(Document)(
        "Animal",
        bases,
        {
            "meta": {"collection": "subject", "allow_inheritance": True},
            "name": StringField(),
            "weight": IntField(),
            **bodies.get("Animal", {}),
        },
    )
    dog = type(Document)("Dog", (animal,), {"trained": BooleanField(), **bodies.get("Dog", {})})
    cat = type(Document)("Cat", (animal,), {"lives": IntField(), "trained": BooleanField()})
    return {"Animal": animal, "Dog": dog, "Cat": cat}


def _branch_document(draw: Draw) -> Raw:
    document: Raw = {"_cls": draw(st.sampled_from(["Animal", "Animal.Dog", "Animal.Cat"]))}
    maybe(draw, document, "name", STRINGS)
    maybe(draw, document, "weight", NUMBERS)
    if document["_cls"] != "Animal":
        maybe(draw, document, "trained", BOOLEANS)
    if document["_cls"] == "Animal.Cat":
        maybe(draw, document, "lives", NUMBERS)
    return document


def _of_dogs(before: Callable[[Draw, Raw], None]) -> Callable[[Draw, Raw], None]:
    def inner(draw: Draw, document: Raw) -> None:
        if document.get("_cls") == "Animal.Dog":
            before(draw, document)

    return inner


BRANCH_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("weight", "weight", NUMBERS, "number"),
    Path("trained", "trained", BOOLEANS, "bool"),
)
BRANCH_CHANGES = (
    Change(
        "hounds",
        {"_cls": "Animal.Hound"},
        {"$set": {"_cls": "Animal.Dog"}},
        _class_before({"Animal.Dog": {"_cls": "Animal.Hound"}}),
    ),
    Change(
        "trained",
        {"trained": {"$exists": False}},
        {"$set": {"trained": False}},
        _of_dogs(missing("trained")),
    ),
    Change(
        "called",
        {"call": {"$exists": True}},
        {"$rename": {"call": "name"}},
        _of_dogs(called("call", "name")),
    ),
    Change(
        "weighed",
        {"weight": {"$exists": False}},
        lambda doc: {"$set": {"weight": len(doc.get("name") or "")}},
        _of_dogs(missing("weight")),
    ),
)


BRANCH_WORLD = World(
    "branch",
    _branch,
    (Group("Dog", {"_cls": {"$in": ["Animal.Dog", "Animal.Hound"]}}),),
    BRANCH_PATHS,
    BRANCH_CHANGES,
    _branch_document,
    ("call", "_cls"),
    legacy_classes=("Animal.Hound",),
)


# --- A handler on the root, and one that inherits from it on a subclass -----------------

HEIRS_CHANGES = (
    Change(
        "hounds",
        {"_cls": "Animal.Hound"},
        {"$set": {"_cls": "Animal.Dog"}},
        _class_before({"Animal.Dog": {"_cls": "Animal.Hound"}}),
        of="root",
    ),
    Change(
        "called",
        {"call": {"$exists": True}},
        {"$rename": {"call": "name"}},
        called("call", "name"),
        of="root",
    ),
    Change(
        "weighed",
        {"weight": {"$type": "string"}},
        lambda doc: {"$set": {"weight": int(doc["weight"])}},
        converted("weight", str, int),
        of="root",
    ),
    Change(
        "trained",
        {"trained": {"$exists": False}},
        {"$set": {"trained": False}},
        _of_dogs(missing("trained")),
        of="dog",
    ),
    Change(
        "named",
        {"name": {"$exists": False}},
        lambda doc: {"$set": {"name": f"{doc.get('trained')}"}},
        _of_dogs(missing("name")),
        of="dog",
    ),
    Change(
        "strays",
        {"_cls": "Animal.Dog", "weight": {"$lt": 0}},
        {"$set": {"_cls": "Animal", "weight": 0}, "$unset": {"trained": ""}},
        _of_dogs(missing()),
        of="dog",
    ),
)


HEIRS_WORLD = World(
    "heirs",
    _branch,
    (
        Group("Animal", {"_cls": {"$nin": ["Animal.Dog"]}}, ("root",)),
        Group("Dog", {"_cls": {"$in": ["Animal.Dog"]}}, ("root", "dog")),
    ),
    BRANCH_PATHS,
    HEIRS_CHANGES,
    _branch_document,
    ("call", "_cls"),
)
