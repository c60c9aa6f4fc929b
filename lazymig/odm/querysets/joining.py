"""The joined queryset classes: MongoEngine's, or a user's own, with lazymig's methods in front.

Whoever makes a queryset of a model with the mixin, a manager or a user's own code, MongoEngine
initializes it. There it becomes one of the joined class, so that every manager keeps its class.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mongoengine.queryset.base import BaseQuerySet

from lazymig.engines.sessions import in_given_transaction
from lazymig.odm.querysets.foreign import with_others_shown
from lazymig.odm.versions import WRITES_HAVE_OPTIONS, stages_of

__all__ = ["NOTHING_PENDING", "AsStoredQuerySet", "joins_live", "watch_querysets"]

_WATCHED = "_lazymig_watched"

NOTHING_PENDING = "No rule is pending for this query: it is sent as it is."

if TYPE_CHECKING:
    # What is put in front is only ever used joined to a MongoEngine queryset class.
    _Joined: Any = BaseQuerySet
else:
    _Joined = object

# What is added to the methods of a queryset. A class that has one of that name keeps its own.
_ADDED = ("as_stored", "explain_migration", "up_to_date")

# What MongoEngine's get() and first() call in a chain, and what each of these clones by.
_CHAIN_OF_GET = ("__call__", "_clone_into", "clone", "filter", "get", "limit", "order_by")
_CHAIN_OF_FIRST = ("__getitem__", "_clone_into", "clone", "first")


class AsStoredQuerySet(_Joined):
    """What every model with the mixin has: `as_stored()`, and `up_to_date()` which does nothing."""

    # MongoEngine's own state, as far as it is changed here.
    _cls_query: Any
    _collection_obj: Any
    _cursor_obj: Any
    _has_more: bool
    _mongo_query: Any
    _result_cache: Any

    # The class that this one was made of, and whether it migrates.
    _lazymig_plain: type
    _lazymig_live = False

    # It has a filter of its own, which is None until it has searched.
    _lazymig_searches = False

    # What belongs to one cursor, so neither to a clone nor to a pickle; and what a clone has too.
    _lazymig_of_cursor: tuple[str, ...] = ()
    _lazymig_of_clones: tuple[str, ...] = ("_lazymig_lone", "_lazymig_stored")

    _lazymig_stored = False
    _lazymig_lone = False

    def _lazymig_begin(self) -> None:
        """Complete a queryset that MongoEngine has initialized."""

    def as_stored(self) -> Any:
        """Return a clone that shows documents as they lie in the database and migrates none.

        An old document that MongoEngine cannot build raises MongoEngine's own exception.
        """
        queryset = self.clone()
        queryset._lazymig_stored = True
        return queryset

    def explain_migration(self) -> str:
        """Say in plain words what happens when this queryset is iterated while rules are pending.

        Nothing is written: how the filter is sent, what is settled first, by which rules, and why.
        """
        return NOTHING_PENDING

    def up_to_date(self, *fields: str) -> Any:
        """Bring what this queryset finds up to date, for code that reads it past MongoEngine.

        No rule is pending for this model: nothing is sent.

        :param fields: as in `only()`; none stands for all fields.
        :return: a clone of the queryset.
        :raises mongoengine.errors.LookUpError: the model has no such field.
        """
        self._fields_to_dbfields([field.replace("__", ".") for field in fields])
        return self.clone()

    def aggregate(self, pipeline: Any, *suppl_pipeline: Any, **kwargs: Any) -> Any:
        """Run an aggregation over the documents that match.

        Other collections that its stages read have models too, whose rules may be pending.
        """
        stages = stages_of(pipeline, suppl_pipeline)
        if stages is None:
            return super().aggregate(pipeline, *suppl_pipeline, **kwargs)
        if not isinstance(pipeline, Mapping):
            # It may be an iterator.
            pipeline = stages[: len(stages) - len(suppl_pipeline)]
        kwargs = self._lazymig_aggregating(kwargs)
        if not (self._as_pymongo or self._lazymig_stored or self._none or self._empty):
            with in_given_transaction(kwargs.get("session")):
                shown = with_others_shown(
                    self,
                    stages,
                    collation=kwargs.get("collation"),
                    max_time_ms=kwargs.get("maxTimeMS"),
                    comment=kwargs.get("comment"),
                )
            if shown is not stages:
                return super().aggregate(shown, **kwargs)
        return super().aggregate(pipeline, *suppl_pipeline, **kwargs)

    def _lazymig_aggregating(self, given: dict[str, Any]) -> dict[str, Any]:
        """The options of an aggregation, and those of the queryset where MongoEngine sends them."""
        if not WRITES_HAVE_OPTIONS:
            return given
        hint = None if self._hint == -1 else self._hint
        own = {"hint": hint, "collation": self._collation, "comment": self._comment}
        return {**{name: one for name, one in own.items() if one}, **given}

    def _clone_into(self, new_qs: Any) -> Any:
        # Each filter() and limit() clones, so only what is not as by default is handed on.
        known, clone = self.__dict__, new_qs.__dict__
        for name in self._lazymig_of_clones:
            if name in known:
                clone[name] = known[name]
        return super()._clone_into(new_qs)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        for name in self._lazymig_of_cursor:
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # The model may have got rules, or have lost them, since the queryset was pickled.
        pickled = type(self)
        _fit(self, getattr(self._document, "_lazymig_live", None))
        if type(self) is not pickled and isinstance(self, AsStoredQuerySet):
            self._lazymig_begin()

    def __reduce__(self) -> tuple[Any, ...]:
        # The joined class exists only in memory: a pickle names the class that it was made of.
        return _new_joined, (self._lazymig_plain, self._lazymig_live), self.__getstate__()


def _inherits(queryset_class: type, names: tuple[str, ...]) -> bool:
    """Return whether these methods are MongoEngine's own."""
    return all(getattr(queryset_class, name) is getattr(BaseQuerySet, name) for name in names)


_joined: dict[tuple[type, bool], type] = {}
_fronts: dict[bool, type] = {False: AsStoredQuerySet}


def joins_live(front: type) -> type:
    """Class decorator: this is what is joined to the querysets of models with rules."""
    _fronts[True] = front
    return front


def _join(plain: Any, *, live: bool) -> type:
    """A MongoEngine queryset class, or a user's own, with lazymig's methods in front.

    :param live: with migrations; otherwise with `as_stored()` alone, which then changes nothing.
    """
    key = (plain, live)
    if key not in _joined:
        body = {
            "__doc__": plain.__doc__,
            "__module__": plain.__module__,
            "__qualname__": plain.__qualname__,
            "_lazymig_plain": plain,
            "_lazymig_searches": not _inherits(plain, ("_query",)),
            "_lazymig_own_next": not _inherits(plain, ("__next__",)),
            "_lazymig_chains_get": _inherits(plain, _CHAIN_OF_GET),
            "_lazymig_chains_first": _inherits(plain, _CHAIN_OF_FIRST),
            **{name: getattr(plain, name) for name in _ADDED if hasattr(plain, name)},
        }
        _joined[key] = type(plain.__name__, (_fronts[live], plain), body)
    return _joined[key]


def _new_joined(plain: type, live: bool) -> Any:
    cls: Any = _join(plain, live=live)
    return cls.__new__(cls)


def _fit(queryset: Any, live: Any) -> None:
    """Give a queryset the class that its model's documents are read by.

    :param live: of the model; anything but a boolean for a model without the mixin.
    """
    joined = isinstance(queryset, AsStoredQuerySet)
    if not isinstance(live, bool):
        live = None
    if (queryset._lazymig_live if joined else None) is live:
        return
    plain = vars(type(queryset)).get("_lazymig_plain", type(queryset))
    if not issubclass(plain, AsStoredQuerySet):
        queryset.__class__ = plain if live is None else _join(plain, live=live)


def watch_querysets() -> None:
    """Have MongoEngine initialize querysets of models with the mixin as joined ones."""
    original = BaseQuerySet.__init__
    if hasattr(original, _WATCHED):
        return

    @functools.wraps(original)
    def initialize(self: Any, document: Any, collection: Any) -> None:
        live = getattr(document, "_lazymig_live", None)
        if live is None and not isinstance(self, AsStoredQuerySet):
            original(self, document, collection)
            return
        # Each clone comes by here.
        if live is None or getattr(self, "_lazymig_live", None) is not live:
            _fit(self, live)
        original(self, document, collection)
        if isinstance(self, AsStoredQuerySet):
            self._lazymig_begin()

    setattr(initialize, _WATCHED, True)
    BaseQuerySet.__init__ = initialize
