"""The keeper of claims: a thread that renews the claim which its owner holds at the moment."""

from __future__ import annotations

import logging
import threading
from typing import Final

import pymongo
from pymongo.errors import PyMongoError

from lazymig.engines.access import Raw, all_of
from lazymig.engines.once.claim import owned_by, renewal
from lazymig.engines.store import Store
from lazymig.locks import new_event
from lazymig.redaction import excerpt

__all__ = ["Keeper"]

logger = logging.getLogger(__name__)

# Renewals within the time of a lease, so that one that fails can be repeated in time.
_RENEWALS: Final = 3
_RENEWALS_AFTER_FAILURE: Final = 12


class Keeper:
    """Renews the claim that its owner holds at the moment, in a thread that dies with the process.

    The thread is started with the first claim.
    """

    def __init__(self, store: Store, owner: str, lease: float) -> None:
        self._store = store
        self._owner = owner
        self._lease = lease
        self._own: Raw | None = None
        self._closing = new_event()
        self._started = False

    def hold(self, own: Raw) -> None:
        """Renew the claim of this document from now on."""
        self._own = own
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name=f"lazymig:{self._owner}", daemon=True).start()

    def let_go(self) -> None:
        """Renew no claim until the next one is held."""
        self._own = None

    def close(self) -> None:
        """End the thread."""
        self._closing.set()

    def _work(self) -> None:
        pause = self._lease / _RENEWALS
        while not self._closing.wait(pause):
            own = self._own
            renewed = own is None or self._renew(own)
            pause = self._lease / (_RENEWALS if renewed else _RENEWALS_AFTER_FAILURE)

    def _renew(self, own: Raw) -> bool:
        query = all_of(own, owned_by(self._owner))
        try:
            with pymongo.timeout(self._lease / _RENEWALS):
                self._store.update_one(query, renewal(self._store, self._lease))
        except PyMongoError as exc:
            logger.warning(
                "the claim of %r in %s could not be renewed: %s",
                own["_id"]["$eq"],
                self._store.collection.full_name,
                excerpt(exc),
            )
            return False
        return True
