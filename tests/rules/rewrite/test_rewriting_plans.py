"""Rewritten queries on the real server: they are planned with indexes, never as a whole scan."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import ASCENDING, MongoClient
from pymongo.collection import Collection

from lazymig.rules.rewrite.rewriting import Step, rewrite
from tests.rules.rewrite.rewriting_cases import ADDED, FILLED, RENAMED, Raw
from tests.support.steps import compile_step

SPLIT = [
    compile_step(
        name,
        {"_cls": "Human.Jedi", "dark_side": dark},
        {"$set": {"_cls": name}, "$unset": {"dark_side": ""}},
    )
    for name, dark in (("Human.GoodJedi", False), ("Human.BadSith", True))
]
OTHERS = [
    compile_step(f"other {n}", {f"other{n}": None}, {"$set": {f"other{n}": n}}) for n in range(10)
]
SAME = [compile_step(f"same {n}", {"version": n}, {"$set": {"version": n + 1}}) for n in range(10)]
# Ten rules on one path whose targets are no mere equalities.
STATES = [
    compile_step(f"state {n}", {"version": n, "old": None}, {"$set": {"version": n + 1}})
    for n in range(10)
]


@pytest.fixture(scope="module")
def people(client: MongoClient[Raw]) -> Iterator[Collection[Raw]]:
    """A collection with the indexes that an application would have."""
    name = f"lazymig_{uuid.uuid4().hex}"
    collection = client[name].people
    collection.insert_many(
        [
            {"_cls": "Human.Jedi", "dark_side": n % 2 == 0, "name": f"n{n}", "old": n, "version": 0}
            for n in range(200)
        ]
        + [
            {"_cls": "Human", "enabled": n % 3 == 0, "name": f"n{n}", "new": n, "version": 10}
            for n in range(200)
        ]
    )
    for path in ("enabled", "old", "new", "version"):
        collection.create_index(path)
    collection.create_index([("_cls", ASCENDING), ("name", ASCENDING)])
    yield collection
    client.drop_database(name)


def _scans(plan: Raw) -> list[Raw]:
    """Give the stages that read an index or the collection itself."""
    inner = [*plan.get("inputStages", ()), *([plan["inputStage"]] if "inputStage" in plan else ())]
    return [scan for one in inner for scan in _scans(one)] if inner else [plan]


def _planned(collection: Collection[Raw], query: Any) -> list[Raw]:
    winning = collection.find(query).explain()["queryPlanner"]["winningPlan"]
    return _scans(winning.get("queryPlan", winning))


@pytest.mark.parametrize(
    ("query", "steps", "indexes"),
    [
        ({"enabled": True}, [ADDED], {"enabled_1"}),
        ({"enabled": False}, [ADDED], {"enabled_1"}),
        ({"enabled": True}, [FILLED], {"enabled_1"}),
        ({"new": 5}, [RENAMED], {"new_1", "old_1"}),
        ({"new": {"$gt": 5, "$lt": 9}}, [RENAMED], {"new_1", "old_1"}),
        ({"_cls": "Human.GoodJedi", "name": "n5"}, SPLIT, {"_cls_1_name_1"}),
        ({"_cls": "Human.BadSith", "name": "n5"}, SPLIT, {"_cls_1_name_1"}),
        (
            {"_cls": {"$in": ["Human", "Human.GoodJedi", "Human.BadSith"]}, "name": "n5"},
            SPLIT,
            {"_cls_1_name_1"},
        ),
        ({"enabled": True}, [ADDED, *OTHERS], {"enabled_1"}),
        ({"enabled": True}, [*OTHERS, ADDED], {"enabled_1"}),
        ({"version": 10}, SAME, {"version_1"}),
        ({"version": 10}, STATES, {"version_1", "old_1"}),
    ],
)
def test_every_branch_uses_an_index(
    people: Collection[Raw], query: Raw, steps: list[Step], indexes: set[str]
) -> None:
    """Each branch of a rewritten query is an index scan."""
    scans = _planned(people, rewrite(query, steps))
    assert {scan["stage"] for scan in scans} == {"IXSCAN"}
    assert {scan["indexName"] for scan in scans} <= indexes


def test_a_compound_index_bounds_every_branch(people: Collection[Raw]) -> None:
    """A condition beside a rewritten one bounds the scans of all of its branches."""
    scans = _planned(people, rewrite({"_cls": "Human.GoodJedi", "name": "n5"}, SPLIT))
    assert [scan["indexBounds"]["name"] for scan in scans] == [['["n5", "n5"]']] * 2


def test_a_query_that_finds_nothing_reads_nothing(people: Collection[Raw]) -> None:
    """What no migrated document can answer examines neither keys nor documents."""
    explained = people.find(rewrite({"old": 3}, [RENAMED])).explain()
    stats = explained["executionStats"]
    assert (stats["totalKeysExamined"], stats["totalDocsExamined"]) == (0, 0)


@pytest.mark.parametrize("length", [10, 30])
def test_a_chain_of_renames_is_accepted(people: Collection[Raw], length: int) -> None:
    """A path that was renamed again and again is found under each of its names."""
    steps = [
        compile_step(f"r{n}", {f"n{n}": {"$exists": True}}, {"$rename": {f"n{n}": f"n{n + 1}"}})
        for n in range(length)
    ]
    names = [f"n{n}" for n in range(length + 1)]
    scratch = people.database[f"chain{length}"]
    scratch.insert_many([{"_id": name, name: 1} for name in names])
    for name in names:
        scratch.create_index(name)
    rewritten = rewrite({names[-1]: 1}, steps)
    assert {found["_id"] for found in scratch.find(rewritten)} == set(names)
    assert {scan["stage"] for scan in _planned(scratch, rewritten)} == {"IXSCAN"}
