"""Translated rules against the methods that they were read from, on the real server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import bson
import pytest
from bson import DBRef
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from pymongo import UpdateOne
from pymongo.database import Database

from lazymig.rules.rewrite.rewriting import CannotRewrite, rewrite
from lazymig.rules.rewrite.steps import compile_steps
from lazymig.rules.rule import RuleHandler, evaluate
from lazymig.rules.translation import Translation
from tests.rules.translating.cases import CASES, Case
from tests.rules.translating.documents import documents
from tests.rules.translating.expressions import expressions
from tests.rules.translating.expressions import tests as conditions
from tests.rules.translating.rules import setting, translation_of
from tests.support.broken import broken

Raw = dict[str, Any]

LONG = os.environ.get("LAZYMIG_PROFILE") == "long"
EXAMPLES = 300 if LONG else 4
RAW = CodecOptions(document_class=RawBSONDocument)


def held_against_python(
    scratch: Database[Raw], case: Case, drawn: Sequence[Raw]
) -> tuple[list[int], list[int]]:
    """Hold a translation against the method; return which documents it is for, of which."""
    rule = case.rule()
    found = translation_of(rule, case.target)
    assert isinstance(found, Translation), found
    by_server, by_python = scratch["server"], scratch["python"]
    stored = [{"_id": number, **one} for number, one in enumerate(drawn)]
    for collection in (by_server, by_python):
        collection.delete_many({})
        collection.insert_many(stored)
    matching = [one["_id"] for one in by_server.find(case.target, {"_id": 1})]
    guard = True if found.guard is None else found.guard
    guarded = [
        one["_id"]
        for one in by_server.aggregate([{"$project": {"guard": {"$ifNull": [guard, None]}}}])
        if one["guard"] is True and one["_id"] in matching
    ]
    query = {"$and": [case.target, {"$expr": guard}]}
    assert by_server.update_many(query, found.update).matched_count == len(guarded)
    updates = [
        UpdateOne({"_id": one["_id"]}, evaluate(rule, RuleHandler, object, document=one).update)
        for one in by_python.find({"_id": {"$in": guarded}})
    ]
    if updates:
        by_python.bulk_write(updates)
    left = [
        {one["_id"]: one.raw for one in collection.with_options(RAW).find()}
        for collection in (by_server, by_python)
    ]
    for number in guarded:
        ours, theirs = (each[number] for each in left)
        assert ours == theirs, (stored[number], bson.decode(ours), bson.decode(theirs))
    return guarded, matching


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_translation_leaves_what_the_method_leaves(scratch: Database[Raw], case: Case) -> None:
    """Where the guard holds the pipeline leaves, byte for byte, what the method's update leaves."""

    @settings(max_examples=EXAMPLES)
    @given(st.lists(st.one_of(documents, case.near()), min_size=20, max_size=40))
    def hold(drawn: list[Raw]) -> None:
        held_against_python(scratch, case, drawn)

    hold()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_guard_holds_on_every_day(scratch: Database[Raw], case: Case) -> None:
    """The documents that a rule is written for are translated, not left."""
    guarded, matching = held_against_python(scratch, case, case.everyday)
    assert guarded == matching == list(range(len(case.everyday)))


def _held_without_error(scratch: Database[Raw], case: Case) -> None:
    """Ask for the guard of broken documents, through the rule, and update those it holds for."""
    found = translation_of(case.rule(), case.target)
    assert isinstance(found, Translation), found
    collection = scratch["broken"]
    collection.delete_many({})
    collection.insert_many(broken([*case.everyday[:3], {"x": 1}]))
    guard = True if found.guard is None else found.guard
    collection.aggregate([{"$project": {"guard": guard}}, {"$group": {"_id": "$guard"}}])
    query = {"$and": [case.target, {"$expr": guard}]}
    collection.count_documents(query)
    exact = compile_steps("rule", query, found.update)[:1]
    for asked in ({"y": "a"}, {"y": 1}, {"y.a": "b"}, {"z": None}):
        with contextlib.suppress(CannotRewrite):
            collection.count_documents(dict(rewrite(asked, exact)))
    collection.update_many(query, found.update)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_no_text_raises_nothing(scratch: Database[Raw], case: Case) -> None:
    """No guard, no query that is seen through it, and no update under it fails for such strings."""
    _held_without_error(scratch, case)


_INTO_DICTS = (
    'd["x"]["b"]',
    'd["x"].get("b")',
    'd["l"][0]["b"]',
    '[i["b"] for i in d["l"]]',
    '[i.get("b", 0) for i in d["l"]]',
    '{**d["x"], "n": 1}',
    'dict(d["x"])',
    'len(d["x"])',
    '"b" in d["x"]',
    '[k for k, v in d["x"].items()]',
)


# With a key in front that is no reference's, to be looked for.
_DICTS: list[Raw] = [
    {"b": 2},
    {"b": 2, "$ref": "#/a"},
    {"b": 2, "$ref": 1, "$id": 1},
    {"b": 2, "$id": 1},
    {"b": 2, "$ref": "a", "$id": 1, "$db": 5},
]
_REFERENCES: list[Any] = [
    DBRef("a", 1, b=2),
    DBRef("a", 1, "d", b=2),
    {"b": 2, "$ref": "a", "$id": None},
    {"b": 2, "$ref": "a", "$id": 1, "$db": None},
]


@pytest.mark.parametrize("expression", _INTO_DICTS)
def test_a_reference_is_no_dict(scratch: Database[Raw], expression: str) -> None:
    """A form that looks into a dict is left to Python where PyMongo reads it as a DBRef."""
    drawn = [{"x": one, "l": [one]} for one in (*_DICTS, *_REFERENCES)]
    guarded, matching = held_against_python(scratch, Case(setting(expression), []), drawn)
    assert (guarded, matching) == (list(range(len(_DICTS))), list(range(len(drawn))))


def test_what_only_looks_like_a_reference_is_a_dict(scratch: Database[Raw]) -> None:
    """Whether a value is a dict is answered as PyMongo reads it."""
    drawn = [{"x": one} for one in (*_DICTS, *_REFERENCES)]
    case = Case(setting('isinstance(d["x"], dict)'), [])
    guarded, matching = held_against_python(scratch, case, drawn)
    assert guarded == matching == list(range(len(drawn)))


_BODIES = (
    "{y}",
    "if {test}:\n    {y}\nelse:\n    {z}",
    "v = {first}\nif {test}:\n    v = {second}\n{v}",
    "v = []\nfor i in {first}:\n    if {of_i}:\n        continue\n    v.append({second})\n{v}",
)


@st.composite
def composed(draw: st.DrawFn) -> Case:
    """A rule of expressions in expressions."""
    first, second, test = draw(expressions), draw(expressions), draw(conditions)
    parts = {"first": first, "second": second, "test": test, "v": setting("v")}
    parts |= {"y": setting(first), "z": setting(second), "of_i": test.replace("d[", "i[")}
    return Case(draw(st.sampled_from(_BODIES)).format(**parts), [{"x": 1}])


@settings(
    max_examples=20_000 if LONG else 25,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.filter_too_much],
)
@given(composed(), st.lists(documents, min_size=20, max_size=40))
def test_composed_forms_are_exact(scratch: Database[Raw], case: Case, drawn: list[Raw]) -> None:
    """Forms in forms leave what the method leaves, too, or are left to Python."""
    try:
        found = translation_of(case.rule())
    except SyntaxError:  # an f-string in an f-string
        reject()
    assume(isinstance(found, Translation))
    held_against_python(scratch, case, drawn)
    _held_without_error(scratch, case)
