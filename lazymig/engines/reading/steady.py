"""A cursor of which each document is taken once, though documents are migrated meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pymongo.collection import Collection

from lazymig.engines.reading.decoding import Undecoded, take
from lazymig.engines.reading.marks import Mark
from lazymig.raw.elements import with_any_date

if TYPE_CHECKING:
    from lazymig.engines.reading.id_store import IdStore
    from lazymig.engines.reading.pinned import Pinned, Requery

__all__ = ["SteadyReader"]


class SteadyReader:
    """Takes the documents of a cursor that has not been asked for any yet.

    A cursor that walks an index meets a document again, or never, if it is moved in that index
    between two answers of the server. So the cursor is asked as long as no engine of this process
    has written to the collection; after that the rest of the result is pinned, if need be. An
    answer that has come is right, whatever is written afterwards.

    :param exposed: whether the cursor may walk an index at all.
    """

    def __init__(self, cursor: Any, collection: Collection[Any], *, exposed: bool) -> None:
        self.cursor = cursor
        self._collection = collection
        # Stand-ins for PyMongo walk no index.
        self._steady = not exposed or not hasattr(cursor, "retrieved")
        self._mark: Mark | None = None
        self._taken: IdStore | None = None
        self._count = 0
        self._waiting = 0
        self._pinned: Pinned | None = None
        self._ready: deque[dict[str, Any]] = deque()

    @property
    def has_ended(self) -> bool:
        """Return whether it is certain that nothing is left."""
        return self._pinned is None and not getattr(self.cursor, "alive", True)

    def take_one(self, size: int, requery: Callable[[], Requery | None]) -> dict[str, Any]:
        """The next raw document, of a batch that is taken as by `take`.

        :raises StopIteration: at the end.
        """
        if not self._ready:
            self._ready.extend(self.take(size, requery))
            if not self._ready:
                raise StopIteration
        return self._ready.popleft()

    def take(self, size: int, requery: Callable[[], Requery | None]) -> list[dict[str, Any]]:
        """The next raw documents, at most `size`; none at the end.

        :param size: not more than the cursor's size of a batch; always the same.
        :param requery: says how the query is asked once more; `None`: no write can move a document
            in an index that it walks. It is called once, when this matters.
        :raises pymongo.errors.PyMongoError: as a cursor does; the next call continues.
        """
        if self._pinned is not None:
            return self._pinned.take()
        if self._steady:
            return self._take(size)
        first: list[dict[str, Any]] = []
        if self._mark is None:
            self._mark = Mark(self._collection)
            first = self._take(1)
            self._steady = not self.cursor.cursor_id
            if self.has_ended:
                return first
        elif self._waiting < size and self._pin(self._mark, requery):
            return self.take(size, requery)
        raws = first + self._take(size - len(first))
        if not self._steady and self._waiting < size:
            if self._pin(self._mark, requery):
                # Others wrote before this answer came: what is in it is asked for again.
                return self.take(size, requery)
            self._steady = self._steady or not self.cursor.cursor_id
        self._note(raws)
        return raws

    def _take(self, size: int) -> list[dict[str, Any]]:
        return take(self.cursor, self._collection.codec_options, size)

    def _pin(self, mark: Mark, requery: Callable[[], Requery | None]) -> bool:
        """Pin the rest of the result if reading on is not safe; return whether it was pinned."""
        if self._steady or mark.is_undisturbed:
            return False
        how = requery()
        if how is None:
            self._steady = True
            return False
        # Only where others write meanwhile.
        from lazymig.engines.reading.pinned import Pinned  # noqa: PLC0415

        taken = self._taken or self._make_store()
        self._pinned = Pinned(self._collection, how, taken, self._count)
        self._taken = None
        self.cursor.close()
        return True

    def _note(self, raws: list[dict[str, Any]]) -> None:
        """Keep in mind what was taken, while more of the result is still with the server."""
        named = raws and ("_id" in raws[0] or isinstance(raws[0], Undecoded))
        if self._steady or not named:
            self._steady, self._taken = True, None
            return
        if self._taken is None:
            self._taken = self._make_store()
        self._taken.note([raw["_id"] for raw in raws if "_id" in raw])
        self._count += len(raws)
        self._waiting = self.cursor.retrieved - self._count

    def _make_store(self) -> IdStore:
        # Only for a result of several answers: SQLite is one of the larger imports.
        from lazymig.engines.reading.id_store import IdStore  # noqa: PLC0415

        return IdStore(with_any_date(self._collection.codec_options))
