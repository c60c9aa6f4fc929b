"""The common ground of a handler's calls: plan, collection, and what is checked before each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lazymig.engines.sessions import check_no_transaction
from lazymig.errors import RunOptionError
from lazymig.odm.handler import MigrationHandler
from lazymig.odm.loading import builder_of, is_broken
from lazymig.odm.plans import plan_for
from lazymig.odm.schema import collection_of
from lazymig.rules.plan import Plan

__all__ = ["HandlerCalls"]


class HandlerCalls(MigrationHandler):
    """What the calls of a handler have in common."""

    def _check(self, operation: str) -> None:
        check_no_transaction(self._doc_class.__name__, operation)

    def _is_broken(self) -> Callable[[Mapping[str, Any]], bool]:
        return partial(is_broken, build=builder_of(self._doc_class))

    def _plan(self) -> Plan:
        return plan_for(type(self), self._doc_class)

    def _collection_or(self, collection: Any) -> Any:
        if collection is None:
            return collection_of(self._doc_class)
        if not hasattr(collection, "full_name"):
            raise RunOptionError(
                f"is {collection!r}; give a PyMongo collection, or none for the model's own",
                option="collection",
            )
        return collection
