"""What a rule is looked at with while there is no document."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Code, DBRef

from lazymig.raw.encoding import ANY_VALUE
from lazymig.rules.document import DocumentNeeded
from lazymig.rules.symbols import Decisions, SymbolicDocument, settle_symbols


@pytest.mark.parametrize(
    "look",
    [
        len,
        list,
        str,
        int,
        float,
        hash,
        lambda value: isinstance(value, str),
        lambda value: f"{value}",
        lambda value: [1, 2][value],
    ],
)
def test_what_needs_the_value_itself_stops_the_rule(look: Any) -> None:
    """A rule that needs a value which is not known yet is stopped, not misled."""
    with pytest.raises(DocumentNeeded):
        look(SymbolicDocument(Decisions())["a"])


@pytest.mark.parametrize(
    "decide",
    [
        bool,
        lambda value: value == 1,
        lambda value: value != 1,
        lambda value: value > 1,
        lambda value: "x" in value,
        lambda value: bool(value["b"].lower()),
    ],
)
def test_a_decision_goes_both_ways(decide: Any) -> None:
    """A decision by a value which is not known goes one way in one run, the other in the next."""
    decisions = Decisions()
    answers = [decide(SymbolicDocument(decisions)["a"])]
    while decisions.turn():
        answers.append(decide(SymbolicDocument(decisions)["a"]))
    assert answers == [True, False]


def test_every_branch_is_seen_once() -> None:
    """Decisions that depend on each other are gone through like a tree, each leaf once."""
    decisions = Decisions()
    leaves = []
    while True:
        doc = SymbolicDocument(decisions)
        leaves.append(("a" if doc["b"] else "b") if doc["a"] else "c")
        if not decisions.turn():
            break
    assert leaves == ["a", "b", "c"]


def test_endless_decisions_stop_the_rule() -> None:
    """A loop over a value which is not known ends in a stop, not in a hang."""

    def loop(doc: SymbolicDocument) -> None:
        while doc["a"]:
            pass

    with pytest.raises(DocumentNeeded):
        loop(SymbolicDocument(Decisions()))


def test_symbols_pass_through_arithmetic_and_settle() -> None:
    """What is computed from symbols settles to 'any value', at every depth; constants stay."""
    doc = SymbolicDocument(Decisions())
    update = {
        "$set": {
            "a": doc["x"] + 1,
            "b": doc.get("y"),
            "c": 3,
            "d": [doc["z"]["q"], {"e": -doc["x"]}],
        }
    }
    assert settle_symbols(update) == {
        "$set": {"a": ANY_VALUE, "b": ANY_VALUE, "c": 3, "d": [ANY_VALUE, {"e": ANY_VALUE}]}
    }


def test_symbols_inside_of_references_and_code_settle() -> None:
    """A DBRef or a Code with a part of the document in it may be any value; others stay."""
    symbol = SymbolicDocument(Decisions())["task"]
    assert settle_symbols({"a": DBRef("task", symbol)}) == {"a": ANY_VALUE}
    assert settle_symbols([Code("f", {"x": symbol})]) == [ANY_VALUE]
    reference = DBRef("task", 1)
    assert settle_symbols(reference) is reference
