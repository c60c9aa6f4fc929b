"""lazymig: change the shape of MongoEngine documents without downtime.

The public names, and nothing else: what they do lives in the modules they come from.
"""

from __future__ import annotations

from lazymig import signals
from lazymig.engines.bulk import MigrationReport, RuleReport
from lazymig.engines.pending import RuleStatus
from lazymig.errors import (
    ConvergenceWarning,
    LazyMigError,
    MigrationConflict,
    MigrationError,
    MigrationFailed,
    MigrationInProgress,
    MigrationTimeout,
    RuleDefinitionError,
    SettleLimitExceeded,
    UpdateQueryError,
)
from lazymig.migration import DocumentMigration
from lazymig.odm.document import LazyMigrationMixin
from lazymig.odm.queryset import LazyMigrationQuerySet
from lazymig.odm.stored import as_stored
from lazymig.rules.once import once

__all__ = [
    "ConvergenceWarning",
    "DocumentMigration",
    "LazyMigError",
    "LazyMigrationMixin",
    "LazyMigrationQuerySet",
    "MigrationConflict",
    "MigrationError",
    "MigrationFailed",
    "MigrationInProgress",
    "MigrationReport",
    "MigrationTimeout",
    "RuleDefinitionError",
    "RuleReport",
    "RuleStatus",
    "SettleLimitExceeded",
    "UpdateQueryError",
    "as_stored",
    "once",
    "signals",
]

__version__ = "0.1.0"
