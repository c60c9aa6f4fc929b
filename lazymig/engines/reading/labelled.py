"""Collections whose commands carry the comment and the time limit of the operation they serve."""

from __future__ import annotations

from typing import Any

from pymongo.collection import Collection

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

    def find(self, *args: Any, **options: Any) -> Any:
        """Return a cursor, as PyMongo's `find` does."""
        if self._lazymig_max_time_ms:
            options.setdefault("max_time_ms", self._lazymig_max_time_ms)
        return super().find(*args, **self._lazymig_options(options))

    def count_documents(self, *args: Any, **options: Any) -> int:
        """Count, as PyMongo's `count_documents` does."""
        return super().count_documents(*args, **self._lazymig_limited(options))

    def aggregate(self, *args: Any, **options: Any) -> Any:
        """Run an aggregation, as PyMongo's `aggregate` does."""
        return super().aggregate(*args, **self._lazymig_limited(options))

    def update_one(self, *args: Any, **options: Any) -> Any:
        """Update one document, as PyMongo's `update_one` does."""
        return super().update_one(*args, **self._lazymig_options(options))

    def update_many(self, *args: Any, **options: Any) -> Any:
        """Update many documents, as PyMongo's `update_many` does."""
        return super().update_many(*args, **self._lazymig_options(options))

    def bulk_write(self, *args: Any, **options: Any) -> Any:
        """Write in bulk, as PyMongo's `bulk_write` does."""
        return super().bulk_write(*args, **self._lazymig_options(options))

    def _lazymig_options(self, options: dict[str, Any]) -> dict[str, Any]:
        if self._lazymig_comment is not None:
            options.setdefault("comment", self._lazymig_comment)
        return options

    def _lazymig_limited(self, options: dict[str, Any]) -> dict[str, Any]:
        if self._lazymig_max_time_ms:
            options.setdefault("maxTimeMS", self._lazymig_max_time_ms)
        return self._lazymig_options(options)


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
    again = _LabelledCollection(
        collection.database,
        collection.name,
        codec_options=collection.codec_options,
        read_preference=collection.read_preference,
        write_concern=collection.write_concern,
        read_concern=collection.read_concern,
    )
    vars(again).update(_lazymig_comment=comment, _lazymig_max_time_ms=max_time_ms)
    return again
