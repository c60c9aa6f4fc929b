"""Rewriting with a memory: what is remembered is right, belongs to nobody, and has a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazymig.query.indexable import indexable
from lazymig.rules.rewrite import rewriter as module
from lazymig.rules.rewrite.rewriter import Rewriter
from lazymig.rules.rewrite.rewriting import compile_step, rewrite

STEPS = (
    compile_step("fill", {"on": {"$exists": False}}, {"$set": {"on": 1}}),
    compile_step("move", {"nick": {"$exists": True}}, {"$rename": {"nick": "name"}}),
)
QUERIES = [
    {},
    {"age": 1},
    {"on": 1},
    {"on": 2},
    {"on": 1, "age": 2},
    {"age": 2, "on": 1, "name": "a", "size": 3},
    {"age": 2, "on": {"$in": [1, 2]}},
    {"on": 1, "$or": [{"age": 1}, {"size": 2}]},
    {"on": 1, "$or": [{"age": 1}, {"name": "a"}]},
    {"on": 2, "_id": 5},
    {"name": "a", "nick": {"$exists": True}, "_id": 5},
    {"$and": [{"on": 1}, {"age": 1}], "size": 1},
    {"$nor": [{"on": 1, "name": "a"}], "age": {"$gt": 1}},
    {"on": {"$in": list(range(30))}, "age": 1},
]


@pytest.fixture
def rewritten(monkeypatch):
    """What is rewritten and not remembered."""
    queries = []

    def counted(query, steps):
        queries.append(query)
        return rewrite(query, steps)

    monkeypatch.setattr(module, "rewrite", counted)
    return queries


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_what_is_remembered_is_what_is_rewritten(query):
    """The first answer and all later ones ask what the query rewritten as a whole asks."""
    rewriter = Rewriter(STEPS)
    expected = indexable(rewrite(query, STEPS), {"on"})

    answers = [rewriter.rewrite(dict(query)) for _ in range(2)]

    assert answers == [expected, expected]


@pytest.mark.parametrize("query", [{}, {"age": 1}, {"age": 1, "on": {"$exists": True}}])
def test_an_unchanged_query_is_the_same_object(query):
    """A query that no rule concerns, or that means the same to old documents, comes back."""
    rewriter = Rewriter((STEPS[1],))

    assert [rewriter.rewrite(query) is query for _ in range(2)] == [True, True]


def test_conditions_are_rewritten_once(rewritten):
    """Other values beside the conditions that a rule concerns do not make them new."""
    rewriter = Rewriter(STEPS)

    answers = [rewriter.rewrite({"_id": number, "on": 1}) for number in range(3)]

    assert [answer["_id"] for answer in answers] == [0, 1, 2]
    assert rewritten == [{"on": 1}]


@pytest.mark.parametrize("other", [True, 1.0, "1", None, [1], {"$in": [1]}, {"$in": [True]}])
def test_values_of_other_types_are_other_conditions(rewritten, other):
    """What Python takes for equal is not taken for the same condition."""
    rewriter = Rewriter(STEPS)

    rewriter.rewrite({"on": 1})

    assert rewriter.rewrite({"on": other}) == indexable(rewrite({"on": other}, STEPS))
    assert len(rewritten) == 2


def test_nobody_can_change_what_is_remembered():
    """Neither the lists of a query nor those of an answer belong to the memory."""
    rewriter = Rewriter(STEPS)
    names = ["a", "b"]
    query = {"name": {"$in": names}}
    expected = rewrite({"name": {"$in": ["a", "b"]}}, STEPS)

    first = rewriter.rewrite(query)
    names.append("c")
    second = rewriter.rewrite({"name": {"$in": ["a", "b"]}})
    second["$or"].clear()

    assert first["$or"] is not second["$or"]
    assert rewriter.rewrite({"name": {"$in": ["a", "b"]}}) == expected


def test_the_memory_has_a_bound(rewritten):
    """A query that was asked long ago is rewritten anew."""
    rewriter = Rewriter(STEPS)

    for number in [-1, *range(300), -1]:
        rewriter.rewrite({"name": number})

    assert rewritten.count({"name": -1}) == 2


def test_values_that_decide_nothing_are_rewritten_once(rewritten):
    """Of queries that differ in texts alone which no rule names, one is rewritten."""
    rewriter = Rewriter(STEPS)

    answers = [rewriter.rewrite({"name": name, "age": 1}) for name in ("a", "b", "c")]

    assert len(rewritten) == 1
    assert answers == [rewrite({"name": name, "age": 1}, STEPS) for name in ("a", "b", "c")]


DECIDING = (
    compile_step("state", {"state": "old"}, {"$set": {"state": "new", "by": "rule"}}),
    compile_step("order", {"rank": {"$gt": "m"}}, {"$unset": {"rank": ""}}),
    compile_step("copy", {"a": {"$exists": True}}, [{"$set": {"b": "$a"}}, {"$unset": "a"}]),
    compile_step("text", {"first": "f"}, [{"$set": {"name": {"$ifNull": ["$first", "rule"]}}}]),
)
TEXTS = ("old", "new", "rule", "a", "b", "z", "$a", "", "x!", "\ue000 lazymig 0")


@given(
    st.dictionaries(
        st.sampled_from(["state", "by", "rank", "a", "b", "name", "first", "other"]),
        st.sampled_from(TEXTS),
        min_size=1,
        max_size=4,
    ),
    st.dictionaries(st.sampled_from(TEXTS), st.sampled_from(TEXTS)),
)
def test_the_form_of_a_query_says_what_it_is_rewritten_to(query, others):
    """After a query of the same form, with whatever other values, a query asks what it would."""
    rewriter, forgetful = Rewriter(DECIDING), Rewriter(DECIDING)
    forgetful._forms.of = lambda _query: None
    rewriter.rewrite({name: others.get(value, value) for name, value in query.items()})

    assert rewriter.rewrite(query) == forgetful.rewrite(query)
