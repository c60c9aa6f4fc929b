"""What a preview tells: values that are frozen, print themselves, and turn into JSON's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lazymig.raw.differences import Change, extended_json
from lazymig.rules.rule import Scope

__all__ = ["PreviewReport", "QueryPlan", "RuleKind", "RulePreview", "SamplePreview", "documents"]

RuleKind = Literal["static", "dynamic", "by_hand", "undetermined", "once"]


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """How MongoDB finds the documents of a rule.

    :ivar summary: where it starts, such as `"IXSCAN enabled_1"` or `"COLLSCAN"`.
    :ivar indexes: the names of the indexes that it uses.
    :ivar warning: what is bad about it; `None` if nothing is.
    """

    summary: str
    indexes: tuple[str, ...] = ()
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The plan in JSON's types."""
        return {"summary": self.summary, "indexes": list(self.indexes), "warning": self.warning}


@dataclass(frozen=True, slots=True)
class RulePreview:
    """What a run would find for one rule.

    :ivar kind: `"static"`, `"dynamic"`, `"undetermined"` (the target needs a document), `"by_hand"`
        (the rule writes by itself) or `"once"` (it has effects outside of the document).
    :ivar remaining: the documents that its target matches now; `None` if it is undetermined.
    :ivar reached: the documents that it will match once the earlier rules have been applied, and
        MongoDB has refused none; `None` where that cannot be told exactly.
    :ivar plan: how its documents are found; `None` if it is undetermined, or where MongoDB does not
        tell.
    :ivar problems: what there is to know before a run; empty if nothing.
    """

    name: str
    scope: Scope
    kind: RuleKind
    remaining: int | None
    reached: int | None
    plan: QueryPlan | None
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The preview of the rule in JSON's types."""
        return {
            "name": self.name,
            "scope": self.scope,
            "kind": self.kind,
            "remaining": self.remaining,
            "reached": self.reached,
            "plan": None if self.plan is None else self.plan.to_dict(),
            "problems": list(self.problems),
        }

    def format(self) -> str:
        """Some lines of plain text."""
        lines = [f"{self.name} ({self.scope}, {self.kind}): {self._counted()}"]
        if self.plan is not None:
            lines.append(f"    plan: {self.plan.summary}")
            if self.plan.warning is not None:
                lines.append(f"    warning: {self.plan.warning}")
        lines.extend(f"    {problem}" for problem in self.problems)
        return "\n".join(lines)

    def _counted(self) -> str:
        if self.remaining is None:
            return "its documents cannot be counted, because its target needs a document"
        text = f"matches {documents(self.remaining)}"
        if self.reached is None:
            return f"{text} now"
        if self.reached == self.remaining:
            return text
        return f"{text} now, and {self.reached:,} once the earlier rules have been applied"

    def __str__(self) -> str:
        return self.format()


@dataclass(frozen=True, slots=True)
class SamplePreview:
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

    def to_dict(self) -> dict[str, Any]:
        """The sample in JSON's types; values are in canonical Extended JSON.

        `bson.json_util.loads` reads it.
        """
        return {
            "document_id": extended_json(self.document_id),
            "rules": list(self.rules),
            "before": extended_json(self.before),
            "after": None if self.after is None else extended_json(self.after),
            "changes": [change.to_dict() for change in self.changes],
            "problem": self.problem,
            "not_run": list(self.not_run),
        }

    def format(self) -> str:
        """Some lines of plain text."""
        lines = [f"_id {self.document_id!r}: {', '.join(self.rules) or 'no rule changes it'}"]
        lines.extend(f"    {change}" for change in self.changes)
        if self.not_run:
            lines.append(f"    not run on copies: {', '.join(self.not_run)}")
        if self.problem is not None:
            lines.append(f"    problem: {self.problem}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.format()


@dataclass(frozen=True, slots=True)
class PreviewReport:
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

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's types; values of documents are in canonical Extended JSON."""
        return {
            "model": self.model,
            "collection": self.collection,
            "total": self.total,
            "rules": [rule.to_dict() for rule in self.rules],
            "samples": [sample.to_dict() for sample in self.samples],
            "problems": list(self.problems),
        }

    def format(self) -> str:
        """The report in plain text, for a terminal.

        Of the samples that stay as they are without a problem there is only the number.
        """
        told = [
            sample
            for sample in self.samples
            if sample.changes or sample.problem is not None or sample.not_run
        ]
        blocks = [
            f"{self.model} in {self.collection}: about {documents(self.total)}",
            *(rule.format() for rule in self.rules),
        ]
        if self.samples:
            same = len(self.samples) - len(told)
            blocks.append(f"{documents(len(self.samples))} sampled; {same} would stay as is")
        blocks.extend(sample.format() for sample in told)
        blocks.extend(f"Note: {problem}" for problem in self.problems)
        return "\n\n".join(blocks)

    def __str__(self) -> str:
        return self.format()


def documents(count: int) -> str:
    """A number of documents in words."""
    return "1 document" if count == 1 else f"{count:,} documents"
