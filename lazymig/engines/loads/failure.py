"""The stand-in of a batch for a document that could not be brought up to date, or shown so."""

from __future__ import annotations

from dataclasses import dataclass

from lazymig.engines.access import Raw
from lazymig.errors import MigrationError, ShowError
from lazymig.rules.plan import Plan

__all__ = ["Failure"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Stands in a batch for a document that could not be brought up to date, or shown so."""

    document: Raw
    plan: Plan
    error: MigrationError | ShowError

    @property
    def refusal(self) -> MigrationError:
        """The error of a document that was to be written."""
        assert isinstance(self.error, MigrationError), "what is written is not shown"
        return self.error
