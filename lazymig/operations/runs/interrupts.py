"""The interrupts of a bulk run, Ctrl-C and SIGTERM: the first asks it to stop, the second acts."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = ["Interrupts", "interruptible"]

logger = logging.getLogger(__name__)

# Seconds. A signal that arrives in the moment before a thread is put to sleep does not wake it: its
# handler runs when the thread wakes up by itself.
_NAP = 0.5

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """The requests to stop that arrive as signals; `interruptible` gives one.

    `requested` is the name of the signal that has arrived, "SIGINT" or "SIGTERM", or `None`.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._signal: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}
        self._pid = os.getpid()
        # A handler may interrupt any line of the main thread, another handler's too. Counting and
        # SimpleQueue.put are safe there; the set() of a threading.Event is not: it waits for ever
        # where the interrupted line is inside of the wait() of the same event.
        self._arrivals = itertools.count()
        # By its module's name: who patches the module, as gevent does, means the class of now.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._herald: threading.Thread | None = None

    def wait(self, seconds: float) -> bool:
        """Sleep; a request ends the sleep early. Return whether there is one."""
        end = time.monotonic() + seconds
        while self.requested is None and (left := end - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self._wake.get(timeout=min(left, _NAP))
        return self.requested is not None

    def deliver(self) -> None:
        """Do what the signal would have done without us; nothing if there was none.

        To be called once everything is written. A handler of the application's own is called.

        :raises KeyboardInterrupt: the signal was SIGINT, and Python's own handler was in place.
        :raises SystemExit: the signal was SIGTERM, and no handler was in place; its code is 143.
        """
        number = self._signal
        if number is None:
            return
        former = self._former[number]
        if callable(former):
            former(number, sys._getframe())  # noqa: SLF001 - as the interpreter calls a handler
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    def _install(self) -> None:
        for number in _SIGNALS:
            former = signal.getsignal(number)
            # None: not set from Python, so it could not be put back. What the application ignores,
            # under nohup for example, stays ignored.
            if former is not None and former != signal.SIG_IGN:
                self._former[number] = former
        # In a handler, logging could wait for a lock that the interrupted line holds.
        self._herald = threading.Thread(target=self._announce, name="lazymig-stop", daemon=True)
        self._herald.start()
        for number in self._former:
            signal.signal(number, self._arrived)

    def _restore(self) -> None:
        for number, former in self._former.items():
            # Whoever has set another handler meanwhile keeps it.
            if signal.getsignal(number) == self._arrived:
                signal.signal(number, former)

    def _arrived(self, number: int, _frame: FrameType | None) -> None:
        is_ours = os.getpid() == self._pid
        if not is_ours and number == signal.SIGINT:
            # A forked worker gets Ctrl-C along with its parent, which lets it finish its chunk.
            signal.signal(number, self._former[signal.SIGINT])
            return
        first = is_ours and next(self._arrivals) == 0
        self._restore()
        if first:
            self._signal = signal.Signals(number)
            self.requested = self._signal.name
            self._wake.put(None)
            self._news.put(self.requested)
        else:
            signal.raise_signal(number)

    def _announce(self) -> None:
        name = self._news.get()
        if name is not None:
            again = "press Ctrl-C again" if name == "SIGINT" else "send it again"
            logger.warning("%s: finishing the current chunk; %s to break off at once", name, again)

    def _close(self) -> None:
        self._restore()
        self._news.put(None)
        if self._herald is not None:
            self._herald.join()


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Let the first SIGINT or SIGTERM only ask to stop, which is logged; the next one acts at once.

    Only in the main thread, where Python handles signals; elsewhere nothing is requested. The
    former handlers are put back by the first signal, and at the end.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    interrupts._install()  # noqa: SLF001
    try:
        yield interrupts
    finally:
        interrupts._close()  # noqa: SLF001
