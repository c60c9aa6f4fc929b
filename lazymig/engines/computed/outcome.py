"""The terms on which a rule is computed, and the outcome for its documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from lazymig.engines.access import Raw, key_of
from lazymig.engines.computed.pace import Pace
from lazymig.errors import MigrationError

__all__ = ["Demand", "Outcome", "PartRefused", "Terms", "TooSlow"]

Demand: TypeAlias = Literal["end", "update", "nothing"]
"""What a rule has to do for each document: end its match, set an update for it, or nothing."""


class PartRefused(Exception):
    """MongoDB refused an update within a transaction, which undoes what it had done so far."""


class TooSlow(PartRefused):
    """Documents are computed too slowly for one transaction; so many of them were in time."""

    def __init__(self, documents: int) -> None:
        super().__init__(documents)
        self.documents = documents


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which a rule is computed for documents.

    :param demand: what the rule has to do. An update of which it is known that it leaves the match
        where it has to end it is not written; where that cannot be known, the document is asked for
        afterwards. Documents for which the rule does not do it are among the failures.
    :param pace: how long documents may be computed; those of a slice are written before the next
        one is begun.
    :param projected: the top-level fields that the documents were read with, `None` for all. A
        document of which the rule reads more is read again, whole.
    :param only_repeatable: the work may be begun anew by someone who does not know what was
        written: halt before an update that would then be written twice.
    :param all_or_nothing: the documents were read in the transaction that the store's session is
        in. What was read is what is stored then, or the write ends the transaction; so the `_id` is
        filter enough, which the server finds in half of the time. A refused update raises
        `PartRefused`.
    :param turn: held while reading and writing, by callers that compute several batches at once
        and must not send two commands at a time.
    :param may_fold: what the server does not say of an update of many documents, for the connection
        is lost, is found out by whoever computes the rule for them once more. The driver repeats
        single updates by itself, and no others.
    :param before_write: called with a query for the documents that are about to be written.
    """

    demand: Demand
    pace: Pace = field(default_factory=Pace)
    projected: frozenset[str] | None = None
    only_repeatable: bool = False
    all_or_nothing: bool = False
    turn: AbstractContextManager[Any] = field(default_factory=nullcontext)
    may_fold: bool = False
    before_write: Callable[[Raw], object] | None = None


@dataclass(slots=True)
class Outcome:
    """What became of a batch: documents, by the key of their `_id`.

    `lasting`: there was an update after which the rule may find its document again. `halted`: for
    that reason a part was left undone. `unwritten` are those of the failures for which an update
    was not sent, because it would not have done what is demanded. `unfinished` are those for which
    there was no time, with their `_id`s.
    """

    matched: set[Any] = field(default_factory=set)
    modified: int = 0
    failures: dict[Any, MigrationError] = field(default_factory=dict)
    unwritten: set[Any] = field(default_factory=set)
    unfinished: dict[Any, Any] = field(default_factory=dict)
    lasting: bool = False
    halted: bool = False

    def leave(self, document_ids: Iterable[Any]) -> None:
        """Note that there was no time for these documents."""
        for document_id in document_ids:
            self.matched.discard(key := key_of(document_id))
            self.unfinished[key] = document_id

    def refuse(self, error: MigrationError) -> None:
        """Note that a document was left as it is, because its update is not what is demanded."""
        key = key_of(error.document_id)
        self.matched.discard(key)
        self.failures[key] = error
        self.unwritten.add(key)

    def halt(self, document_ids: Iterable[Any]) -> None:
        """Leave these documents undone, whatever was found out about them."""
        self.halted = True
        for document_id in document_ids:
            self.matched.discard(key := key_of(document_id))
            self.failures.pop(key, None)
            self.unwritten.discard(key)
