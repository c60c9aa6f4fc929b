"""lazymig: change the shape of MongoEngine documents without downtime.

The public names, and nothing else: what they do lives in the modules they come from. Those are
imported when a name is asked for, so that an application loads what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lazymig import signals
from lazymig.errors import (
    BackupFailed,
    BackupUnreadable,
    CollectionLocked,
    ConvergenceWarning,
    LazyMigError,
    LeaseLost,
    MigrationConflict,
    MigrationError,
    MigrationFailed,
    MigrationInProgress,
    MigrationTimeout,
    MissingExtra,
    RuleChanged,
    RuleDefinitionError,
    RuleIndexError,
    RunError,
    RunNotActive,
    RunNotFound,
    RunOptionError,
    RunTakenOver,
    SealError,
    SettleLimitExceeded,
    SettlingWarning,
    ShowError,
    UnfinishedRuleWarning,
    UpdateQueryError,
    ViewError,
    WorkerFailed,
)
from lazymig.locks import new_lock

if TYPE_CHECKING:
    from lazymig.engines.pending import RuleStatus
    from lazymig.engines.report import MigrationReport, RuleReport
    from lazymig.migration import DocumentMigration
    from lazymig.odm.document import LazyMigrationMixin
    from lazymig.odm.querysets.queryset import LazyMigrationQuerySet
    from lazymig.odm.sealed import refresh_seals
    from lazymig.odm.stored import as_stored
    from lazymig.odm.unwritten import without_writing
    from lazymig.operations.backup.restore import RestoreConflict, RestoreReport, restore
    from lazymig.operations.journal.entries import Quarantined, Run
    from lazymig.operations.journal.history import History
    from lazymig.operations.journal.rule_run import RuleRun
    from lazymig.operations.model_view import ModelView
    from lazymig.operations.rule_indexes import RuleIndex
    from lazymig.operations.runs.options import RunOptions
    from lazymig.operations.runs.progress import Progress, ProgressBar, ProgressLog
    from lazymig.operations.sealable import NotSealed
    from lazymig.operations.seals import SealReport
    from lazymig.reports.drift.checks import check_documents
    from lazymig.reports.drift.diff import diff
    from lazymig.reports.drift.findings import CheckFinding, CheckReport, DriftFinding, DriftReport
    from lazymig.reports.drift.proposals import RuleProposal
    from lazymig.reports.dryrun.preview import PreviewReport
    from lazymig.reports.page.page import render_report, write_report
    from lazymig.rules.once import once
    from lazymig.updates.each import each

__all__ = [
    "BackupFailed",
    "BackupUnreadable",
    "CheckFinding",
    "CheckReport",
    "CollectionLocked",
    "ConvergenceWarning",
    "DocumentMigration",
    "DriftFinding",
    "DriftReport",
    "History",
    "LazyMigError",
    "LazyMigrationMixin",
    "LazyMigrationQuerySet",
    "LeaseLost",
    "MigrationConflict",
    "MigrationError",
    "MigrationFailed",
    "MigrationInProgress",
    "MigrationReport",
    "MigrationTimeout",
    "MissingExtra",
    "ModelView",
    "NotSealed",
    "PreviewReport",
    "Progress",
    "ProgressBar",
    "ProgressLog",
    "Quarantined",
    "RestoreConflict",
    "RestoreReport",
    "RuleChanged",
    "RuleDefinitionError",
    "RuleIndex",
    "RuleIndexError",
    "RuleProposal",
    "RuleReport",
    "RuleRun",
    "RuleStatus",
    "Run",
    "RunError",
    "RunNotActive",
    "RunNotFound",
    "RunOptionError",
    "RunOptions",
    "RunTakenOver",
    "SealError",
    "SealReport",
    "SettleLimitExceeded",
    "SettlingWarning",
    "ShowError",
    "UnfinishedRuleWarning",
    "UpdateQueryError",
    "ViewError",
    "WorkerFailed",
    "as_stored",
    "check_documents",
    "diff",
    "each",
    "once",
    "refresh_seals",
    "render_report",
    "restore",
    "signals",
    "without_writing",
    "write_report",
]

__version__ = "0.1.0"

# The module of each name that is imported when it is asked for.
_HOMES = {
    name: module
    for module, names in {
        "engines.report": "MigrationReport RuleReport",
        "engines.pending": "RuleStatus",
        "migration": "DocumentMigration",
        "odm.document": "LazyMigrationMixin",
        "odm.querysets.queryset": "LazyMigrationQuerySet",
        "odm.sealed": "refresh_seals",
        "odm.stored": "as_stored",
        "odm.unwritten": "without_writing",
        "operations.backup.restore": "RestoreConflict RestoreReport restore",
        "operations.journal.entries": "Quarantined Run",
        "operations.journal.history": "History",
        "operations.journal.rule_run": "RuleRun",
        "operations.rule_indexes": "RuleIndex",
        "operations.runs.options": "RunOptions",
        "operations.runs.progress": "Progress ProgressBar ProgressLog",
        "operations.sealable": "NotSealed",
        "operations.seals": "SealReport",
        "operations.model_view": "ModelView",
        "reports.drift.checks": "check_documents",
        "reports.drift.diff": "diff",
        "reports.drift.findings": "CheckFinding CheckReport DriftFinding DriftReport",
        "reports.drift.proposals": "RuleProposal",
        "reports.dryrun.preview": "PreviewReport",
        "reports.page.page": "render_report write_report",
        "rules.once": "once",
        "updates.each": "each",
    }.items()
    for name in names.split()
}


_importing = new_lock()

if not TYPE_CHECKING:
    # Type checkers know the names by the imports above, and that there are no others.
    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Threads that import parts of the package in different orders would wait for each other.
        with _importing:
            value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
