"""The rows of the query operators: what follows from one row."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.query import checks
from lazymig.query.matching import compile_query, query_paths
from lazymig.query.operators import OPERATORS, Operator, parse
from lazymig.query.tree import And, Compare, Not, Or
from lazymig.rules.rewrite.rewriting import rewrite
from lazymig.updates.convergence import ends_match
from tests.support.steps import compile_step

TARGET = {"name": {"$startsWith": "old"}}


def _starts_with(leaf: Compare) -> checks.Test:
    def check(value: Any) -> bool:
        return isinstance(value, str) and value.startswith(leaf.operand)

    return checks.Test("starts", check)


@pytest.fixture
def _a_new_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Operator(lambda path, name, operand, _beside: Compare(path, name, operand), _starts_with)
    monkeypatch.setitem(OPERATORS, "$startsWith", row)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_a_new_operator")
class TestANewOperator:
    """A row and a check are all that an operator needs."""

    @pytest.mark.parametrize(
        ("document", "answer"),
        [({"name": "old one"}, True), ({"name": "new"}, False), ({"name": ["a", "old"]}, True)],
    )
    def test_documents_are_judged(self, document: dict[str, Any], answer: bool) -> None:
        """A query with it is answered in memory, for arrays too."""
        matcher = compile_query(TARGET)
        assert matcher.judge(document) is answer
        assert matcher.screen([document]) == [0] or not answer
        assert query_paths(TARGET) == {"name"}

    def test_its_opposite_is_judged(self) -> None:
        """It may stand after `$not`."""
        assert compile_query({"name": {"$not": TARGET["name"]}}).judge({"name": "new"}) is True

    def test_a_constant_is_proved_to_end_its_match(self) -> None:
        """What an update sets is asked of the check."""
        assert ends_match(TARGET, {"$set": {"name": "new"}})
        assert not ends_match(TARGET, {"$set": {"name": "old"}})

    def test_of_a_type_alone_nothing_is_proved(self) -> None:
        """A row that does not say which values are looked at proves nothing by a type."""
        assert not ends_match(TARGET, {"$currentDate": {"name": True}})

    def test_queries_are_rewritten(self) -> None:
        """A query with it is seen through a rule that sets the path."""
        step = compile_step("rule", {"name": None}, {"$set": {"name": "old"}})
        assert rewrite(TARGET, [step]) == {"$or": [{"name": None}, TARGET]}


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ({"a.b": 1}, Compare(("a", "b"), "$eq", 1)),
        ({"a": {"$ne": 1}}, Not(Compare(("a",), "$eq", 1))),
        ({"a": {"$exists": 0}}, Not(Compare(("a",), "$exists", True))),
        ({"a": 1, "b": 2}, And((Compare(("a",), "$eq", 1), Compare(("b",), "$eq", 2)))),
        ({"$or": [{"a": 1}, {"b": 2}]}, Or((Compare(("a",), "$eq", 1), Compare(("b",), "$eq", 2)))),
        ({"$nor": [{"a": 1}]}, Not(Compare(("a",), "$eq", 1))),
        ({"a": {"$all": []}}, Or(())),
        ({"$comment": "none"}, And(())),
    ],
)
def test_a_query_is_positive_questions_joined(query: dict[str, Any], tree: Any) -> None:
    """Opposites are read as the negation of a positive question."""
    assert repr(parse(query)) == repr(tree)
