"""The querysets that a model's managers make, each of the manager's own class."""

from __future__ import annotations

from typing import Any

from mongoengine.base.metaclasses import MetaDict

from lazymig.odm.querysets.joining import joined, plain_of

__all__ = ["open_managers"]

_KEY = "queryset_class"
_value_of: Any = dict.get


class JoiningMeta(MetaDict):
    """A model's `_meta` that joins whatever queryset class it is asked for.

    MongoEngine's managers, a user's own and `Document._qs` take `_meta.get("queryset_class",
    default)`, each with a default of its own. Here the default is joined too, so that a second
    manager keeps its class, as one does that is added after the model was defined.
    """

    live = False

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key; a queryset class, be it the default, with lazymig's doors."""
        # MongoEngine asks twice for each attribute of a document that is set: super() is too slow.
        value = _value_of(self, key, default)
        return joined(value, live=self.live) if key == _KEY else value


def open_managers(model: Any, live: bool) -> None:
    """Have all querysets of a model join lazymig's doors.

    :param live: with migrations; otherwise with `as_stored()` alone, which then changes nothing.
    """
    meta = model._meta
    if not isinstance(meta, JoiningMeta):
        meta = model._meta = JoiningMeta(meta)
    meta.live = live
    if _KEY in meta:
        meta[_KEY] = joined(plain_of(meta[_KEY]), live=live)
