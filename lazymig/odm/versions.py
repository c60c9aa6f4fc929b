"""The names that differ between MongoEngine's versions: of its classes, of its session."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final

from mongoengine import base, connection
from mongoengine.base.common import _document_registry
from mongoengine.queryset.base import BaseQuerySet

from lazymig.engines.sessions import join_session_of

__all__ = ["MODIFY_OPTIONS", "class_named", "is_registered", "known_classes", "watch_sessions"]

MODIFY_OPTIONS: Final = tuple(inspect.signature(BaseQuerySet.modify).parameters)[1:-1]
"""What `modify` takes besides its changes, in order; `full_response` until 0.29 alone."""


def class_named(name: str) -> Any:
    """The document class that a `_cls` names.

    :raises mongoengine.errors.NotRegistered: there is none.
    """
    # What the versions after 0.29 have in place of the function.
    registry = getattr(base, "_DocumentRegistry", None)
    return base.get_document(name) if registry is None else registry.get(name)


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
