"""Findings about values of a wrong type, null, or none of the choices, and the rules for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lazymig.odm.fields import FieldFacts, bson_type
from lazymig.reports.drift.counts import Count
from lazymig.reports.drift.defaults import LOST, asking, loss, replacement_of
from lazymig.reports.drift.doubts import condition_of_doubt
from lazymig.reports.drift.drafts import Draft
from lazymig.reports.drift.field_counts import FieldCount, FieldCounts
from lazymig.reports.drift.findings import Kind
from lazymig.reports.drift.proposals import (
    Conversion,
    RuleProposal,
    asked_about,
    cleared,
    converted,
    corrected,
    pulled,
    wrapped,
)
from lazymig.reports.drift.similarity import meant_choice
from lazymig.reports.texts import documents

__all__ = ["ValueDetector", "draft_of", "expected_types"]

# Values outside of the choices for which a rule of their own is proposed, and that are listed.
_MOST_VALUES = 10


def draft_of(
    counts: FieldCounts, field: FieldCount, kind: Kind, message: str, count: Count
) -> Draft:
    """A finding about a field."""
    return Draft(
        kind=kind,
        classes=field.seen,
        path=field.path,
        message=message,
        count=count.documents,
        ids=count.ids,
        values_in=counts.values_in(field.places),
        facts=field.facts,
        types=field.type_counts,
        expected=expected_types(field.facts),
    )


def expected_types(facts: FieldFacts) -> tuple[str, ...]:
    """The BSON types that a field stores, the usual one first; empty if any."""
    return tuple(sorted(facts.types or (), key=lambda name: (name != facts.usual, name)))


class ValueDetector:
    """Finds wrong values of fields.

    :param is_there: whether a query finds a document.
    """

    def __init__(self, counts: FieldCounts, is_there: Callable[[Mapping[str, Any]], bool]) -> None:
        self.counts = counts
        self.is_there = is_there

    def drafts(self, field: FieldCount) -> Iterator[Draft]:
        """The findings about a field's values."""
        facts = field.facts
        for kind, count in sorted(field.types.items()) if facts.types is not None else ():
            if kind in (facts.types or ()) or kind in ("missing", "undefined"):
                continue
            if kind != "null":
                yield self._wrong_type(field, kind, count)
            elif not facts.null:
                yield self._null(field, count)
        if field.outside:
            yield from self._outside(field)

    def _draft(
        self, field: FieldCount, kind: Kind, message: str, count: Count, condition: Any
    ) -> Draft:
        draft = draft_of(self.counts, field, kind, message, count)
        draft.query = self.counts.query(field.places, condition)
        return draft

    def _null(self, field: FieldCount, count: Count) -> Draft:
        message = (
            f"{field.path!r} is null in {documents(count.documents)}, where MongoEngine stores "
            "nothing"
        )
        condition = {"$eq": None} if field.is_item else {"$type": "null", **self._no_list(field)}
        draft = self._draft(field, "null", message, count, condition)
        draft.shows = lambda value: value is None
        site = self.counts.site(field.places)
        replacement = replacement_of(field.facts)
        if field.is_item:
            draft.proposal = pulled(site, condition, message, asks=False)
        elif replacement is not None:
            draft.proposal = cleared(site, condition, replacement, "clear", message)
        return draft

    def _no_list(self, field: FieldCount) -> dict[str, Any]:
        """What keeps a query for single values from finding lists that hold such a value."""
        if self.counts.exact and field.facts.container != "list" and "array" not in field.types:
            return {}
        return {"$not": {"$type": "array"}}

    def _wrong_type(self, field: FieldCount, kind: str, count: Count) -> Draft:
        flags = field.converts.get(kind, {})
        refused = flags["no"].documents if "no" in flags else 0
        expected = " or ".join(expected_types(field.facts))
        message = (
            f"{field.path!r} is of type {kind} in {documents(count.documents)}, not {expected}"
        )
        if flags:
            which = "all" if not refused else f"not those of {documents(refused)}"
            message += f"; $convert turns {which}"
        condition = {"$type": kind} | ({} if kind == "array" else self._no_list(field))
        draft = self._draft(field, "wrong_type", message, count, condition)
        draft.convertible = None if not flags else not refused
        draft.shows = lambda value: bson_type(value) == kind
        draft.proposal = self._retyped(field, kind, condition, message)
        return draft

    def _retyped(
        self, field: FieldCount, kind: str, condition: Mapping[str, Any], message: str
    ) -> RuleProposal | None:
        facts, item = field.facts, field.facts.item
        flags = field.converts.get(kind, {})
        site = self.counts.site(field.places)
        if facts.container == "list" and (item is None or item.types is None or kind in item.types):
            return wrapped(site, kind, condition, message)
        if not flags.keys() - {"no"}:
            return self._lost(field, condition, message)
        to = facts.convert_to[-1 if "long" in flags else 0]
        otherwise = None
        if "no" in flags:
            otherwise = replacement_of(facts)
            if otherwise is None:
                return None
            question = "Values that cannot be converted are lost: is it right?"
            otherwise = asking(otherwise, question)
        conversion = Conversion(facts, kind, to, otherwise)
        proposal = converted(site, conversion, condition, [message, *loss(kind, to)])
        if proposal is not None and not proposal.asks and self._misreads(field, kind, to):
            return asked_about(proposal, "some of these values may mean something else")
        return proposal

    def _lost(
        self, field: FieldCount, condition: Mapping[str, Any], message: str
    ) -> RuleProposal | None:
        """A rule that gives values up, for want of anything that they could become."""
        site = self.counts.site(field.places)
        if field.is_item:
            return pulled(site, condition, message)
        replacement = replacement_of(field.facts)
        if replacement is None:
            return None
        return cleared(site, condition, asking(replacement, LOST), "reset", message)

    def _misreads(self, field: FieldCount, kind: str, to: str) -> bool:
        """Return whether `$convert` turns some values, without complaint, into something else."""
        doubtful = condition_of_doubt(kind, to)
        if isinstance(doubtful, bool):
            return doubtful
        queries = [self.counts.query(field.places, each) for each in ({"$type": kind}, doubtful)]
        return any(each is None for each in queries) or self.is_there({"$and": queries})

    def _outside(self, field: FieldCount) -> Iterator[Draft]:
        choices = list(field.facts.choices or ())
        frequent = sorted(field.outside.items(), key=lambda item: -item[1].documents)
        meant: dict[str, str] = {}
        for (kind, text), count in frequent:
            likely = meant_choice(text, choices) if kind == "string" and len(text) < 100 else None
            if likely is not None and len(meant) < _MOST_VALUES:
                meant[text] = likely
                yield self._misspelt(field, text, likely, count)
        rest = [(kind, text, count) for (kind, text), count in frequent if text not in meant]
        if not rest:
            return
        total = Count(sum(count.documents for *_, count in rest), rest[0][2].ids)
        message = (
            f"{field.path!r} is none of its choices in {documents(total.documents)}: "
            f"{', '.join(repr(text) for _kind, text, _count in rest[:3])}"
        )
        known = [*choices, *meant]
        kinds = sorted({kind for kind, *_ in rest})
        condition = {
            "$type": kinds[0] if len(kinds) == 1 else kinds,
            "$nin": known,
            **self._no_list(field),
        }
        draft = self._draft(field, "outside_choices", message, total, condition)
        draft.shows = lambda value: bson_type(value) in kinds and value not in known
        draft.values = tuple((text, count.documents) for _kind, text, count in rest[:_MOST_VALUES])
        draft.proposal = self._lost(field, condition, message)
        yield draft

    def _misspelt(self, field: FieldCount, text: str, likely: str, count: Count) -> Draft:
        message = (
            f"{field.path!r} is {text!r}, none of its choices, in {documents(count.documents)}"
        )
        draft = self._draft(field, "outside_choices", message, count, {"$eq": text})
        draft.values = ((text, count.documents),)
        draft.candidates = (likely,)
        draft.shows = lambda value: bool(value == text)
        question = f"{message}. Does it mean {likely!r}?"
        draft.proposal = corrected(self.counts.site(field.places), text, likely, question)
        return draft
