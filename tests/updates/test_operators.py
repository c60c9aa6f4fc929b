"""The table of update operators: one row is all that the library needs of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from bson.codec_options import CodecOptions

from lazymig.query.matching import compile_query
from lazymig.rules.repetition import is_repeatable
from lazymig.updates.convergence import ends_match
from lazymig.updates.forecast import Forecast
from lazymig.updates.knowledge import constant
from lazymig.updates.operators import OPERATORS, UpdateOperator
from lazymig.updates.update import check_update, created_paths, removed_paths, written_paths

Raw = dict[str, Any]

MISSING = {"stamp": {"$exists": False}}
UPDATE = {"$stamp": {"stamp": True}}


def _stamp(_before: Mapping[str, Any], document: Raw, path: str, _operand: Any) -> None:
    document[path] = "stamped"


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> str:
    """An operator that MongoDB does not have, as a row: it writes a constant, whatever it gets."""
    row = UpdateOperator(
        leaves=lambda _target, parts, _operand: [(parts, constant("stamped"), True)],
        effect=_stamp,
        replaces=True,
        repeatable=True,
    )
    monkeypatch.setitem(OPERATORS, "$stamp", row)
    return "$stamp"


def test_an_operator_without_a_row_is_refused() -> None:
    """An update with an operator that has no row is an error that names those that have one."""
    with pytest.raises(ValueError, match=r"\$stamp is not an update operator; use one of \$add"):
        check_update(UPDATE)


@pytest.mark.usefixtures("made_up")
class TestOneRow:
    """What a made-up operator is good for, once it has its row."""

    def test_is_accepted(self) -> None:
        """An operator with a row is well-formed, and its paths must not conflict with others."""
        check_update(UPDATE)
        with pytest.raises(ValueError, match="conflict"):
            check_update({**UPDATE, "$set": {"stamp.at": 1}})

    def test_names_its_paths(self) -> None:
        """What an operator writes, creates and takes away follows from its row."""
        assert written_paths(UPDATE) == created_paths(UPDATE) == {"stamp"}
        assert removed_paths(UPDATE) == frozenset()

    def test_ends_matches(self) -> None:
        """What an operator leaves proves that its update ends a match, or that it does not."""
        assert ends_match(MISSING, UPDATE)
        assert not ends_match({"stamp": {"$type": "string"}}, UPDATE)

    def test_is_foreseen(self) -> None:
        """The exact effect of an operator answers for one document, without asking MongoDB."""
        forecast = Forecast(compile_query({"stamp": {"$ne": "stamped"}}), CodecOptions())
        assert forecast.still_matches({"stamp": 1}, UPDATE) is False

    def test_is_repeatable(self) -> None:
        """A repeatable operator may be applied to a document twice."""
        assert is_repeatable(UPDATE)


def test_an_unknown_operator_is_taken_for_anything() -> None:
    """Of an operator without a row nothing is proved, foreseen or repeated, and it writes."""
    row = OPERATORS["$stamp"]
    flags = (row.repeatable, row.removes, row.moves, row.replaces, row.changes_within)
    assert not any(flags)
    assert row.writes
    assert row.effect is None
    assert not ends_match(MISSING, UPDATE)
