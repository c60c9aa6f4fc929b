"""A walk over a collection in `_id` ranges, whatever is written meanwhile.

No update changes an `_id`, so no document comes up twice because it was moved or changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection

from lazymig.engines.access import Raw, all_of, by_ids, compared, ids_of, on_primary
from lazymig.engines.store import Store
from lazymig.raw.elements import RawDocument, known_again

__all__ = ["FEW", "FIRST", "Chunk", "ChunkSize", "Position", "Walk"]

# MongoDB's order of the types that an `_id` can have; a comparison like $gt finds values of its
# own bracket alone. https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
_BRACKETS = (
    "minKey",
    "null",
    "number",
    "string",
    "object",
    "binData",
    "objectId",
    "bool",
    "date",
    "timestamp",
    "dbPointer",
    "javascript",
    "javascriptWithScope",
    "maxKey",
)

# Of these no two values differ, or at most two, or nobody has many: they need no range.
_UNDIVIDED = frozenset(
    {"minKey", "null", "bool", "dbPointer", "javascript", "javascriptWithScope", "maxKey"}
)

FEW, _MOST, FIRST = 100, 250_000, 1000
"""The fewest and the most documents of a chunk, and those of the first one."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a walk has come: within a bracket of types, after an `_id`.

    `begun` is false at the start of the bracket; then `after` has no meaning.
    """

    bracket: int
    begun: bool = False
    after: Any = None

    def to_bson(self) -> dict[str, Any]:
        """The position as it is stored in a checkpoint."""
        return {"_id": self.after, "bracket": self.bracket, "begun": self.begun}

    @classmethod
    def from_bson(cls, stored: Raw) -> Position:
        """The position that a checkpoint holds."""
        return cls(stored["bracket"], stored["begun"], known_again(stored["_id"]))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a collection: its query, its number of documents, where the walk is after it.

    `end` is `None` for documents that were picked, beside the walk.
    """

    within: Raw | None
    documents: int
    end: Position | None

    @classmethod
    def of(cls, document_ids: Sequence[Any]) -> Chunk:
        """A chunk of picked documents."""
        return cls(by_ids(document_ids), len(document_ids), None)

    def split(self, document_ids: Sequence[Any], size: int) -> list[Chunk]:
        """Chunks of so many of the documents each, the last one with what is left.

        :param document_ids: those of the chunk's documents that count, in the order of the walk.
        """
        parts = [document_ids[first : first + size] for first in range(0, len(document_ids), size)]
        chunks = [
            Chunk(by_ids(ids), 0, self.end and Position(self.end.bracket, True, ids[-1]))
            for ids in parts
        ]
        return [*chunks[:-1], Chunk(by_ids(parts[-1]), self.documents, self.end)]


class Walk:
    """Gives the chunks of a collection one after the other.

    Of the documents that are inserted meanwhile, those after the position are met.

    :param position: where to begin; `None` for the beginning.
    """

    def __init__(self, collection: Collection[Any], position: Position | None = None) -> None:
        self._reader = on_primary(collection)
        self._position = position or Position(0)
        self._whole = Store(collection).is_imitation
        self._last_bracket: int | None = None

    def next(self, size: int) -> Chunk | None:
        """The next chunk, of at most `size` documents; `None` at the end."""
        if self._whole:
            return self._everything()
        if self._last_bracket is None:
            self._look_at_ends()
        while self._last_bracket is not None and self._position.bracket <= self._last_bracket:
            chunk = self._in_bracket(size)
            if chunk is not None:
                assert chunk.end is not None
                self._position = chunk.end
                return chunk
            self._position = Position(self._position.bracket + 1)
        return None

    def _everything(self) -> Chunk | None:
        """On mongomock, which cannot compare values of all types, a collection is one chunk."""
        if self._position.bracket >= len(_BRACKETS):
            return None
        self._position = Position(len(_BRACKETS))
        return Chunk(None, self._reader.count_documents({}), self._position)

    def _look_at_ends(self) -> None:
        """Find the first and the last bracket; nearly every collection has one alone."""
        first, last = self._ids({}, 1), self._ids({}, -1)
        if not first or not last:
            return
        start = self._bracket_of(first[0])
        if start is not None and start > self._position.bracket:
            self._position = Position(start)
        end = self._bracket_of(last[0])
        self._last_bracket = len(_BRACKETS) - 1 if end is None else end

    def _ids(self, query: Raw, direction: int, skip: int = 0) -> list[Any]:
        """The first `_id` of a query after some others, in one direction; none at the end."""
        order = [("_id", direction)]
        return list(ids_of(self._reader, query, sort=order, skip=skip, limit=1))

    def _bracket_of(self, document_id: Any) -> int | None:
        """The bracket of an `_id`, asked of the server: BSON types and Python types differ.

        `None` if the document was deleted meanwhile.
        """
        own = by_ids([document_id])
        for bracket in range(len(_BRACKETS)):
            if self._reader.count_documents(all_of(own, {"_id": _of_type(bracket)}), limit=1):
                return bracket
        return None

    def _in_bracket(self, size: int) -> Chunk | None:
        bracket = self._position.bracket
        lower = _greater_than(self._position.after) if self._position.begun else _of_type(bracket)
        left: dict[str, Any] = {"_id": lower}
        if _BRACKETS[bracket] in _UNDIVIDED:
            count = self._reader.count_documents(left)
            # After null is nothing of any of these types.
            return Chunk(left, count, Position(bracket, True)) if count else None
        if not self._position.begun and _BRACKETS[bracket] == "number":
            # The first of all numbers, and no range finds it.
            not_a_number: dict[str, Any] = {"_id": {"$eq": math.nan}}
            if self._reader.count_documents(not_a_number, limit=1):
                return Chunk(not_a_number, 1, Position(bracket, True, math.nan))
        bound = self._ids(left, 1, skip=size - 1)
        if bound:
            within = _up_to(lower, bound[0])
            return Chunk(within, size, Position(bracket, True, bound[0]))
        last = self._ids(left, -1)
        if not last:
            return None
        within = _up_to(lower, last[0])
        documents = self._reader.count_documents(within)
        return Chunk(within, documents, Position(bracket, True, last[0]))


def _of_type(bracket: int) -> Raw:
    name = _BRACKETS[bracket]
    # The deprecated symbols are ordered among the strings.
    return {"$type": ["string", "symbol"] if name == "string" else name}


def _greater_than(document_id: Any) -> Raw:
    if isinstance(document_id, float) and math.isnan(document_id):
        return {"$gte": -math.inf}
    return compared("$gt", document_id)


def _up_to(lower: Raw, document_id: Any) -> Raw:
    upper = compared("$lte", document_id)
    if isinstance(lower, RawDocument) or isinstance(upper, RawDocument):
        return {"$and": [{"_id": lower}, {"_id": upper}]}
    return {"_id": {**lower, **upper}}


class ChunkSize:
    """How many documents the next chunk has, so that it takes the time that it should.

    :param fixed: documents per chunk; `None` to adapt.
    :param seconds: what a chunk should take.
    :param first: documents of the first chunk: few, where a rule may take long for each.
    """

    def __init__(
        self,
        fixed: int | None = None,
        seconds: float = 0.5,
        first: int = FIRST,
    ) -> None:
        self._fixed = fixed
        self._seconds = seconds
        self._size = fixed or first

    @property
    def documents(self) -> int:
        """The size of the next chunk."""
        return self._size

    def learn(self, documents: int, seconds: float, computing: float = 0.0) -> None:
        """Note what a chunk of so many documents took; at most double or halve the next.

        :param computing: the part of these seconds that a rule took in Python. It alone makes
            chunks small: what a chunk costs besides would only be paid more often.
        """
        if self._fixed is not None or not documents:
            return
        if documents < self._size and seconds < self._seconds:
            # The last one of a walk, or a small one: it says little.
            return
        ideal = documents * self._seconds / max(seconds, 1e-6)
        bounded = min(max(ideal, self._size / 2), self._size * 2)
        least = 1 if computing > self._seconds else min(FEW, self._size)
        self._size = int(min(max(bounded, least), _MOST))

    def shrink(self, documents: int) -> None:
        """Make the next chunk no larger than this."""
        if self._fixed is None:
            self._size = min(self._size, documents)
