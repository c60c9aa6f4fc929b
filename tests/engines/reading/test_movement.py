"""Indexes: which of them a query may walk, and which a write changes."""

from __future__ import annotations

import pytest
from pymongo.errors import OperationFailure

from lazymig.engines.reading.movement import can_move, may_move

INDEXES = {
    "id": {"key": {"_id": 1}},
    "single": {"key": {"a": 1}},
    "dotted": {"key": {"a.b": -1}},
    "compound": {"key": {"s": 1, "a": 1}},
    "partial": {"key": {"s": 1}, "partialFilterExpression": {"a": {"$exists": True}}},
    "hashed": {"key": {"a": "hashed"}},
    "geo": {"key": {"place": "2dsphere", "a": 1}},
    "wildcard": {"key": {"$**": 1}},
    "wildcard below": {"key": {"a.$**": 1}},
    "text": {"key": {"_fts": "text", "_ftsx": 1}, "weights": {"a": 1, "t": 5}},
    "text of all": {"key": {"_fts": "text", "_ftsx": 1}, "weights": {"$**": 1}},
    "other": {"key": {"z": 1}},
}


@pytest.mark.parametrize(
    ("read", "written", "expected"),
    [
        # Any query, writes of one path: every index that holds it.
        (None, {"a"}, set(INDEXES) - {"id", "other"}),
        (None, {"a.b.c"}, set(INDEXES) - {"id", "other"}),
        (None, {"t"}, {"text", "text of all", "wildcard"}),
        (None, {"q"}, {"text of all", "wildcard"}),
        (None, None, set(INDEXES) - {"id"}),
        (None, set(), set()),
        # A query of known paths: only what it may walk.
        ({"s"}, {"a"}, {"compound", "partial", "wildcard"}),
        ({"a.c"}, {"a"}, {"hashed", "single", "wildcard", "wildcard below"}),
        ({"place"}, {"a"}, {"geo", "wildcard"}),
        ({"z"}, {"a"}, {"wildcard"}),
        ({"z"}, None, {"other", "wildcard"}),
        ({"_id"}, None, {"wildcard"}),
        (set(), None, set()),
    ],
)
def test_what_a_write_moves_and_a_query_walks(read, written, expected):
    """A write moves documents in an index that holds its path; a query walks one it begins with."""
    assert {name for name in INDEXES if can_move(INDEXES[name], read, written)} == expected


def ask(collection, query, order=(), written=("a",), hinted=False):
    """What is answered for a collection on the real server."""
    return may_move(collection, query, order, written, 5, hinted=hinted)


def test_the_indexes_of_the_collection_are_asked(database):
    """The filter, the order and a hint decide which of the collection's indexes matter."""
    users = database["user"]
    assert not ask(users, {"a": 1})
    users.create_index([("s", 1), ("a", 1)])

    assert ask(users, {"s": 1})
    assert ask(users, {"$or": [{"z": 1}, {"s": {"$gt": 1}}]})
    assert ask(users, {}, order=("s",))
    assert ask(users, {"s": 1}, order=("a",))
    assert not ask(users, {"s": 1}, order=("z",))
    assert not ask(users, {"s": 1}, order=("s", "_id"))
    assert ask(users, {"$where": "true"})
    assert ask(users, {"z": 1}, hinted=True)
    assert not ask(users, {"z": 1})
    assert not ask(users, {"s": 1}, written=("b",))
    users.create_index([("w.$**", 1)])
    assert ask(users, {}, order=("w.x",), written=("w.x",))
    assert not ask(users, {}, order=("w.x", "z"), written=("w.x",))


def test_indexes_that_cannot_be_listed_count(database):
    """Where the indexes cannot be listed, as those of a view, documents may move."""
    database["user"].insert_one({"a": 1})
    database.command("create", "seen", viewOn="user", pipeline=[])
    with pytest.raises(OperationFailure):
        list(database["seen"].list_indexes())

    assert ask(database["seen"], {"a": 1})
