"""The stages of rules, held against the updates of the same rules on the server."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database

from lazymig.rules.showing.shown import shown_update
from lazymig.rules.showing.stages import MARK, stages_of

Raw = dict[str, Any]


@pytest.mark.parametrize(
    ("target", "update"),
    [
        ({"a": {"$exists": False}}, {"$set": {"a": 1}}),
        ({"old": {"$exists": True}}, {"$rename": {"old": "d.x"}}),
        ({"d.x": 1}, {"$unset": {"d.x": ""}}),
        ({"d.x": 1}, [{"$set": {"e": "$d.x"}}, {"$unset": "d.x"}]),
    ],
    ids=["set", "rename", "unset", "pipeline"],
)
def test_stages_give_what_the_update_leaves(
    database: Database[Raw], target: Raw, update: Any
) -> None:
    """Old and new documents come out of the stages as the update leaves them, without notes."""
    database.t.insert_many([{"a": 1}, {"old": 5, "d": {"x": 1}}, {"d": {"x": 1, "y": 2}}, {}])
    shown = list(database.t.aggregate(stages_of([shown_update("rule", target, update)])))
    database.t.update_many(target, update)
    assert shown == list(database.t.find())
    assert not any(MARK in one for one in shown)
