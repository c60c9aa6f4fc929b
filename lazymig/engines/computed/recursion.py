"""Rules that query their own model: how deep, and that they wait for no document of their own."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from lazymig.engines.access import Raw, key_of
from lazymig.engines.driver_errors import waited_too_long
from lazymig.errors import MigrationError, MigrationFailed
from lazymig.rules.bound_rule import BoundRule

__all__ = ["AtWork", "Circular", "Place", "circular", "place_of", "was_logged"]

# A rule that loads another document, for which it loads another one. Each takes some forty frames
# of the thousand that Python allows, and the application has its own.
_DEEPEST: Final = 20

Place: TypeAlias = "tuple[int, str, str]"
"""A rule over a collection: client, collection, name of the rule."""

# A rule and a document, whose key is the last.
_Work: TypeAlias = "tuple[int, str, str, Any]"

# What this thread, or task, is at work on; each but the last waits for the next one.
_at_work: ContextVar[tuple[_Work, ...]] = ContextVar("lazymig_rules_at_work", default=())

# The rules, with their models, that have come round to themselves, and those of which the log has
# said it.
_found: set[tuple[str, str | None]] = set()
_logged: set[tuple[str, str | None]] = set()


class Circular(Exception):
    """A rule has come round to a document that waits for it, or is too deep in others.

    Not the failure of one document: whatever was begun on the way is given up, up to the first.
    """


def place_of(collection: Collection[Any], rule: BoundRule) -> Place:
    """Where a rule is at work."""
    return id(collection.database.client), collection.full_name, rule.name


class AtWork:
    """The time in which a rule is at work on a document: a context manager for what it asks for.

    :raises Circular: it is at work on this document already, or on too many that wait for it.
    """

    # Each document that is computed comes by here.
    __slots__ = ("_token", "_work")

    def __init__(self, place: Place, document: Raw) -> None:
        self._work: _Work = (*place, key_of(document["_id"]))

    def __enter__(self) -> None:
        outer = _at_work.get()
        if outer and (self._work in outer or _depth(self._work) >= _DEEPEST):
            raise Circular
        self._token = _at_work.set((*outer, self._work))

    def __exit__(self, *_error: object) -> None:
        _at_work.reset(self._token)


def circular(
    place: Place, rule: BoundRule, document_id: Any, cause: Exception
) -> MigrationFailed | None:
    """The error for a document for which a rule has failed because of what it asked for.

    :param cause: what the rule raised.
    :return: `None` if the rule has failed by itself.
    :raises Circular: another document waits for this one, and need not hear the same.
    """
    nested = _depth(place) > 0
    if isinstance(cause, MigrationError):
        by_itself = (cause.model, cause.rule) != (rule.model_name, rule.name)
    elif isinstance(cause, PyMongoError) and waited_too_long(cause):
        # The time of the first document is up; or this rule has used up that of its batch so.
        by_itself = not nested and (rule.model_name, rule.name) not in _found
    else:
        by_itself = not isinstance(cause, Circular)
    if by_itself:
        return None
    if nested:
        raise Circular from cause
    _found.add((rule.model_name, rule.name))
    failure = MigrationFailed(
        "the rule queries its own model, for documents that need this rule first; let it query "
        "what is stored, by as_stored() or self.collection",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )
    failure.__cause__ = Circular()
    failure.__cause__.__cause__ = cause
    return failure


def was_logged(error: MigrationError) -> bool:
    """Return whether an error says of a rule what the log has said of it before."""
    if not isinstance(error.__cause__, Circular):
        return False
    rule = error.model, error.rule
    known = rule in _logged
    _logged.add(rule)
    return known


def _depth(work: tuple[Any, ...]) -> int:
    """On how many documents that wait for each other a rule is at work."""
    return sum(each[:3] == work[:3] for each in _at_work.get())
