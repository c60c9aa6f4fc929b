"""The law where loads write nothing: reads are right and leave no trace, writes are as ever."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from pymongo.database import Database

from lazymig import without_writing
from tests.equivalence.changes import CannotApply, Raw
from tests.equivalence.operations import KINDS, RETURNING, UPDATING_MANY
from tests.equivalence.test_law import EXAMPLES, LONG, Case, Laboratory, cases, known, outcome_of
from tests.support.commands import CommandLog

WRITING = ("delete", "modify", "save", "update", "upsert", "positional update", "positional modify")
READS = tuple(kind for kind in KINDS if not kind.startswith(WRITING))
WRITES = tuple(kind for kind in KINDS if kind.startswith(WRITING))
WRITE_COMMANDS = frozenset({"insert", "update", "delete", "findAndModify", "bulkWrite"})
NOT_SHOWN = "raised ShowError"


def expected_of(laboratory: Laboratory, case: Case) -> tuple[str, bool]:
    """What an operation gives on migrated documents, and whether it has written an old shape."""
    match_again = False

    def arrive() -> None:
        nonlocal match_again
        laboratory.add(case.newcomer)
        laboratory.migrate(case)
        match_again = laboratory.stale(case)

    laboratory.fill(case.world, case.documents, case.operation.around)
    try:
        laboratory.migrate(case)
        assume(not laboratory.stale(case))
        expected = outcome_of(laboratory.of(case.world, ()), case.operation, arrive)
        made_old = laboratory.stale(case)
        laboratory.migrate(case)
    except CannotApply:
        assume(False)
    assume(not match_again and not laboratory.stale(case))
    return expected, made_old


def found_of(laboratory: Laboratory, case: Case) -> str:
    """What it gives on old documents, through models whose loads write nothing."""
    laboratory.fill(case.world, case.documents, case.operation.around)
    models = laboratory.of(case.world, case.changes)
    with without_writing(*models.classes.values()):
        return outcome_of(models, case.operation, lambda: laboratory.add(case.newcomer))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", READS)
def test_reads_are_right_and_leave_no_trace(
    monitored_db: Database[Raw], command_log: CommandLog, kind: str
) -> None:
    """A read gives what it gives on migrated documents, sends no write, and changes no byte."""
    laboratory = Laboratory(monitored_db)
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES // len(KINDS) + 1, derandomize=not LONG)
    @given(cases(kind))
    def holds(case: Case) -> None:
        expected, _made_old = expected_of(laboratory, case)
        laboratory.fill(case.world, case.documents, case.operation.around)
        apart = {"_id": case.newcomer["_id"]}
        before = laboratory.stored(case.world, apart)
        command_log.clear()
        found = found_of(laboratory, case)
        sent = WRITE_COMMANDS.intersection(command_log.names)
        assert not sent, command_log.commands
        assert laboratory.stored(case.world, apart) == before, "stored"
        seen["cases"] += 1
        if found == NOT_SHOWN:
            seen["not shown"] += 1
        else:
            assert found == expected, "results"

    holds()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", WRITES)
def test_writes_are_those_on_migrated_documents(mongoengine_db: Database[Raw], kind: str) -> None:
    """A write gives and leaves the same, though what it was made of was only shown."""
    laboratory = Laboratory(mongoengine_db)
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES // len(KINDS) + 1, derandomize=not LONG)
    @given(cases(kind))
    def holds(case: Case) -> None:
        expected, made_old = expected_of(laboratory, case)
        expected_rows = laboratory.stored(case.world)
        found = found_of(laboratory, case)
        seen["cases"] += 1
        if found == NOT_SHOWN:
            seen["not shown"] += 1
            return
        models = laboratory.of(case.world, case.changes)
        with known(models):
            for owner, rules in models.handlers.items():
                rules(models.classes[owner]).migrate_pending()
        if not (made_old and kind in RETURNING):
            assert found == expected, "results"
        refused = expected.startswith("raised OperationError")
        if not (refused and kind in UPDATING_MANY):
            assert laboratory.stored(case.world) == expected_rows, "what is stored"

    holds()
