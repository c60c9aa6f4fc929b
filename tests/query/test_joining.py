"""Queries put together from others."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.query.joining import all_of, any_of

Raw = dict[str, Any]


@pytest.mark.parametrize(
    ("conditions", "joined"),
    [
        ([], {}),
        ([None, {}], {}),
        ([None, {"a": 1}], {"a": 1}),
        ([{"a": 1}, {"b": 2}], {"a": 1, "b": 2}),
        ([{"a": 1}, {"a": 2}], {"$and": [{"a": 1}, {"a": 2}]}),
        (
            [{"$or": [{"a": 1}]}, {"$or": [{"b": 1}]}],
            {"$and": [{"$or": [{"a": 1}]}, {"$or": [{"b": 1}]}]},
        ),
    ],
)
def test_all_conditions_are_asked(conditions: list[Raw | None], joined: Raw) -> None:
    """Conditions lie side by side where no key comes twice, else in an `$and`."""
    assert all_of(*conditions) == joined


def test_a_query_alone_needs_no_or() -> None:
    """One of several is asked by `$or`, a single one as it is."""
    assert any_of([{"a": 1}]) == {"a": 1}
    assert any_of([{"a": 1}, {"b": 1}]) == {"$or": [{"a": 1}, {"b": 1}]}
