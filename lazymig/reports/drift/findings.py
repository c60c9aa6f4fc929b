"""The findings of `diff` and of `check_documents`, and their reports, as values."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar, get_args

from lazymig.odm.examining import ProblemKind
from lazymig.raw.json_values import JsonValue
from lazymig.reports.drift.proposals import RuleProposal
from lazymig.reports.texts import Line, Readable, documents

__all__ = [
    "KINDS",
    "CheckFinding",
    "CheckReport",
    "DriftExample",
    "DriftFinding",
    "DriftReport",
    "Finding",
    "FindingsReport",
    "Kind",
    "PathTypes",
    "ValueCount",
]

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

# A value's text, and how many documents have it.
ValueCount: TypeAlias = Annotated[tuple[str, int], ("value", "count")]

# The ids that a finding shows.
_MOST_SHOWN: Final = 3

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""The kinds of findings of `diff`, in the order in which their rules have to run."""


@dataclass(frozen=True, slots=True)
class Finding(JsonValue, Readable):
    """One thing that is wrong in some documents; see `CheckFinding` and `DriftFinding`."""

    kind: str
    path: str
    message: str
    count: int
    cured_by: tuple[str, ...]

    def lines(self, *, verbose: bool = False) -> Iterator[Line]:
        """What it is, the ids of documents that show it, and the remedy.

        :param verbose: with all ids that are known, not with three.
        """
        first, *rest = self._said()
        yield Line(first, 2, "yellow" if self.cured_by else "red")
        yield from (Line(text, 4) for text in rest)
        ids = self._ids()[: None if verbose else _MOST_SHOWN]
        if ids:
            left = self.count - len(ids)
            more = f" and {left:,} more" if left > 0 else ""
            yield Line(f"_id {', '.join(map(repr, ids))}{more}", 4, "dim")
        if self.cured_by:
            yield Line(f"cured by the pending {', '.join(self.cured_by)}", 4)

    def _said(self) -> tuple[str, ...]:
        return (f"{self.kind}: {self.message}",)

    def _ids(self) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class CheckFinding(Finding):
    """The same fault in some documents.

    :ivar model: the document class, by the name in `_cls`.
    :ivar path: the field, in database names; `[]` stands for the items of a list, `.*` for those of
        a map; empty for the document as a whole.
    :ivar kind: what is wrong: `"not_decodable"`, `"unknown_class"`, `"unknown_field"`,
        `"not_loadable"`, `"required"`, `"choices"`, `"invalid"`, `"unreadable"` or
        `"dangling_reference"`.
    :ivar error: the name of the exception's class.
    :ivar message: what was said of the first document.
    :ivar value: what it has in the field.
    :ivar count: the documents.
    :ivar ids: the ids of ten of them at most, or of as many as the check was asked for.
    :ivar cured_by: the names of the pending rules that cure it, in the order of application.
    """

    kind: ProblemKind
    model: str
    error: str
    value: Any
    ids: tuple[Any, ...]

    def _said(self) -> tuple[str, ...]:
        place = f"{self.model}.{self.path}" if self.path else self.model
        what = f"{place}: {self.kind} in {documents(self.count)}"
        return what, f"{self.error}: {self.message}"

    def _ids(self) -> tuple[Any, ...]:
        return self.ids


@dataclass(frozen=True, slots=True)
class DriftExample(JsonValue):
    """A stored document with what was found: its `_id`, and the value, `None` if it is missing."""

    document_id: Any = field(metadata={"json": "id"})
    value: Any = None


@dataclass(frozen=True, slots=True)
class DriftFinding(Finding):
    """One thing in which the documents of some classes differ from the model.

    :ivar kind: what it is; see `KINDS`.
    :ivar classes: the document classes, by the names of their `_cls`.
    :ivar path: in database names; `[]` stands for the items of a list, `.*` for those of a map.
    :ivar message: one line in plain words.
    :ivar count: the documents in which it was found, of those that were looked at.
    :ivar types: for the whole path, documents by BSON type.
    :ivar expected: the BSON types that the field stores; empty if any, or if there is no field.
    :ivar convertible: for a value of another type, whether `$convert` turns all of them into the
        field's; `None` where it was not asked.
    :ivar values: for values outside of the choices, their texts and how many documents have them.
    :ivar candidates: likely successors of an unknown class, or the likely new name of a field.
    :ivar query: finds the documents; `None` where MongoDB has no such query.
    :ivar cured_by: the names of the pending rules that cure it, in the order of application.
    :ivar proposal: a rule that ends it; `None` if a pending rule does, or if none is known.
    """

    kind: Kind
    classes: tuple[str, ...]
    types: Mapping[str, int]
    expected: tuple[str, ...]
    convertible: bool | None
    values: tuple[ValueCount, ...]
    examples: tuple[DriftExample, ...]
    candidates: tuple[str, ...]
    query: Mapping[str, Any] | None
    proposal: RuleProposal | None

    def lines(self, *, verbose: bool = False) -> Iterator[Line]:
        """What it is, the ids of documents that show it, and the remedy."""
        yield from Finding.lines(self, verbose=verbose)
        if self.proposal is not None:
            asks = ", with a question" if self.proposal.asks else ""
            yield Line(f"proposed rule: {self.proposal.words}{asks}", 4)

    def _ids(self) -> tuple[Any, ...]:
        return tuple(each.document_id for each in self.examples)


@dataclass(frozen=True, slots=True)
class PathTypes(JsonValue):
    """What is stored at one path of a model.

    :ivar path: in database names; `[]` stands for the items of a list, `.*` for those of a map.
    :ivar classes: the document classes in which it was seen.
    :ivar types: documents by BSON type; `"missing"` counts those that have its parent alone.
    :ivar examples: the `_id` of a document for each type.
    """

    path: str
    classes: tuple[str, ...]
    types: Mapping[str, int]
    examples: Mapping[str, Any]


_Found = TypeVar("_Found", bound=Finding)


@dataclass(frozen=True, slots=True)
class FindingsReport(JsonValue, Readable, Generic[_Found]):
    """What was found in the documents of a model; see `CheckReport` and `DriftReport`."""

    derived: ClassVar[tuple[str, ...]] = ("ok",)

    model: str
    collection: str
    documents: int
    sample_size: int | None
    findings: tuple[_Found, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings

    @property
    def uncured(self) -> tuple[_Found, ...]:
        """The findings that no pending rule cures."""
        return tuple(each for each in self.findings if not each.cured_by)

    @abstractmethod
    def lines(self, *, verbose: bool = False) -> Iterator[Line]:
        """The report, line by line.

        :param verbose: with all ids that are known, not with three of each finding.
        """

    def _lines(self, head: str, none: str, *remarks: str, verbose: bool) -> Iterator[Line]:
        yield Line(head)
        if self.ok:
            yield Line(none, 2, "green")
        for finding in self.findings:
            yield from finding.lines(verbose=verbose)
        yield from (Line(remark, 2) for remark in remarks)
        yield from (Line(f"note: {problem}", 2, "yellow") for problem in self.problems)


@dataclass(frozen=True, slots=True)
class CheckReport(FindingsReport[CheckFinding]):
    """What a check has found.

    :ivar model: the model's name.
    :ivar collection: database and collection.
    :ivar documents: the documents that were checked.
    :ivar sample_size: what was asked for; `None` for the whole collection.
    :ivar findings: the frequent ones first.
    :ivar problems: what could not be looked at, and which pending rules fail, make operations wait
        for Python or read the whole collection; empty if nothing. They do not count for `ok`.
    """

    findings: tuple[CheckFinding, ...]

    def lines(self, *, verbose: bool = False) -> Iterator[Line]:
        """The report, line by line."""
        head = f"{self.model} in {self.collection}: {documents(self.documents)} checked"
        return self._lines(head, "nothing is wrong", verbose=verbose)


@dataclass(frozen=True, slots=True)
class DriftReport(FindingsReport[DriftFinding]):
    """How the stored documents differ from the model.

    :ivar model: the model's name.
    :ivar collection: database and collection.
    :ivar documents: the documents that were looked at.
    :ivar sample_size: what was asked for; `None` for the whole collection.
    :ivar findings: in the order in which their rules have to run.
    :ivar problems: what could not be looked at, and which pending rules fail; empty if nothing.
    :ivar paths: what is stored at each path that the model knows.
    """

    findings: tuple[DriftFinding, ...]
    paths: tuple[PathTypes, ...]

    @property
    def proposals(self) -> tuple[RuleProposal, ...]:
        """The rules that the findings offer, in the order in which they have to run."""
        return tuple(each.proposal for each in self.findings if each.proposal is not None)

    def lines(self, *, verbose: bool = False) -> Iterator[Line]:
        """The report, line by line."""
        head = f"{self.model} against {self.collection}: {documents(self.documents)} compared"
        hint = ("lazymig new --from-diff writes the proposed rules",) if self.proposals else ()
        return self._lines(head, "no drift", *hint, verbose=verbose)
