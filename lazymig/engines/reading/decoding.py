"""Documents decoded one by one, in batches that are bounded in bytes.

PyMongo decodes an answer of the server as a whole: one document that it cannot decode costs all
others of the answer, and the cursor as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import bson
from bson import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument

from lazymig.engines.access import Raw, all_of, by_ids, key_of
from lazymig.engines.store import Store
from lazymig.query.matching import Matcher
from lazymig.raw.elements import KeptDocument, faithful, fields_of, id_element, with_any_date
from lazymig.redaction import excerpt

__all__ = [
    "BoundedReader",
    "Undecodable",
    "Undecoded",
    "decode",
    "judge",
    "named",
    "take",
]

# The bytes of documents that are held at once, beyond the answer of the server, which may have
# sixteen times as many for itself.
_MOST_BYTES: Final = 4 << 20


class Undecodable(InvalidBSON):
    """A field of a stored document cannot be decoded; `path` names it."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"the stored {path!r} cannot be decoded: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        # With its notes: in the dictionary, or before Python 3.11 in the text.
        return type(self), (self.path, self.reason), {**self.__dict__, "args": self.args}


class Undecoded(Mapping[str, Any]):
    """A document that cannot be decoded as a whole: it gives those of its fields that can.

    `error` is that of the first one that cannot. It does not contain an `_id` that cannot be
    decoded to a value that stands for the stored one, nor a `_cls` that is no text.
    """

    def __init__(self, data: bytes, options: CodecOptions[Any], error: InvalidBSON) -> None:
        self.data = data
        self.error = error
        self._options = options
        self._nameless: InvalidBSON | None = None
        self._parts = dict(fields_of(data))
        for name in list(self._parts):
            try:
                self.get(name)
            except InvalidBSON as exc:
                self.error = exc if self.error is error else self.error
                if name == "_id":
                    self._nameless = exc
                if name in ("_id", "_cls"):
                    del self._parts[name]

    @property
    def stored_id(self) -> Any:
        """The `_id` as queries take it, be it a `StoredValue`."""
        return faithful(id_element(self.data), self._options)

    def __getitem__(self, key: str) -> Any:
        if key == "_id" and self._nameless is not None:
            raise self._nameless
        options = self._options if key != "_id" else with_any_date(self._options)
        try:
            (value,) = bson.decode(self._parts[key], options).values()
        except InvalidBSON as exc:
            raise Undecodable(key, excerpt(exc)) from exc
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Undecoded) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Undecoded({list(self._parts)!r})"


def decode(document: Any, options: CodecOptions[Any]) -> Raw:
    """What a collection with these options gives for a document that was left as bytes."""
    if not isinstance(document, RawBSONDocument):
        found: Raw = document
        return found
    return _decode(document.raw, options)


def _decode(data: Any, options: CodecOptions[Any]) -> Raw:
    try:
        found: Raw = bson.decode(data, options)
    except InvalidBSON as exc:
        return Undecoded(bytes(data), options, exc)
    return found


def named(documents: Sequence[Raw]) -> tuple[list[Raw], list[Undecoded]]:
    """Documents that a filter can name by their `_id`, and the others."""
    nameless = [each for each in documents if isinstance(each, Undecoded) and "_id" not in each]
    if not nameless:
        return list(documents), []
    return [each for each in documents if "_id" in each], nameless


def take(
    cursor: Any, options: CodecOptions[Any], most: int, most_bytes: int = _MOST_BYTES
) -> list[Any]:
    """The next documents of a cursor: at most so many, and none after so many bytes.

    One that cannot be decoded is `Undecoded`. Documents that the cursor has decoded are taken as
    they are.

    :param options: those of the collection, for what is left as bytes.
    """
    return _take(cursor, options, most, most_bytes)[0]


def _take(
    cursor: Any, options: CodecOptions[Any], most: int, most_bytes: int, *, kept: bool = False
) -> tuple[list[Any], bool]:
    """The documents of `take`, and whether their bytes were enough, so that more may be left."""
    taken: list[Any] = []
    size = 0
    for document in itertools.islice(cursor, most):
        if not isinstance(document, RawBSONDocument):
            # The cursor was begun by somebody else, or is a stand-in: all are decoded.
            return [document, *itertools.islice(cursor, most - 1)], False
        data = document.raw
        taken.append(data)
        size += len(data)
        if size >= most_bytes:
            break
    cut = size >= most_bytes
    if kept:
        return [_kept(data, options) for data in taken], cut
    if len(taken) <= 1:
        return [_decode(data, options) for data in taken], cut
    try:
        # Two thirds of the time that it takes to decode each by itself.
        return list(bson.decode_all(b"".join(taken), options)), cut
    except InvalidBSON:
        return [_decode(data, options) for data in taken], cut


def _kept(data: Any, options: CodecOptions[Any]) -> Raw:
    found = _decode(data, options)
    return found if isinstance(found, Undecoded) else KeptDocument(found, bytes(data))


class BoundedReader:
    """Reads documents by their `_id`s, as many at a time as `take` takes at once.

    :param condition: what they have to satisfy as well.
    :param kept: each is a `KeptDocument`, unless it cannot be decoded.
    """

    def __init__(
        self,
        store: Store,
        document_ids: Sequence[Any],
        condition: Raw | None,
        projection: Raw | None = None,
        *,
        kept: bool = False,
    ) -> None:
        self.left = list(document_ids)
        self._kept = kept
        self._store = store
        self._condition = condition
        self._projection = projection
        self._most = len(self.left)

    def read(self) -> list[Any]:
        """The next documents; `left` has the `_id`s of those that are still to be asked for."""
        query = all_of(by_ids(self.left), self._condition)
        most = min(self._most, len(self.left))
        limited = most < len(self.left)
        cursor = self._store.find(query, self._projection, None if limited else most)
        if limited:
            cursor.limit(most)
        options = self._store.collection.codec_options
        found, cut = _take(cursor, options, most, _MOST_BYTES, kept=self._kept)
        cursor.close()
        if not cut and not (limited and len(found) == most):
            self.left = []
            return found
        # What is not taken of an answer is sent in vain.
        self._most = len(found) if cut else 2 * len(found)
        taken = {key_of(document["_id"]) for document in found}
        self.left = [each for each in self.left if key_of(each) not in taken]
        return found


def judge(matcher: Matcher, document: Raw) -> bool | None:
    """Return whether a document matches; `None`, for unknown, where it cannot be decoded."""
    return None if isinstance(document, Undecoded) else matcher.judge(document)
