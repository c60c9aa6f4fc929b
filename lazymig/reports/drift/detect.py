"""What the counted shapes of documents say against a model, and the rules that would end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lazymig.odm.fields import FieldFacts, bson_type
from lazymig.raw.differences import MISSING
from lazymig.reports.drift.counts import Count, merge
from lazymig.reports.drift.defaults import LOST, asking, is_stored, loss, replacement_of
from lazymig.reports.drift.doubts import condition_of_doubt
from lazymig.reports.drift.drafts import Draft, UnknownClass
from lazymig.reports.drift.field_counts import FieldCount, FieldCounts
from lazymig.reports.drift.findings import KINDS, Kind
from lazymig.reports.drift.model_paths import ModelPath
from lazymig.reports.drift.proposals import (
    Replacement,
    RuleProposal,
    asked_about,
    cleared,
    converted,
    corrected,
    filled,
    pulled,
    reclassified,
    removed,
    renamed,
    wrapped,
)
from lazymig.reports.drift.similarity import closeness, meant_choice, successors
from lazymig.reports.drift.sites import EXISTS, IS_MISSING, RuleSite
from lazymig.reports.texts import documents

__all__ = ["Detector"]

# How close two names are, from 0 to 1, above which one may be the other's former name.
_CLOSE = 0.6
# A field that was renamed is missing in most of the documents that have the old name.
_COMPLEMENT = 0.5
# Values outside of the choices for which a rule of their own is proposed, and that are told.
_MOST_VALUES = 10


class Detector:
    """Compares what was counted with the model.

    :param is_there: whether a query finds a document.
    """

    def __init__(
        self,
        counts: FieldCounts,
        unknown_classes: Sequence[UnknownClass],
        is_there: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self.counts = counts
        self.unknown_classes = unknown_classes
        self.is_there = is_there
        # Unknown fields that may be the former name of a field, by the path of the object.
        self.renames: dict[tuple[str, str], FieldCount] = {}
        self.former: dict[int, str] = {}

    def drafts(self) -> list[Draft]:
        """All findings but those on indexes, in the order in which their rules have to run."""
        self._find_renames()
        found = [*self._classes(), *self._unknown()]
        for field in self.counts.fields:
            found.extend(self._values(field))
            found.extend(self._absences(field))
        return sorted(found, key=lambda draft: KINDS.index(draft.kind))

    # --- Classes ---

    def _classes(self) -> Iterator[Draft]:
        for each in self.unknown_classes:
            roots = self.counts.layout.roots
            site = RuleSite(roots[0], (None,), "_cls")
            told = "no _cls" if each.name is None else f"the unknown _cls {each.name!r}"
            likely = each.successors[0] if each.successors else None
            right = likely if self.counts.told_apart else None
            question = (
                f"Are these documents of the class {right!r}?"
                if right is not None
                else "The model's documents have no _cls: may it be removed?"
            )
            condition = IS_MISSING if each.name is None else {"$eq": each.name}
            yield Draft(
                kind="unknown_class",
                classes=each.successors[:1] or (roots[0].owner.name,),
                path="_cls",
                message=f"{told} in {documents(each.count.documents)}",
                count=each.count.documents,
                ids=each.count.ids,
                values_in=_class_in,
                shows=partial(_is_class, each.name),
                candidates=each.successors,
                query=site.query(condition),
                proposal=reclassified(site, each.name, right, question),
            )
        for place in self.counts.layout.places:
            for text, count in self.counts.rows.classes.get(place.index, {}).items():
                yield self._embedded_class(place, text, count)

    def _embedded_class(self, place: ModelPath, text: str, count: Count) -> Draft:
        assert place.facts is not None
        classes = place.facts.embedded()
        name = text or None
        likely = successors(name, {each.name: each.fields for each in classes})
        site = self.counts.site([place], "_cls")
        right: str | None = likely[0]
        generic = place.facts.label == "GenericEmbeddedDocumentField"
        if not (generic or len(classes) > 1 or classes[0].inherits):
            right = None
        told = "no _cls" if name is None else f"the unknown _cls {name!r}"
        question = (
            f"Are these documents of the class {right!r}?"
            if right is not None
            else f"Documents of {classes[0].name} have no _cls: may it be removed?"
        )
        condition = IS_MISSING if name is None else {"$eq": name}
        proposal = reclassified(site, name, right, question) if site.nameable else None
        return Draft(
            kind="unknown_class",
            classes=(place.objects[0].owner.name,),
            path=f"{place.path}._cls",
            message=f"{place.path} has {told} in {documents(count.documents)}",
            count=count.documents,
            ids=count.ids,
            values_in=self.counts.values_in([place], "_cls"),
            shows=partial(_is_class, name),
            candidates=likely,
            query=self.counts.query([place], condition, "_cls"),
            proposal=proposal,
        )

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
            # A rule concerns each class that does not know the field, be there documents or not.
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
                if site.nameable:
                    draft.proposal = removed(site, [draft.message, LOST])
                yield draft
                continue
            new = field.facts.stored
            yield self._rename(draft, site, field)
            draft.message += f"; it may be the former name of {new!r}"
            draft.candidates = (new,)
            both = self.counts.query(places, EXISTS, name, {new: EXISTS})
            if site.nameable and both is not None and self.is_there(both):
                # Whatever the answer is about the name, these documents have both.
                told = f"Documents that have {name!r} beside {new!r}: which value is right?"
                draft.proposal = removed(site, [told], {new: EXISTS})
            yield draft

    def _rename(self, draft: Draft, site: RuleSite, field: FieldCount) -> Draft:
        new = field.facts.stored
        otherwise = "" if not site.nameable else f" If not, remove {site.path!r} instead."
        question = f"Is {site.path!r} the former name of {new!r}?{otherwise}"
        missing = field.types["missing"].documents
        why = (
            f"{site.path!r} is stored in {documents(draft.count)}, {new!r} is missing in "
            f"{documents(missing)}."
        )
        return Draft(
            kind="rename",
            classes=draft.classes,
            path=draft.path,
            message=f"is {draft.path!r} the former name of {field.path!r}?",
            count=draft.count,
            ids=draft.ids,
            values_in=draft.values_in,
            types=draft.types,
            expected=_expected(field.facts),
            candidates=(new,),
            query=draft.query,
            proposal=renamed(site, new, [why, question]) if site.nameable else None,
        )

    # --- Values that are there ---

    def _values(self, field: FieldCount) -> Iterator[Draft]:
        facts = field.facts
        if facts.types is not None:
            for kind, count in sorted(field.types.items()):
                if kind in facts.types or kind in ("missing", "undefined"):
                    continue
                if kind == "null":
                    if not facts.null:
                        yield self._null(field, count)
                else:
                    yield self._wrong_type(field, kind, count)
        if field.outside:
            yield from self._outside(field)

    def _draft(self, field: FieldCount, kind: Kind, message: str, count: Count) -> Draft:
        return Draft(
            kind=kind,
            classes=field.seen,
            path=field.path,
            message=message,
            count=count.documents,
            ids=count.ids,
            values_in=self.counts.values_in(field.places),
            facts=field.facts,
            types=field.type_counts,
            expected=_expected(field.facts),
        )

    def _null(self, field: FieldCount, count: Count) -> Draft:
        message = (
            f"{field.path!r} is null in {documents(count.documents)}, where MongoEngine stores "
            "nothing"
        )
        draft = self._draft(field, "null", message, count)
        draft.shows = partial(_equals, None)
        plain = {"$type": "null", **self._no_list(field)}
        draft.query = self.counts.query(field.places, plain)
        site = self.counts.site(field.places)
        if not site.nameable:
            return draft
        if field.is_item:
            draft.query = self.counts.query(field.places, {"$eq": None})
            draft.proposal = pulled(site, {"$eq": None}, message, asks=False)
        else:
            replacement = replacement_of(field.facts)
            if replacement is not None:
                draft.proposal = cleared(site, plain, replacement, "clear", message)
        return draft

    def _no_list(self, field: FieldCount) -> dict[str, Any]:
        """What keeps a query for single values from finding lists that hold such a value."""
        if self.counts.exact and field.facts.container != "list" and "array" not in field.types:
            return {}
        return {"$not": {"$type": "array"}}

    def _wrong_type(self, field: FieldCount, kind: str, count: Count) -> Draft:
        facts = field.facts
        flags = field.converts.get(kind, {})
        refused = flags["no"].documents if "no" in flags else 0
        convertible = None if not flags else not refused
        expected = " or ".join(_expected(facts))
        message = (
            f"{field.path!r} is of type {kind} in {documents(count.documents)}, not {expected}"
        )
        if flags:
            told = "all" if not refused else f"not those of {documents(refused)}"
            message += f"; $convert turns {told}"
        draft = self._draft(field, "wrong_type", message, count)
        draft.convertible = convertible
        draft.shows = lambda value: bson_type(value) == kind
        condition = {"$type": kind}
        if kind != "array":
            condition |= self._no_list(field)
        draft.query = self.counts.query(field.places, condition)
        site = self.counts.site(field.places)
        if site.nameable:
            draft.proposal = self._retyped(field, site, kind, condition, message)
        return draft

    def _retyped(
        self,
        field: FieldCount,
        site: RuleSite,
        kind: str,
        condition: Mapping[str, Any],
        message: str,
    ) -> RuleProposal | None:
        facts = field.facts
        flags = field.converts.get(kind, {})
        item = facts.item
        if facts.container == "list" and (item is None or item.types is None or kind in item.types):
            return wrapped(site, kind, condition, message)
        some = flags.keys() - {"no"}
        if some:
            to = facts.convert_to[-1 if "long" in flags else 0]
            replacement = Replacement(remove=True)
            if "no" in flags:
                told = replacement_of(facts)
                if told is None:
                    return None
                replacement = asking(told, "Values that cannot be converted are lost: is it right?")
            comments = [message, *loss(kind, to)]
            proposal = converted(
                site, facts, kind, condition, to, "no" not in flags, replacement, comments
            )
            if proposal is not None and not proposal.asks and self._misreads(field, kind, to):
                return asked_about(proposal, "some of these values may mean something else")
            return proposal
        if field.is_item:
            return pulled(site, condition, message)
        lost = replacement_of(facts)
        if lost is None:
            return None
        return cleared(site, condition, asking(lost, LOST), "reset", message)

    def _misreads(self, field: FieldCount, kind: str, to: str) -> bool:
        """Whether there are values that `$convert` turns without complaint, into something else."""
        doubtful = condition_of_doubt(kind, to)
        if isinstance(doubtful, bool):
            return doubtful
        queries = [self.counts.query(field.places, each) for each in ({"$type": kind}, doubtful)]
        return any(each is None for each in queries) or self.is_there({"$and": queries})

    def _outside(self, field: FieldCount) -> Iterator[Draft]:
        facts = field.facts
        choices = list(facts.choices or ())
        frequent = sorted(field.outside.items(), key=lambda item: -item[1].documents)
        meant: dict[str, str] = {}
        for (kind, text), count in frequent:
            likely = meant_choice(text, choices) if kind == "string" and len(text) < 100 else None
            if likely is None or len(meant) == _MOST_VALUES:
                continue
            meant[text] = likely
            yield self._misspelt(field, text, likely, count)
        rest = {key: count for key, count in field.outside.items() if key[1] not in meant}
        if not rest:
            return
        total = Count(sum(each.documents for each in rest.values()), ())
        total.ids = next(iter(rest.values())).ids
        examples = [text for (_kind, text), _ in frequent if text not in meant][:3]
        message = (
            f"{field.path!r} is none of its choices in {documents(total.documents)}: "
            f"{', '.join(map(repr, examples))}"
        )
        draft = self._draft(field, "outside_choices", message, total)
        known = [*choices, *meant]
        kinds = sorted({kind for kind, _text in rest})
        draft.shows = lambda value: bson_type(value) in kinds and value not in known
        draft.values = tuple(
            (text, count.documents) for (_kind, text), count in frequent if text not in meant
        )[:_MOST_VALUES]
        condition = {
            "$type": kinds[0] if len(kinds) == 1 else kinds,
            "$nin": known,
            **self._no_list(field),
        }
        draft.query = self.counts.query(field.places, condition)
        site = self.counts.site(field.places)
        if site.nameable:
            if field.is_item:
                draft.proposal = pulled(site, condition, message)
            else:
                replacement = replacement_of(facts)
                if replacement is not None:
                    replacement = asking(replacement, LOST)
                    draft.proposal = cleared(site, condition, replacement, "reset", message)
        yield draft

    def _misspelt(self, field: FieldCount, text: str, likely: str, count: Count) -> Draft:
        message = (
            f"{field.path!r} is {text!r}, none of its choices, in {documents(count.documents)}"
        )
        draft = self._draft(field, "outside_choices", message, count)
        draft.values = ((text, count.documents),)
        draft.candidates = (likely,)
        draft.shows = partial(_equals, text)
        draft.query = self.counts.query(field.places, {"$eq": text})
        site = self.counts.site(field.places)
        if site.nameable:
            draft.proposal = corrected(site, text, likely, f"{message}. Does it mean {likely!r}?")
        return draft

    # --- What is not there ---

    def _absences(self, field: FieldCount) -> Iterator[Draft]:
        missing = field.types.get("missing")
        facts = field.facts
        if missing is None or field.is_item or facts.primary_key:
            return
        default = facts.default()
        told: str
        kind: Kind
        if is_stored(default):
            kind, told = "missing_default", "has a default and"
        elif facts.required:
            kind, told = "missing_required", "is required and"
        elif facts.null and "null" in field.types:
            kind, told = "missing_null", "is null in some documents, but"
        else:
            return
        message = f"{field.path!r} {told} is missing in {documents(missing.documents)}"
        if kind == "missing_default":
            message += ": queries by it do not find them"
        draft = self._draft(field, kind, message, missing)
        draft.shows = lambda value: value is MISSING
        draft.query = self.counts.query(field.places, IS_MISSING)
        yield self._filled(field, draft, kind, message)

    def _filled(self, field: FieldCount, draft: Draft, kind: Kind, message: str) -> Draft:
        """Add a proposal, if there is a value for all documents that lack one."""
        site = self.counts.site(field.places)
        if not site.nameable:
            return draft
        others = None
        former = self.former.get(id(field))
        if former is not None:
            # They have it under its former name.
            others = {former: IS_MISSING}
            neither = self.counts.query(field.places, IS_MISSING, None, others)
            if neither is None or not self.is_there(neither):
                draft.candidates = (former,)
                return draft
        replacement = Replacement(None) if kind == "missing_null" else replacement_of(field.facts)
        if replacement is not None and not replacement.remove:
            draft.proposal = filled(site, replacement, message, others)
        return draft


def _rare_ones_first(types: Mapping[str, Count]) -> list[Any]:
    """The `_id`s of one document of each type, the rare types first; behind them the others."""
    counts = [count for _, count in sorted(types.items(), key=lambda each: _rarity(*each))]
    firsts = [one for count in counts for one in count.ids[:1]]
    return [*firsts, *(one for count in counts for one in count.ids[1:])]


def _rarity(kind: str, count: Count) -> tuple[int, str]:
    return count.documents, kind


def _total(counts: Mapping[Any, Count]) -> int:
    return sum(count.documents for count in counts.values())


def _expected(facts: FieldFacts) -> tuple[str, ...]:
    if facts.types is None:
        return ()
    usual = facts.usual
    return tuple(sorted(facts.types, key=lambda name: (name != usual, name)))


def _equals(wanted: Any, value: Any) -> bool:
    return value is not MISSING and bool(value == wanted)


def _class_in(document: Mapping[str, Any]) -> Iterator[Any]:
    yield document.get("_cls", MISSING)


def _is_class(name: str | None, value: Any) -> bool:
    return value in (None, MISSING) if name is None else bool(value == name)
