"""Locks that a forked process gets anew: no thread is left there that would release them."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakSet

__all__ = ["after_fork", "cached_property", "new_event", "new_lock"]

_Value = TypeVar("_Value")

_made: Final[WeakSet[Any]] = WeakSet()


def after_fork(callback: Callable[[], object]) -> None:
    """Have this called in each process that is forked from this one, where systems can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def new_lock() -> threading.RLock:
    """A reentrant lock; in a forked process it is free, or held by the thread that has forked."""
    # By its module's name: who patches the module, as gevent does, means the class of now.
    lock = threading.RLock()
    _made.add(lock)
    return lock


def new_event() -> threading.Event:
    """An event; in a forked process it can be set whatever a thread was doing with it."""
    event = threading.Event()
    _made.add(event)
    return event


class cached_property(functools.cached_property[_Value]):  # noqa: N801 - named as what it replaces
    """That of `functools`, which before Python 3.12 has a lock, one for all objects."""

    def __init__(self, func: Callable[[Any], _Value]) -> None:
        super().__init__(func)
        lock = getattr(self, "lock", None)
        if lock is not None:
            _made.add(lock)


def _renew() -> None:
    for each in _made:
        # What the thread that has forked holds, it will release.
        is_owned = getattr(each, "_is_owned", None)
        if is_owned is None or not is_owned():
            each._at_fork_reinit()  # noqa: SLF001 - as the standard library's own modules do


after_fork(_renew)
