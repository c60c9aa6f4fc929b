"""`as_stored`: models whose documents are shown as they lie in the database, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["as_stored", "check_models", "shown_as_stored"]

_models: ContextVar[tuple[type, ...]] = ContextVar("lazymig_as_stored", default=())


@contextmanager
def as_stored(*models: Any) -> Iterator[None]:
    """Show the documents of these models, and of their subclasses, as they are stored.

    Within the `with` block no load or save starts a migration, in this thread or task, and queries
    are answered from what is stored; an old document that MongoEngine cannot build raises
    MongoEngine's own exception.

    :param models: document classes.
    :raises TypeError: there is none, or one of them is no class.
    """
    check_models("as_stored", models)
    token = _models.set((*_models.get(), *models))
    try:
        yield
    finally:
        _models.reset(token)


def check_models(block: str, models: Sequence[Any]) -> None:
    """Hold what a block is given against what it is for: without a model it would do nothing.

    :param block: its name.
    :raises TypeError: there is no model, or one of them is no class.
    """
    if not models:
        raise TypeError(f"{block}() names no model; give the document classes that it is for")
    for model in models:
        if not isinstance(model, type):
            raise TypeError(f"{block}() is given {model!r}, which is no document class")


def shown_as_stored(model: type) -> bool:
    """Return whether an `as_stored` block is open for this model or one of its bases."""
    models = _models.get()
    return bool(models) and issubclass(model, models)
