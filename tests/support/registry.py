"""MongoEngine's global table of model classes, put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mongoengine
from mongoengine.base.common import _document_registry


@contextmanager
def restored_registry() -> Iterator[None]:
    """Forget the models defined meanwhile, and the collections that models remember.

    A model remembers its collection, and with it a closed connection, beyond its test.
    """
    before = dict(_document_registry)
    try:
        yield
    finally:
        mongoengine.disconnect_all()
        _document_registry.clear()
        _document_registry.update(before)
        for model in _models(mongoengine.Document):
            if model._meta.get("abstract") is not True:
                model._disconnect()


def _models(base: Any) -> Iterator[Any]:
    """All models, those too whose name in the table another one has taken."""
    for model in base.__subclasses__():
        yield model
        yield from _models(model)
