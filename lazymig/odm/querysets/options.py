"""Options of a queryset that hold for migrated documents and not for old ones: `$` and `hint()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazymig.engines.access import Positional
from lazymig.engines.reading.labelled import labelled
from lazymig.odm.querysets.rewrites import Need, Rewrites
from lazymig.odm.querysets.settling import SettlingQuerySet
from lazymig.query.positional import is_positional_projection

__all__ = ["OptionsQuerySet"]


class OptionsQuerySet(SettlingQuerySet):
    """Sends a filter as the user wrote it, or without its hint, where an option needs that."""

    # Of the documents that the filter finds, those alone that a hinted index holds.
    _lazymig_indexed: Mapping[str, Any] | None = None
    _lazymig_of_clones = (*SettlingQuerySet._lazymig_of_clones, "_lazymig_indexed")

    def _lazymig_for_projection(self) -> dict[str, Any]:
        """The attributes of a queryset that sends its filter so that a projection finds its `$`."""
        if not self._loaded_fields or not is_positional_projection(self._loaded_fields.as_dict()):
            return {}
        return self._lazymig_as_is(Need("a positional projection", frozenset()))

    def _lazymig_for_hint(self, hint: Any) -> dict[str, Any]:
        """The attributes of a queryset with which a hinted query finds what it has to find.

        Without its hint it is asked for what the index would hold if all documents were migrated.
        """
        hinted = self._lazymig_hinted(hint)
        if hinted is None:
            return {}
        index, rules = hinted
        if index.holds is None or self._collation is not None:
            name = "a hint of an index that does not hold all documents"
            return self._lazymig_as_is(Need(name, rules))
        return {"_hint": -1, "_lazymig_indexed": index.holds} if rules else {}

    def _lazymig_positional(self, projection: Mapping[str, Any] | None) -> Positional | None:
        """The filter that a projection with `$` takes its elements from."""
        if not is_positional_projection(projection):
            return None
        return Positional(super()._query, self._collation)

    def _lazymig_own_collection(self) -> Any:
        """The collection for lazymig's own commands, which carry the options of the queryset."""
        return labelled(self._collection, self._comment, self._max_time_ms)

    def _lazymig_shown_cursor(
        self, _rewrites: Rewrites, _query: Mapping[str, Any], _ordering: Need
    ) -> Any:
        """The cursor over documents that rules are shown to; None: what it meets is settled.

        :param _ordering: what the order needs.
        """
        return None

    def _lazymig_way_of(self, _rewrites: Rewrites, _query: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether rules are shown to documents that the queryset meets, and how it is answered."""
        return False, "Old documents are settled, that is, migrated before the query is sent."

    @property
    def _lazymig_own_query(self) -> Any:
        """MongoEngine's own filter, with the former classes."""
        return super()._query
