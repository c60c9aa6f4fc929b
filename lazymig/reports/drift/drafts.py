"""Drafts of what `diff` finds: examples and cures are looked up for all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from lazymig.odm.fields import FieldFacts
from lazymig.raw.differences import MISSING
from lazymig.reports.drift.counts import Count
from lazymig.reports.drift.evidence import Evidence, evidence_of
from lazymig.reports.drift.findings import DriftExample, DriftFinding, Kind, ValueCount
from lazymig.reports.drift.proposals import RuleProposal

__all__ = ["Draft", "UnknownClass"]


@dataclass(frozen=True, slots=True)
class UnknownClass:
    """Documents of the collection whose `_cls` names no class of the model.

    :ivar name: the value; `None` for documents without one.
    :ivar successors: names of likely classes, the likeliest first.
    """

    name: str | None
    count: Count
    successors: tuple[str, ...]


@dataclass(slots=True)
class Draft:
    """A finding without its examples and cures.

    :ivar ids: documents that show it.
    :ivar values_in: what a raw document has where the finding is, `MISSING` for an absent field;
        `None` where the finding is not about documents.
    :ivar shows: whether such a value shows the finding.
    :ivar facts: what the model says of the field, where it knows it.
    :ivar part_of: the draft of a rename that says the same.
    """

    kind: Kind
    classes: tuple[str, ...]
    path: str
    message: str
    count: int
    ids: Sequence[Any] = ()
    values_in: Callable[[Any], Iterable[Any]] | None = None
    shows: Callable[[Any], bool] = lambda value: value is not MISSING
    facts: FieldFacts | None = None
    types: Mapping[str, int] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    convertible: bool | None = None
    values: tuple[ValueCount, ...] = ()
    candidates: tuple[str, ...] = ()
    query: Mapping[str, Any] | None = None
    proposal: RuleProposal | None = None
    part_of: Draft | None = None

    def evidence(self, document: Any) -> Evidence:
        """What shows the finding in a raw document; empty if it is not there."""
        if self.values_in is None:
            return evidence_of(())
        return evidence_of(each for each in self.values_in(document) if self.shows(each))

    def finished(
        self, examples: tuple[DriftExample, ...], cured_by: tuple[str, ...]
    ) -> DriftFinding:
        """The finding."""
        drawn = {
            each.name: getattr(self, each.name)
            for each in fields(DriftFinding)
            if each.name not in ("examples", "cured_by", "proposal")
        }
        proposal = None if cured_by else self.proposal
        return DriftFinding(**drawn, examples=examples, cured_by=cured_by, proposal=proposal)
