"""ShowingQuerySet: reads of what rules write, answered by showing, which writes nothing.

The stages of the rules stand between the filter, which finds stored documents by what they will be,
and whatever reads these. What cannot be shown is settled first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import bson
from mongoengine.document import MapReduceDocument
from pymongo import ReadPreference

from lazymig.engines.access import (
    all_of,
    by_ids,
    describe,
    ids_of,
    is_mongomock,
    on_primary,
    tolerant,
)
from lazymig.engines.reading.labelled import labelled
from lazymig.engines.sessions import given_session
from lazymig.engines.settling import Search, id_batches
from lazymig.engines.store import Store
from lazymig.odm.querysets.options import OptionsQuerySet
from lazymig.odm.querysets.rewrites import Need, Rewrites, bring_up
from lazymig.odm.querysets.rewritten import RewrittenFilter
from lazymig.query.collations import compares_text, has_text
from lazymig.query.indexable import branched
from lazymig.query.joining import any_of
from lazymig.query.matching import query_paths
from lazymig.query.operators import NEAR, holds_any
from lazymig.rules.dependencies import Paths

__all__ = ["Meeting", "Read", "ShowingQuerySet"]

logger = logging.getLogger(__name__)

# Documents that are settled at once for a read; their `_id`s have to find room in one command.
_MOST_SETTLED: Final = 1_000

# Conditions that an aggregation takes in its first stage alone, or not at all.
_NOT_LATER: Final = frozenset({*NEAR, "$text", "$where"})
_NOWHERE: Final = _NOT_LATER - {"$text"}

# Old documents that are named by their `_id`s; and the bytes that these may have.
_FEW: Final = 1_000
_MOST_OF_IDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Read:
    """What an operation reads of the documents that a filter finds.

    :param operation: what reads, as its user wrote it.
    :param paths: the paths that it reads; `None` for any.
    :param matched: what it asks first of them, which is asked together with the filter.
    :param at_once: it has read everything before it hands anything out.
    :param where: it heeds `where()`.
    :param of_model: MongoEngine reads the model's own collection for it.
    :param first: the stage of a pipeline in front of which no other may stand.
    :param looks: whether a look at what is old would see what it is going to see.
    """

    operation: str
    paths: Paths
    matched: Mapping[str, Any] | None = None
    at_once: bool = True
    where: bool = False
    of_model: bool = False
    first: str | None = None
    looks: bool = True

    @property
    def all_paths(self) -> Paths:
        """The paths that it reads and asks for."""
        if self.matched is None or self.paths is None:
            return self.paths
        asked = query_paths(self.matched)
        return None if asked is None else frozenset(self.paths) | asked


@dataclass(frozen=True, slots=True, eq=False)
class Meeting:
    """A read that meets rules.

    :param query: the filter that finds stored documents for it.
    :param asked: what is asked of them afterwards, once they are shown.
    :param rules: the indexes of the rules that it meets, with those on which they depend.
    """

    read: Read
    rewrites: Rewrites
    query: Mapping[str, Any]
    asked: Mapping[str, Any] | None
    rules: frozenset[int]

    @property
    def reads(self) -> frozenset[str] | None:
        """The paths that are read of the documents when they are shown."""
        asked = query_paths(self.asked) if self.asked else frozenset[str]()
        if asked is None or self.read.paths is None:
            return None
        return frozenset(self.read.paths) | asked

    @property
    def old(self) -> Mapping[str, Any]:
        """The query for the documents that the rules may change."""
        return old_by(self.rewrites, self.rules)


def old_by(rewrites: Rewrites, rules: frozenset[int]) -> Mapping[str, Any]:
    """The query for what some rules, with all on which they depend, have to change."""
    return any_of([plan.search for plan in rewrites.narrowed(rules)])


class ShowingQuerySet(OptionsQuerySet):
    """Runs reads over documents as they will be."""

    # The filter that is sent, whatever else is asked: the read shows what it finds.
    _lazymig_given: Mapping[str, Any] | None = None
    _lazymig_of_clones = (
        *OptionsQuerySet._lazymig_of_clones,
        "_lazymig_given",
        "_lazymig_shown",
    )

    # Its collection shows what is aggregated.
    _lazymig_shown = False

    def _lazymig_reading(self, read: Read, run: Callable[[Any], Any], **options: Any) -> Any:
        """Run a read by the way on which it gives what it would give on migrated documents.

        :param run: is handed the queryset to run it on. Where that has a `_lazymig_given`, what the
            read asks first is asked already.
        :param options: what it obeys in place of the queryset's own options.
        """
        rewrites = self._lazymig_rewrites(of_model=read.of_model)
        if rewrites is None or self._none or self._empty:
            return run(self)
        if not (
            rewrites.writing(read.paths)
            or (read.where and self._where_clause)
            or (read.matched and rewrites.rewriter.is_concerned(read.matched))
        ) and self._lazymig_asks_as_is(rewrites):
            return run(self)
        queryset = self.clone()
        for name, value in options.items():
            setattr(queryset, f"_{name}", value)
        queryset._lazymig_of_model = read.of_model
        meeting = queryset._lazymig_meeting(read, rewrites)
        if meeting is not None and not meeting.rules:
            queryset._lazymig_given = meeting.query
            queryset._lazymig_still = True
            return run(queryset)
        reason = None if meeting is None else queryset._lazymig_why_settled(meeting)
        if meeting is None or reason is not None:
            if reason is not None:
                self._lazymig_say(read, f"settled first: {reason}")
            return run(self._lazymig_settled_for(read, options))
        queryset._lazymig_show(meeting)
        return run(queryset)

    def _lazymig_settled_for(self, read: Read, options: Mapping[str, Any]) -> Any:
        """A clone for a read for which everything has been settled."""
        return self._lazymig_for_read(
            read.operation,
            read.all_paths,
            where=read.where,
            of_model=read.of_model,
            matched=read.matched,
            **options,
        )

    def _lazymig_meeting(self, read: Read, rewrites: Rewrites) -> Meeting | None:
        """How a read meets rules; `None` if its filter cannot be built, or has been settled."""
        if self._lazymig_settled:
            return None
        query = None
        with suppress(Exception):
            # Of a query that cannot be built MongoEngine says so in its own turn.
            query = super()._query
        if query is None:
            return None
        rewritten = self._lazymig_filter(
            all_of(query, self._lazymig_indexed, read.matched), rewrites
        )
        rules = rewrites.writing(read.paths)
        if rewritten.unseen:
            rules |= rewrites.concerning([rewritten.asked or {}])
        rules = frozenset(rewrites.with_dependencies(rules))
        return Meeting(
            read,
            rewrites,
            self._lazymig_found_by(rewritten, rewrites, rules),
            rewritten.asked if rewritten.unseen else None,
            rules,
        )

    def _lazymig_found_by(
        self, rewritten: RewrittenFilter, rewrites: Rewrites, rules: frozenset[int]
    ) -> Mapping[str, Any]:
        """The filter that finds at least what a read is going to ask for."""
        query = rewritten.query
        if rewritten.unseen:
            query, old = rewritten.within, old_by(rewrites, rules)
            collated = self._collation is not None and has_text(old)
            if rewritten.asked and not (collated or holds_any(rewritten.asked, _NOT_LATER)):
                # What is not old is as it will be: these conditions find it by its indexes.
                query = all_of(query, any_of([rewritten.asked, old]))
        return query if self._lazymig_ordered() else branched(query)

    def _lazymig_why_settled(self, meeting: Meeting) -> str | None:
        """Return why documents have to be settled before they are read; `None` if not."""
        read, rewrites = meeting.read, meeting.rewrites
        if is_mongomock(self._collection):
            return "there is no server that could show them"
        if read.where and self._where_clause:
            return "where() reads them"
        if read.first is not None:
            return f"no stage may stand in front of {read.first}"
        if holds_any(meeting.asked, _NOT_LATER) or holds_any(meeting.query, _NOWHERE):
            return "the filter asks what no later stage can ask"
        shown = rewrites.shown(meeting.rules)
        if shown.blind is not None:
            return str(shown.blind)
        if self._collation is not None:
            stages = shown.stages(meeting.reads, marks=shown.inexact)
            if compares_text(stages):
                return "a rule compares texts, which the collation would change"
        return None

    def _lazymig_show(self, meeting: Meeting) -> None:
        """Let this queryset read documents as the rules will leave them."""
        # Only a read that meets a rule pays for the import.
        from lazymig.odm.querysets.stages_first import (  # noqa: PLC0415
            Front,
            ModelOver,
            showing_collection,
        )

        read, reads, model = meeting.read, meeting.reads, self._document
        collection = model._get_collection() if read.of_model else self._collection
        shown = meeting.rewrites.shown(meeting.rules)
        self._lazymig_given = meeting.query
        self._lazymig_still = True
        stages = shown.encoded(reads, collection.codec_options)
        marking = shown.encoded(reads, collection.codec_options, marks=True)
        unknown = shown.inexact and bool(marking)
        if not (stages or unknown or meeting.asked):
            return
        few = self._lazymig_few_old(meeting, collection)
        if few is not None and not few:
            return
        trapped = read.at_once and not Store(collection).in_transaction
        if unknown and not trapped:
            self._lazymig_settle_unshown(meeting, model, collection)
        names = ", ".join(one.name for one in shown.rules)
        self._lazymig_say(read, f"shown through {names}" + (", of a few documents" if few else ""))
        front = Front(
            meeting.query,
            stages,
            marking if unknown and trapped else None,
            meeting.asked,
            lambda: self._lazymig_settle_unshown(meeting, model, collection),
            few or (),
        )
        self._lazymig_shown = True
        self._collection_obj = showing_collection(collection, front)
        if read.of_model:
            self._document: Any = ModelOver(model, self._collection_obj)

    def _lazymig_few_old(self, meeting: Meeting, collection: Any) -> Sequence[Any] | None:
        """The `_id`s of what is old, if these are few; `None` where that is not known.

        A look costs a round trip, and stages cost for each document that they see. So it is worth
        its while only where all documents are read: then it takes the index of a rule, and, if
        nothing is old, the plain operation the indexes of what it reads. A secondary may hold
        documents that are not old any more on the primary; so may what a session has begun to read.
        """
        if meeting.asked or not meeting.read.looks or meeting.query.keys() - {"_cls"}:
            return None
        place = collection if meeting.read.of_model else self._lazymig_read_collection()
        if place.read_preference != ReadPreference.PRIMARY:
            return None
        # Under the concern of the read: another one might see a later state of a document.
        place = labelled(place, self._comment, self._max_time_ms or None)
        store = Store(place)
        if store.is_read_only or store.in_transaction:
            return None
        found = list(ids_of(place, meeting.old, limit=_FEW + 1))
        if not found:
            return ()
        # A collation might take two `_id`s for one.
        if len(found) > _FEW or self._collation is not None:
            return None
        kind = describe(place)
        if kind is None or kind.kind != "collection" or "collation" in kind.options:
            return None
        return found if len(bson.encode(by_ids(found))) <= _MOST_OF_IDS else None

    def _lazymig_settle_unshown(self, meeting: Meeting, model: Any, collection: Any) -> bool:
        """Settle, of the documents that are read, those that cannot be shown as they are.

        :return: whether one of them was refused, and is stored as it was.
        """
        # Only a read that meets such a rule pays for the import.
        from lazymig.odm.querysets.stages_first import unshown  # noqa: PLC0415

        read, rewrites = meeting.read, meeting.rewrites
        limits = [plan.handler_class.settle_limit for plan in rewrites.narrowed(meeting.rules)]
        stages: list[Any] = [
            {"$match": all_of(meeting.query, meeting.old)},
            *rewrites.shown(meeting.rules).stages(meeting.reads, marks=True),
            {"$match": unshown},
            {"$project": {"_id": 1}},
        ]
        if None not in limits:
            stages.append({"$limit": 1 + sum(limit for limit in limits if limit is not None)})
        options: dict[str, Any] = {} if self._collation is None else {"collation": self._collation}
        search = Search(None, self._max_time_ms or None, self._comment)
        place = labelled(collection, search.comment, search.max_time_ms)
        options.update(given_session(collection))
        found = tolerant(on_primary(place)).aggregate(stages, **options)
        ids = [document["_id"] for document in found]
        most = min((limit for limit in limits if limit is not None), default=len(ids))
        # Beyond the limit nothing is written, which one look says.
        batches = [ids[: most + 1]] if len(ids) > most else id_batches(ids, _MOST_SETTLED)
        refused = False
        for batch in batches:
            need = Need(read.operation, meeting.rules, old=by_ids(batch))
            refused |= bool(bring_up(model, place, [{}], rewrites, [need], search))
        return refused

    def _lazymig_frequencies(self, map_function: Any, *_others: Any) -> Iterator[Any]:
        """Answer MongoEngine's own map-reduce, which counts the values of a field."""
        # Only a read that meets a rule pays for the import.
        from lazymig.odm.querysets.stages_first import frequencies  # noqa: PLC0415

        for each in frequencies(
            self._collection, self._lazymig_given or {}, self._sub_js_fields(map_function)
        ):
            yield MapReduceDocument(self._document, self._collection, each["_id"], each["value"])

    def _lazymig_parts(
        self, _rewrites: Rewrites, _query: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """The filters for old documents and for all others, where these are read apart."""
        return None

    def _lazymig_say(self, read: Read, how: str) -> None:
        logger.debug("%s: %s is %s", self._document.__name__, read.operation, how)
