"""Loads that outlast a failover: what is done at most once per match is begun anew.

The driver tries a write of many documents not even once more. Each write of a load carries the
target of its rule, and what the rule has read: so it may be sent again by somebody who does not
know whether it was done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, TypeVar

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from lazymig.engines.deadline import Deadline
from lazymig.engines.driver_errors import is_away, is_transient
from lazymig.redaction import excerpt
from lazymig.rules.plan import Plan

__all__ = ["outlast_failover"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Seconds between two attempts, at first and at most; and how long they are made without a limit.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5
_PATIENCE: Final = 30.0


def outlast_failover(
    collection: Collection[Any], plans: Iterable[Plan], work: Callable[[], _T]
) -> _T:
    """Do something that may be done twice; begin it anew while there is no primary.

    :param plans: whose `lazy_timeout`, the shortest of them, is for all attempts together.
    :raises pymongo.errors.PyMongoError: that lasts too long, or it is another error.
    """
    began = time.monotonic()
    try:
        return work()
    except PyMongoError as exc:
        if not _may_pass(exc):
            raise
        failed = exc
    limits = [plan.lazy_timeout for plan in plans if plan.lazy_timeout is not None]
    lazy_timeout = min(limits, default=None)
    deadline = Deadline.of(collection, lazy_timeout)
    if deadline.seconds == lazy_timeout:
        deadline = replace(deadline, started=began)
    if deadline.seconds is None:
        deadline = replace(deadline, started=began, seconds=_PATIENCE)
    pause = _FIRST_PAUSE
    while (deadline.left or 0.0) > pause:
        logger.info("%s: no primary (%s); trying again", collection.full_name, excerpt(failed))
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
        try:
            with deadline.within():
                return work()
        except PyMongoError as exc:
            if not _may_pass(exc):
                raise
            failed = exc
    raise failed


def _may_pass(error: PyMongoError) -> bool:
    # A transaction of the application's own is over, and only the application can begin it anew.
    return is_away(error) and not is_transient(error)
