"""The claim on a document: how it is taken, renewed and given back, and how others see it.

It lies in the document, because only there the update and the release are one atomic write without
a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from pymongo import WriteConcern
from pymongo.collection import Collection

from lazymig.engines.access import Raw, all_of, key_of
from lazymig.engines.store import Store
from lazymig.errors import MigrationInProgress
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.once import CLAIM, OnceOptions

__all__ = [
    "RELEASE",
    "Held",
    "claiming",
    "durable",
    "free",
    "look",
    "options_of",
    "owned_by",
    "release_expired",
    "releasing",
    "renewal",
]

_UNTIL: Final = f"{CLAIM}.until"
_OWNER: Final = f"{CLAIM}.owner"

RELEASE: Final = {"$unset": {CLAIM: ""}}


@dataclass(frozen=True, slots=True)
class Held:
    """A document that a rule concerns and that carries another's claim.

    `live` is false once the claim has expired: then it may be taken over.
    """

    rule: BoundRule
    document: Raw
    owner: str
    until: datetime | None
    live: bool

    def error(self) -> MigrationInProgress:
        """What is raised for a document that stays held."""
        until = self.until.isoformat(" ", "seconds") if self.until else "an unknown time"
        return MigrationInProgress(
            f"{self.owner or 'another process'} is at work on the document; if it has died, its "
            f"claim ends at {until} by the server's clock; load the document again later",
            model=self.rule.model_name,
            rule=self.rule.name,
            document_id=self.document["_id"],
            owner=self.owner,
            until=self.until,
        )


def options_of(rule: BoundRule) -> OnceOptions:
    """The options of a once rule."""
    assert rule.once is not None
    return rule.once


def durable(store: Store) -> Store:
    """The store with writes that a change of the primary does not undo.

    A claim that was undone would let the effect happen twice.
    """
    if store.collection.write_concern.document.get("w", 1) in (0, 1):
        return store.with_concern(WriteConcern("majority"))
    return store


def free(store: Store, owner: str | None = None) -> dict[str, Any]:
    """The condition that a document carries no live claim, or that of this owner."""
    if store.is_imitation:
        ways: list[Raw] = [
            {CLAIM: {"$exists": False}},
            {_UNTIL: {"$lt": _now(store)}},
            {_OWNER: owner or ""},
        ]
        return {"$or": ways}
    # What is missing is less than any time.
    expired: dict[str, Any] = {"$lt": [f"${_UNTIL}", _now(store)]}
    if owner is not None:
        expired = {"$or": [expired, {"$eq": [f"${_OWNER}", owner]}]}
    return {"$expr": expired}


def owned_by(owner: str) -> Raw:
    """The condition that a document carries the claim of this owner."""
    return {_OWNER: owner}


def claiming(store: Store, rule: str, owner: str, lease: float) -> Any:
    """The update that claims a document for so many seconds."""
    claim = {"rule": rule, "owner": owner, "until": _end_of(store, lease)}
    if store.is_imitation:
        return {"$set": {CLAIM: claim}}
    # $mergeObjects, because a plain document would be merged into what lies there.
    return [{"$set": {CLAIM: {"$mergeObjects": [claim]}}}]


def renewal(store: Store, lease: float) -> Any:
    """The update by which a claim lasts for so many seconds from now."""
    until = {"$set": {_UNTIL: _end_of(store, lease)}}
    return until if store.is_imitation else [until]


def releasing(update: Any) -> Any:
    """An update, and the release of the claim with it."""
    if isinstance(update, Mapping):
        return {**update, "$unset": {**update.get("$unset", {}), CLAIM: ""}}
    return [*update, {"$unset": CLAIM}]


def release_expired(collection: Collection[Any], rule: BoundRule, class_filter: Raw | None) -> None:
    """Take the claims of owners who have died out of documents that the rule matches no more."""
    query = all_of(class_filter, {f"{CLAIM}.rule": rule.name}, free(Store(collection)))
    collection.update_many(query, RELEASE)


def look(store: Store, rule: BoundRule, documents: Sequence[Raw]) -> dict[Any, Held]:
    """Those of the documents that the rule still concerns, with what is known of their claims."""
    query = store.query_of(rule, [document["_id"] for document in documents])
    live = {"$gte": [f"${_UNTIL}", _now(store)]}
    by_key = {key_of(document["_id"]): document for document in documents}
    held = {}
    for each in store.aggregate([{"$match": query}, {"$project": {CLAIM: 1, "live": live}}]):
        claim = each.get(CLAIM)
        claim = claim if isinstance(claim, Mapping) else {}
        until = claim.get("until")
        key = key_of(each["_id"])
        held[key] = Held(
            rule,
            by_key[key],
            str(claim.get("owner", "")),
            until if isinstance(until, datetime) else None,
            bool(each.get("live")),
        )
    return held


def _now(store: Store) -> Any:
    """The server's time; an imitation has none, and gets the client's."""
    return datetime.now(timezone.utc).replace(tzinfo=None) if store.is_imitation else "$$NOW"


def _end_of(store: Store, lease: float) -> Any:
    """When a claim ends that begins now."""
    if store.is_imitation:
        return _now(store) + timedelta(seconds=lease)
    return {"$add": ["$$NOW", int(lease * 1000)]}
