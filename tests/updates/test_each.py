"""`each` against what it promises, item by item, on the real server; and what it refuses."""

from __future__ import annotations

import copy
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import bson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig import each
from lazymig.errors import UpdateQueryError
from lazymig.query.matching import compile_judge, compile_query
from lazymig.updates.convergence import assumed_parents, ends_match
from lazymig.updates.each import Each
from lazymig.updates.update import (
    check_update,
    created_paths,
    each_of,
    read_paths,
    removed_paths,
    written_paths,
)

Raw = dict[str, Any]

LONG = os.environ.get("LAZYMIG_PROFILE") == "long"
EXAMPLES, DOCUMENTS = (5_000 if LONG else 100), 12


# --- What each promises, in Python ------------------------------------------------------


def changed(document: Raw, update: Each) -> Raw:
    """A document with its old items brought up to date."""
    root, *steps = update.parts
    if root not in document:
        return document
    return {**document, root: _within(document[root], steps, update)}


def _within(value: Any, steps: Sequence[str], update: Each, *, entry: bool = False) -> Any:
    if not steps:
        if isinstance(value, list):
            return [_item(one, update) for one in value]
        return _item(value, update) if entry else value
    if isinstance(value, list):
        return [_in_document(one, steps, update) for one in value]
    return _in_document(value, steps, update)


def _in_document(value: Any, steps: Sequence[str], update: Each) -> Any:
    if not isinstance(value, dict):
        return value
    step, rest = steps[0], steps[1:]
    if step == "*":
        return {key: _within(one, rest, update, entry=not rest) for key, one in value.items()}
    if step not in value:
        return value
    return {**value, step: _within(value[step], rest, update)}


def _item(item: Any, update: Each) -> Any:
    change = update.change
    if not isinstance(item, dict) or not _is_old(item, update):
        return item
    result = {name: value for name, value in item.items() if name not in change.removed}
    for old, new in change.rename.items():
        if old in item:
            result[new] = item[old]
    for name, value in change.set.items():
        reads = [one for one in change.removed if f"$$this.{one}" in str(value)] or change.removed
        given = _evaluated(value, item)
        if given is not _NOTHING and (not reads or any(one in item for one in reads)):
            result[name] = given
    for name, value in change.add.items():
        given = _evaluated(value, item)
        if name not in item and given is not _NOTHING:
            result[name] = given
    return result


_NOTHING = object()


def _evaluated(value: Any, item: Raw) -> Any:
    if isinstance(value, str) and value.startswith("$$this."):
        return item.get(value[7:], _NOTHING)
    if isinstance(value, dict) and "$literal" in value:
        return value["$literal"]
    if isinstance(value, dict) and "$type" in value:
        found = item.get(value["$type"][7:], _NOTHING)
        return "missing" if found is _NOTHING else _TYPES[type(found)]
    return value


_TYPES: dict[type, str] = {
    int: "int",
    float: "double",
    str: "string",
    bool: "bool",
    type(None): "null",
    list: "array",
    dict: "object",
}


def _is_old(item: Raw, update: Each) -> bool:
    change = update.change
    if change.where and compile_judge(change.where)(item) is not True:
        return False
    if change.set and not change.removed:
        return True
    gone = any(name in item for name in change.removed)
    return gone or any(name not in item for name in change.add)


# --- Generated updates and documents ----------------------------------------------------

NAMES = ("p", "q", "r", "s", "t")
PATHS = ("i", "i", "d.i", "m.*", "m.*.i", "d.m.*", "m.*.*")
SCALARS: list[Any] = [0, 1, 2, 1.5, "old", "old", "new", "", True, None]
VALUES: list[Any] = [*SCALARS, *SCALARS, [], [1], ["old", 2], {"p": 1}]
WHERES: list[Any] = [
    None,
    None,
    None,
    {"p": "old"},
    {"p": None},
    {"q": {"$exists": True}, "p": {"$ne": "new"}},
    {"r": {"$type": "string"}},
    {"r": {"$type": ["int", "array"]}},
    {"r": {"$gte": 1}},
    {"r": {"$not": {"$lt": 1.5}}},
    {"$or": [{"p": {"$in": ["old", 1, None]}}, {"q": {"$type": "number"}}]},
    {"$nor": [{"p": "new"}, {"s": {"$nin": [1, 2]}}]},
    {"q": {"$in": [[1], None]}, "t": {"$ne": {"p": 1}}},
    {"r": {"$elemMatch": {"$in": ["old", 1]}}},
]
COMPUTED: list[Any] = [
    1,
    "x",
    None,
    [],
    {"a": {"b": 1}},
    {"$literal": "$p"},
    "$$this.p",
    "$$this.r",
]
COMPUTED += [{"$type": "$$this.q"}, {"$type": "$$this.p"}]


class Chance:
    """Draws updates of items, and documents with items at a path, most where they belong."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def update(self) -> Each:
        """Draw an update that `each` takes."""
        names = self.random.sample(NAMES, len(NAMES))
        given: Raw = {"rename": {}, "unset": [], "set": {}, "add": {}}
        roles = self.random.choices(list(given), k=self.random.randint(1, 3))
        for role, name, new in zip(roles, names, reversed(names), strict=False):
            if role == "rename" and new not in names[: len(roles)]:
                given["rename"][name] = new
            elif role in ("rename", "unset"):
                given["unset"].append(name)
            else:
                given[role][name] = self.random.choice(COMPUTED)
        where = self.random.choice(WHERES)
        if given["set"] and not (given["rename"] or given["unset"]) and where is None:
            where = {"p": "old"}
        return each(self.random.choice(PATHS), **given, where=where)

    def item(self) -> Raw:
        """Draw an item."""
        names = self.random.sample(NAMES, self.random.randint(0, 4))
        return {name: self.random.choice(VALUES) for name in names}

    def document(self, steps: Sequence[str]) -> Any:
        """Draw a document with items below it."""
        if self.random.random() < 0.1:
            return {}
        keys = ["k", "l", "a.b", "$c"] if steps[0] == "*" else [steps[0]]
        chosen = self.random.sample(keys, min(len(keys), self.random.randint(1, 2)))
        return {key: self.value(steps[1:], entry=steps[0] == "*") for key in chosen} | (
            {} if steps[0] == "*" else {"other": 1}
        )

    def value(self, steps: Sequence[str], *, entry: bool) -> Any:
        """Draw what is at a step of the way."""
        roll = self.random.random()
        if roll < 0.08:
            return self.random.choice(VALUES)
        if steps:
            if roll < 0.25:
                return [self.document(steps) for _ in range(self.random.randint(0, 2))]
            return self.document(steps)
        if roll < (0.6 if entry else 0.15):
            return self.item()
        odd = [1, None, [], [self.item()]]
        return [
            self.random.choice(odd) if self.random.random() < 0.1 else self.item()
            for _ in range(self.random.randint(0, 3))
        ]


def _is_nested(value: Any) -> bool:
    """Tell whether there is an array in an array, which proofs and targets take for absent."""
    if isinstance(value, dict):
        return any(map(_is_nested, value.values()))
    return isinstance(value, list) and any(
        isinstance(one, list) or _is_nested(one) for one in value
    )


def test_the_server_does_what_is_promised(database: Database[Raw]) -> None:
    """Just the documents with old items are found, changed as promised, and not found once more."""
    seen: Counter[str] = Counter()

    @settings(deadline=None, max_examples=EXAMPLES, phases=(Phase.reuse, Phase.generate))
    @given(st.integers(0, 2**32))
    def holds(seed: int) -> None:
        chance = Chance(seed)
        update = chance.update()
        documents = [chance.document(update.parts) for _ in range(DOCUMENTS)]
        check_update(update)
        database.t.delete_many({})
        database.t.insert_many([{"_id": i, **one} for i, one in enumerate(documents)])
        stored = list(database.t.find(sort=[("_id", 1)]))
        found = {one["_id"] for one in database.t.find(update.target, {"_id": 1})}
        database.t.update_many(update.target, update)
        after = list(database.t.find(sort=[("_id", 1)]))
        again = {one["_id"] for one in database.t.find(update.target, {"_id": 1})}

        matcher = compile_query(update.target)
        proved = ends_match(matcher.tree, update)
        for before, now in zip(stored, after, strict=True):
            wanted = changed(before, update)
            context = (update.change, before, now)
            assert bson.encode(now) == bson.encode(wanted), context
            is_old = before["_id"] in found
            assert is_old or wanted == before, context
            assert matcher.judge(before) is is_old, context
            if proved and not (_is_nested(before) and assumed_parents(update.target, update)):
                assert now["_id"] not in again, context
                # What is set may be there already.
                assert not is_old or wanted != before or update.change.by_where_alone, context
            seen["old"] += is_old
            seen["changed"] += wanted != before
            seen["of a map"] += is_old and "*" in update.change.path
        seen["proved"] += proved
        seen["updates"] += 1

    holds()
    assert seen["changed"] * 6 > seen["updates"] * DOCUMENTS, seen
    assert seen["proved"] * 2 > seen["updates"], seen
    assert seen["of a map"] * 4 > seen["old"], seen


# --- The proofs -------------------------------------------------------------------------

QTY = {"qty": {"$exists": True}}


@pytest.mark.parametrize(
    ("target", "update"),
    [
        ({"i": {"$elemMatch": QTY}}, each("i", rename={"qty": "n"})),
        ({"i": {"$elemMatch": {**QTY, "sku": "x"}}}, each("i", rename={"qty": "n"})),
        ({"i": {"$elemMatch": QTY}, "flag": 1}, each("i", unset=["qty", "price"])),
        ({"o.i": {"$elemMatch": QTY}}, each("o.i", unset=["qty"])),
        (
            {"i": {"$elemMatch": {"qty": {"$type": "string"}}}},
            each("i", set={"qty": {"$toInt": "$$this.qty"}}, where={"qty": {"$type": "string"}}),
        ),
        (
            {"i": {"$elemMatch": {"kind": "old", "x": 1}}},
            each("i", set={"kind": "new"}, where={"kind": "old"}),
        ),
        ({"i": {"$elemMatch": {"c": {"$exists": False}}}}, each("i", add={"c": "EUR"})),
        # What comprehensions become.
        (
            {"i": {"$elemMatch": QTY}},
            [
                {
                    "$set": {
                        "i": {
                            "$map": {
                                "input": "$i",
                                "as": "x",
                                "in": {
                                    "$mergeObjects": [
                                        {"$unsetField": {"field": "qty", "input": "$$x"}},
                                        {"n": "$$x.qty"},
                                    ]
                                },
                            }
                        }
                    }
                }
            ],
        ),
        (
            {"i.qty": {"$exists": True}},
            [{"$set": {"i": {"$map": {"input": "$i", "in": {"n": "$$this.qty"}}}}}],
        ),
        (
            {"i": {"$elemMatch": {"n": {"$exists": False}}}},
            [
                {
                    "$set": {
                        "i": {
                            "$cond": [
                                {"$isArray": "$i"},
                                {"$map": {"input": "$i", "in": {"$mergeObjects": [{"n": 1}]}}},
                                "$i",
                            ]
                        }
                    }
                }
            ],
        ),
        (
            {"d.x": {"$exists": True}},
            [{"$set": {"d": {"$unsetField": {"field": "x", "input": "$d"}}}}],
        ),
        (
            {"d.x": {"$exists": False}},
            [{"$set": {"d": {"$setField": {"field": "x", "input": {"y": 1}, "value": 2}}}}],
        ),
    ],
    ids=str,
)
def test_ordinary_targets_are_proved(target: Raw, update: Any) -> None:
    """A target of the user's own that asks for old items is proved to end, by what is known."""
    assert ends_match(target, update)


@pytest.mark.parametrize(
    ("target", "update"),
    [
        # A sub-document in place of the list is left as it is.
        ({"i.qty": {"$exists": True}}, each("i", rename={"qty": "n"})),
        # Items that `where` leaves out may match as before.
        ({"i": {"$elemMatch": QTY}}, each("i", unset=["qty"], where={"kind": "old"})),
        ({"i": {"$elemMatch": {"n": {"$exists": False}}}}, each("i", rename={"qty": "n"})),
        ({"i": {"$type": "array"}}, each("i", rename={"qty": "n"})),
        ({"m": {"$type": "object"}}, each("m.*", rename={"qty": "n"})),
        # The expression may give nothing, and leave the field as it is.
        (
            {"i": {"$elemMatch": {"x": 1}}},
            each("i", set={"x": "$$this.y"}, where={"x": 1}),
        ),
        ({"i": {"$elemMatch": {"c": {"$exists": False}}}}, each("i", add={"c": "$$this.y"})),
        # Elements may be null, and what is merged last wins.
        (
            {"i": None},
            [{"$set": {"i": {"$map": {"input": "$i", "in": "$$this.x"}}}}],
        ),
        (
            {"d.x": 1},
            [{"$set": {"d": {"$mergeObjects": [{"x": 2}, "$d"]}}}],
        ),
        (
            {"d.x": {"$exists": False}},
            [{"$set": {"d": {"$setField": {"field": "x", "input": "$e", "value": 2}}}}],
        ),
    ],
    ids=str,
)
def test_what_does_not_end_is_not_proved(target: Raw, update: Any) -> None:
    """A target that items which are left alone may match is not proved."""
    assert not ends_match(target, update)


def test_the_target_of_a_map_is_proved_with_more_conditions_beside_it() -> None:
    """A target of the user's own that includes the one of `each` is proved for maps, too."""
    update = each("prices.*", rename={"qty": "n"})

    assert ends_match(update.target, update)
    assert ends_match({**update.target, "kind": "x"}, update)
    assert not ends_match({"$or": [update.target, {"kind": "x"}]}, update)


# --- What is known of it ----------------------------------------------------------------


def test_the_paths_are_those_of_the_items() -> None:
    """Fields of items are written and read, not the list; at a map the way ends."""
    update = each(
        "o.items",
        rename={"qty": "n"},
        unset=["price"],
        set={"cents": {"$multiply": ["$$this.price", "$rate.usd"]}},
        add={"currency": "EUR"},
        where={"kind": "old"},
    )
    own = {f"o.items.{name}" for name in ("qty", "n", "price", "cents", "currency")}

    assert written_paths(update) == own
    assert created_paths(update) == {"o.items.n", "o.items.cents", "o.items.currency"}
    assert removed_paths(update) == {"o.items.qty", "o.items.price"}
    read = {"o.items.qty", "o.items.price", "o.items.currency", "o.items.kind", "rate.usd"}
    assert read_paths(update) == read
    assert written_paths(each("m.*.items", unset=["x"])) == {"m"}
    assert created_paths(each("m.*.items", add={"x": 1})) == {"m.*.items.x"}
    assert read_paths(each("i", add={"x": "$$ROOT"})) is None
    assert read_paths(each("i", add={"x": {"$size": {"$objectToArray": "$$this"}}})) == {"i"}


def test_what_an_inner_variable_hides_is_not_read() -> None:
    """`$$this` of a `$map` within an expression is no item."""
    inner = {"$sum": {"$map": {"input": "$$this.parts", "in": "$$this.size"}}}
    named = {"$sum": {"$map": {"input": "$$this.parts", "as": "p", "in": "$$this.size"}}}

    assert read_paths(each("i", add={"x": inner})) == {"i.x", "i.parts"}
    assert read_paths(each("i", add={"x": named})) == {"i.x", "i.parts", "i.size"}


def test_it_is_an_update_like_any_other() -> None:
    """It is a list of one stage, which can be copied and pickled; changed, it is any pipeline."""
    update = each("items", rename={"qty": "n"})

    assert isinstance(update, list)
    assert len(update) == 1
    for same in (copy.copy(update), copy.deepcopy(update), pickle.loads(pickle.dumps(update))):
        assert same == update
        assert each_of(same) is same
        assert same.target == update.target
    update.append({"$unset": "x"})
    assert each_of(update) is None
    assert written_paths(update) == {"items", "x"}


def test_a_target_says_what_an_index_can_serve() -> None:
    """Beside the items, a target names a path that a partial index on old documents may have."""
    assert each("i", rename={"qty": "n"}).target == {
        "i": {"$elemMatch": QTY},
        "i.qty": {"$exists": True},
    }
    assert each("o.i", add={"c": 1}).target == {
        "o.i": {"$type": "object", "$elemMatch": {"c": {"$exists": False}}},
        "o.i.c": None,
    }
    assert each("i", unset=["a", "b"]).target["$or"] == [
        {"i.a": {"$exists": True}},
        {"i.b": {"$exists": True}},
    ]
    assert each("i", set={"a": 1}, where={"a": {"$type": "string"}}).target == {
        "i": {"$elemMatch": {"a": {"$type": "string"}}},
        "i.a": {"$type": "string"},
    }


@pytest.mark.parametrize(
    "update",
    [
        each("i", rename={"p": "q"}),
        each("i", add={"p": 1}),
        each("i", unset=["p"], add={"q": 1}),
        *[each("i", set={"t": 1}, where=where) for where in WHERES if where],
    ],
    ids=lambda update: str(update.change.condition),
)
def test_what_an_index_serves_follows_from_the_items(database: Database[Raw], update: Each) -> None:
    """The conditions beside `$elemMatch` leave no document out whose items are documents."""
    chance = Chance(1)
    drawn = [chance.document(["i"]) for _ in range(400)]
    database.t.insert_many([one for one in drawn if not _is_nested(one)])
    alone = {"i": {"$elemMatch": update.target["i"]["$elemMatch"]}}

    found = database.t.count_documents(alone)
    assert found
    assert database.t.count_documents(update.target) == found


# --- What it refuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "given", "problem"),
    [
        ("items", {}, "changes nothing"),
        ("items", {"rename": {}}, "changes nothing"),
        ("", {"unset": ["x"]}, "is no path"),
        (5, {"unset": ["x"]}, "is no path"),
        ("items.", {"unset": ["x"]}, "is no name"),
        ("items.0", {"unset": ["x"]}, "names a place in a list"),
        ("items.$[]", {"unset": ["x"]}, r"begins with \$"),
        ("*.items", {"unset": ["x"]}, "does not stand for a field"),
        ("_id.items", {"unset": ["x"]}, "is fixed"),
        ("items", {"unset": ["a.b"]}, "'a.b' is a path; name a field of the item itself"),
        ("items", {"unset": ["_id"]}, "writes the _id of items"),
        ("items", {"rename": {"_id": "key"}}, "writes the _id of items"),
        ("items", {"rename": {"a": "a"}}, "'a' is in rename and in rename"),
        ("items", {"rename": {"a": "b", "c": "b"}}, "'b' is in rename and in rename"),
        ("items", {"rename": {"a": "b"}, "set": {"b": 1}}, r"set the new field from the old one"),
        ("items", {"unset": ["a"], "add": {"a": 1}}, "'a' is in unset and in add"),
        ("items", {"rename": ["a"]}, "give a mapping"),
        ("items", {"rename": {"a": 1}}, "1 is no name"),
        ("items", {"set": {"a": 1}}, "nothing says which items are old"),
        ("items", {"set": {"a": "$$REMOVE"}, "where": {"a": 1}}, "use unset"),
        ("items", {"add": {"a": object()}}, "BSON cannot encode"),
        ("items", {"add": {"a": {"$add": [1], "$sum": 1}}}, "operators side by side"),
        ("items", {"unset": ["a"], "where": {}}, "give a query on the item"),
        ("items", {"unset": ["a"], "where": 5}, "give a query on the item"),
        ("items", {"unset": ["a"], "where": {"$gt": 5}}, "give a query on the item"),
        ("items", {"unset": ["a"], "where": {"b": {"$gtt": 5}}}, "where is malformed"),
        ("items", {"unset": ["a"], "where": {"b": {"$regex": "x"}}}, "no expression says exactly"),
        ("items", {"unset": ["a"], "where": {"b": {"$size": 1}}}, "is answered in memory"),
        ("items", {"unset": ["a"], "where": {"b.c": 1}}, "which is no field of the item"),
        ("items", {"unset": ["a"], "where": {"b": {"$type": "text"}}}, "where is malformed"),
        ("items", {"unset": ["a"], "where": {"$expr": {}}}, "stands inside"),
    ],
)
def test_what_it_refuses(path: Any, given: Raw, problem: str) -> None:
    """An argument that is wrong is refused at once, with what is wrong and what to do."""
    with pytest.raises(UpdateQueryError, match=problem) as failure:
        each(path, **given)
    assert str(failure.value).startswith(f"each({path!r}): ")
