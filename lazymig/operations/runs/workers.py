"""The workers of a bulk run: other processes, on this machine or another, that do its chunks.

Each worker connects by itself. A worker that dies loses no document: its chunk is given out again.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from lazymig.engines.access import Raw, unhurried
from lazymig.engines.bulk import Tally, Work
from lazymig.engines.deadline import without_client_limit
from lazymig.engines.driver_errors import is_away
from lazymig.engines.walk import Chunk
from lazymig.errors import Remedy, RunOptionError, WorkerFailed
from lazymig.odm.connections import Address, address_of, collection_at
from lazymig.odm.plans import plan_for
from lazymig.operations.journal.fencing import Fence, fenced
from lazymig.operations.journal.lease import Lease
from lazymig.rules.plan import Plan
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left
from lazymig.rules.rule import Scope

__all__ = ["Done", "Workers"]

logger = logging.getLogger(__name__)

# A chunk that has ended so many workers is not given to another one.
_MOST_DEATHS = 3


@dataclass(frozen=True)
class _Task:
    """A chunk as it is sent to a worker: what it takes to do it there."""

    address: Address
    handler_class: Any
    model: Any
    rule: str
    scope: Scope
    within: Raw | None
    documents: int
    spared: Raw | None
    most_errors: int
    lease: tuple[ObjectId, float]
    # Each time that it is sent another one: Dask takes equal calls for one, and would answer the
    # later one with the result of the former.
    number: ObjectId | None = None


@dataclass(frozen=True)
class Done:
    """A chunk that a worker has done: counts and errors, and the seconds it took there."""

    chunk: Chunk
    tally: Tally
    seconds: float


@dataclass
class _Out:
    """A chunk that is given out."""

    chunk: Chunk
    task: _Task
    executor: Executor | None = None
    future: Future[tuple[Tally, float]] = field(default_factory=Future)
    deaths: int = 0


def _carry_out(task: _Task) -> tuple[Tally, float]:
    """Do one chunk; this is what runs in a worker."""
    started = time.perf_counter()
    collection = collection_at(task.address)
    plan = plan_for(task.handler_class, task.model)
    rules = plan.lazy if task.scope == "lazy" else plan.bulk
    rule = next(rule for rule in rules if rule.name == task.rule)
    if tells_what_is_left(rule, task.scope) is True:
        collection = unhurried(collection)
    work = Work(
        fenced(collection, Fence(collection, *task.lease)),
        plan,
        task.scope,
        task.within,
        task.spared,
        most_errors=task.most_errors,
        only_repeatable=may_be_repeated(rule, task.scope) is None,
        documents=task.documents,
    )
    with without_client_limit(collection.database):
        tally = work.apply(rule)
    return tally, time.perf_counter() - started


class Workers:
    """Gives the chunks of a rule to an executor, a few at a time, and takes them back in order.

    :param executor: a `concurrent.futures.Executor`, or a callable that makes one. A pool whose
        worker was killed is broken for good: with a callable a new one is made, otherwise the rest
        of the run is done in this process.
    :param in_flight: chunks that are given out at the same time.
    :param lease: within which the chunks are written.
    :raises RunOptionError: the model or the handler cannot be sent to another process.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        in_flight: int,
        collection: Collection[Any],
        plan: Plan,
        scope: Scope,
        lease: Lease,
    ) -> None:
        self._lease = lease.token, lease.seconds
        self._make = None if isinstance(executor, Executor) else executor
        self._executor: Executor | None = executor if isinstance(executor, Executor) else None
        self._in_flight = in_flight
        self._plan = plan
        self._scope = scope
        self._address = address_of(plan.doc_class, collection)
        self._out: deque[_Out] = deque()
        _check_picklable(plan, self._address)

    @property
    def full(self) -> bool:
        """Return whether no further chunk should be given out before one has come back."""
        return len(self._out) >= self._in_flight

    @property
    def busy(self) -> bool:
        """Return whether a chunk is out."""
        return bool(self._out)

    def give(self, rule: str, chunk: Chunk, spared: Raw | None, most_errors: int) -> None:
        """Give out one chunk of a rule."""
        task = _Task(
            self._address,
            self._plan.handler_class,
            self._plan.doc_class,
            rule,
            self._scope,
            chunk.within,
            chunk.documents,
            spared,
            most_errors,
            self._lease,
        )
        out = _Out(chunk, task)
        self._submit(out)
        self._out.append(out)

    def take(self) -> Done:
        """Wait for the chunk that was given out first.

        :raises WorkerFailed: it has ended one worker after the other.
        :raises pymongo.errors.PyMongoError: as `Work.apply` does.
        """
        out = self._out[0]
        while True:
            try:
                tally, seconds = out.future.result()
            except Exception as exc:
                if isinstance(exc, PyMongoError) and is_away(exc):
                    # It may be done again; the caller decides how long to wait for the server.
                    self._submit(out)
                    raise
                if not _is_death(exc):
                    raise
                self._give_again(exc)
                continue
            self._out.popleft()
            return Done(out.chunk, tally, seconds)

    def forget(self) -> None:
        """Call back what is out, and wait for what has begun: it is done, but not noted."""
        for out in self._out:
            out.future.cancel()
        for out in self._out:
            if not out.future.cancelled():
                out.future.exception()
        self._out.clear()

    def close(self) -> None:
        """Call back what is out; end an executor that was made here."""
        self.forget()
        if self._make is not None and self._executor is not None:
            self._executor.shutdown()

    def _submit(self, out: _Out) -> None:
        """Hand a chunk to the executor; without one it is done here and now."""
        out.task = replace(out.task, number=ObjectId())
        if self._executor is None and self._make is not None:
            self._executor = self._make()
        out.executor = self._executor
        try:
            if self._executor is not None:
                out.future = self._executor.submit(_carry_out, out.task)
                return
            out.future = Future()
            out.future.set_result(_carry_out(out.task))
        except Exception as exc:  # noqa: BLE001 - it is raised where the result is taken
            out.future = Future()
            out.future.set_exception(exc)

    def _give_again(self, death: Exception) -> None:
        """Give out again the first chunk, which a dead worker had, or the pool that broke."""
        out = self._out[0]
        out.deaths += 1
        if out.deaths >= _MOST_DEATHS:
            raise WorkerFailed(
                f"{self._plan.model_name}.{out.task.rule}: {out.deaths} workers died, one after "
                f"the other, at the documents {out.chunk.within}; look for what ends them "
                "(memory?)",
                collection=f"{self._address.database}.{self._address.collection}",
                remedy=Remedy("resume"),
            ) from death
        if isinstance(death, BrokenExecutor) and out.executor is self._executor:
            self._replace_executor()
        # Alone: of several that were lost with one pool each would be blamed for its end.
        self._submit(out)

    def _replace_executor(self) -> None:
        if self._make is None:
            logger.warning(
                "%s: a worker died and its pool is broken; the run continues in this process. "
                "Give executor= a callable that makes the pool, and a new one is made",
                self._plan.model_name,
            )
        else:
            logger.warning("%s: a worker died; a new pool is made", self._plan.model_name)
            if self._executor is not None:
                self._executor.shutdown(wait=False)
        self._executor = None


def _is_death(error: Exception) -> bool:
    """Return whether a worker has died, or its pool has dropped the chunk; Dask: KilledWorker."""
    lost = isinstance(error, (BrokenExecutor, CancelledError))
    return lost or type(error).__name__ == "KilledWorker"


def _check_picklable(plan: Plan, address: Address) -> None:
    parts = (
        (
            (plan.doc_class, plan.handler_class),
            f"{plan.model_name} or its handler",
            "define both at the top of a module that the workers can import",
        ),
        (
            address,
            f"the settings of the connection {address.alias!r}",
            "let the workers connect by themselves when they import the model",
        ),
    )
    for value, name, remedy in parts:
        try:
            pickle.dumps(value)
        except (pickle.PicklingError, AttributeError, TypeError) as exc:
            raise RunOptionError(
                f"{name} cannot be sent to another process ({exc}); {remedy}", option="executor"
            ) from exc
