"""The cursors of a queryset, with what MongoEngine keeps in them alone.

MongoEngine hands the cursor of a queryset on to its clones, so that some options live in the cursor
(`max_time_ms`), and some that are changed later never reach it (`only()` after `comment()`). What
has to be settled, and which filter is sent, depends on what a clone is asked for in the end. So a
cursor that was handed on, or that was only made to carry an option, is made anew when it is first
asked, from what it was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from lazymig.engines.access import as_bytes
from lazymig.odm.querysets.joining import AsStoredQuerySet
from lazymig.odm.sealed import is_idle
from lazymig.odm.stored import shown_as_stored

__all__ = ["CursorQuerySet"]

# Options of a queryset that MongoEngine looks at when it makes a cursor, and never again.
_FIXED: Final = ("_allow_disk_use", "_loaded_fields", "_timeout", "_where_clause")


@dataclass(frozen=True, slots=True)
class _Made:
    """How a cursor was made.

    :param options: the options of `_FIXED` at that time.
    :param changes: attributes that the queryset had while the cursor was made, for it alone.
    :param max_time_ms: the limit that was set on the cursor itself.
    :param stored: documents are shown as they are stored.
    """

    options: dict[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    max_time_ms: int | None = None
    stored: bool = False


_NEW: Final = _Made()


class _With:
    """A context in which an object has other attributes; each query enters several."""

    __slots__ = ("_before", "_object", "_options")

    def __init__(self, changed: Any, options: Mapping[str, Any]) -> None:
        self._object = changed
        self._options = options

    def __enter__(self) -> None:
        self._before = {name: getattr(self._object, name) for name in self._options}
        self._object.__dict__.update(self._options)

    def __exit__(self, *error: object) -> None:
        self._object.__dict__.update(self._before)


_UNCHANGED: Final = nullcontext()


class CursorQuerySet(AsStoredQuerySet):
    """Makes cursors anew for clones, with all options; `as_stored` is decided as one is begun."""

    _lazymig_of_clones = (*AsStoredQuerySet._lazymig_of_clones, "_lazymig_unasked")

    # How the cursor was made. It counts only as long as there is a cursor.
    _lazymig_made = _NEW

    # The cursor was made for another queryset, or to carry an option: nobody has asked it yet.
    _lazymig_handed_on = False

    _lazymig_changes: Mapping[str, Any] = MappingProxyType({})

    # The cursor that is being made is not asked for any document.
    _lazymig_unasked = False

    # The cursor that is being made leaves its documents as bytes.
    _lazymig_raw = False

    # They are few, so that PyMongo decodes them; the query is sent anew if it cannot.
    _lazymig_decoded = False

    @property
    def _cursor(self) -> Any:
        given = self._cursor_obj
        if given is not None and not self._lazymig_handed_on:
            return given
        made = self._lazymig_made if given is not None else _NEW
        self._cursor_obj = None
        self._lazymig_changes = {}
        try:
            with self._lazymig_with(made.options):
                cursor = self._lazymig_make_cursor()
                options = {name: getattr(self, name) for name in _FIXED}
        except BaseException:
            self._cursor_obj = given
            raise
        if made.max_time_ms is not None:
            cursor.max_time_ms(made.max_time_ms)
        # Bytes are for those who migrate them, whatever was sealed since that was decided.
        stored = not self._lazymig_raw and self._lazymig_begins_stored()
        self._lazymig_made = _Made(options, self._lazymig_changes, made.max_time_ms, stored)
        self._lazymig_handed_on = False
        return cursor

    def _lazymig_raw_cursor(self) -> Any:
        """The cursor; if it has to be made, one that leaves its documents as bytes."""
        if self._cursor_obj is not None and not self._lazymig_handed_on:
            return self._cursor
        before = self._lazymig_raw
        self._lazymig_raw = True
        try:
            return self._cursor
        finally:
            self._lazymig_raw = before

    def _lazymig_make_cursor(self) -> Any:
        """Make the cursor of the queryset, which has none.

        The attributes that the queryset has for it alone are put into `_lazymig_changes`.
        """
        if not self._lazymig_raw or self._lazymig_decoded:
            return super()._cursor
        collection = self._collection_obj
        self._collection_obj = as_bytes(collection)
        try:
            return super()._cursor
        finally:
            self._collection_obj = collection

    def _lazymig_as_made(self) -> _With:
        """Give the queryset, for the block, the attributes that its cursor was made with."""
        made = self._lazymig_made
        return _With(self, {**made.options, **made.changes})

    def _lazymig_with(self, options: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Give attributes of the queryset other values, for the block."""
        return _With(self, options) if options else _UNCHANGED

    def _chainable_method(self, method_name: str, val: Any) -> Any:
        # comment() and max_time_ms() make a cursor to keep their option in.
        with self._lazymig_with({"_lazymig_unasked": True}):
            queryset = super()._chainable_method(method_name, val)
        if method_name == "max_time_ms":
            queryset._lazymig_made = replace(queryset._lazymig_made, max_time_ms=val)
        return self._lazymig_to_ask_later(queryset)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        with self._lazymig_with({"_lazymig_unasked": True}):
            queryset = super().__getitem__(key)
        return self._lazymig_to_ask_later(queryset)

    @staticmethod
    def _lazymig_to_ask_later(queryset: Any) -> Any:
        queryset._lazymig_unasked = False
        queryset._lazymig_handed_on = queryset._cursor_obj is not None
        return queryset

    def rewind(self) -> None:
        """Rewind the cursor to its unevaluated state."""
        # A new one, for old documents may have come since.
        self._lazymig_handed_on = self._cursor_obj is not None
        super().rewind()

    def _clone_into(self, new_qs: Any) -> Any:
        super()._clone_into(new_qs)
        if new_qs._cursor_obj is not None:
            new_qs._lazymig_made = self._lazymig_made
            new_qs._lazymig_handed_on = True
        return new_qs

    def _lazymig_shows_stored(self) -> bool:
        """Return whether what is sent now shows documents as they are stored."""
        return self._lazymig_stored or shown_as_stored(self._document)

    def _lazymig_reads_stored(self) -> bool:
        """Return whether the cursor, for as long as there is one, shows documents as stored."""
        if self._cursor_obj is None or self._lazymig_handed_on:
            return self._lazymig_begins_stored()
        return self._lazymig_made.stored

    def _lazymig_begins_stored(self) -> bool:
        """Return whether a cursor that is made now shows documents as they are stored."""
        return self._lazymig_shows_stored() or self._lazymig_is_idle()

    def _lazymig_is_idle(self) -> bool:
        """Return whether no rule is left for the documents: all are sealed."""
        return is_idle(self._document, self._collection_obj, self._read_preference)

    @property
    def _lazymig_carried_fields(self) -> Any:
        """The fields that the cursor loads; if there is none, those that the next one loads."""
        if self._cursor_obj is None:
            return self._loaded_fields
        return self._lazymig_made.options.get("_loaded_fields", self._loaded_fields)
