"""What becomes of a query that is rewritten through rules."""

from __future__ import annotations

import pytest

from lazymig.rules.rewrite.rewriting import CannotRewrite, Step, rewrite
from tests.rules.rewrite.rewriting_cases import ADDED, FILLED, RENAMED, Raw
from tests.support.steps import compile_step

NOTHING: Raw = {"_id": {"$in": []}}
GUARDED = compile_step(
    "guarded",
    {"old": {"$exists": True}, "new": {"$exists": False}},
    {"$rename": {"old": "new"}},
)
PERHAPS = compile_step("perhaps", {"flag": 1}, {"$rename": {"old": "new"}, "$set": {"flag": 2}})
REMOVED = compile_step("removed", {"gone": {"$exists": True}}, {"$unset": {"gone": ""}})
NESTED = compile_step("nested", {"d.x": {"$exists": False}}, {"$set": {"d.x": {"k": [1, 2]}}})
PRUNED = compile_step("pruned", {"d.x": {"$exists": True}}, {"$unset": {"d.x": ""}})
DEEPENED = compile_step("deepened", {"flag": 1}, {"$rename": {"old": "d.x"}, "$set": {"flag": 2}})
LIGHT = compile_step(
    "light",
    {"_cls": "Human.Jedi", "dark_side": False},
    {"$set": {"_cls": "Human.GoodJedi"}, "$unset": {"dark_side": ""}},
)
DARK = compile_step(
    "dark",
    {"_cls": "Human.Jedi", "dark_side": True},
    {"$set": {"_cls": "Human.BadSith"}, "$unset": {"dark_side": ""}},
)


@pytest.mark.parametrize(
    ("step", "query", "expected"),
    [
        (ADDED, {"enabled": True}, {"$or": [{"enabled": {"$exists": False}}, {"enabled": True}]}),
        (ADDED, {"enabled": False}, {"enabled": False}),
        (ADDED, {"enabled": None}, {"enabled": {"$eq": None, "$exists": True}}),
        (ADDED, {"enabled": {"$exists": False}}, NOTHING),
        (ADDED, {"enabled": {"$ne": True}}, {"enabled": {"$ne": True, "$exists": True}}),
        (
            ADDED,
            {"enabled": {"$in": [True, None]}, "name": "x"},
            {"enabled": {"$in": [True, None]}, "name": "x"},
        ),
        (FILLED, {"enabled": True}, {"enabled": {"$in": [None, True]}}),
        (FILLED, {"enabled": False}, {"enabled": {"$eq": False, "$ne": None}}),
        (
            NESTED,
            {"d.x.k": 2},
            {"$or": [{"d.x": {"$exists": False}}, {"d.x.k": 2}]},
        ),
        (NESTED, {"d.x.k.1": 2}, {"$or": [{"d.x": {"$exists": False}}, {"d.x.k.1": 2}]}),
        (NESTED, {"d.x.k.1": 1, "d.y": 3}, {"d.x.k.1": 1, "d.y": 3}),
    ],
)
def test_a_constant_answers(step: Step, query: Raw, expected: Raw) -> None:
    """A condition on or beneath a path that is set to a constant is true or false."""
    assert rewrite(query, [step]) == expected


@pytest.mark.parametrize(
    ("step", "query", "expected"),
    [
        (REMOVED, {"gone": 1}, NOTHING),
        (REMOVED, {"gone.deep": {"$gt": 1}}, NOTHING),
        (REMOVED, {"gone": {"$exists": False}}, {}),
        (
            REMOVED,
            {"gone": {"$ne": 1}},
            {"$or": [{"gone": {"$exists": True}}, {"gone": {"$ne": 1}}]},
        ),
        (RENAMED, {"old": 1}, NOTHING),
        (GUARDED, {"old": 1}, {"old": 1, "new": {"$exists": True}}),
    ],
)
def test_what_is_taken_away_is_missing(step: Step, query: Raw, expected: Raw) -> None:
    """A condition on what is unset, or renamed away, is asked of documents without it."""
    assert rewrite(query, [step]) == expected


@pytest.mark.parametrize(
    ("step", "query", "expected"),
    [
        (RENAMED, {"new": 1}, {"$or": [{"old": 1}, {"new": 1, "old": {"$exists": False}}]}),
        (
            RENAMED,
            {"new.k.0": {"$gt": 1}},
            {"$or": [{"old.k.0": {"$gt": 1}}, {"new.k.0": {"$gt": 1}, "old": {"$exists": False}}]},
        ),
        (
            RENAMED,
            {"new": None},
            {
                "$or": [
                    {"old": {"$exists": True, "$eq": None}},
                    {"new": None, "old": {"$exists": False}},
                ]
            },
        ),
        (GUARDED, {"new": 1}, {"$or": [{"new": {"$exists": False}, "old": 1}, {"new": 1}]}),
        (
            PERHAPS,
            {"new": 1},
            {
                "$or": [
                    {"flag": 1, "$or": [{"old": 1}, {"old": {"$exists": False}, "new": 1}]},
                    {"new": 1, "flag": {"$ne": 1}},
                ]
            },
        ),
    ],
)
def test_a_renamed_path_is_asked_at_its_source(step: Step, query: Raw, expected: Raw) -> None:
    """A condition on or beneath a destination moves to the source, if there is something."""
    assert rewrite(query, [step]) == expected


@pytest.mark.parametrize(
    ("step", "query", "expected"),
    [
        (NESTED, {"d": {"$exists": True}}, {}),
        (NESTED, {"d": {"$exists": False}}, NOTHING),
        (NESTED, {"d": None}, {"d": None, "d.x": {"$exists": True}}),
        (PRUNED, {"d": {"$exists": True}}, {"d": {"$exists": True}}),
        (PRUNED, {"d": {"$type": "object"}}, {"d": {"$type": "object"}}),
        (
            DEEPENED,
            {"d": {"$exists": True}},
            {
                "$or": [
                    {
                        "flag": 1,
                        "$or": [
                            {"old": {"$exists": True}},
                            {"old": {"$exists": False}, "d": {"$exists": True}},
                        ],
                    },
                    {"d": {"$exists": True}, "flag": {"$ne": 1}},
                ]
            },
        ),
    ],
)
def test_a_parent_answers_what_does_not_look_inside(step: Step, query: Raw, expected: Raw) -> None:
    """A parent of written paths is a sub-document, and answers as one."""
    assert rewrite(query, [step]) == expected


@pytest.mark.parametrize(
    "query", [{"d": {"x": 1}}, {"d": {"$gt": {}}}, {"d": {"$not": {"$eq": {}}}}]
)
def test_a_parent_is_not_asked_what_it_holds(query: Raw) -> None:
    """A condition on the content of a parent of a written path is refused."""
    with pytest.raises(CannotRewrite, match=r"nested: 'd' holds 'd\.x'"):
        rewrite(query, [NESTED])


# --- Classes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            {"_cls": "Human.GoodJedi", "name": "x"},
            {
                "$or": [{"_cls": "Human.Jedi", "dark_side": False}, {"_cls": "Human.GoodJedi"}],
                "name": "x",
            },
        ),
        (
            {"_cls": {"$in": ["Human", "Human.GoodJedi", "Human.BadSith"]}},
            {
                "$or": [
                    {"_cls": "Human.Jedi", "dark_side": False},
                    {"_cls": "Human.Jedi", "dark_side": True},
                    {"_cls": {"$in": ["Human", "Human.GoodJedi", "Human.BadSith"]}},
                ]
            },
        ),
        (
            {"_cls": "Human.BadSith"},
            {
                "$or": [
                    {"_cls": "Human.BadSith"},
                    {"_cls": "Human.Jedi", "dark_side": {"$eq": True, "$ne": False}},
                ]
            },
        ),
    ],
)
def test_classes_are_found_under_their_new_names(query: Raw, expected: Raw) -> None:
    """A class that was split by a condition is found by exactly that condition."""
    assert rewrite(query, [LIGHT, DARK]) == expected


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        ({"_cls": "Human", "enabled": True}, [ADDED]),
        ({"_cls": "Human", "new": 1}, [RENAMED]),
        ({"_cls": "Human.Robot"}, [LIGHT, DARK]),
    ],
)
def test_the_class_stays_on_top(query: Raw, steps: list[Step]) -> None:
    """Where the class is still a condition on all that is found, `_cls` is a key of the query."""
    assert rewrite(query, steps)["_cls"] == query["_cls"]


def test_a_renamed_class_stays_on_top() -> None:
    """Old and new name of a class make one condition on `_cls`."""
    step = compile_step("renamed", {"_cls": "A.B"}, {"$set": {"_cls": "A.C"}})
    assert rewrite({"_cls": "A.C"}, [step]) == {"_cls": {"$in": ["A.B", "A.C"]}}


# --- Several rules --------------------------------------------------------------------------


def test_rules_compose_from_the_last_to_the_first() -> None:
    """The target of a rule is asked of documents as the earlier rules leave them."""
    first = compile_step("first", {"a": {"$exists": True}}, {"$rename": {"a": "b"}})
    second = compile_step("second", {"b": 1, "c": None}, {"$set": {"c": "one"}})
    assert rewrite({"c": "one"}, [second, first]) == rewrite({"c": "one"}, [second])
    assert rewrite({"c": "one"}, [first, second]) == {
        "$or": [
            {"c": None, "$or": [{"a": 1}, {"b": 1, "a": {"$exists": False}}]},
            {"c": "one"},
        ]
    }


def test_a_chain_of_values_is_one_condition() -> None:
    """Thirty rules on one path that each count on are one `$in`."""
    steps = [compile_step(f"r{v}", {"v": v}, {"$set": {"v": v + 1}}) for v in range(30)]
    rewritten = rewrite({"v": 30}, steps)
    assert sorted(rewritten["v"]["$in"]) == list(range(31))
    assert list(rewritten) == ["v"]


def _thirty() -> list[Step]:
    return [
        compile_step(f"r{v}", {"v": v, **{f"f{v}{n}": n for n in range(7)}}, {"$set": {"v": v + 1}})
        for v in range(30)
    ]


def test_the_size_is_bounded() -> None:
    """A query that takes more conditions than the limit is refused."""
    assert rewrite({"v": 30}, _thirty()[-3:]) != {"v": 30}
    with pytest.raises(CannotRewrite, match="more than 200 conditions"):
        rewrite({"v": 30}, _thirty())
    with pytest.raises(CannotRewrite, match="more than 10 conditions"):
        rewrite({"v": 30}, _thirty()[-3:], limit=10)


def test_the_depth_is_bounded() -> None:
    """A query that would be too deep for MongoDB's parser is refused."""
    steps = [
        compile_step(f"r{n}", {f"n{n}": {"$exists": True}}, {"$rename": {f"n{n}": f"n{n + 1}"}})
        for n in range(60)
    ]
    with pytest.raises(CannotRewrite, match="too deep"):
        rewrite({"n60": 1}, steps)


# --- What is left out -------------------------------------------------------------------------


def test_a_branch_within_another_is_left_out() -> None:
    """Of two branches of which one asks for more, the one that asks for less stays."""
    query = {"$or": [{"name": "x", "age": 1}, {"enabled": True}, {"name": "x"}]}
    assert rewrite(query, [ADDED]) == {
        "$or": [{"enabled": {"$exists": False}}, {"enabled": True}, {"name": "x"}]
    }


def test_arrays_are_thought_of() -> None:
    """What follows for values but not for arrays is kept: `{i: [1]}` has no `i.q` that is null."""
    step = compile_step("rule", {"flag": 1}, {"$set": {"i": 5, "flag": 2}})
    query = {"$and": [{"i.q": {"$ne": None}}, {"i.q": {"$exists": True}}]}
    assert rewrite(query, [step]) == {"i.q": {"$ne": None, "$exists": True}, "flag": {"$ne": 1}}
    assert rewrite({"a": 2}, [compile_step("rule", {"a": 1}, {"$set": {"a": 3}})]) == {
        "a": {"$eq": 2, "$ne": 1}
    }
