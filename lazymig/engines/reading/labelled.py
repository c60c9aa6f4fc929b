"""Collections whose commands carry the comment and the time limit of the operation they serve."""

from __future__ import annotations

import functools
from typing import Any, Final

from pymongo.collection import Collection

from lazymig.engines.access import recast
from lazymig.engines.store import Store

__all__ = ["labelled"]


class _LabelledCollection(Collection[Any]):
    """A collection that adds options to its reads, and the comment to its writes."""

    _lazymig_comment: Any = None
    _lazymig_max_time_ms: int | None = None

    def with_options(self, *args: Any, **options: Any) -> Any:
        """Return the same collection with other options, still labelled."""
        return _label(
            super().with_options(*args, **options),
            self._lazymig_comment,
            self._lazymig_max_time_ms,
        )


def _labelling(name: str, limit: str | None) -> Any:
    """PyMongo's method of this name, which is given the label besides.

    :param limit: the option that limits the time; `None` for a write, which has none.
    """
    plain = getattr(Collection, name)

    @functools.wraps(plain)
    def method(self: _LabelledCollection, /, *args: Any, **options: Any) -> Any:
        if limit is not None and self._lazymig_max_time_ms:
            options.setdefault(limit, self._lazymig_max_time_ms)
        if self._lazymig_comment is not None:
            options.setdefault("comment", self._lazymig_comment)
        return plain(self, *args, **options)

    return method


_LIMITS: Final = {"find": "max_time_ms", "count_documents": "maxTimeMS", "aggregate": "maxTimeMS"}

for _name in (*_LIMITS, "update_one", "update_many", "bulk_write"):
    setattr(_LabelledCollection, _name, _labelling(_name, _LIMITS.get(_name)))


def labelled(collection: Any, comment: Any, max_time_ms: int | None) -> Any:
    """Return a collection whose reads carry both, and whose writes carry the comment.

    :param collection: a PyMongo collection; one of mongomock, which knows neither, comes back.
    :param comment: `None` for no comment.
    :param max_time_ms: `None` for no limit.
    """
    if (comment is None and not max_time_ms) or Store(collection).is_imitation:
        return collection
    return _label(collection, comment, max_time_ms)


def _label(collection: Any, comment: Any, max_time_ms: int | None) -> Any:
    again = recast(collection, _LabelledCollection)
    vars(again).update(_lazymig_comment=comment, _lazymig_max_time_ms=max_time_ms)
    return again
