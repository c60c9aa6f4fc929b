"""The differences between MongoEngine's versions, of which each is named here alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mongoengine import base, connection
from mongoengine.base.common import _document_registry
from mongoengine.queryset.base import BaseQuerySet

from lazymig.engines.sessions import join_session_of

__all__ = [
    "MODIFY_ASKS_WHERE",
    "MODIFY_OPTIONS",
    "UNSENT_BY_MODIFY",
    "UNSENT_BY_WRITES",
    "WRITES_HAVE_OPTIONS",
    "class_named",
    "is_registered",
    "known_classes",
    "stages_of",
    "watch_sessions",
]

# What the versions after 0.29 have in place of a function. Their number does not tell: the
# development version has that of 0.29.0.
_REGISTRY: Final[Any] = getattr(base, "_DocumentRegistry", None)
_AFTER_0_29: Final = _REGISTRY is not None

WRITES_HAVE_OPTIONS: Final = _AFTER_0_29
"""Whether an update, a deletion and an aggregation are sent with the collation, the hint and the
comment of the queryset."""

UNSENT_BY_MODIFY: Final[Mapping[str, Any]] = {"_collation": None, "_hint": -1}
"""The options of a queryset that `modify` does not send, each with the value for none."""

UNSENT_BY_WRITES: Final = {} if WRITES_HAVE_OPTIONS else UNSENT_BY_MODIFY
"""The same of updates and deletions."""

MODIFY_ASKS_WHERE: Final = _AFTER_0_29
"""Whether `modify` heeds `where()`."""

MODIFY_OPTIONS: Final = tuple(inspect.signature(BaseQuerySet.modify).parameters)[1:-1]
"""What `modify` takes besides its changes, in order; `full_response` until 0.29 alone."""


def class_named(name: str) -> Any:
    """The document class that a `_cls` names.

    :raises mongoengine.errors.NotRegistered: there is none.
    """
    return base.get_document(name) if _REGISTRY is None else _REGISTRY.get(name)


def known_classes() -> Iterable[Any]:
    """The document classes that MongoEngine knows at this moment."""
    return list(_document_registry.values())


def is_registered(name: str, model: Any) -> bool:
    """Return whether MongoEngine knows a class by a name."""
    return _document_registry.get(name) is model


def watch_sessions() -> None:
    """Have commands join the session of `run_in_transaction`, where MongoEngine has that."""
    session = getattr(connection, "_get_session", None)
    if session is not None:
        join_session_of(session)


def stages_of(pipeline: Any, more: Sequence[Any]) -> list[Any] | None:
    """The stages that `aggregate` is given, in the order in which MongoEngine sends them.

    :param more: the stages that were given unpacked, which MongoEngine took until 0.29.
    :return: `None` where MongoEngine takes no such pipeline, and says so.
    """
    if not _AFTER_0_29:
        first = [pipeline] if isinstance(pipeline, Mapping) else pipeline
        return [*first, *more]
    if more or not isinstance(pipeline, (list, tuple)):
        return None
    # Before the filter, where MongoDB wants them.
    return sorted(pipeline, key=lambda stage: "$geoNear" not in stage and "$collStats" not in stage)
