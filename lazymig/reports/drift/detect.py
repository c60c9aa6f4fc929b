"""The detection of drift: what the counts say against a model, and the rules that would end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazymig.raw.differences import MISSING
from lazymig.reports.drift.counts import Count, merge
from lazymig.reports.drift.defaults import LOST, is_stored, replacement_of
from lazymig.reports.drift.detect_classes import class_drafts
from lazymig.reports.drift.detect_values import ValueDetector, draft_of, expected_types
from lazymig.reports.drift.drafts import Draft, UnknownClass
from lazymig.reports.drift.field_counts import FieldCount, FieldCounts
from lazymig.reports.drift.findings import KINDS, Kind
from lazymig.reports.drift.model_paths import ModelPath
from lazymig.reports.drift.proposals import Replacement, filled, removed, renamed
from lazymig.reports.drift.similarity import closeness
from lazymig.reports.drift.sites import EXISTS, IS_MISSING, RuleSite
from lazymig.reports.texts import documents

__all__ = ["Detector"]

# How close two names are, from 0 to 1, above which one may be the other's former name.
_CLOSE = 0.6
# A field that was renamed is missing in most of the documents that have the old name.
_COMPLEMENT = 0.5


class Detector:
    """Compares what was counted with the model.

    :param is_there: whether a query finds a document.
    :param count: the documents that a query finds.
    """

    def __init__(
        self,
        counts: FieldCounts,
        unknown_classes: Sequence[UnknownClass],
        is_there: Callable[[Mapping[str, Any]], bool],
        count: Callable[[Mapping[str, Any]], Count],
    ) -> None:
        self.counts = counts
        self.unknown_classes = unknown_classes
        self.is_there = is_there
        self.count = count
        # Unknown fields that may be the former name of a field, by the path of the object; and by
        # the field its former name, and the draft that asks for it.
        self.renames: dict[tuple[str, str], FieldCount] = {}
        self.former: dict[int, str] = {}
        self.asked: dict[int, Draft] = {}

    def drafts(self) -> list[Draft]:
        """All findings but those on indexes, in the order in which their rules have to run."""
        self._find_renames()
        found = [*class_drafts(self.counts, self.unknown_classes), *self._unknown()]
        values = ValueDetector(self.counts, self.is_there)
        for field in self.counts.fields:
            found.extend(values.drafts(field))
            found.extend(self._absences(field))
        return sorted(found, key=lambda draft: KINDS.index(draft.kind))

    # --- Unknown fields and renames ---

    def _unknown_fields(self) -> Iterator[tuple[str, str, dict[str, Count], list[ModelPath]]]:
        """Unknown fields: path of the object, name, types, and the objects that have it."""
        for path, objects in self.counts.objects.items():
            names: dict[str, tuple[dict[str, Count], list[ModelPath]]] = {}
            for place in objects:
                for name, types in self.counts.rows.unknown.get(place.index, {}).items():
                    merged, places = names.setdefault(name, ({}, []))
                    merge(merged, types)
                    places.append(place)
            for name, (types, places) in names.items():
                yield path, name, types, places

    def _find_renames(self) -> None:
        """Pair unknown fields with missing ones, the closest names first, each once."""
        pairs: list[tuple[float, str, str, FieldCount]] = []
        for path, name, types, places in self._unknown_fields():
            kinds = types.keys() - {"null"}
            number = _total(types)
            for field in self.counts.fields:
                here = {each.parent for each in field.places if each.role == "field"}
                if not here & set(places):
                    continue
                missing = field.types.get("missing")
                if missing is None or missing.documents < _COMPLEMENT * number:
                    continue
                if field.facts.types is not None and not kinds <= field.facts.types:
                    continue
                close = closeness(name, field.facts.stored)
                if name == field.facts.name:
                    # The field was stored under the attribute's name before.
                    close = 1.0
                if close >= _CLOSE:
                    pairs.append((close, path, name, field))
        for _closest, path, name, field in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:3])):
            if (path, name) not in self.renames and id(field) not in self.former:
                self.renames[path, name] = field
                self.former[id(field)] = name

    def _unknown(self) -> Iterator[Draft]:
        for path, name, types, seen in self._unknown_fields():
            # A rule is for each class that does not know the field, be there documents or not.
            places = [
                place
                for place in self.counts.objects[path]
                if name not in place.owner.fields and not place.owner.lenient
            ]
            site = self.counts.site(places, name)
            number = _total(types)
            owners = ", ".join(dict.fromkeys(place.owner.name for place in seen))
            draft = Draft(
                kind="unknown_field",
                classes=tuple(dict.fromkeys(place.objects[0].owner.name for place in seen)),
                path=site.path,
                message=(
                    f"{site.path!r} is no field of {owners}, but stored in {documents(number)}: "
                    "loading raises FieldDoesNotExist"
                ),
                count=number,
                ids=_rare_ones_first(types),
                values_in=self.counts.values_in(places, name),
                types={kind: count.documents for kind, count in sorted(types.items())},
                query=self.counts.query(places, EXISTS, name),
            )
            field = self.renames.get((path, name))
            if field is None:
                draft.proposal = removed(site, [draft.message, LOST])
                yield draft
                continue
            yield self.asked.setdefault(id(field), self._rename(draft, site, field))
            # Whatever the answer is about the name, these documents have both.
            new = field.facts.stored
            draft.query = self.counts.query(places, EXISTS, name, {new: EXISTS})
            both = self._found(draft.query)
            if both.documents:
                draft.count, draft.ids = both.documents, both.ids
                draft.candidates = (new,)
                draft.message = (
                    f"{site.path!r} is stored beside {new!r} in {documents(draft.count)}: which "
                    "value is right?"
                )
                draft.proposal = removed(site, [draft.message], {new: EXISTS})
                yield draft

    def _found(self, query: Mapping[str, Any] | None) -> Count:
        """The documents that a query finds; none where MongoDB has no such query."""
        return Count(0, ()) if query is None else self.count(query)

    def _rename(self, draft: Draft, site: RuleSite, field: FieldCount) -> Draft:
        new = field.facts.stored
        otherwise = "" if not site.nameable else f" If not, remove {site.path!r} instead."
        question = f"Is {site.path!r} the former name of {new!r}?{otherwise}"
        missing = field.types["missing"].documents
        why = (
            f"{site.path!r} is stored in {documents(draft.count)}, {new!r} is missing in "
            f"{documents(missing)}."
        )
        return replace(
            draft,
            kind="rename",
            message=f"{draft.message}; is it the former name of {field.path!r}?",
            expected=expected_types(field.facts),
            candidates=(new,),
            proposal=renamed(site, new, [why, question]),
        )

    # --- Fields that are missing ---

    def _absences(self, field: FieldCount) -> Iterator[Draft]:
        missing = field.types.get("missing")
        facts = field.facts
        if missing is None or field.is_item or facts.primary_key:
            return
        default = facts.default()
        what: str
        kind: Kind
        if is_stored(default):
            kind, what = "missing_default", "has a default and"
        elif facts.required:
            kind, what = "missing_required", "is required and"
        elif facts.null and "null" in field.types:
            kind, what = "missing_null", "is null in some documents, but"
        else:
            return
        yield self._absence(field, kind, f"{field.path!r} {what} is missing", missing)

    def _absence(self, field: FieldCount, kind: Kind, what: str, missing: Count) -> Draft:
        """A missing field, with a proposal if there is a value for all documents that lack it."""
        query, others = self.counts.query(field.places, IS_MISSING), None
        former, rename = self.former.get(id(field)), self.asked.get(id(field))
        if former is not None:
            others = {former: IS_MISSING}
            neither = self.counts.query(field.places, IS_MISSING, None, others)
            found = self._found(neither)
            if found.documents:
                # The rename says of the others that they have it under its former name.
                query, missing, rename = neither, found, None
                what += f", as is {former!r},"
        message = f"{what} in {documents(missing.documents)}"
        if kind == "missing_default":
            message += ": queries by it do not find them"
        draft = draft_of(self.counts, field, kind, message, missing)
        draft.shows = lambda value: value is MISSING
        draft.query = query
        if former is not None and rename is not None:
            draft.candidates, draft.part_of = (former,), rename
            return draft
        site = self.counts.site(field.places)
        replacement = Replacement(None) if kind == "missing_null" else replacement_of(field.facts)
        if site.nameable and replacement is not None and not replacement.remove:
            draft.proposal = filled(site, replacement, message, others)
        return draft


def _rare_ones_first(types: Mapping[str, Count]) -> list[Any]:
    """The `_id`s of one document of each type, the rare types first; then the others."""
    ordered = sorted(types.items(), key=lambda each: (each[1].documents, each[0]))
    counts = [count for _kind, count in ordered]
    firsts = [one for count in counts for one in count.ids[:1]]
    return [*firsts, *(one for count in counts for one in count.ids[1:])]


def _total(counts: Mapping[Any, Count]) -> int:
    return sum(count.documents for count in counts.values())
