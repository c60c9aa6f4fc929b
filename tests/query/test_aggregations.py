"""What an aggregation reads of stored documents: never less than it does."""

from __future__ import annotations

import pytest

from lazymig.query.aggregations import Reach, aggregated_paths, fronted, leading_match

COUNT = {"$count": "n"}

TOLD = {
    "group": ([{"$group": {"_id": "$a.b", "n": {"$sum": "$c"}}}], {"a.b", "c"}, {"x"}),
    "match": ([{"$match": {"a": 1, "$or": [{"b.c": 2}]}}, {"$count": "n"}], {"a", "b.c"}, {"n"}),
    "match expr": (
        [{"$match": {"$expr": {"$eq": ["$a", "$b"]}}}, {"$count": "n"}],
        {"a", "b"},
        {"n"},
    ),
    "computed": ([{"$project": {"c": {"$toUpper": "$d"}}}, {"$unset": "e"}], {"c", "d"}, {"x"}),
    "project": ([{"$project": {"a.b": 1, "c": "$d"}}], {"a", "d"}, {"x"}),
    "behind a shape": ([{"$group": {"_id": "$a"}}, {"$match": {"x": 1}}], {"a"}, {"x"}),
    "unwind": ([{"$unwind": {"path": "$a"}}, {"$sortByCount": "$a"}], {"a"}, {"x"}),
    "sort": ([{"$sort": {"a": 1}}, {"$limit": 2}, {"$project": {"b": 1}}], {"a", "b"}, {"x"}),
    "lookup": (
        [{"$lookup": {"from": "b", "localField": "a", "foreignField": "c", "as": "b"}}, COUNT],
        {"a"},
        {"c"},
    ),
    "lookup by an expression": (
        [{"$lookup": {"from": "b", "let": {"v": "$a.b"}, "pipeline": [], "as": "b"}}, COUNT],
        {"a.b"},
        {"c"},
    ),
    "graph": (
        [
            {
                "$graphLookup": {
                    "from": "b",
                    "startWith": "$a",
                    "connectFromField": "c",
                    "connectToField": "d",
                    "as": "b",
                }
            },
            COUNT,
        ],
        {"a"},
        {"c", "d"},
    ),
    "union": ([{"$unionWith": "b"}, {"$group": {"_id": "$a"}}], {"a"}, {"x"}),
    "facets": ([{"$facet": {"n": [COUNT], "a": [{"$sortByCount": "$a"}]}}], {"a"}, {"x"}),
    "root's field": ([{"$group": {"_id": "$$ROOT.a"}}], {"a"}, {"x"}),
    "current": ([{"$group": {"_id": "$$CURRENT.a"}}], {"a"}, {"x"}),
    "literal": ([{"$group": {"_id": {"$ifNull": ["$a", {"$literal": "$x"}]}}}], {"a"}, {"x"}),
    "new field": ([{"$set": {"n": "$a"}}, {"$group": {"_id": "$n"}}], {"a"}, {"x"}),
}


@pytest.mark.parametrize("case", TOLD)
def test_paths_that_are_read(case):
    """Up to the stage that names all that is left, each path that is read is told, and no other."""
    pipeline, read, unread = TOLD[case]
    paths = aggregated_paths(pipeline)
    assert paths is not None
    assert read <= paths
    assert not unread & paths


UNTOLD = {
    "nothing": [],
    "whole documents": [{"$match": {"a": 1}}],
    "left out": [{"$project": {"a": 0}}],
    "a score, perhaps beside all": [{"$project": {"s": {"$meta": "textScore"}}}],
    "only the id left out": [{"$project": {"_id": 0}}],
    "nested, perhaps left out": [{"$project": {"a": {"b": 0}}}],
    "root": [{"$group": {"_id": None, "all": {"$push": "$$ROOT"}}}],
    "hidden": [{"$group": {"_id": {"$getField": "a"}}}],
    "where": [{"$match": {"$where": "this.a"}}, {"$count": "n"}],
    "whole documents, joined": [{"$lookup": {"from": "b", "as": "b", "pipeline": []}}],
    "united whole": [{"$match": {"a": 1}}, {"$unionWith": "b"}],
    "whole in one facet": [{"$facet": {"n": [{"$count": "n"}], "all": [{"$limit": 1}]}}],
    "lookup by the root": [
        {"$lookup": {"from": "b", "as": "b", "let": {"r": "$$ROOT"}, "pipeline": []}},
        {"$count": "n"},
    ],
    "merge behind a shape": [{"$group": {"_id": "$a"}}, {"$merge": "b"}],
    "unknown": [{"$setWindowFields": {}}, {"$count": "n"}],
    "replaced": [{"$replaceRoot": {"newRoot": "$a"}}, {"$count": "n"}],
    "no stage": [{}],
    "no list": {"$group": {"_id": "$a"}},
}


@pytest.mark.parametrize("case", UNTOLD)
def test_pipelines_that_may_read_anything(case):
    """A pipeline that reads whole documents, or reads them again, or is not known, is not told."""
    assert aggregated_paths(UNTOLD[case]) is None


LOOKUP = {"$lookup": {"from": "b", "localField": "a", "foreignField": "c", "as": "b"}}
NARROW = {"$lookup": {"from": "b", "foreignField": "c", "pipeline": [COUNT], "as": "b"}}


def opened(stage, paths=None, **known):
    """What a stage that takes other stages in reads of the collection b."""
    return Reach(stage, None, "b", paths, **known, opens=True)


REACHING = {
    "lookup": ([LOOKUP], [opened("$lookup", sought="c")]),
    "lookup of a part": ([NARROW], [opened("$lookup", frozenset({"c"}), sought="c")]),
    "lookup with a condition": (
        [{"$lookup": {"from": "b", "pipeline": [{"$match": {"x": 1}}], "as": "b"}}],
        [opened("$lookup", matched={"x": 1})],
    ),
    "graph": (
        [{"$graphLookup": {"from": "b", "startWith": "$a"}}],
        [Reach("$graphLookup", None, "b", None)],
    ),
    "union": ([{"$unionWith": "b"}], [opened("$unionWith")]),
    "union behind which little is left": (
        [{"$unionWith": {"coll": "b"}}, {"$group": {"_id": "$x"}}],
        [opened("$unionWith", frozenset({"x"}))],
    ),
    "union of a part": (
        [{"$unionWith": {"coll": "b", "pipeline": [{"$project": {"x": 1}}]}}],
        [opened("$unionWith", frozenset({"x"}))],
    ),
    "within a facet": ([{"$facet": {"one": [LOOKUP]}}], [opened("$lookup", sought="c")]),
    "within a lookup": (
        [{"$lookup": {"from": "d", "pipeline": [LOOKUP], "as": "d"}}],
        [Reach("$lookup", None, "d", None, opens=True), opened("$lookup", sought="c")],
    ),
    "merge": ([{"$merge": "b"}], [Reach("$merge", None, "b", None)]),
    "merge elsewhere": (
        [{"$merge": {"into": {"db": "e", "coll": "b"}}}],
        [Reach("$merge", "e", "b", None)],
    ),
    "none": ([{"$match": {"a": 1}}, COUNT], []),
    "malformed": ([{"$lookup": 1}, {"$unionWith": 2}, {"$facet": 3}, {}, 4], []),
}


@pytest.mark.parametrize("case", REACHING)
def test_collections_that_are_reached(case):
    """Each collection that a stage reads besides is told, with what is read of its documents."""
    pipeline, expected = REACHING[case]
    told = []
    assert fronted(pipeline, told.append) is pipeline
    assert told == expected


FIRST = {"$set": {"shown": 1}}
FRONTED = {
    "lookup": (LOOKUP, {"$lookup": {**LOOKUP["$lookup"], "pipeline": [FIRST]}}),
    "lookup with a condition": (
        {"$lookup": {"from": "b", "pipeline": [{"$match": {"x": 1}}, COUNT], "as": "b"}},
        {"$lookup": {"from": "b", "pipeline": [FIRST, COUNT], "as": "b"}},
    ),
    "union": ({"$unionWith": "b"}, {"$unionWith": {"coll": "b", "pipeline": [FIRST]}}),
    "within a facet": (
        {"$facet": {"one": [{"$unionWith": "b"}], "two": [COUNT]}},
        {"$facet": {"one": [{"$unionWith": {"coll": "b", "pipeline": [FIRST]}}], "two": [COUNT]}},
    ),
    "within a lookup": (
        {"$lookup": {"from": "d", "pipeline": [{"$unionWith": "b"}], "as": "d"}},
        {
            "$lookup": {
                "from": "d",
                "pipeline": [{"$unionWith": {"coll": "b", "pipeline": [FIRST]}}],
                "as": "d",
            }
        },
    ),
}


@pytest.mark.parametrize("case", FRONTED)
def test_stages_before_what_is_read_of_another_collection(case):
    """Stages stand in the place of what is asked first of a collection, wherever it is read."""
    stage, expected = FRONTED[case]
    given = fronted([stage], lambda reach: [FIRST] if reach.collection == "b" else None)
    assert given == [expected]


@pytest.mark.parametrize(
    ("pipeline", "query"),
    [
        ([{"$match": {"a": 1}}, {"$count": "n"}], {"a": 1}),
        ([], None),
        ([{"$sort": {"a": 1}}, {"$match": {"a": 1}}], None),
        ([{"$match": {"$text": {"$search": "x"}}}], None),
        ([{"$match": 1}], None),
        (["$match"], None),
    ],
)
def test_what_is_matched_first(pipeline, query):
    """A first `$match` says which documents are read on; nothing else does."""
    assert leading_match(pipeline) == query
