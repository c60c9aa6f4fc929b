"""lazymig: change the shape of MongoEngine documents without downtime.

The public names, and nothing else: what they do lives in the modules they come from.
"""

from __future__ import annotations

from lazymig import signals
from lazymig.engines.bulk import MigrationReport, RuleReport
from lazymig.engines.pending import RuleStatus
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
from lazymig.reports.drift.checks import CheckFinding, CheckReport, check_documents
from lazymig.reports.drift.diff import DriftReport, diff
from lazymig.reports.drift.findings import DriftFinding
from lazymig.reports.drift.proposals import RuleProposal
from lazymig.reports.dryrun.preview import PreviewReport
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
    "restore",
    "signals",
]

__version__ = "0.1.0"
