"""Marks of the engines' own writes, of which one may have happened since a moment."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pymongo.collection import Collection

from lazymig.locks import after_fork, new_lock

__all__ = ["Mark", "marks_writes"]


class _Writes:
    """The work that may write to a collection: how much was started, and what is under way."""

    __slots__ = ("started", "under_way")

    def __init__(self) -> None:
        self.started = 0
        # A piece of work has a number, and the thread that does it.
        self.under_way: set[tuple[int, int]] = set()


# By name of the collection, in whatever deployment: at worst a mark is disturbed without need.
_writes: dict[str, _Writes] = {}
_lock = new_lock()


def _writes_to(collection: Collection[Any]) -> _Writes:
    name = str(collection.full_name)
    return _writes.get(name) or _writes.setdefault(name, _Writes())


class Mark:
    """A moment in the life of a collection, as far as this process writes to it."""

    __slots__ = ("_is_amid_work", "_started", "_writes")

    def __init__(self, collection: Collection[Any]) -> None:
        self._writes = _writes_to(collection)
        # Read in this order: what starts in between disturbs the mark.
        self._started = self._writes.started
        self._is_amid_work = bool(self._writes.under_way)

    @property
    def is_undisturbed(self) -> bool:
        """Return whether no engine was at work on the collection at the mark, or has been since."""
        return not self._is_amid_work and self._writes.started == self._started


class _Works(Protocol):
    @property
    def collection(self) -> Collection[Any]: ...


_Worker = TypeVar("_Worker", bound=_Works)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def marks_writes(
    method: Callable[Concatenate[_Worker, _Parameters], _Result],
) -> Callable[Concatenate[_Worker, _Parameters], _Result]:
    """Method decorator: while this runs, its object may write to its `collection`."""

    @functools.wraps(method)
    def marked(self: _Worker, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        writes = _writes_to(self.collection)
        with _lock:
            writes.started += 1
            work = writes.started, threading.get_ident()
            writes.under_way.add(work)
        try:
            return method(self, *args, **kwargs)
        finally:
            writes.under_way.discard(work)

    return marked


def _forget_other_threads() -> None:
    """Take their work for none of this process, which has not got them."""
    here = threading.get_ident()
    for writes in _writes.values():
        writes.under_way = {work for work in writes.under_way if work[1] == here}


after_fork(_forget_other_threads)
