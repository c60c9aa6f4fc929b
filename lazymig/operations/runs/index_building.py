"""The building of rule indexes beside a bulk run, in a thread and a session of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.collection import Collection

from lazymig.errors import RuleIndexError
from lazymig.operations.rule_indexes import build_indexes
from lazymig.rules.plan import Plan

__all__ = ["rule_indexes_built"]

logger = logging.getLogger(__name__)


@contextmanager
def rule_indexes_built(collection: Collection[Any], plan: Plan, *, wanted: bool) -> Iterator[None]:
    """Build the indexes of a plan's rules while the block runs, and wait for them at its end.

    A block that raises is not held up: MongoDB ends what it has begun.

    :raises RuleIndexError: the block has ended, and one could not be built.
    :raises pymongo.errors.PyMongoError: likewise, the connection.
    """
    if not wanted:
        yield
        return
    failures: list[Exception] = []

    def build() -> None:
        try:
            build_indexes(collection, plan)
        except Exception as exc:  # noqa: BLE001 - it is raised where the run has ended
            logger.warning("%s: %s", plan.model_name, exc)
            failures.append(exc)

    builder = threading.Thread(target=build, name="lazymig-rule-indexes", daemon=True)
    builder.start()
    yield
    builder.join()
    for failure in failures:
        if isinstance(failure, RuleIndexError):
            raise RuleIndexError(
                f"{failure.problem}; the run itself has ended, and the journal has its report",
                model=failure.model,
                rule=failure.rule,
                index=failure.index,
            ) from failure
        raise failure
