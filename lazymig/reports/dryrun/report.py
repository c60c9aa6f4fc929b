"""The report of a preview, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lazymig.raw.differences import MISSING, Change
from lazymig.raw.json_values import JsonValue
from lazymig.reports.texts import Line, Readable, documents
from lazymig.rules.bound_rule import Form
from lazymig.rules.rule import Scope
from lazymig.rules.translation import LeftToPython

__all__ = ["PreviewReport", "QueryPlan", "RuleKind", "RulePreview", "SamplePreview"]

RuleKind = Literal["static", "dynamic", "by_hand", "undetermined", "once"]


@dataclass(frozen=True, slots=True)
class QueryPlan(JsonValue):
    """How MongoDB finds the documents of a rule.

    :ivar summary: where it starts, such as `"IXSCAN enabled_1"` or `"COLLSCAN"`; `"unknown plan"`
        where the server explains it in a form that is not known.
    :ivar indexes: the names of the indexes that it uses.
    :ivar warning: what is bad about it; `None` if nothing is.
    """

    summary: str
    indexes: tuple[str, ...] = ()
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class RulePreview(JsonValue, Readable):
    """What a run would find for one rule.

    :ivar kind: `"static"`, `"dynamic"`, `"undetermined"` (the target needs a document), `"by_hand"`
        (the rule writes by itself) or `"once"` (it has effects outside of the document).
    :ivar remaining: the documents that its target matches now; `None` if it is undetermined.
    :ivar reached: the documents that it will match once the earlier rules have been applied, and
        MongoDB has refused none; `None` where that is not known exactly.
    :ivar plan: how its documents are found; `None` if it is undetermined, or where MongoDB does not
        say.
    :ivar problems: what there is to know before a run; empty if nothing.
    :ivar form: `"static"`, `"translated"` (the server computes it) or `"python"` (the method is
        run for each document).
    :ivar left_to_python: why a computed rule is not translated; `None` for others.
    :ivar in_python: the documents among the remaining ones for which a translated rule is computed
        in Python all the same; `None` for other rules.
    """

    name: str
    scope: Scope
    kind: RuleKind
    remaining: int | None
    reached: int | None
    plan: QueryPlan | None
    problems: tuple[str, ...] = ()
    form: Form = "static"
    left_to_python: LeftToPython | None = None
    in_python: int | None = None

    def lines(self) -> Iterator[Line]:
        """The counts, the plan, and what there is to know."""
        kind = self.form if self.form == "translated" else self.kind
        yield Line(f"{self.name} ({self.scope}, {kind}): {self._counted()}", 0, "bold")
        if self.in_python:
            yield Line(f"{documents(self.in_python)} of them computed in Python", 4)
        if self.plan is not None:
            yield Line(f"plan: {self.plan.summary}", 4, "dim")
            if self.plan.warning is not None:
                yield Line(f"warning: {self.plan.warning}", 4, "yellow")
        yield from (Line(problem, 4, "yellow") for problem in self.problems)

    def _counted(self) -> str:
        if self.remaining is None:
            return "its documents cannot be counted, because its target needs a document"
        text = f"matches {documents(self.remaining)}"
        if self.reached is None:
            return f"{text} now"
        if self.reached == self.remaining:
            return text
        return f"{text} now, and {self.reached:,} once the earlier rules have been applied"


@dataclass(frozen=True, slots=True)
class SamplePreview(JsonValue, Readable):
    """What would become of one stored document.

    :ivar document_id: its `_id`.
    :ivar rules: the names of the rules that have changed its copy, in the order of application.
    :ivar before: the raw document as it is stored.
    :ivar after: the raw document as the rules have left it; `None` if its copy is gone.
    :ivar changes: the differences, field by field.
    :ivar problem: what MongoDB has refused, a rule has raised, or the model has raised when the
        result was loaded and validated; `None` if nothing.
    :ivar not_run: the names of rules that matched the copy, but are not run on copies.
    """

    document_id: Any
    rules: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    changes: tuple[Change, ...]
    problem: str | None = None
    not_run: tuple[str, ...] = ()

    @property
    def says_something(self) -> bool:
        """Return whether there is more to say of it than that it stays as it is."""
        return bool(self.changes or self.not_run) or self.problem is not None

    def lines(self) -> Iterator[Line]:
        """The rules that change it, and the differences: removed and added values."""
        rules = ", ".join(self.rules) or "no rule changes it"
        yield Line(f"_id {self.document_id!r}: {rules}", 0, "bold")
        for change in self.changes:
            before, after = change.texts
            if change.before is not MISSING:
                yield Line(f"- {change.path}: {before}", 4, "red")
            if change.after is not MISSING:
                yield Line(f"+ {change.path}: {after}", 4, "green")
        if self.not_run:
            yield Line(f"not run on copies: {', '.join(self.not_run)}", 4, "yellow")
        if self.problem is not None:
            yield Line(f"problem: {self.problem}", 4, "red")


@dataclass(frozen=True, slots=True)
class PreviewReport(JsonValue, Readable):
    """What a run would do to a collection.

    :ivar model: the model's name.
    :ivar collection: the collection's name, with its database.
    :ivar total: the documents of the collection, estimated.
    :ivar rules: each rule, in the order of application.
    :ivar samples: the sampled documents.
    :ivar problems: why there are no samples, or in which way they may differ from a run.
    """

    model: str
    collection: str
    total: int
    rules: tuple[RulePreview, ...]
    samples: tuple[SamplePreview, ...] = ()
    problems: tuple[str, ...] = ()

    def lines(self) -> Iterator[Line]:
        """The rules, then the samples.

        Of the samples that stay as they are without a problem there is only the number.
        """
        yield Line(f"{self.model} in {self.collection}: about {documents(self.total)}")
        for rule in self.rules:
            yield Line("")
            yield from rule.lines()
        changed = [sample for sample in self.samples if sample.says_something]
        if self.samples:
            same = len(self.samples) - len(changed)
            yield Line("")
            yield Line(f"{documents(len(self.samples))} sampled; {same} would stay as is")
        for sample in changed:
            yield Line("")
            yield from sample.lines()
        for problem in self.problems:
            yield Line("")
            yield Line(f"note: {problem}", 0, "yellow")
