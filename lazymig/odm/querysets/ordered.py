"""OrderedQuerySet: documents in an order, or by a filter, that stored documents do not show yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lazymig.engines.access import all_of, ids_of, is_mongomock
from lazymig.engines.reading.labelled import labelled
from lazymig.engines.sessions import given_session
from lazymig.engines.store import Store
from lazymig.odm.querysets.rewrites import Need, Rewrites
from lazymig.odm.querysets.rewritten import RewrittenFilter
from lazymig.odm.querysets.seeing import SeeThroughQuerySet
from lazymig.odm.querysets.settling import sorted_paths
from lazymig.odm.querysets.showing import Meeting, Read
from lazymig.query.collations import compares_text, has_text
from lazymig.query.matching import query_paths
from lazymig.query.operators import NEAR, holds_any

if TYPE_CHECKING:
    from lazymig.odm.querysets.merged import MergedRead

__all__ = ["OrderedQuerySet"]

# Documents from the start of a result for which the old ones and the others are sorted each by
# themselves, so that indexes may give the order of both.
_MOST_MERGED: Final = 1_000

_PRIMARY: Final = 0

# What MongoDB takes in no stage of an aggregation, or only in its first one.
_FOR_FIND: Final = frozenset({*NEAR, "$text", "$where"})


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What an operation asks of documents as rules will leave them.

    :param query: MongoEngine's own filter; `rewritten`: the same for stored documents.
    :param rules: the indexes of the rules that are shown, without those they depend on.
    :param order: of the result, as PyMongo takes it; nothing where it does not matter.
    :param skip: how many documents are left out at the start of the result.
    :param limit: how many there may be after that; 0 for all.
    """

    query: Mapping[str, Any]
    rewritten: RewrittenFilter
    rules: frozenset[int]
    order: tuple[tuple[str, Any], ...]
    skip: int
    limit: int

    @property
    def filters(self) -> bool:
        """Return whether a part of the filter cannot be rewritten."""
        return bool(self.rewritten.unseen)

    @property
    def meets_filter_alone(self) -> bool:
        """Return whether it is the filter alone for which rules are shown."""
        return self.filters and not self.order

    @property
    def paths(self) -> frozenset[str] | None:
        """The paths that are read of the shown documents; None: any."""
        paths = query_paths(self.rewritten.asked or {})
        return None if paths is None else paths.union(sorted_paths(self.order))

    @property
    def is_short(self) -> bool:
        """Return whether only the start of the result is asked for."""
        return self.limit > 0 and self.skip + self.limit <= _MOST_MERGED

    @property
    def starts_an_order(self) -> bool:
        """Return whether the command that reads it can look for what is old on the way."""
        return bool(self.order) and self.is_short


class OrderedQuerySet(SeeThroughQuerySet):
    """Shows rules to a sort, or to a filter, in place of settling for it."""

    _lazymig_of_clones = (*SeeThroughQuerySet._lazymig_of_clones, "_lazymig_at_index")

    # One document is asked for, by its index in the result.
    _lazymig_at_index = False

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return super().__getitem__(key)
        with self._lazymig_with({"_lazymig_at_index": True}):
            return super().__getitem__(key)

    def _lazymig_shown_cursor(
        self, rewrites: Rewrites, query: Mapping[str, Any], ordering: Need
    ) -> Any:
        rewritten = self._lazymig_filter(query, rewrites)
        if not (ordering.rules or rewritten.unseen):
            return None
        asked = self._lazymig_asked(rewrites, query, ordering)
        if self._lazymig_unshowable(rewrites, asked) is not None:
            return None
        with self._lazymig_with({"_lazymig_still": True}):
            plain = self._lazymig_make_cursor()
        if not asked.starts_an_order and self._lazymig_is_current(rewrites, asked):
            return plain
        from lazymig.odm.querysets.merged import ShownCursor  # noqa: PLC0415

        read = self._lazymig_merged(rewrites, asked)
        settle = self._lazymig_settling_unshown(rewrites, asked)
        if rewrites.shown(asked.rules).inexact and read.marking is None:
            # The failure that would say so ends a transaction.
            settle()
        options: dict[str, Any] = {}
        if self._collation is not None:
            options["collation"] = self._collation
        if self._hint != -1:
            options["hint"] = self._hint if isinstance(self._hint, str) else dict(self._hint)
        if self._batch_size:
            options["batchSize"] = self._batch_size
        if self._comment is not None:
            options["comment"] = self._comment
        limit = 0 if self._lazymig_at_index else asked.limit
        self._cursor_obj = ShownCursor(plain, read, options, (asked.skip, limit), settle)
        return self._cursor_obj

    def _lazymig_way_of(self, rewrites: Rewrites, query: Mapping[str, Any]) -> tuple[bool, str]:
        ordering = self._lazymig_need_of_order(rewrites, query)
        asked = self._lazymig_asked(rewrites, query, ordering)
        reason = self._lazymig_unshowable(rewrites, asked)
        if reason is not None:
            _, how = super()._lazymig_way_of(rewrites, query)
            return False, f"{how} They are not shown, because {reason}."
        if self._lazymig_merged(rewrites, asked).in_front:
            way = "The documents are sorted as they will be: the rules' stages stand in front."
        else:
            way = "Old documents are found, and shown as they will be, apart from all others."
        unshown = rewrites.names(sorted(rewrites.shown(asked.rules).settled))
        if unshown:
            names = ", ".join(unshown)
            return True, f"{way} Those that come to the turn of {names} are settled before that."
        return True, f"{way} Nothing is written for that."

    def _lazymig_parts(
        self, rewrites: Rewrites, query: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        ordering = self._lazymig_need_of_order(rewrites, query)
        read = self._lazymig_merged(rewrites, self._lazymig_asked(rewrites, query, ordering))
        return None if read.in_front else (read.old, read.others)

    def count(self, with_limit_and_skip: bool = False) -> int:
        """Count the documents that match, old ones by what they are about to be."""
        counted = self._lazymig_count_shown(with_limit_and_skip=with_limit_and_skip)
        return super().count(with_limit_and_skip) if counted is None else counted

    def _lazymig_count_shown(self, *, with_limit_and_skip: bool) -> int | None:
        """The number of documents where the filter cannot be rewritten, and rules can be shown."""
        rewrites = self._lazymig_rewrites()
        if rewrites is None or self._none or self._empty or self._lazymig_settled:
            return None
        if self._lazymig_still or (self._limit == 0 and not with_limit_and_skip):
            return None
        query = super()._lazymig_own_query
        rewritten = self._lazymig_filter(query, rewrites)
        if not rewritten.unseen or self._hint not in (-1, None):
            return None
        rules = rewrites.concerning([rewritten.asked or {}])
        part = (self._skip or 0, abs(self._limit or 0)) if with_limit_and_skip else (0, 0)
        asked = _Asked(query, rewritten, rules, (), *part)
        if self._lazymig_unshowable(rewrites, asked, reads_fields=False) is not None:
            return None
        if self._lazymig_is_current(rewrites, asked):
            return None
        read = self._lazymig_merged(rewrites, asked)
        collection = self._lazymig_read_collection()
        options = {} if self._collation is None else {"collation": self._collation}

        def send(stages: list[Any]) -> list[Any]:
            found = collection.aggregate(
                stages, allowDiskUse=True, **given_session(collection), **options
            )
            return list(found)

        settle = self._lazymig_settling_unshown(rewrites, asked)
        if rewrites.shown(asked.rules).inexact and read.marking is None:
            settle()
        front = read.front(settle)
        counted = front.run(send, read.counting(*part))
        self._cursor_obj = None
        return int(counted[0]["n"]) if counted else 0

    def _lazymig_asked(
        self, rewrites: Rewrites, query: Mapping[str, Any], ordering: Need
    ) -> _Asked:
        rewritten = self._lazymig_filter(query, rewrites)
        rules = ordering.rules
        if rewritten.unseen:
            rules |= rewrites.concerning([rewritten.asked or {}])
        order: Any = self._lazymig_ordered() if rules else None
        pairs = [(order, 1)] if isinstance(order, str) else order or ()
        limit = 1 if self._lazymig_at_index else abs(self._limit or 0)
        return _Asked(
            query,
            rewritten,
            rules,
            tuple((one, 1) if isinstance(one, str) else (one[0], one[1]) for one in pairs),
            self._skip or 0,
            limit,
        )

    def _lazymig_unshowable(
        self, rewrites: Rewrites, asked: _Asked, *, reads_fields: bool = True
    ) -> str | None:
        """Why old documents are settled before they are sorted, or filtered; None: they are shown.

        :param reads_fields: fields of the documents are handed out, too.
        """
        if is_mongomock(self._collection):
            return "there is no server that could show them"
        if holds_any(asked.query, _FOR_FIND) or self._search_text:
            return "it asks for a text or a distance, which MongoDB looks for in stored documents"
        if reads_fields and self._where_clause:
            return "nobody knows what where() reads"
        if reads_fields and not _is_plain(self._cursor_args.get("projection")):
            return "it loads chosen elements of arrays"
        if reads_fields and not self._timeout and not asked.is_short:
            return "its cursor must not time out, which no aggregation can promise"
        if self._hint not in (-1, None) and (asked.filters or self._lazymig_for_hint(self._hint)):
            return "a hint names an index that does not hold all documents, or serves the filter"
        shown = rewrites.shown(asked.rules)
        if shown.blind is not None:
            return str(shown.blind)
        if shown.settled.issuperset(rewrites.with_dependencies(asked.rules)):
            return " and ".join(map(str, shown.reasons.values()))
        if self._collation is not None:
            old, _others = rewrites.parted(asked.rules, {})
            stages = shown.stages(asked.paths, marks=shown.inexact)
            if has_text(old) or compares_text(stages):
                return "a rule compares texts, which the collation would change"
        return None

    def _lazymig_is_current(self, rewrites: Rewrites, asked: _Asked) -> bool:
        """Return whether it is known that none of the documents is old.

        It is asked only where the answer, read from a primary, holds for what is read next.
        """
        if not self._lazymig_on_primary():
            return False
        collection = self._lazymig_read_collection()
        old, _others = rewrites.parted(asked.rules, asked.rewritten.within)
        if asked.meets_filter_alone and asked.rewritten.old is not None:
            # What was rewritten is right for all others, be they old.
            old = all_of(asked.rewritten.within, asked.rewritten.old)
        # Under the concern of the read: another one might see a later state of a document.
        place = labelled(collection, self._comment, self._max_time_ms or None)
        options: dict[str, Any] = given_session(collection)
        if self._collation is not None:
            options["collation"] = self._collation
        return not any(True for _ in ids_of(place, old, limit=1, **options))

    def _lazymig_on_primary(self) -> bool:
        return bool(self._lazymig_read_collection().read_preference.mode == _PRIMARY)

    def _lazymig_merged(self, rewrites: Rewrites, asked: _Asked) -> MergedRead:
        from lazymig.odm.querysets.merged import MergedRead  # noqa: PLC0415
        from lazymig.rules.rewrite.ordering import apart_from_nothing, stored_order  # noqa: PLC0415

        rewritten = asked.rewritten
        old, others = rewrites.parted(asked.rules, rewritten.within)
        today: Mapping[str, Any] = rewritten.asked or {}
        paths = asked.paths
        shown = rewrites.shown(asked.rules)
        codec = self._collection.codec_options
        needed = rewrites.with_dependencies(asked.rules)
        in_transaction = Store(self._collection).in_transaction
        marks = shown.inexact and not in_transaction
        before = None
        if asked.order and not asked.filters and len(needed) == 1 and _is_certain(shown):
            before = stored_order(rewrites.rewriter.steps[needed[0]], asked.order)
        if before is not None and not rewritten.within and len(asked.order) == 1:
            (path, direction), *_ = asked.order
            if direction == 1:
                others = apart_from_nothing(others, path)
        # A long result is sorted as a whole in any case; a hint counts for a first stage alone; a
        # collation would take the `_id`s of two documents for one; and in a transaction MongoDB
        # unites nothing.
        in_front = (
            in_transaction
            or self._hint not in (-1, None)
            or self._collation is not None
            or not (asked.filters or asked.is_short)
        )
        return MergedRead(
            collection=self._collection.name,
            within=rewritten.within,
            old=old,
            others=all_of(others, today),
            stages=shown.encoded(paths, codec),
            marking=shown.encoded(paths, codec, marks=True) if marks else None,
            asked=today,
            order=asked.order,
            stored_order=before,
            projection=self._cursor_args.get("projection"),
            in_front=in_front,
            looks=asked.starts_an_order and not in_front and self._lazymig_on_primary(),
        )

    def _lazymig_settling_unshown(self, rewrites: Rewrites, asked: _Asked) -> Callable[[], bool]:
        """What settles those of the documents that cannot be shown."""

        def settle() -> bool:
            needs = [self._lazymig_need_of_order(rewrites, asked.query)] if asked.order else []
            needs += self._lazymig_needs_of_filter(asked.rewritten)
            operation = " and ".join(need.operation for need in needs if need.rules)
            meeting = Meeting(
                Read(operation, asked.paths),
                rewrites,
                asked.rewritten.within,
                asked.rewritten.asked,
                frozenset(rewrites.with_dependencies(asked.rules)),
            )
            return self._lazymig_settle_unshown(meeting, self._document, self._collection)

        return settle


def _is_plain(projection: Mapping[str, Any] | None) -> bool:
    """Return whether a projection names fields, and nothing else."""
    return all(
        type(value) in (bool, int) and "$" not in path for path, value in (projection or {}).items()
    )


def _is_certain(shown: Any) -> bool:
    """Return whether it is known of one rule that each document will be as it is shown."""
    changes = [change for rule in shown.rules for change in rule.changes]
    return not shown.settled and all(
        change.exact is True and change.refused is False for change in changes
    )
