"""RunContext: what the parts of a bulk run share from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection

from lazymig.engines.access import Raw
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.lease import Lease
from lazymig.operations.runs.options import Options
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["RunContext"]


@dataclass(frozen=True)
class RunContext:
    """The rules of a scope over a collection, with the options, the journal and the lease of a run.

    `is_broken` says whether a raw document fails to load or to validate through the model.
    `transactions`: the collection's documents can be written in them.
    """

    collection: Collection[Any]
    plan: Plan
    scope: Scope
    options: Options
    is_broken: Callable[[Raw], bool]
    journal: Journal
    lease: Lease
    transactions: bool

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.plan.model_name

    @property
    def full_name(self) -> str:
        """The name of the collection, with its database."""
        return str(self.collection.full_name)
