"""The collections of journal and leases, and the clock by which their times are judged.

One collection, by default `lazymig_journal` in the database of the collections that are run over.
Its entries are distinguished by `kind`; docs/journal.md lists their keys.

run          one bulk run: what, by whom, with which options, how far, and what is asked of it
lease        who runs over a collection at this moment (see `lease`); always in `lazymig_journal`
coverage     which run has applied a rule; always in `lazymig_journal`, too
quarantine   a document that a run left as it was, with the error
sample       how many documents each rule of a model had left at some time
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import IndexModel, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from lazymig.engines.access import is_mongomock
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.records import understood

__all__ = [
    "UNAUTHORIZED",
    "client_now",
    "ensure_indexes",
    "journal_collection",
    "lease_collection",
    "leases_of",
    "now_in",
]

logger = logging.getLogger(__name__)

UNAUTHORIZED: Final = 13
"""The code of the error for a missing right."""


def client_now() -> datetime:
    """This machine's time, naive UTC as MongoDB keeps it; for mongomock, which has no other."""
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def now_in(entries: Collection[Any]) -> Any:
    """The expression for the present time in an aggregation over a journal."""
    return client_now() if is_mongomock(entries) else "$$NOW"


def journal_collection(
    database: Database[Any],
    name: str = JOURNAL,
    codec_options: CodecOptions[Any] | None = None,
) -> Collection[Any]:
    """The journal, read from the primary and written to the majority.

    What a minority alone has seen may be rolled back: a run would be at work that nobody knows of.

    :param codec_options: by which `_id`s are encoded and decoded; without them the database's.
    """
    if is_mongomock(database):
        return database[name]
    codec = (codec_options or database.codec_options).with_options(
        document_class=dict,
        tz_aware=False,
        tzinfo=None,
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    )
    return database.get_collection(
        name,
        codec_options=codec,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=WriteConcern("majority"),
    )


def lease_collection(database: Database[Any]) -> Collection[Any]:
    """The one place of the leases, whatever the journal's name is.

    Runs that are noted in different journals must not work on the same collection either.
    """
    return journal_collection(database)


def leases_of(database: Database[Any]) -> dict[Any, datetime]:
    """When the leases expire, by the id of the run that holds each; some may have expired."""
    leases = lease_collection(database)
    found = understood("lease", leases.find({"kind": "lease"}), leases.full_name)
    return {lease["holder"].get("run"): lease["expires"] for lease in found}


def ensure_indexes(entries: Collection[Any]) -> None:
    """Make the indexes of a journal.

    They save time, nothing else: whoever may not make them can still run.
    """
    try:
        entries.create_indexes(
            [
                IndexModel([("kind", 1), ("collection", 1), ("started", -1)]),
                IndexModel(
                    [("run", 1), ("document_id", 1)],
                    partialFilterExpression={"kind": "quarantine"},
                ),
            ]
        )
    except OperationFailure as exc:
        if exc.code != UNAUTHORIZED:
            raise
        logger.warning("%s: no right to make its indexes", entries.full_name)
