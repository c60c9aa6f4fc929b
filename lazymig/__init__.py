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
    RunError,
    RunNotActive,
    RunNotFound,
    RunOptionError,
    RunTakenOver,
    SettleLimitExceeded,
    UpdateQueryError,
    WorkerFailed,
)

if TYPE_CHECKING:
    from lazymig.engines.bulk import MigrationReport, RuleReport
    from lazymig.engines.pending import RuleStatus
    from lazymig.migration import DocumentMigration
    from lazymig.odm.document import LazyMigrationMixin
    from lazymig.odm.querysets.queryset import LazyMigrationQuerySet
    from lazymig.odm.stored import as_stored
    from lazymig.operations.backup.restore import RestoreConflict, RestoreReport, restore
    from lazymig.operations.journal.entries import Quarantined, Run
    from lazymig.operations.journal.history import History
    from lazymig.operations.journal.rule_run import RuleRun
    from lazymig.operations.runs.options import RunOptions
    from lazymig.operations.runs.progress import Progress, ProgressBar, ProgressLog
    from lazymig.reports.drift.checks import check_documents
    from lazymig.reports.drift.diff import diff
    from lazymig.reports.drift.findings import CheckFinding, CheckReport, DriftFinding, DriftReport
    from lazymig.reports.drift.proposals import RuleProposal
    from lazymig.reports.dryrun.preview import PreviewReport
    from lazymig.reports.page.page import render_report, write_report
    from lazymig.rules.once import once

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
    "PreviewReport",
    "Progress",
    "ProgressBar",
    "ProgressLog",
    "Quarantined",
    "RestoreConflict",
    "RestoreReport",
    "RuleChanged",
    "RuleDefinitionError",
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
    "SettleLimitExceeded",
    "UpdateQueryError",
    "WorkerFailed",
    "as_stored",
    "check_documents",
    "diff",
    "once",
    "render_report",
    "restore",
    "signals",
    "write_report",
]

__version__ = "0.1.0"

# The module of each name that is imported when it is asked for.
_HOMES = {
    "CheckFinding": "reports.drift.findings",
    "CheckReport": "reports.drift.findings",
    "DocumentMigration": "migration",
    "DriftFinding": "reports.drift.findings",
    "DriftReport": "reports.drift.findings",
    "History": "operations.journal.history",
    "LazyMigrationMixin": "odm.document",
    "LazyMigrationQuerySet": "odm.querysets.queryset",
    "MigrationReport": "engines.bulk",
    "PreviewReport": "reports.dryrun.preview",
    "Progress": "operations.runs.progress",
    "ProgressBar": "operations.runs.progress",
    "ProgressLog": "operations.runs.progress",
    "Quarantined": "operations.journal.entries",
    "RestoreConflict": "operations.backup.restore",
    "RestoreReport": "operations.backup.restore",
    "RuleProposal": "reports.drift.proposals",
    "RuleReport": "engines.bulk",
    "RuleRun": "operations.journal.rule_run",
    "RuleStatus": "engines.pending",
    "Run": "operations.journal.entries",
    "RunOptions": "operations.runs.options",
    "as_stored": "odm.stored",
    "check_documents": "reports.drift.checks",
    "diff": "reports.drift.diff",
    "once": "rules.once",
    "render_report": "reports.page.page",
    "restore": "operations.backup.restore",
    "write_report": "reports.page.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
