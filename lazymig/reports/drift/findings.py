"""What `diff` finds, as values: findings, and drafts of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from lazymig.odm.fields import FieldFacts
from lazymig.raw.differences import MISSING, extended_json
from lazymig.reports.drift.counts import Count
from lazymig.reports.drift.evidence import Evidence, evidence_of
from lazymig.reports.drift.proposals import RuleProposal

__all__ = ["KINDS", "Draft", "DriftExample", "DriftFinding", "Kind", "UnknownClass"]

Kind = Literal[
    "unknown_class",
    "rename",
    "wrong_type",
    "null",
    "outside_choices",
    "unknown_field",
    "missing_default",
    "missing_required",
    "missing_null",
    "index_missing",
    "index_extra",
]

KINDS: Final[tuple[Kind, ...]] = (
    "unknown_class",
    "rename",
    "wrong_type",
    "null",
    "outside_choices",
    "unknown_field",
    "missing_default",
    "missing_required",
    "missing_null",
    "index_missing",
    "index_extra",
)
"""The kinds of findings, in the order in which their rules have to run."""


@dataclass(frozen=True, slots=True)
class DriftExample:
    """A stored document with what was found: its `_id`, and the value, `None` if it is missing."""

    document_id: Any
    value: Any = None

    def to_dict(self) -> dict[str, Any]:
        """The example in canonical Extended JSON."""
        return {"id": extended_json(self.document_id), "value": extended_json(self.value)}


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """One thing in which the documents of some classes differ from the model.

    :ivar kind: what it is; see `KINDS`.
    :ivar classes: the document classes concerned, by the names of their `_cls`.
    :ivar path: in database names; `[]` stands for the items of a list, `.*` for those of a map.
    :ivar message: one line in plain words.
    :ivar count: the documents in which it was found, of those that were looked at.
    :ivar types: for the whole path, documents by BSON type.
    :ivar expected: the BSON types that the field stores; empty if any, or if there is no field.
    :ivar convertible: for a value of another type, whether `$convert` turns all of them into the
        field's; `None` where it was not asked.
    :ivar values: for values outside of the choices, their texts and how many documents have them.
    :ivar candidates: likely successors of an unknown class, or the likely new name of a field.
    :ivar query: finds the documents concerned; `None` where MongoDB has no such query.
    :ivar cured_by: the names of the pending rules that cure it, in the order of application.
    :ivar proposal: a rule that ends it; `None` if a pending rule does, or if none can be told.
    """

    kind: Kind
    classes: tuple[str, ...]
    path: str
    message: str
    count: int
    types: Mapping[str, int]
    expected: tuple[str, ...]
    convertible: bool | None
    values: tuple[tuple[str, int], ...]
    examples: tuple[DriftExample, ...]
    candidates: tuple[str, ...]
    query: Mapping[str, Any] | None
    cured_by: tuple[str, ...]
    proposal: RuleProposal | None

    def to_dict(self) -> dict[str, Any]:
        """The finding in JSON's types; query and values are canonical Extended JSON."""
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "path": self.path,
            "message": self.message,
            "count": self.count,
            "types": dict(self.types),
            "expected": list(self.expected),
            "convertible": self.convertible,
            "values": [{"value": value, "count": count} for value, count in self.values],
            "examples": [each.to_dict() for each in self.examples],
            "candidates": list(self.candidates),
            "query": None if self.query is None else extended_json(self.query),
            "cured_by": list(self.cured_by),
            "proposal": None if self.proposal is None else self.proposal.to_dict(),
        }


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
    """A finding that is not finished: examples and cures are looked up for all at once.

    :ivar ids: documents that show it.
    :ivar values_in: what a raw document has where the finding is, `MISSING` for an absent field;
        `None` where the finding is not about documents.
    :ivar shows: whether such a value shows the finding.
    :ivar facts: what the model says of the field, where it knows it.
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
    values: tuple[tuple[str, int], ...] = ()
    candidates: tuple[str, ...] = ()
    query: Mapping[str, Any] | None = None
    proposal: RuleProposal | None = None

    def evidence(self, document: Any) -> Evidence:
        """What shows the finding in a raw document; empty if it is not there."""
        if self.values_in is None:
            return evidence_of(())
        return evidence_of(each for each in self.values_in(document) if self.shows(each))

    def finished(
        self, examples: tuple[DriftExample, ...], cured_by: tuple[str, ...]
    ) -> DriftFinding:
        """The finding."""
        return DriftFinding(
            kind=self.kind,
            classes=self.classes,
            path=self.path,
            message=self.message,
            count=self.count,
            types=self.types,
            expected=self.expected,
            convertible=self.convertible,
            values=self.values,
            examples=examples,
            candidates=self.candidates,
            query=self.query,
            cured_by=cured_by,
            proposal=None if cured_by else self.proposal,
        )
