"""Updates before they run: whether they are well-formed, and what they write on the real server."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.raw.encoding import ANY_VALUE
from lazymig.updates.update import (
    check_update,
    created_paths,
    filtered_paths,
    removed_paths,
    written_paths,
)
from tests.updates.update_cases import (
    EXAMPLES,
    Case,
    Raw,
    accepted,
    concrete,
    documents,
    update_each,
    updates,
    values,
)

# --- check_update ------------------------------------------------------------------------

BAD_UPDATES = {
    "stage with an empty document": ([{"$set": {"a": {"b": {}}}}], "'a.b' to an empty document"),
    "nothing": (None, "None"),
    "empty mapping": ({}, "{}"),
    "empty pipeline": ([], "[]"),
    "a string": ("$set", "'$set'"),
    "replacement document": ({"name": "x"}, "replacement document ('name')"),
    "mixed": ({"$set": {"a": 1}, "name": "x"}, "mixes operators with plain fields ('name')"),
    "unknown operator": ({"$sett": {"a": 1}}, "$sett is not an update operator"),
    "removed operator": ({"$pushAll": {"a": [1]}}, "$pushAll is not an update operator"),
    "operator without mapping": ({"$set": 5}, "$set is given 5"),
    "operator with empty mapping": ({"$set": {}}, "$set is given {}"),
    "same path twice": ({"$set": {"a": 1}, "$unset": {"a": ""}}, "$set of 'a' and $unset of 'a'"),
    "path and parent": ({"$set": {"a": {}}, "$inc": {"a.b": 1}}, "$set of 'a' and $inc of 'a.b'"),
    "parent in between": ({"$set": {"a": 1, "a-b": 1, "a.b": 1}}, "$set of 'a' and $set of 'a.b'"),
    "rename onto a written path": (
        {"$rename": {"a": "b"}, "$set": {"b": 1}},
        "$rename of 'b' and $set of 'b'",
    ),
    "rename into itself": ({"$rename": {"a": "a.b"}}, "conflict"),
    "rename to itself": ({"$rename": {"a": "a"}}, "$rename of 'a' to itself"),
    "rename to no path": ({"$rename": {"a": 1}}, "$rename of 'a' is given 1"),
    "rename of elements": ({"$rename": {"a.$[].b": "c"}}, "positional path 'a.$[].b'"),
    "rename to elements": ({"$rename": {"c": "a.$.b"}}, "positional path 'a.$.b'"),
    "empty path": ({"$set": {"": 1}}, "the path ''"),
    "empty component": ({"$set": {"a..b": 1}}, "the path 'a..b'"),
    "leading dot": ({"$unset": {".a": 1}}, "the path '.a'"),
    "trailing dot": ({"$rename": {"b": "a."}}, "the path 'a.'"),
    "path no string": ({"$set": {1: 1}}, "the path 1"),
    "_id": ({"$set": {"_id": 1}}, "writes '_id'"),
    "beneath _id": ({"$unset": {"_id.x": 1}}, "writes '_id.x'"),
    "not BSON": ({"$set": {"a": {"b": object()}}}, "$set of 'a' holds a value"),
    "too large": ({"$inc": {"n": 2**64}}, "$inc of 'n' holds a value"),
    "stage no mapping": ([["$set"]], "a pipeline stage is ['$set']"),
    "stage of two": ([{"$set": {"a": 1}, "$unset": "b"}], "give a mapping with one operator"),
    "unknown stage": ([{"$match": {"a": 1}}], "$match is not a stage"),
    "empty stage": ([{"$set": {}}], "the stage $set is given {}"),
    "unset stage of nothing": ([{"$unset": []}], "the stage $unset is given []"),
    "unset stage of mapping": ([{"$unset": {"a": 1}}], "the stage $unset is given {'a': 1}"),
    "path and parent in a stage": ([{"$set": {"a": 1, "a.b": 2}}], "conflict"),
    "_id in a stage": ([{"$set": {"_id": 1}}], "writes '_id'"),
    "stage path": ([{"$unset": ["a..b"]}], "the path 'a..b'"),
    "stage value": ([{"$set": {"a": object()}}], "$set of 'a' holds a value"),
    "no new root": ([{"$replaceRoot": {"root": "$a"}}], "newRoot"),
}


@pytest.mark.parametrize(("update", "wrong"), BAD_UPDATES.values(), ids=BAD_UPDATES)
def test_bad_update_is_named_with_a_remedy(update: Any, wrong: str) -> None:
    """A malformed update raises ValueError that says what is wrong, and what to do."""
    with pytest.raises(ValueError, match=re.escape(wrong)) as caught:
        check_update(update)
    problem, remedy = str(caught.value).split(";", 1)
    assert problem
    assert remedy.strip()


BAD_FILTERS = {
    "no list": ({"$set": {"i.$[e].q": 1}}, {"e.q": 0}, "array_filters is {'e.q': 0}"),
    "no mappings": ({"$set": {"i.$[e].q": 1}}, ["e"], "array_filters contains 'e'"),
    "capital": ({"$set": {"i.$[E].q": 1}}, [{"E.q": 0}], "an array filter names 'E'"),
    "missing": ({"$set": {"i.$[e].q": 1}}, None, "no array filter for 'e'"),
    "unused": ({"$set": {"i.$[].q": 1}}, [{"e.q": 0}], "'e', which no path uses"),
    "twice": ({"$set": {"i.$[e].q": 1}}, [{"e.q": 0}, {"e.r": 0}], "'e' twice"),
    "two identifiers": ({"$set": {"i.$[e].q": 1}}, [{"e.q": 0, "f": 0}], "names 'e', 'f'"),
    "pipeline": ([{"$set": {"a": 1}}], [{"e": 0}], "cannot be combined with a pipeline"),
}


@pytest.mark.parametrize(("update", "filters", "wrong"), BAD_FILTERS.values(), ids=BAD_FILTERS)
def test_bad_array_filters_are_named_with_a_remedy(update: Any, filters: Any, wrong: str) -> None:
    """Array filters that do not fit the update raise ValueError that says what and what to do."""
    with pytest.raises(ValueError, match=re.escape(wrong)) as caught:
        check_update(update, filters)
    assert ";" in str(caught.value)


@pytest.mark.parametrize(
    ("update", "filters"),
    [
        ({"$set": {"a": ANY_VALUE, "b.c": [{"d": ANY_VALUE}]}, "$unset": {"ab": ""}}, None),
        ({"$rename": {"a": "b.c"}, "$currentDate": {"d": True}, "$pop": {"e": 1}}, None),
        ({"$set": {"i.$.q": 1, "j.$[].q": 1, "k.0": 1}}, None),
        ({"$set": {"i.$[e].q": 1}}, [{"$or": [{"e.q": 0}, {"e.r": 0}]}]),
        ([{"$addFields": {"a": "$b", "c": {"$add": ["$d", 1]}}}, {"$unset": ["b", "d"]}], None),
        ([{"$replaceWith": {"$mergeObjects": ["$a", "$$ROOT"]}}, {"$project": {"a": 0}}], None),
        ([{"$replaceRoot": {"newRoot": "$a"}}], None),
    ],
)
def test_good_update_is_accepted(update: Any, filters: Any) -> None:
    """What the server would take is accepted."""
    assert check_update(update, filters) is None


# --- paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "written", "removed", "created"),
    [
        ({"$set": {"a": 1, "b.c": 1}}, {"a", "b.c"}, set(), {"a", "b.c"}),
        (
            {"$set": {"i.$[e].q": 1, "j.$[].q": 1, "k.$.q": 1, "l.0.q": 1}},
            {"i.q", "j.q", "k.q", "l.q"},
            set(),
            {"i.q", "j.q", "k.q", "l.q"},
        ),
        ({"$set": {"2024": 1}}, {"2024"}, set(), {"2024"}),
        ({"$unset": {"a": 1}, "$inc": {"b": 1}}, {"a", "b"}, {"a"}, {"b"}),
        ({"$rename": {"a": "b.c"}}, {"a", "b.c"}, {"a"}, {"b.c"}),
        ({"$setOnInsert": {"a": 1}, "$push": {"b": 1}}, {"b"}, set(), {"b"}),
        (
            [{"$set": {"a": {"b": {"c": 1}, "d": {"$add": [1, "$e"]}}, "f.g": "$h"}}],
            {"a.b.c", "a.d", "f.g"},
            set(),
            {"a.b.c", "a.d", "f.g"},
        ),
        ([{"$set": {"a": "$$REMOVE"}}], {"a"}, {"a"}, set()),
        ([{"$unset": "a"}, {"$unset": ["b", "c.d"]}], {"a", "b", "c.d"}, {"a", "b", "c.d"}, set()),
        ([{"$set": {"t.x": 1, "a": 1}}, {"$unset": "t"}], {"t.x", "t", "a"}, {"t"}, {"a"}),
        ([{"$unset": "a"}, {"$set": {"a": 1}}], {"a"}, set(), {"a"}),
        ([{"$project": {"a": 0, "b.c": False}}], {"a", "b.c"}, {"a", "b.c"}, set()),
        ([{"$project": {"a": 1}}], None, set(), None),
        ([{"$project": {"a": "$b"}}], None, set(), None),
        ([{"$set": {"a": 1}}, {"$replaceRoot": {"newRoot": "$b"}}], None, set(), None),
        ([{"$replaceWith": "$b"}], None, set(), None),
    ],
)
def test_paths(update: Any, written: Any, removed: set[str], created: Any) -> None:
    """The paths an update writes, takes away and creates are told, without positions."""
    assert written_paths(update) == written
    assert removed_paths(update) == removed
    assert created_paths(update) == created


def test_written_paths_hold_every_change_on_the_server(database: Database[Raw]) -> None:
    """Whatever top-level field an update changes is the beginning of a written path."""
    seen: Counter[str] = Counter()
    collection = database.c

    @settings(max_examples=EXAMPLES // 2)
    @given(updates, st.lists(documents, min_size=4, max_size=4), values)
    def holds(update: Any, some: list[Raw], chosen: Any) -> None:
        written = written_paths(update) if accepted(update, None) else None
        if written is None:
            return
        collection.delete_many({})
        before = [{"_id": number, **one} for number, one in enumerate(some)]
        collection.insert_many(before)
        update_each(collection, Case({}, concrete(update, chosen), {}), list(range(4)))
        for old, new in zip(before, collection.find().sort("_id"), strict=True):
            changed = {
                key
                for key in {*old, *new}
                if key not in new or key not in old or old[key] != new[key]
            }
            assert changed <= {path.split(".")[0] for path in written}
            seen["changed"] += bool(changed)

    holds()
    assert seen["changed"] >= EXAMPLES // 4, seen


# --- filtered_paths ----------------------------------------------------------------------

FILTERED = {
    "none": ({"$set": {"a.$[].b": 1}}, None, set()),
    "elements": ({"$set": {"a.$[e]": 1}}, [{"e": {"$lt": 1}}], {"a"}),
    "a field of elements": ({"$set": {"a.$[e].b": 1}}, [{"e.c.d": 1}], {"a.c.d"}),
    "an index": ({"$set": {"a.0.b.$[e].c": 1}}, [{"e.d.0": 1}], {"a.b.d"}),
    "several": (
        {"$set": {"a.$[e].b.$[f]": 1}, "$unset": {"z.$[e].y": ""}},
        [{"$or": [{"e.x": 1}, {"e.y": 2}]}, {"f": 1}],
        {"a.x", "a.y", "z.x", "z.y", "a.b"},
    ),
    "a pipeline": ([{"$set": {"a": 1}}], None, set()),
}


@pytest.mark.parametrize("name", FILTERED)
def test_filtered_paths_are_those_that_elements_are_chosen_by(name):
    """The paths that array filters read are those of the arrays, and below the identifiers."""
    update, array_filters, paths = FILTERED[name]

    assert filtered_paths(update, array_filters) == paths
