"""The sweep of a rule over a collection: which chunk comes next, until none is left."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from lazymig.engines.access import all_of, ids_of, key_of, on_primary
from lazymig.engines.bulk import Tally, writes_alone
from lazymig.engines.refusals import still_matches
from lazymig.engines.walk import Chunk, Position, Walk
from lazymig.errors import MigrationError
from lazymig.operations.runs.chunk_work import ChunkWork
from lazymig.operations.runs.context import RunContext
from lazymig.operations.runs.pacing import Pacing
from lazymig.operations.runs.steps import RuleStep
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left

__all__ = ["Sweep"]

logger = logging.getLogger(__name__)

# So few documents are brought up to date by their `_id`s, without a walk over the collection.
_FEW = 1000

# After so many passes, or looks, at which new old documents were found, an old version of the
# application still writes them: no number of passes would be the last.
_MOST_PASSES = 10
_MOST_LOOKS = 100


class Sweep:
    """The chunks of one rule."""

    def __init__(
        self, context: RunContext, step: RuleStep, work: ChunkWork, pacing: Pacing
    ) -> None:
        self.context = context
        self.step = step
        self.work = work
        self.pacing = pacing

    def chunks(self) -> Iterator[Chunk]:
        """What is to be done, chunk by chunk; each is done before the next one is looked for."""
        step, rule = self.step, self.step.rule
        if not step.rescue and self._in_one():
            if not step.state.passes:
                yield Chunk(None, step.state.total or 0, Position(0, True))
                step.change(passes=1)
            return
        known = not step.rescue and tells_what_is_left(rule, self.context.scope)
        # The documents that the rule was applied to just now, each by its `_id`.
        met: set[Any] = set()
        looks_left, stuck = _MOST_LOOKS, False
        while step.state.passes < _MOST_PASSES and looks_left:
            # What only the computed updates can show is known after the first pass.
            looks = step.state.passes or (known is True and step.at is None)
            if looks and step.finds_again:
                left = self.pacing.persistently(step, self._look)
                if not left:
                    return
                if stuck or len(left) <= self._few():
                    again = [each for each in left if key_of(each) in met]
                    if again and rule.converges is not None:
                        self._give_up(again)
                        continue
                    if len(again) == len(left):
                        # Having seen them, the rule leaves them alone; a lazy one also if its
                        # update would not end the match.
                        return
                    met = {key_of(each) for each in left}
                    looks_left -= 1
                    yield Chunk.of(left)
                    self.work.take_back(step)
                    continue
            elif step.state.passes:
                return
            modified = step.state.modified
            yield from self._walk()
            step.change(passes=step.state.passes + 1)
            stuck = step.state.modified == modified and step.state.passes > 1
        logger.warning(
            "%s.%s: new documents of the old shape were found again and again; does an old version "
            "of the application still write them? What it writes from now on is left to loads, or "
            "to the next run",
            self.context.name,
            rule.name,
        )

    def _walk(self) -> Iterator[Chunk]:
        step = self.step
        walk = Walk(self.context.collection, step.at if not step.state.passes else None)
        while True:
            size = self._next_size()
            chunk = self.pacing.persistently(step, partial(walk.next, size))
            if chunk is None:
                self.work.take_back(step)
                return
            yield chunk

    def _next_size(self) -> int:
        """Documents to walk over, so that those that match keep to `max_rate`."""
        limit, size = self.pacing.throttle.chunk_limit(), self.work.size.documents
        if limit is None:
            return size
        sparse = self.step.state.done // max(self.step.state.matched, 1)
        return min(size, limit * max(sparse, 1))

    def _few(self) -> int:
        limit = self.pacing.throttle.chunk_limit()
        return min(_FEW, self.work.size.documents, limit or _FEW)

    def _in_one(self) -> bool:
        """Return whether the rule is applied to the whole collection at once."""
        rule, options = self.step.rule, self.context.options
        if writes_alone(rule, self.context.scope):
            return True
        return (
            options.chunk_size is None
            and options.backup is None
            and rule.kind == "static"
            and not rule.varies
            and may_be_repeated(rule, self.context.scope) is True
        )

    def _look(self) -> list[Any]:
        """The `_id`s of documents that the rule still matches, at most one more than a few."""
        query = all_of(self.context.plan.class_filter, self.step.rule.target)
        # All those of a run may be too many for one query.
        spared = {key_of(each) for each in self.work.quarantined(None)}
        most = self._few() + 1
        ids = ids_of(on_primary(self.context.collection), query, limit=most + len(spared))
        return list(itertools.islice((each for each in ids if key_of(each) not in spared), most))

    def _give_up(self, document_ids: Sequence[Any]) -> None:
        """Put into quarantine what still matches the rule, which was applied to it."""
        rule = self.step.rule
        errors: list[MigrationError] = [still_matches(rule, each) for each in document_ids]
        self.work.account(self.step, Chunk.of(document_ids), {rule.name: Tally(errors=errors)}, 0.0)
