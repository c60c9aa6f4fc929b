"""A filter over today's shapes as one over stored shapes: all of it, or a part and the reasons."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lazymig.engines.access import all_of
from lazymig.odm.querysets.rewrites import Rewrites
from lazymig.redaction import shape_of
from lazymig.rules.rewrite.rewriting import CannotRewrite

__all__ = ["RewrittenFilter", "rewritten_filter"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RewrittenFilter:
    """A filter for stored documents.

    :param query: what is sent to MongoDB.
    :param within: the part of it that sees through the rules by itself.
    :param unseen: why the other conditions cannot be asked of stored documents before some of
        those that `within` finds have been settled.
    :param opaque: the rules that have to be applied to them.
    :param old: finds them; None: the targets of these rules and of those they depend on.
    :param asked: those other conditions, as they are asked of documents of today's shape.
    """

    query: Mapping[str, Any]
    within: Mapping[str, Any]
    unseen: tuple[CannotRewrite, ...] = ()
    opaque: frozenset[int] = frozenset()
    old: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] | None = None


def rewritten_filter(
    model: Any, query: Mapping[str, Any], rewrites: Rewrites, *, collation: bool
) -> RewrittenFilter:
    """A filter over today's shapes, as a filter over stored shapes.

    :param query: MongoEngine's own filter; the same object comes back where no rule concerns it.
    :param collation: whether MongoDB compares strings otherwise than by their characters, so that
        no constant of a rule can be judged here.
    """
    if collation and rewrites.rewriter.is_concerned(query):
        return _partly_rewritten(query, rewrites, collation=collation)
    try:
        seen = rewrites.rewriter.rewrite(query)
    except CannotRewrite:
        return _partly_rewritten(query, rewrites, collation=collation)
    if seen is not query:
        _log(model, query, seen, rewrites)
    return RewrittenFilter(seen, seen)


def _partly_rewritten(
    query: Mapping[str, Any], rewrites: Rewrites, *, collation: bool
) -> RewrittenFilter:
    """The conjuncts that can be rewritten find the documents to settle.

    The others come as they are after the rules through which they cannot be rewritten.
    """
    within: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    asked: list[Mapping[str, Any]] = []
    unseen: list[CannotRewrite] = []
    opaque: set[int] = set()
    for part in _conjuncts(query):
        if collation and rewrites.rewriter.is_concerned(part):
            name = rewrites.rewriter.steps[-1].name
            unseen.append(CannotRewrite(name, next(iter(part)), "is collated"))
            others.append(part)
            asked.append(part)
            opaque |= rewrites.concerning([part])
            continue
        left_out: set[int] = set()
        seen, reasons = rewrites.seen_through(part, left_out)
        (others if reasons else within).append(seen)
        if reasons:
            asked.append(part)
        unseen += reasons[:1]
        opaque |= left_out
    old = None if collation else rewrites.concerned_by(opaque)
    # Each part was rewritten alone: a branch of one may be excluded by another.
    sent = all_of(*within, *others)
    return RewrittenFilter(
        # MongoDB has a text score only where it is asked for a text, be it in vain.
        sent if any("$text" in part for part in others) else rewrites.rewriter.simplify(sent),
        rewrites.rewriter.simplify(all_of(*within)),
        tuple(unseen),
        frozenset(opaque),
        old,
        all_of(*asked),
    )


def _conjuncts(query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key, value in query.items():
        if key == "$and":
            for part in value:
                yield from _conjuncts(part)
        else:
            yield {key: value}


def _log(model: Any, query: Any, seen: Any, rewrites: Rewrites) -> None:
    if not logger.isEnabledFor(logging.DEBUG):
        return
    if not rewrites.logs_first(tuple(sorted(query))):
        return
    asked, sent = shape_of(query), shape_of(seen)
    logger.debug("%s: %r is asked as %r", model.__name__, asked, sent)
