"""Log lines of refused documents: the first refusal by a rule is a warning, others are details.

A document that stays refused is met by each load and by each operation that settles.
"""

from __future__ import annotations

import logging
from typing import Final

from pymongo.collection import Collection

from lazymig.engines.access import Raw, key_of
from lazymig.engines.computed.recursion import was_logged
from lazymig.errors import MigrationError
from lazymig.locks import new_lock

__all__ = ["log_refusal"]

# Refusals that are remembered, as numbers; the oldest are forgotten, and logged again.
_MOST: Final = 10_000

_logged: Final[dict[int, None]] = {}
_lock: Final = new_lock()


def log_refusal(logger: logging.Logger, collection: Collection[Raw], error: MigrationError) -> None:
    """Log a refusal at WARNING, or at DEBUG where this rule has refused the document before."""
    parts = (
        *(collection.full_name, error.model, error.rule, type(error).__name__),
        key_of(error.document_id),
    )
    number = hash(parts)
    is_known = was_logged(error)
    with _lock:
        is_known = is_known or number in _logged
        _logged[number] = None
        if len(_logged) > _MOST:
            del _logged[next(iter(_logged))]
    logger.log(logging.DEBUG if is_known else logging.WARNING, "%s", error)
