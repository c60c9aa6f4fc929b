"""The movement of documents in the index that a query walks, by what rules write."""

from __future__ import annotations

from collections.abc import Collection as Paths
from collections.abc import Iterator, Mapping
from contextvars import Context
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from lazymig.engines.access import Raw
from lazymig.engines.deadline import Deadline
from lazymig.query.matching import query_paths
from lazymig.raw.paths import overlaps

__all__ = ["can_move", "may_move"]

# Of a path that stands for every path.
_ANY = ""


def may_move(
    collection: Collection[Any],
    query: Raw,
    order: Paths[str],
    written: Paths[str] | None,
    limit: float | None,
    *,
    hinted: bool,
) -> bool:
    """Return whether there is an index that the query may walk and that writes may change.

    Costs one command. Indexes that cannot be listed are taken for such.

    :param query: the filter, as it is sent.
    :param order: the dotted paths that the result is sorted by.
    :param written: the dotted paths that are written; `None` for any.
    :param limit: the seconds that the command may take, within every other limit.
    :param hinted: an index is named, which is walked whatever the filter is.
    """
    try:
        # In a context of its own: a transaction that is bound to this one does not know the command
        # and would be over.
        indexes = Context().run(_indexes_of, collection, Deadline.of(collection, limit))
    except PyMongoError:
        return True
    read = None if hinted else query_paths(query)
    if read is not None:
        read = read.union(order)
    return any(_provides(index, order) and can_move(index, read, written) for index in indexes)


def _indexes_of(collection: Collection[Any], deadline: Deadline) -> list[Raw]:
    with deadline.within():
        return list(collection.list_indexes())


def _provides(index: Raw, order: Paths[str]) -> bool:
    """Return whether documents may come in this order as an index is walked.

    If not, all of them are read and sorted before the first one is sent.
    """
    return all(any(name == path or _covers(name, path) for name in index["key"]) for path in order)


def _covers(name: str, path: str) -> bool:
    return name.endswith("$**") and _meets([_prefix(name)], [path])


def can_move(index: Raw, read: Paths[str] | None, written: Paths[str] | None) -> bool:
    """Return whether writes can change an index, and a query can walk it.

    :param index: its description, as `listIndexes` gives it.
    :param read: the dotted paths of the filter and the order; `None` for any.
    :param written: the dotted paths that are written; `None` for any.
    """
    key = list(index["key"])
    if key == ["_id"]:
        return False
    if read is not None and ("_fts" in key or not _meets(_indexed(key[0], index), read)):
        # MongoDB walks an index only if the filter or the order names the first path of its key,
        # and a text index only for `$text`, which may read any path.
        return False
    paths = [path for name in key for path in _indexed(name, index)]
    paths.extend(_partial_paths(index))
    return written is None or _meets(paths, written)


def _indexed(name: str, index: Raw) -> Iterator[str]:
    """The paths that one part of an index's key stands for."""
    if name in ("_fts", "_ftsx"):
        for weighted in index.get("weights") or {"$**": 1}:
            yield _prefix(weighted)
    else:
        yield _prefix(name)


def _prefix(path: str) -> str:
    """The path itself; of a wildcard the path that all of its paths lie below."""
    return path[: -len("$**")].rstrip(".") if path.endswith("$**") else path


def _partial_paths(index: Raw) -> Iterator[str]:
    condition = index.get("partialFilterExpression")
    if isinstance(condition, Mapping):
        paths = query_paths(condition)
        yield from (_ANY,) if paths is None else paths


def _meets(paths: Iterator[str] | list[str], others: Paths[str]) -> bool:
    return any(path == _ANY or overlaps(path, other) for path in paths for other in others)
