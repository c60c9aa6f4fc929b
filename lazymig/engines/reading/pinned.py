"""The rest of a result, pinned by its `_id`s, which no update changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pymongo.collection import Collection

from lazymig.engines.reading.decoding import decode, take
from lazymig.engines.reading.id_store import IdStore
from lazymig.engines.reading.marks import Mark
from lazymig.raw.elements import with_any_date

__all__ = ["Pinned", "Requery"]

# The `_id`s that are read ahead at first, and how many times as many the next time. Who leaves the
# loop early has not waited for the `_id`s of a whole collection.
_WINDOW: Final = 1000
_GROWTH: Final = 4

# By how much fewer documents are asked for at once from where they are too large.
_SHRINKING: Final = 4

# The `_id`s of one answer of the server.
_ANSWER: Final = 10_000

# How often `_id`s are read while others write, and how often more of them are looked for at the end
# of the result, where others may have moved documents meanwhile.
_ATTEMPTS: Final = 3
_LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class Requery:
    """How the documents of a cursor's query are asked for once more.

    :param ids: makes a cursor over the `_id`s of the result from its start, at most so many, in the
        order of the query; and with the given size of the server's answers.
    :param documents: makes a cursor over those of these documents that match, in any order, with
        the projection of the query.
    :param skip: how many documents of the result are left out at its start.
    :param limit: how many documents belong to the result after that; `None` for all.
    :param batch: how many documents are asked for at once.
    """

    ids: Callable[[int, int], Any]
    documents: Callable[[Sequence[Any]], Any]
    skip: int
    limit: int | None
    batch: int


class _Disturbed(Exception):
    """Others wrote while `_id`s were read: a document may have been moved past the reading."""


class Pinned:
    """What is left of a result once some of its documents were taken, each document once.

    The `_id`s of the result are read from its start, in the order of the query, a window at a
    time; those that were taken are dropped, and of the others the first `skip`. That holds wherever
    the taken ones have been moved. What no longer matches when its turn comes is left out.

    :param taken: the `_id`s of the `count` documents that were taken.
    """

    def __init__(
        self, collection: Collection[Any], requery: Requery, taken: IdStore, count: int
    ) -> None:
        self._collection = collection
        self._requery = requery
        self._store = taken
        self._skip = requery.skip
        self._left = None if requery.limit is None else max(requery.limit - count, 0)
        self._window = _WINDOW
        self._batch = requery.batch
        self._looks = 0
        self._finished = False
        self._ended = False
        taken.recall()

    def take(self) -> list[dict[str, Any]]:
        """The raw documents of the next batch; none at the end.

        :raises pymongo.errors.PyMongoError: as a cursor does; the next call tries again.
        """
        while not self._ended:
            position, document_ids = self._store.head(self._batch)
            if document_ids:
                documents = self._read_documents(document_ids)
                if documents is None:
                    self._batch = max(self._batch // _SHRINKING, 1)
                    continue
                self._store.drop(position)
                if documents:
                    if self._left is not None:
                        self._left -= len(documents)
                    return documents
            elif self._finished or self._left == 0:
                self._ended = True
                self._store.close()
            else:
                self._read_on()
        return []

    def _read_documents(self, document_ids: Sequence[Any]) -> list[dict[str, Any]] | None:
        """These documents, in this order; `None` if they are too many bytes to be held at once."""
        key_of = self._store.key_of
        most = len(document_ids)
        with self._requery.documents(document_ids) as cursor:
            documents = take(cursor, self._collection.codec_options, most)
            if len(documents) < most and next(cursor, None) is not None:
                return None
        found = {key_of(document["_id"]): document for document in documents}
        keys = map(key_of, document_ids)
        return [found[key] for key in keys if key in found]

    def _read_on(self) -> None:
        """Queue the `_id`s of the next window; read again if others write meanwhile."""
        for _attempt in range(_ATTEMPTS - 1):
            with suppress(_Disturbed), self._store.attempt():
                self._read_window()
                return
        with self._store.attempt():
            self._read_window(lenient=True)

    def _read_window(self, *, lenient: bool = False) -> None:
        """Queue the next `_id`s that are not known.

        :param lenient: accept that others write meanwhile; what they move is looked for later.
        """
        wanted = self._window if self._left is None else min(self._window, self._left)
        most = self._store.known + self._skip + wanted
        mark = Mark(self._collection)
        skip, read, queued, whole = self._skip, 0, 0, True
        options = with_any_date(self._collection.codec_options)
        with self._requery.ids(most, min(most + 1, _ANSWER)) as cursor:
            for each in cursor:
                if not read:
                    # The first answer of the server is the only one.
                    whole = not cursor.cursor_id
                read += 1
                raw = decode(each, options)
                if "_id" not in raw or not self._store.add(raw["_id"]):
                    continue
                if skip:
                    skip -= 1
                    continue
                self._store.queue(raw["_id"])
                queued += 1
                if queued == wanted:
                    break
        if not (mark.is_undisturbed or lenient):
            raise _Disturbed
        self._skip = skip
        if queued < wanted:
            # That was the end of the result. Another process may have moved a document past a
            # reading of several answers, so that one is confirmed by another.
            self._looks += 1
            certain = whole and mark.is_undisturbed
            self._finished = not queued or certain or self._looks > _LOOKS
        else:
            self._window *= _GROWTH
