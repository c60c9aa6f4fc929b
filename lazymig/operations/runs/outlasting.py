"""The patience with a server that is away: what may be done twice is begun anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from pymongo.errors import PyMongoError

from lazymig.engines.driver_errors import is_away

__all__ = ["FIRST_PAUSE", "PATIENCE", "outlast"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds for which a server that is gone is waited for, and the first pause between two attempts.
PATIENCE: Final = 120.0
FIRST_PAUSE: Final = 0.1

_LONGEST_PAUSE = 5.0


def _sleep(seconds: float, _until: float) -> bool:
    time.sleep(seconds)
    return True


def outlast(
    model: str,
    work: Callable[[], T],
    *,
    patience: float = PATIENCE,
    first_pause: float = FIRST_PAUSE,
    pause: Callable[[float, float], bool] = _sleep,
) -> T:
    """Do something; begin it anew, after a pause, as long as the server is away.

    :param model: the name that the log lines begin with.
    :param pause: waits for so many seconds, at most until a time of `time.monotonic`; gives
        whether to begin anew.
    :raises pymongo.errors.PyMongoError: the server has stayed away, or it is another error.
    """
    until = None
    while True:
        try:
            return work()
        except PyMongoError as exc:
            if not is_away(exc):
                raise
            until = until or time.monotonic() + patience
            if time.monotonic() > until:
                raise
            logger.warning("%s: the server is away (%s); trying again", model, type(exc).__name__)
            if not pause(first_pause, until):
                raise
            first_pause = min(first_pause * 2, _LONGEST_PAUSE)
