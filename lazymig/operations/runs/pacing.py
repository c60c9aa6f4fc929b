"""The pace of a bulk run: when the next chunk may begin, and what the run waits for meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from lazymig.operations.journal.entries import Control
from lazymig.operations.runs.context import RunContext
from lazymig.operations.runs.interrupts import Interrupts
from lazymig.operations.runs.opening import Opened
from lazymig.operations.runs.outlasting import FIRST_PAUSE, PATIENCE, outlast
from lazymig.operations.runs.progress import Meter, Progress
from lazymig.operations.runs.steps import RuleStep
from lazymig.operations.throttling.throttle import PACING, Throttle

__all__ = ["LOOK_AGAIN", "Pacing", "Stopped", "patience_from_now", "patiently"]

T = TypeVar("T")

LOOK_AGAIN: Final = 0.5
"""Seconds between two looks at the journal while a run waits."""

# Seconds for which a server that is gone is waited for, and the first pause between two attempts.
_PATIENCE = PATIENCE
_FIRST_PAUSE = FIRST_PAUSE


class Stopped(Exception):
    """Somebody has asked the run to stop."""


def patience_from_now() -> float:
    """The time of `time.monotonic` until which a server that is gone is waited for."""
    return time.monotonic() + _PATIENCE


def patiently(name: str, work: Callable[[], T]) -> T:
    """Do something before the run has begun, which may be done twice."""
    return outlast(name, work, patience=_PATIENCE, first_pause=_FIRST_PAUSE)


class Pacing:
    """Lets a run continue when it may, keeps it alive while it waits, and lets others see it.

    :param show: what progress is reported to.
    """

    def __init__(
        self,
        context: RunContext,
        opened: Opened,
        interrupts: Interrupts,
        show: Callable[[Progress], object],
    ) -> None:
        self.context = context
        self.entry = opened.entry
        self.interrupts = interrupts
        self.throttle = Throttle(context.options, context.collection)
        self._steps = opened.steps
        self._show = show
        self._meter = Meter()
        self._match_meter = Meter()
        self._control = opened.entry.control
        self._limits: Any = {}
        self._started = time.monotonic()
        self._looked = 0.0

    def begin(self, step: RuleStep) -> None:
        """Measure the pace of a rule from now on."""
        self._meter.restart(step.state.done)
        self._match_meter.restart(step.state.matched)

    def worked(self, step: RuleStep, matched: int, seconds: float, latency: float | None) -> None:
        """Learn from a chunk that is noted.

        :param latency: seconds that its checkpoint took.
        """
        self.throttle.worked(matched, seconds, latency)
        self._meter.note(step.state.done)
        self._match_meter.note(step.state.matched)
        self.report(step)

    def ready(self, step: RuleStep) -> None:
        """Return when the next chunk may begin.

        :raises Stopped: somebody has asked for that.
        :raises LeaseLost: another run may be at work.
        """
        while True:
            asked_by = f" by {self._control.by}" if self._control.by else ""
            if self.interrupts.requested:
                raise Stopped(f"{self.interrupts.requested} was received")
            if self._control.action == "stop":
                raise Stopped(f"stopped through the journal{asked_by}")
            if not self.has_lease(step, patience_from_now()):
                self.context.lease.check()
            if self._control.action == "pause":
                reason, seconds, kind = f"paused{asked_by}", LOOK_AGAIN, "paused"
            else:
                wait = self.throttle.wait()
                if wait is None:
                    return
                reason, seconds, kind = wait.reason, min(wait.seconds, LOOK_AGAIN), wait.kind
            self._wait(step, reason, seconds, kind)
            if time.monotonic() - self._looked >= LOOK_AGAIN / 2:
                self._looked = time.monotonic()
                self.obey(self.persistently(step, partial(self._beat, reason)))

    def checkpoint(self, step: RuleStep, session: ClientSession | None = None) -> Control:
        """Note how far a rule is; gives what is asked of the run."""
        return self.context.journal.checkpoint(
            self.entry, step.position, step.state, waited=self.waited, session=session
        )

    def obey(self, control: Control) -> None:
        """Do from now on what is asked of the run."""
        self._control = control
        if control.limits != self._limits:
            self._limits = control.limits
            self.throttle.change(**control.limits)

    def persistently(self, step: RuleStep, work: Callable[[], T]) -> T:
        """Do something that may be done twice, again and again while the server is away.

        :raises pymongo.errors.PyMongoError: it has stayed away.
        :raises LeaseLost: another run is at work by now.
        """

        def attempt() -> T:
            before = step.state
            try:
                return work()
            except PyMongoError:
                step.state = before
                raise

        def pause(seconds: float, until: float) -> bool:
            if self.interrupts.requested:
                return False
            self._wait(step, "the server is away", seconds, "the server is away")
            return self.has_lease(step, until)

        return outlast(
            self.context.name, attempt, patience=_PATIENCE, first_pause=_FIRST_PAUSE, pause=pause
        )

    def has_lease(self, step: RuleStep, until: float) -> bool:
        """Return whether the lease is valid; its own thread renews it, and is waited for.

        :raises LeaseLost: another run has taken it.
        """
        lease = self.context.lease
        while not lease.valid:
            if lease.taken:
                lease.check()
            if time.monotonic() > until or self.interrupts.requested:
                return False
            self._wait(step, "the lease is not renewed yet", _FIRST_PAUSE, "the server is away")
        return True

    def report(self, step: RuleStep, *, waiting: str | None = None, finished: bool = False) -> None:
        """Report how far the run is to whoever wants to see it."""
        state = step.state
        total = max(state.total or 0, state.done)
        self._show(
            Progress(
                run_id=self.entry.id,
                model=self.context.name,
                collection=self.context.full_name,
                scope=self.context.scope,
                rule=step.name,
                position=step.position + 1,
                rules=len(self._steps),
                done=state.done,
                total=total,
                exact=state.exact,
                matched=state.matched,
                modified=state.modified,
                quarantined=state.quarantined,
                rate=self._meter.rate,
                match_rate=self._match_meter.rate,
                eta=self._meter.eta(total - state.done),
                seconds=time.monotonic() - self._started,
                waited=sum(self.throttle.waited.values()),
                waiting=waiting,
                finished=finished,
            )
        )

    @property
    def waited(self) -> dict[str, float]:
        """Seconds waited by reason, those of earlier sessions of the run included."""
        total = dict(self.entry.waited)
        for reason, seconds in self.throttle.waited.items():
            total[reason] = total.get(reason, 0.0) + seconds
        return total

    def _beat(self, waiting: str) -> Control:
        return self.context.journal.beat(self.entry, waiting=waiting, waited=self.waited)

    def _wait(self, step: RuleStep, reason: str, seconds: float, kind: str) -> None:
        self.report(step, waiting=reason)
        slept = time.monotonic()
        self.interrupts.wait(seconds)
        slept = time.monotonic() - slept
        self.throttle.slept(kind, slept)
        if kind not in PACING:
            self._meter.pause(slept)
            self._match_meter.pause(slept)
