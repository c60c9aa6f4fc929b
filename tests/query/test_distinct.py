"""The stages for distinct values, against the command of MongoDB."""

from __future__ import annotations

from typing import Any

from bson import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.query.distinct import distinct_stages

SCALARS = st.sampled_from([None, 0, 1, 1.0, Int64(1), 2.5, "", "a", "1", True, False])
NAMES = st.sampled_from(["a", "b", "0", "1"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
DOCUMENTS = st.lists(st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2), max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)


def _texts(values: list[Any]) -> list[str]:
    return sorted(map(repr, values))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=DOCUMENTS, path=PATHS)
def test_the_stages_give_what_the_command_gives(
    database: Database[dict[str, Any]], documents: list[dict[str, Any]], path: str
) -> None:
    """Distinct values are the same ones, of the same types, however deep the path leads."""
    database.things.drop()
    if documents:
        database.things.insert_many([{"_id": n, **one} for n, one in enumerate(documents)])

    found = [each["_id"] for each in database.things.aggregate(distinct_stages(path))]

    assert _texts(found) == _texts(database.things.distinct(path))
