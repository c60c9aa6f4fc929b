"""The mark of documents whose stored form is known to be up to date, so that a save asks nothing.

It is an attribute of the instance. Copies and unpickled documents have none, for MongoEngine makes
them of a document's data alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lazymig.engines.access import key_of
from lazymig.engines.loads.shown import Shown
from lazymig.engines.sessions import current_session

__all__ = [
    "is_marked",
    "is_rescued",
    "mark",
    "marking",
    "note_rescued",
    "unmark",
]

_MARK: Final = "_lazymig_up_to_date"
_RESCUED: Final = "_lazymig_rescued"


def _in_transaction() -> bool:
    """Return whether what is read and written now may be undone."""
    session = current_session()
    return session is not None and bool(session.in_transaction)


def mark(document: Any, collection: Any, document_id: Any) -> None:
    """Note that what is stored under this `_id` in this collection is up to date.

    In the transaction of a session nothing is noted, for it may be undone.
    """
    if not _in_transaction():
        object.__setattr__(document, _MARK, (collection, document_id))
        vars(document).pop(_RESCUED, None)


def note_rescued(document: Any) -> None:
    """Note that rules which only an error starts may have made the document, not what is stored."""
    object.__setattr__(document, _RESCUED, True)


def is_rescued(document: Any) -> bool:
    """Return whether that was noted, and the stored document was not brought up to date since."""
    return _RESCUED in vars(document)


def unmark(document: Any) -> None:
    """Take the mark away again, if there is one."""
    vars(document).pop(_MARK, None)


def is_marked(document: Any, collection: Any, document_id: Any) -> bool:
    """Return whether a document is known to be up to date where it is about to be saved.

    The collection is another one after `switch_collection()` and the like, the `_id` after an
    assignment to the primary key.
    """
    known = vars(document).get(_MARK)
    return known is not None and _is_same(known[1], document_id) and bool(known[0] == collection)


def _is_same(document_id: Any, other: Any) -> bool:
    if isinstance(document_id, Mapping):
        # The order of the fields counts.
        return bool(key_of(document_id) == key_of(other))
    # For MongoDB 1 and 1.0 are the same, 1 and true are not.
    return bool(document_id == other) and isinstance(document_id, bool) is isinstance(other, bool)


def marking(build: Callable[..., Any], collection: Any) -> Callable[..., Any]:
    """The same way from raw documents to instances, which are marked as up to date.

    :param collection: where the raw documents were read.
    :return: the way itself in the transaction of a bound session.

    A document that is shown as its rules will leave it is not what is stored, and gets no mark.
    """
    if _in_transaction():
        return build

    def build_marked(raw: Any) -> Any:
        document = build(raw)
        if "_id" in raw and type(raw) is not Shown:
            # MongoEngine's own __setattr__ takes ten times as long, and each load comes by here.
            object.__setattr__(document, _MARK, (collection, raw["_id"]))
        return document

    return build_marked
