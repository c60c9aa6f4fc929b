"""The results of commands: the keys of their JSON, with types; the schemas are derived from these.

A value that is written under a type has its keys as attributes, or as keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

from bson import ObjectId

from lazymig.operations.journal.entries import RunState
from lazymig.operations.model_view import ModelView
from lazymig.operations.rule_indexes import RuleIndex
from lazymig.operations.seals import SealReport
from lazymig.raw.json_values import Bounds
from lazymig.reports.drift.findings import CheckReport, DriftReport
from lazymig.reports.dryrun.report import PreviewReport
from lazymig.rules.rule import Scope

__all__ = [
    "CheckResult",
    "DiffResult",
    "IndexesResult",
    "MigrateResult",
    "NewResult",
    "PreviewResult",
    "QuarantineResult",
    "ReportResult",
    "RestoreResult",
    "RetryResult",
    "RunResult",
    "RunsResult",
    "SealResult",
    "ViewsResult",
]

Seconds = Annotated[float, Bounds(0)]
# What is stored is plain already, as the options of a run.
Plain = Mapping[str, object]


class SealResult(TypedDict):
    """What `seal` writes."""

    ok: bool
    models: list[SealReport]
    unsealed: list[str]


class PreviewResult(TypedDict):
    """What `preview` writes."""

    models: list[PreviewReport]


class CheckResult(TypedDict):
    """What `check` writes."""

    ok: bool
    models: list[CheckReport]


class DiffResult(TypedDict):
    """What `diff` writes."""

    ok: bool
    models: list[DriftReport]


class IndexesOfModel(TypedDict):
    """The indexes of a model's rules."""

    model: str
    collection: str
    indexes: tuple[RuleIndex, ...]
    dropped: tuple[str, ...]


class IndexesResult(TypedDict):
    """What `indexes` writes."""

    models: list[IndexesOfModel]


class ViewsOfModel(TypedDict):
    """The views of a model's collection."""

    model: str
    collection: str
    views: tuple[ModelView, ...]


class ViewsResult(TypedDict):
    """What `view` writes."""

    models: list[ViewsOfModel]
    dropped: list[str]


class ReportResult(TypedDict):
    """What `report` writes besides the page."""

    file: str
    models: list[str]


class WrittenRule(TypedDict):
    """A rule that `new` writes."""

    name: str
    scope: Scope
    complete: bool
    held: bool


class NewResult(TypedDict):
    """What `new` writes besides the rules."""

    file: str | None
    created: bool
    written: bool
    rules: list[WrittenRule]
    diff: str
    advice: str


class ReportedRule(TypedDict):
    """What a run has done of one rule."""

    name: str
    matched: int
    modified: int
    refused: int
    seconds: Seconds
    covered_by: ObjectId | None


class ReportedError(TypedDict):
    """A document that a run has refused."""

    rule: str | None
    document_id: Any
    error: str
    type: str


class ReportedRun(TypedDict):
    """What a run has done."""

    model: str
    collection: str
    scope: Scope
    state: Literal["finished", "stopped", "failed"]
    run: ObjectId | None
    nothing_to_resume: bool
    matched: int
    modified: int
    seconds: Seconds
    waited: Mapping[str, Seconds]
    rules: list[ReportedRule]
    reopened: tuple[str, ...]
    errors: list[ReportedError]


class NotBegun(TypedDict):
    """A run that a call of `migrate` has not begun."""

    model: str
    scope: Scope


class MigrateResult(TypedDict):
    """What `migrate` writes."""

    complete: bool
    runs: list[ReportedRun]
    not_begun: list[NotBegun]


class RetryResult(TypedDict):
    """What `quarantine retry` writes."""

    run: ReportedRun


class AskedOfRun(TypedDict):
    """What is asked of a run."""

    action: Literal["run", "pause", "stop"]
    limits: Mapping[str, Seconds | None]
    by: str | None


class SessionOfRun(TypedDict):
    """A process that has run a part of a run."""

    host: str
    pid: int
    started: datetime
    note: str | None
    options: Plain


class RuleOfRun(TypedDict):
    """How far a run is with a rule."""

    name: str
    state: Literal["pending", "running", "done", "skipped"]
    done: int
    total: int | None
    exact: bool
    matched: int
    modified: int
    quarantined: int
    passes: int
    seconds: Seconds
    last_id: Any
    edited: bool


class NotedRun(TypedDict):
    """A run as the journal has it."""

    id: ObjectId
    model: str
    model_class: str | None
    collection: str
    handler: str
    scope: Scope
    state: RunState
    host: str
    pid: int
    note: str | None
    started: datetime
    ended: datetime | None
    heartbeat: datetime
    matched: int
    modified: int
    quarantined: int
    in_quarantine: int
    complete: bool
    reopened: tuple[str, ...]
    waiting: str | None
    waited: Mapping[str, Seconds]
    error: str | None
    options: Plain
    control: AskedOfRun
    sessions: list[SessionOfRun]
    rules: list[RuleOfRun]


class RunsResult(TypedDict):
    """What `runs` writes."""

    runs: list[NotedRun]


class RunResult(TypedDict):
    """What `pause`, `resume`, `stop` and `slow` write."""

    run: NotedRun


class QuarantinedDocument(TypedDict):
    """A document that a run has refused, as the journal has it."""

    run: ObjectId
    collection: str
    rule: str
    document_id: Any
    error: str
    type: str
    at: datetime


class QuarantineResult(TypedDict):
    """What `quarantine list` writes."""

    quarantined: list[QuarantinedDocument]


class Conflict(TypedDict):
    """A document that a restore has left alone."""

    collection: str
    document_id: Any
    reason: str


class Restored(TypedDict):
    """What a restore has done to a database."""

    restored: int
    unchanged: int
    conflict_count: int
    conflicts: list[Conflict]
    refused: int
    seals: list[str]
    collections: list[str]
    seconds: Seconds


class RestoreResult(TypedDict):
    """What `restore` writes."""

    databases: list[Restored]
