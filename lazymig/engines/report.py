"""The report of what rules did to a collection: counts and errors, by rule and by run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pymongo.collection import Collection

from lazymig import signals
from lazymig.engines.computed.outcome import Outcome
from lazymig.engines.computed.recursion import was_logged
from lazymig.errors import MigrationError
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["MigrationReport", "RuleReport", "Tally", "announce", "conclude"]

# The operators of runs know these lines by the name of the engine that does the work.
logger = logging.getLogger("lazymig.engines.bulk")


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule did to a collection: documents matched and modified, seconds, errors.

    `covered_by` is the run for whose sake it was not applied: that has applied it to the whole
    collection, and its target does not say to which documents.

    Where `errors` is not empty, the counts may be too low: MongoDB does not say how many documents
    an update has reached before it refused one.
    """

    name: str
    matched: int
    modified: int
    seconds: float
    errors: tuple[MigrationError, ...] = ()
    covered_by: Any = None


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run did: one `RuleReport` for each rule, in the order in which they ran.

    `state` is `"finished"`, `"stopped"` (somebody asked for it) or `"failed"` (more documents were
    refused than `max_errors` allows); where it is not `"finished"`, `resume=True` resumes the
    run. `run_id` is the run's `_id` in the journal. The errors are those of the whole run, what it
    had in quarantine before it was resumed included. `reopened` are the names of lazy rules that a
    later one has brought documents back to: another run applies them. `waited` are the seconds in
    which the run, its earlier sessions included, did not work, by the reason.

    `nothing_to_resume`: a run was to be resumed, and there is none that has not finished.
    Nothing was done; the errors are those of what earlier runs have in quarantine.
    """

    model: str
    collection: str
    scope: Scope
    rules: tuple[RuleReport, ...]
    state: Literal["finished", "stopped", "failed"] = "finished"
    run_id: Any = None
    nothing_to_resume: bool = False
    reopened: tuple[str, ...] = ()
    waited: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Return whether the run is at its end, and has left no document to any of its rules."""
        return self.state == "finished" and not self.errors and not self.reopened

    @property
    def matched(self) -> int:
        """Documents matched, added up over the rules: each counts once for each rule."""
        return sum(rule.matched for rule in self.rules)

    @property
    def modified(self) -> int:
        """Applications of rules that have changed a document: each counts once for each rule."""
        return sum(rule.modified for rule in self.rules)

    @property
    def seconds(self) -> float:
        """Seconds of work that all rules took; see `waited` for the rest."""
        return sum(rule.seconds for rule in self.rules)

    @property
    def errors(self) -> tuple[MigrationError, ...]:
        """The errors of all rules."""
        return tuple(error for rule in self.rules for error in rule.errors)

    def raise_for_errors(self) -> None:
        """Raise the first error, if there is one.

        :raises MigrationError: the first document that could not be migrated.
        """
        for error in self.errors:
            raise error


@dataclass(slots=True)
class Tally:
    """What has become of documents so far: matched, modified, and the errors of the refused.

    `lasting`: there was an update after which the rule may find its document again. `halted`: for
    that reason a part of them was left undone. `unwritten` are the keys of the refused that no
    update was sent for. `others` has what other rules did to documents that did not load or
    validate, by name. `computing` are the seconds that the rule took in Python.
    """

    matched: int = 0
    modified: int = 0
    errors: list[MigrationError] = field(default_factory=list)
    lasting: bool = False
    halted: bool = False
    unwritten: set[Any] = field(default_factory=set)
    computing: float = 0.0
    others: dict[str, Tally] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add what another one has counted."""
        self.matched += other.matched
        self.modified += other.modified
        self.errors.extend(other.errors)
        self.lasting |= other.lasting
        self.halted |= other.halted
        self.unwritten |= other.unwritten
        self.computing += other.computing
        for name, tally in other.others.items():
            self.others.setdefault(name, Tally()).add(tally)

    def count(self, outcome: Outcome) -> None:
        """Add what has become of a batch of computed documents."""
        self.matched += len(outcome.matched)
        self.modified += outcome.modified
        self.errors.extend(outcome.failures.values())
        self.lasting |= outcome.lasting
        self.halted |= outcome.halted
        self.unwritten |= outcome.unwritten

    def by_rule(self, name: str) -> dict[str, Tally]:
        """What this rule did, and each other one besides, by name."""
        return {name: self, **self.others}


def announce(plan: Plan, rule: BoundRule, scope: Scope) -> None:
    """Send the signal that a rule is about to run."""
    signals.announce(
        signals.pre_migration, plan.doc_class, document_id=None, rules=(rule.name,), scope=scope
    )


def conclude(
    collection: Collection[Any],
    plan: Plan,
    rule: BoundRule,
    scope: Scope,
    tally: Tally,
    seconds: float,
) -> RuleReport:
    """Log what a rule has done, send its signals, and report it."""
    for error in tally.errors:
        logger.log(logging.DEBUG if was_logged(error) else logging.ERROR, "%s", error)
        signals.announce(
            signals.migration_failed,
            plan.doc_class,
            document_id=error.document_id,
            rules=(rule.name,),
            scope=scope,
            error=error,
        )
    logger.info(
        "%s.%s on %s: %d matched, %d modified, %d refused in %.1f s",
        plan.model_name,
        rule.name,
        collection.full_name,
        tally.matched,
        tally.modified,
        len(tally.errors),
        seconds,
    )
    signals.announce(
        signals.post_migration,
        plan.doc_class,
        document_id=None,
        rules=(rule.name,),
        scope=scope,
        matched=tally.matched,
        modified=tally.modified,
    )
    return RuleReport(rule.name, tally.matched, tally.modified, seconds, tuple(tally.errors))
