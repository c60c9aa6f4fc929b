"""The quarantine in a journal: documents that runs have left as they were, with the errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from lazymig.engines.access import Raw, is_mongomock
from lazymig.errors import MigrationError
from lazymig.operations.journal.entries import Quarantined, RunEntry, short
from lazymig.operations.journal.records import FORMAT, refusing_newer, understood
from lazymig.raw.elements import known_again

__all__ = ["Quarantine"]

# Keys of any size must fit into one command.
_RELEASED_AT_ONCE = 1000


class Quarantine:
    """The quarantine of all runs of a journal.

    :param entries: the journal's collection.
    """

    def __init__(self, entries: Collection[Any]) -> None:
        self.entries = entries

    def add(
        self,
        entry: RunEntry,
        rule: str,
        errors: Sequence[MigrationError],
        session: ClientSession | None = None,
    ) -> None:
        """Keep the errors of documents that a run leaves as they are.

        A document that is there for the same rule and run already gets the new error.
        """
        if not errors:
            return
        changes = [
            UpdateOne(
                {"_id": {"run": entry.id, "rule": rule, "document_id": error.document_id}},
                {
                    "$set": {
                        "kind": "quarantine",
                        "format": FORMAT,
                        "run": entry.id,
                        "collection": entry.collection,
                        "rule": rule,
                        "document_id": error.document_id,
                        "error": short(error.problem),
                        "type": type(error).__name__,
                    },
                    "$currentDate": {"at": True},
                },
                upsert=True,
            )
            for error in errors
        ]
        if is_mongomock(self.entries):
            for change in changes:
                self.entries.update_one(change._filter, change._doc, upsert=True)  # noqa: SLF001
            return
        self.entries.bulk_write(changes, ordered=False, session=session)

    def find(
        self, query: Raw, order: Any = "_id", *, strict: bool = False
    ) -> Iterator[Quarantined]:
        """The refused documents that a query finds, in an order of their entries.

        :param strict: what a newer version has written is an error, not left out.
        :raises RunError: `strict`, and a newer version has written an entry.
        """
        name = self.entries.full_name
        found: Iterable[Raw] = self.entries.find({"kind": "quarantine", **query}).sort(order)
        known = refusing_newer(found, name) if strict else found
        return map(Quarantined.read, understood("quarantine", known, name))

    def by_rule(self, run_id: ObjectId) -> dict[str, list[Any]]:
        """The `_id`s of the documents in the quarantine of a run, by the rule that failed.

        :raises RunError: a newer version has written one of the entries.
        """
        found: dict[str, list[Any]] = {}
        for each in self.find({"run": run_id}, strict=True):
            found.setdefault(each.rule, []).append(each.document_id)
        return found

    def ids(self, run_id: ObjectId, within: Raw | None = None) -> list[Any]:
        """The `_id`s of the documents in the quarantine of a run, in order; once for each rule.

        :param within: a query on `_id` alone, as that of a chunk; the server compares.
        """
        query = {"kind": "quarantine", "run": run_id, **dict(_on_document_id(within or {}))}
        found = self.entries.find(query, {"document_id": 1}).sort("document_id", 1)
        return [known_again(each["document_id"]) for each in found if "document_id" in each]

    def release(
        self,
        run_id: ObjectId,
        rule: str,
        document_ids: Sequence[Any],
        session: ClientSession | None = None,
    ) -> None:
        """Take documents out of the quarantine of a run: they were migrated after all."""
        given: dict[str, Any] = {} if session is None else {"session": session}
        keys = [{"run": run_id, "rule": rule, "document_id": key} for key in document_ids]
        for first in range(0, len(keys), _RELEASED_AT_ONCE):
            some = keys[first : first + _RELEASED_AT_ONCE]
            self.entries.delete_many({"_id": {"$in": some}}, **given)


def _on_document_id(query: Raw) -> Iterator[tuple[str, Any]]:
    """A query on `_id` as one on the `document_id` of a quarantine entry."""
    for key, condition in query.items():
        if key == "_id" or key.startswith("_id."):
            yield f"document{key}", condition
        elif key in ("$and", "$or"):
            yield key, [dict(_on_document_id(part)) for part in condition]
        else:
            raise ValueError(f"{key} in a chunk's query is no condition on _id")
