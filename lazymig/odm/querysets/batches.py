"""The batches of a cursor: documents that are migrated together, and handed out one by one."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

from bson.errors import InvalidBSON
from mongoengine.queryset.queryset import ITER_CHUNK_SIZE

from lazymig.engines.loads.lazy import Failure
from lazymig.engines.reading.steady import SteadyReader
from lazymig.odm.loading import LEFT_OUT, Loading

__all__ = ["Batches", "batch_of"]


def batch_of(queryset: Any) -> int:
    """How many documents of a queryset are judged and migrated at once."""
    asked: int = queryset._batch_size or ITER_CHUNK_SIZE
    return asked if asked < ITER_CHUNK_SIZE else int(ITER_CHUNK_SIZE)


class Batches:
    """What has come from one cursor and was not handed out yet: a batch, in one of three states.

    It is *taken*, raw as it was read, and stays so if the connection breaks while it is judged. It
    is then *up to date*, and built document by document as these are asked for. If one of them
    fails, or has to be looked at besides, the rest is *built* at once, so that documents that fail
    for the same reason are rescued together.

    The queryset is given with each call: it holds this object, and goes without the garbage
    collector when it is dropped, and the cursor with it.

    :param cursor: the cursor that MongoEngine keeps.
    :param reader: sees to it that the cursor gives each document once.
    :param decoded: PyMongo decodes its documents, all of which come in one answer, or one of them
        cannot be decoded: then the queryset is asked once more, for bytes.
    """

    __slots__ = (
        "_build",
        "_built",
        "_decoded",
        "_items",
        "_loading",
        "_taken",
        "_whole",
        "cursor",
        "reader",
    )

    def __init__(self, cursor: Any, reader: SteadyReader, *, decoded: bool = False) -> None:
        self.cursor = cursor
        self.reader = reader
        self._decoded = decoded
        self._taken: list[Any] | None = None
        self._items: deque[Any] = deque()
        self._built = False
        # Whether all of it is built at once: that stays so if it fails the first time.
        self._whole = False
        self._loading: Loading | None = None
        self._build: Any = None

    def next(self, queryset: Any) -> Any:
        """The next instance.

        :raises Exception: the exception that stands in its place.
        :raises StopIteration: at the end.
        """
        while True:
            items = self._items
            if not items:
                self._fetch(queryset)
            elif self._built:
                item = items.popleft()
                if isinstance(item, Exception):
                    raise item
                if item is not LEFT_OUT:
                    return item
            elif self._whole:
                self._build_all()
            else:
                try:
                    document = self._build(items[0])
                except Exception:
                    # It is met again, and rescued with the rest.
                    self._whole = True
                    continue
                items.popleft()
                return document

    def fill(self, cache: list[Any], full: int, queryset: Any) -> None:
        """Append instances to a cache until it is full; what is raised is as from `next`."""
        while len(cache) < full:
            items = self._items
            for _ in range(0 if self._whole else min(full - len(cache), len(items))):
                try:
                    cache.append(self._build(items[0]))
                except Exception:
                    break
                items.popleft()
            if len(cache) < full:
                cache.append(self.next(queryset))

    def _fetch(self, queryset: Any) -> None:
        """Take a batch from the cursor and bring it up to date; raises StopIteration at the end."""
        if self._taken is None:
            if self.reader.has_ended:
                raise StopIteration
            taken = self._take(queryset)
            if not taken:
                raise StopIteration
            self._taken = taken
        loading = self._loading = queryset._lazymig_loading()
        self._build = loading.build
        items = loading.bring_up(self._taken)
        failed = False
        if items is not self._taken:
            items = [item for item in items if item is not None]
            failed = any(isinstance(item, Failure) for item in items)
        self._taken = None
        self._items = deque(items)
        self._built = False
        self._whole = failed or loading.family.validates or loading.source.hide_id

    def _take(self, queryset: Any) -> list[Any]:
        if self._decoded:
            with suppress(InvalidBSON):
                taken = self.reader.take(batch_of(queryset), queryset._lazymig_requery)
                if not self.cursor.alive:
                    return taken
            # A rule may yet make it one that can be decoded; or they are too large for one answer,
            # and the next one might not be decoded.
            self._decoded = False
            self.cursor, self.reader = queryset._lazymig_anew(self.cursor)
        return self.reader.take(batch_of(queryset), queryset._lazymig_requery)

    def _build_all(self) -> None:
        loading = self._loading
        assert loading is not None
        self._items = deque(loading.build_all(self._items))
        self._built = True
