"""Update operators as stages, held against the same updates on the server."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from pymongo.database import Database

from lazymig.rules.showing.shown import CannotShow
from tests.rules.showing.held_against import outcome
from tests.rules.showing.operator_cases import Case, cases

Raw = dict[str, Any]

LONG = settings().max_examples > settings.get_profile("default").max_examples
EXAMPLES, DOCUMENTS = (10_000 if LONG else 250), 10


def test_documents_are_shown_as_the_operators_leave_them(database: Database[Raw]) -> None:
    """Whatever is stored at the paths, stages give what the update leaves, byte for byte."""
    seen: Counter[str] = Counter()

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(cases(documents=DOCUMENTS))
    def check(case: Case) -> None:
        try:
            found = outcome(database, case.documents, case.update, case.array_filters or None)
        except CannotShow as refusal:
            seen["not shown"] += 1
            seen[refusal.reason.partition("(")[0]] += 1
            return
        assert found.differ == []
        assert not found.unknown
        seen["documents"] += found.documents
        seen["refused"] += found.refused

    check()
    assert seen["documents"] >= 8 * DOCUMENTS * seen["not shown"]
    assert seen["refused"] <= 0.9 * seen["documents"]
