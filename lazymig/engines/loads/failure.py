"""The stand-in of a batch for a document that could not be brought up to date."""

from __future__ import annotations

from dataclasses import dataclass

from lazymig.engines.access import Raw
from lazymig.errors import MigrationError
from lazymig.rules.plan import Plan

__all__ = ["Failure"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Stands in a batch for a document that could not be brought up to date."""

    document: Raw
    plan: Plan
    error: MigrationError
