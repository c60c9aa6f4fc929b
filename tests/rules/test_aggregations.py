"""What an aggregation reads of stored documents: never less than it does."""

from __future__ import annotations

import pytest

from lazymig.rules.aggregations import aggregated_paths

TOLD = {
    "group": ([{"$group": {"_id": "$a.b", "n": {"$sum": "$c"}}}], {"a.b", "c"}, {"x"}),
    "match": ([{"$match": {"a": 1, "$or": [{"b.c": 2}]}}, {"$count": "n"}], {"a", "b.c"}, {"n"}),
    "match expr": (
        [{"$match": {"$expr": {"$eq": ["$a", "$b"]}}}, {"$count": "n"}],
        {"a", "b"},
        {"n"},
    ),
    "project": ([{"$project": {"a.b": 1, "c": "$d"}}], {"a", "d"}, {"x"}),
    "behind a shape": ([{"$group": {"_id": "$a"}}, {"$match": {"x": 1}}], {"a"}, {"x"}),
    "unwind": ([{"$unwind": {"path": "$a"}}, {"$sortByCount": "$a"}], {"a"}, {"x"}),
    "sort": ([{"$sort": {"a": 1}}, {"$limit": 2}, {"$project": {"b": 1}}], {"a", "b"}, {"x"}),
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
    "only the id left out": [{"$project": {"_id": 0}}],
    "nested, perhaps left out": [{"$project": {"a": {"b": 0}}}],
    "root": [{"$group": {"_id": None, "all": {"$push": "$$ROOT"}}}],
    "root's field": [{"$group": {"_id": "$$ROOT.a"}}],
    "current": [{"$group": {"_id": "$$CURRENT.a"}}],
    "hidden": [{"$group": {"_id": {"$getField": "a"}}}],
    "where": [{"$match": {"$where": "this.a"}}, {"$count": "n"}],
    "lookup": [{"$lookup": {"from": "b", "as": "b", "pipeline": []}}, {"$count": "n"}],
    "union behind a shape": [{"$count": "n"}, {"$unionWith": "b"}],
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
