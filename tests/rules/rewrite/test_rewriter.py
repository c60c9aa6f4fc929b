"""Rewriting with a memory: what is remembered is right, belongs to nobody, and has a bound."""

from __future__ import annotations

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from lazymig.query.indexable import indexable
from lazymig.rules.rewrite import rewriter as module
from lazymig.rules.rewrite.rewriter import Rewriter
from lazymig.rules.rewrite.rewriting import CannotRewrite, rewrite
from tests.support.steps import compile_step

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
        rewriter.rewrite({"name": number + 0.5})

    assert rewritten.count({"name": -0.5}) == 2


def test_values_that_decide_nothing_are_rewritten_once(rewritten):
    """Of queries that differ in values alone which no rule names, one is rewritten."""
    rewriter = Rewriter(STEPS)
    kinds = [
        ["a", "b", "c"],
        [2, 3, -4],
        [ObjectId(), ObjectId(), ObjectId()],
        [{"$gte": "a"}, {"$gte": "b"}, {"$gte": "c"}],
        [{"$in": ["a", "b"]}, {"$in": ["c", "d", "a"]}, {"$in": [f"{n}" for n in range(900)]}],
    ]

    for values in kinds:
        rewritten.clear()
        answers = [rewriter.rewrite({"name": value, "age": 1}) for value in values]

        assert len(rewritten) == 1
        assert answers == [rewrite({"name": value, "age": 1}, STEPS) for value in values]


DECIDING = (
    compile_step("state", {"state": "old"}, {"$set": {"state": "new", "by": "rule"}}),
    compile_step("order", {"rank": {"$gt": "m"}}, {"$unset": {"rank": ""}}),
    compile_step("copy", {"a": {"$exists": True}}, [{"$set": {"b": "$a"}}, {"$unset": "a"}]),
    compile_step("last", {"rank": {"$gte": "p"}}, {"$rename": {"rank": "place"}}),
    compile_step("nick", {"nick": {"$exists": True}}, {"$rename": {"nick": "alias"}}),
    compile_step("text", {"first": "f"}, [{"$set": {"name": {"$ifNull": ["$first", "rule"]}}}]),
    compile_step(
        "count", {"n": {"$type": "string"}}, [{"$set": {"count": {"$strLenBytes": "$n"}, "n": 7}}]
    ),
)
TEXTS = ("old", "new", "rule", "a", "b", "z", "$a", "", "x!", "\ue000 lazymig 0")
NUMBERS = (0, 1, 7, -3, 1 << 40, True, False, 1.0, 1_911_620_341)
VALUES = (*TEXTS, *NUMBERS, None, ObjectId("0" * 24), ObjectId("1" * 24))
PATHS = ("state", "by", "rank", "a", "b", "name", "first", "place", "nick", "alias", "count", "n")
CONDITIONS = st.one_of(
    st.sampled_from(VALUES),
    st.fixed_dictionaries({"$in": st.lists(st.sampled_from(VALUES), max_size=4)}),
    st.fixed_dictionaries({"$in": st.lists(st.sampled_from(TEXTS), max_size=4)}),
    st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$ne"]).flatmap(
        lambda operator: st.fixed_dictionaries({operator: st.sampled_from(VALUES)})
    ),
)


def _otherwise(value, others):
    """The same with other values in the place of some."""
    if isinstance(value, dict):
        return {name: _otherwise(one, others) for name, one in value.items()}
    if isinstance(value, list):
        return [_otherwise(one, others) for one in value]
    return others.get((type(value), value), value)


@given(
    st.dictionaries(st.sampled_from(PATHS), CONDITIONS, min_size=1, max_size=4),
    st.dictionaries(
        st.sampled_from(VALUES).map(lambda value: (type(value), value)), st.sampled_from(VALUES)
    ),
)
def test_the_form_of_a_query_says_what_it_is_rewritten_to(query, others):
    """After a query of the same form, with whatever other values, a query asks what it would."""
    rewriter, forgetful = Rewriter(DECIDING), Rewriter(DECIDING)
    forgetful._forms.of = lambda _query: None
    _attempted(rewriter, {name: _otherwise(value, others) for name, value in query.items()})

    assert _attempted(rewriter, query) == _attempted(forgetful, query)


def _attempted(rewriter, query):
    try:
        return repr(rewriter.rewrite(query))
    except CannotRewrite as refusal:
        return str(refusal)
