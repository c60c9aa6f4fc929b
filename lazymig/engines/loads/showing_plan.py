"""The rules of one plan on documents in hand; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from bson.raw_bson import RawBSONDocument

from lazymig.engines.access import Raw
from lazymig.engines.computed.computing import Computation, Write
from lazymig.engines.computed.outcome import Terms
from lazymig.engines.computed.pace import Pace, Slow
from lazymig.engines.deadline import Deadline
from lazymig.engines.loads.in_hand import Answer, InHand, Staged, read_through, send_through
from lazymig.engines.loads.shown_steps import LEFT, Piece, shown_plan
from lazymig.engines.reading.decoding import decode, judge
from lazymig.engines.refusals import (
    cannot_be_shown,
    failure_of_showing,
    still_matches,
    would_be_refused,
    would_match,
)
from lazymig.engines.store import Store
from lazymig.errors import MigrationError, MigrationTimeout, ShowError
from lazymig.query.matching import compile_query
from lazymig.raw.elements import without_fields
from lazymig.raw.encoding import stored_bytes
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.showing.rows import Unshown
from lazymig.rules.showing.shown import CannotShow, shown_update
from lazymig.rules.showing.stages import MARK, stages_of
from lazymig.rules.showing.targets import concerned

__all__ = ["PlanShowing"]

# Fields for what became of an update that was computed here: the mark of its stages, and whether
# the document still matches after it.
_UPDATED: Final = f"{MARK}_updated"
_STILL: Final = f"{MARK}_still"

_MEETS = "meets values of which only a write shows what becomes of them"


class PlanShowing:
    """Documents of one plan on their way through its rules.

    They go through one pipeline, which stops at a rule in Python that concerns them. That is
    computed here, and its update is put in front of the rest of the pipeline. `done` are the
    documents that came to the end, by the key of the `_id`; `errors` those that failed. One that is
    gone is in neither.

    :param store: that of the plan.
    """

    def __init__(self, store: Store, plan: Plan, *, after_error: bool) -> None:
        self.store = store
        self.plan = plan
        self.after_error = after_error
        self.done: dict[Any, InHand] = {}
        self.errors: dict[Any, MigrationError | ShowError] = {}
        self._shown = shown_plan(plan, after_error=after_error)
        # Documents at which the pipeline has stopped, by the place of the piece.
        self._stopped: dict[int, dict[Any, InHand]] = {}
        self._taken: dict[str, Slow] = {}
        self._deadline = Deadline.of(store.collection, plan.lazy_timeout)

    def run_stored(self, document_ids: Sequence[Any]) -> None:
        """Read stored documents, and take them through all rules.

        :raises pymongo.errors.PyMongoError: the connection, the rights.
        """
        self._run(read_through(self.store, document_ids, self._shown.stages_from(0)))

    def run_in_hand(self, documents: Iterable[InHand]) -> None:
        """Take documents in hand through all rules.

        :raises pymongo.errors.PyMongoError: the connection, the rights.
        """
        parts = [Staged([each.data for each in documents])]
        self._run(send_through(self.store, parts, self._shown.stages_from(0)))

    def _run(self, answer: Answer) -> None:
        self._take(answer, None)
        while self._stopped:
            place = min(self._stopped)
            stopped, piece = self._stopped.pop(place), self._shown.pieces[place]
            parts = list(self._parts(piece, stopped))
            if parts:
                rest = self._shown.stages_from(place + 1)
                self._take(send_through(self.store, parts, rest), piece.rule)

    # What comes back

    def _take(self, answer: Answer, computed: BoundRule | None) -> None:
        """Keep what came to the end, or to a piece that is computed here.

        :param computed: the rule whose updates were put in front.
        """
        for key, (document_id, cause) in answer.errors.items():
            self.errors[key] = failure_of_showing(self.plan.model_name, document_id, cause)
        for key, each in answer.found.items():
            document = each.document
            updated, notes, left = (document.get(name) for name in (_UPDATED, MARK, LEFT))
            if computed is not None and (updated or document.get(_STILL)):
                self.errors[key] = _failed(computed, document["_id"], updated)
            elif notes is not None and "unshown" in notes:
                self._stop(key, int(notes["unshown"]), each)
            elif notes is not None:
                rule = self._shown.pieces[int(notes["refused"])].rule
                self.errors[key] = would_be_refused(rule, document["_id"])
            elif left is not None:
                self.errors[key] = still_matches(
                    self._shown.pieces[int(left)].rule, document["_id"]
                )
            else:
                self.done[key] = each

    def _stop(self, key: Any, place: int, stopped: InHand) -> None:
        piece = self._shown.pieces[place]
        if piece.computed or piece.reason is not None:
            plain = RawBSONDocument(without_fields(stopped.data.raw, MARK))
            document = decode(plain, self.store.collection.codec_options)
            self._stopped.setdefault(place, {})[key] = InHand(plain, document)
        else:
            self.errors[key] = cannot_be_shown(piece.rule, stopped.document["_id"], _MEETS)

    # Rules in Python

    def _parts(self, piece: Piece, stopped: Mapping[Any, InHand]) -> Iterator[Staged]:
        """The documents at a piece, with the stages of the updates that were computed for them."""
        documents = {key: each.document for key, each in stopped.items()}
        concerned = [key for key in stopped if self._concerns(piece, key, documents[key])]
        parts: dict[bytes, tuple[list[Any], list[dict[str, Any]]]] = {}
        left = dict(stopped)
        writes = self._computed(piece.rule, {key: documents[key] for key in concerned})
        for key, write in writes.items():
            try:
                form = _form_of(write)
                if form not in parts:
                    parts[form] = [], self._stages_of(piece.rule, write)
            except CannotShow as refusal:
                document_id = documents[key]["_id"]
                self.errors[key] = cannot_be_shown(piece.rule, document_id, refusal.reason)
            else:
                parts[form][0].append(left.pop(key).data)
        untouched = [each.data for key, each in left.items() if key not in self.errors]
        yield from (Staged(some, stages) for some, stages in parts.values())
        if untouched:
            yield Staged(untouched)

    def _concerns(self, piece: Piece, key: Any, document: Raw) -> bool:
        """Return whether a piece concerns a document; where that is not known, it fails."""
        verdict: bool | None = piece.surely
        if not verdict:
            verdict = judge(compile_query(self.plan.query_of(piece.rule)), document)
        reason = piece.reason
        if verdict is None:
            reason = reason or "asks for what only MongoDB can judge"
        elif not verdict:
            return False
        if reason is not None:
            self.errors[key] = cannot_be_shown(piece.rule, document["_id"], reason)
        return reason is None

    def _computed(self, rule: BoundRule, documents: Mapping[Any, Raw]) -> dict[Any, Write]:
        """What a rule sets for documents, by key; one that fails, or has no time, is an error."""
        pace = Pace.within(self._deadline.left, self._taken, self.plan.lazy_timeout)
        work = Computation(self.store, rule, Terms("nothing" if self.after_error else "end", pace))
        late, writes = dict(documents), dict[Any, Write]()
        with self._deadline.within():
            for key in pace.sliced(list(documents), math.inf):
                found = work.compute(documents[key], None)
                if key in work.outcome.unfinished:
                    continue
                del late[key]
                if isinstance(found, Write):
                    writes[key] = found
        self.errors.update(work.outcome.failures)
        for key, document in late.items():
            self.errors[key] = self._too_late(rule, document["_id"])
        return writes

    def _too_late(self, rule: BoundRule, document_id: Any) -> MigrationTimeout:
        slow = self._taken.get(rule.name)
        each = (
            "" if slow is None else f"the rule takes {slow.each:.3g} s a document in Python, and "
        )
        return MigrationTimeout(
            f"{each}{self._deadline.limit} was over before this one was shown; let the rule take "
            "less time, or bring the collection up to date in a bulk run",
            model=self.plan.model_name,
            rule=rule.name,
            document_id=document_id,
        )

    def _stages_of(self, rule: BoundRule, write: Write) -> list[dict[str, Any]]:
        """The stages of an update, which note what became of it.

        :raises CannotShow: it is not known as stages.
        """
        evaluation = write.evaluation
        # Where the rule has found its own target, the document was held against that.
        target = {} if evaluation.target == rule.declared.target else evaluation.target
        shown = shown_update(rule.name, target or {}, evaluation.update, evaluation.array_filters)
        stages = stages_of([shown], marks=True, refusals=True)
        stages.append({"$set": {_UPDATED: f"${MARK}"}})
        if write.open:
            query = self.plan.query_of(rule.declared)
            try:
                still = concerned(compile_query(query).tree)
            except Unshown as refusal:
                raise CannotShow(rule.name, f"{refusal}, so that it may still match") from None
            stages.append({"$set": {_STILL: {"$cond": [still, True, "$$REMOVE"]}}})
        return [*stages, {"$unset": MARK}]


def _failed(rule: BoundRule, document_id: Any, notes: Any) -> MigrationError | ShowError:
    """The error for a document whose computed update does not do what it was to do."""
    if notes is None:
        return would_match(rule, document_id)
    if "refused" in notes:
        return would_be_refused(rule, document_id)
    return cannot_be_shown(rule, document_id, _MEETS)


def _form_of(write: Write) -> bytes:
    """The same for updates that are the same."""
    evaluation = write.evaluation
    parts = [evaluation.target, evaluation.update, evaluation.array_filters, write.open]
    return stored_bytes(parts)
