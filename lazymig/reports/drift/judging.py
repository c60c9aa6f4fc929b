"""What the counted shapes of documents say against a model, and the rules that would end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lazymig.odm.fields import FieldFacts, bson_type
from lazymig.raw.differences import MISSING
from lazymig.reports.drift.doubts import condition_of_doubt
from lazymig.reports.drift.findings import KINDS, Draft, Kind, UnknownClass
from lazymig.reports.drift.ground import Ground, Spot, merge
from lazymig.reports.drift.likeness import closeness, meant_choice, successors
from lazymig.reports.drift.proposals import (
    EXISTS,
    IS_MISSING,
    Replacement,
    RuleProposal,
    Site,
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
from lazymig.reports.drift.replacements import LOST, asking, is_stored, loss, replacement_of
from lazymig.reports.drift.shapes import Count, Place

__all__ = ["Judge"]

# How close two names are, from 0 to 1, above which one may be the other's former name.
_CLOSE = 0.6
# A field that was renamed is missing in most of the documents that have the old name.
_COMPLEMENT = 0.5
# Values outside of the choices for which a rule of their own is proposed, and that are told.
_MOST_VALUES = 10


class Judge:
    """Compares what was counted with the model.

    :param is_there: whether a query finds a document.
    """

    def __init__(
        self,
        ground: Ground,
        unknown_classes: Sequence[UnknownClass],
        is_there: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        self.ground = ground
        self.unknown_classes = unknown_classes
        self.is_there = is_there
        # Unknown fields that may be the former name of a field, by the path of the object.
        self.renames: dict[tuple[str, str], Spot] = {}
        self.former: dict[int, str] = {}

    def drafts(self) -> list[Draft]:
        """All findings but those on indexes, in the order in which their rules have to run."""
        self._find_renames()
        found = [*self._classes(), *self._unknown()]
        for spot in self.ground.spots:
            found.extend(self._values(spot))
            found.extend(self._absences(spot))
        return sorted(found, key=lambda draft: KINDS.index(draft.kind))

    # --- Classes ---

    def _classes(self) -> Iterator[Draft]:
        for each in self.unknown_classes:
            roots = self.ground.layout.roots
            site = Site(roots[0], (None,), "_cls")
            told = "no _cls" if each.name is None else f"the unknown _cls {each.name!r}"
            likely = each.successors[0] if each.successors else None
            right = likely if self.ground.told_apart else None
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
                message=f"{told} in {_documents(each.count.documents)}",
                count=each.count.documents,
                ids=each.count.ids,
                values_in=_class_in,
                shows=partial(_is_class, each.name),
                candidates=each.successors,
                query=site.query(condition),
                proposal=reclassified(site, each.name, right, question),
            )
        for place in self.ground.layout.places:
            for text, count in self.ground.tally.classes.get(place.index, {}).items():
                yield self._embedded_class(place, text, count)

    def _embedded_class(self, place: Place, text: str, count: Count) -> Draft:
        assert place.facts is not None
        classes = place.facts.embedded()
        name = text or None
        likely = successors(name, {each.name: each.fields for each in classes})
        site = self.ground.site([place], "_cls")
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
            message=f"{place.path} has {told} in {_documents(count.documents)}",
            count=count.documents,
            ids=count.ids,
            values_in=self.ground.values_in([place], "_cls"),
            shows=partial(_is_class, name),
            candidates=likely,
            query=self.ground.query([place], condition, "_cls"),
            proposal=proposal,
        )

    # --- Unknown fields and renames ---

    def _strangers(self) -> Iterator[tuple[str, str, dict[str, Count], list[Place]]]:
        """Unknown fields: path of the object, name, types, and the objects that have it."""
        for path, objects in self.ground.objects.items():
            names: dict[str, tuple[dict[str, Count], list[Place]]] = {}
            for place in objects:
                for name, types in self.ground.tally.unknown.get(place.index, {}).items():
                    merged, places = names.setdefault(name, ({}, []))
                    merge(merged, types)
                    places.append(place)
            for name, (types, places) in names.items():
                yield path, name, types, places

    def _find_renames(self) -> None:
        """Pair unknown fields with missing ones, the closest names first, each once."""
        pairs: list[tuple[float, str, str, Spot]] = []
        for path, name, types, places in self._strangers():
            kinds = types.keys() - {"null"}
            number = _total(types)
            for spot in self.ground.spots:
                here = {each.parent for each in spot.places if each.role == "field"}
                if not here & set(places):
                    continue
                missing = spot.types.get("missing")
                if missing is None or missing.documents < _COMPLEMENT * number:
                    continue
                if spot.facts.types is not None and not kinds <= spot.facts.types:
                    continue
                close = closeness(name, spot.facts.stored)
                if name == spot.facts.name:
                    # The field was stored under the attribute's name before.
                    close = 1.0
                if close >= _CLOSE:
                    pairs.append((close, path, name, spot))
        for _closest, path, name, spot in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:3])):
            if (path, name) not in self.renames and id(spot) not in self.former:
                self.renames[path, name] = spot
                self.former[id(spot)] = name

    def _unknown(self) -> Iterator[Draft]:
        for path, name, types, seen in self._strangers():
            # A rule concerns each class that does not know the field, be there documents or not.
            places = [
                place
                for place in self.ground.objects[path]
                if name not in place.owner.fields and not place.owner.lenient
            ]
            site = self.ground.site(places, name)
            number = _total(types)
            owners = ", ".join(dict.fromkeys(place.owner.name for place in seen))
            draft = Draft(
                kind="unknown_field",
                classes=tuple(dict.fromkeys(place.objects[0].owner.name for place in seen)),
                path=site.path,
                message=(
                    f"{site.path!r} is no field of {owners}, but stored in {_documents(number)}: "
                    "loading raises FieldDoesNotExist"
                ),
                count=number,
                ids=_rare_ones_first(types),
                values_in=self.ground.values_in(places, name),
                types={kind: count.documents for kind, count in sorted(types.items())},
                query=self.ground.query(places, EXISTS, name),
            )
            spot = self.renames.get((path, name))
            if spot is None:
                if site.nameable:
                    draft.proposal = removed(site, [draft.message, LOST])
                yield draft
                continue
            new = spot.facts.stored
            yield self._rename(draft, site, spot)
            draft.message += f"; it may be the former name of {new!r}"
            draft.candidates = (new,)
            both = self.ground.query(places, EXISTS, name, {new: EXISTS})
            if site.nameable and both is not None and self.is_there(both):
                # Whatever the answer is about the name, these documents have both.
                told = f"Documents that have {name!r} beside {new!r}: which value is right?"
                draft.proposal = removed(site, [told], {new: EXISTS})
            yield draft

    def _rename(self, draft: Draft, site: Site, spot: Spot) -> Draft:
        new = spot.facts.stored
        otherwise = "" if not site.nameable else f" If not, remove {site.path!r} instead."
        question = f"Is {site.path!r} the former name of {new!r}?{otherwise}"
        missing = spot.types["missing"].documents
        why = (
            f"{site.path!r} is stored in {_documents(draft.count)}, {new!r} is missing in "
            f"{_documents(missing)}."
        )
        return Draft(
            kind="rename",
            classes=draft.classes,
            path=draft.path,
            message=f"is {draft.path!r} the former name of {spot.path!r}?",
            count=draft.count,
            ids=draft.ids,
            values_in=draft.values_in,
            types=draft.types,
            expected=_expected(spot.facts),
            candidates=(new,),
            query=draft.query,
            proposal=renamed(site, new, [why, question]) if site.nameable else None,
        )

    # --- Values that are there ---

    def _values(self, spot: Spot) -> Iterator[Draft]:
        facts = spot.facts
        if facts.types is not None:
            for kind, count in sorted(spot.types.items()):
                if kind in facts.types or kind in ("missing", "undefined"):
                    continue
                if kind == "null":
                    if not facts.null:
                        yield self._null(spot, count)
                else:
                    yield self._wrong_type(spot, kind, count)
        if spot.outside:
            yield from self._outside(spot)

    def _draft(self, spot: Spot, kind: Kind, message: str, count: Count) -> Draft:
        return Draft(
            kind=kind,
            classes=spot.seen,
            path=spot.path,
            message=message,
            count=count.documents,
            ids=count.ids,
            values_in=self.ground.values_in(spot.places),
            facts=spot.facts,
            types=spot.type_counts,
            expected=_expected(spot.facts),
        )

    def _null(self, spot: Spot, count: Count) -> Draft:
        message = (
            f"{spot.path!r} is null in {_documents(count.documents)}, where MongoEngine stores "
            "nothing"
        )
        draft = self._draft(spot, "null", message, count)
        draft.shows = partial(_equals, None)
        plain = {"$type": "null", **self._no_list(spot)}
        draft.query = self.ground.query(spot.places, plain)
        site = self.ground.site(spot.places)
        if not site.nameable:
            return draft
        if spot.is_item:
            draft.query = self.ground.query(spot.places, {"$eq": None})
            draft.proposal = pulled(site, {"$eq": None}, message, asks=False)
        else:
            replacement = replacement_of(spot.facts)
            if replacement is not None:
                draft.proposal = cleared(site, plain, replacement, "clear", message)
        return draft

    def _no_list(self, spot: Spot) -> dict[str, Any]:
        """What keeps a query for single values from finding lists that hold such a value."""
        if self.ground.exact and spot.facts.container != "list" and "array" not in spot.types:
            return {}
        return {"$not": {"$type": "array"}}

    def _wrong_type(self, spot: Spot, kind: str, count: Count) -> Draft:
        facts = spot.facts
        flags = spot.converts.get(kind, {})
        refused = flags["no"].documents if "no" in flags else 0
        convertible = None if not flags else not refused
        expected = " or ".join(_expected(facts))
        message = (
            f"{spot.path!r} is of type {kind} in {_documents(count.documents)}, not {expected}"
        )
        if flags:
            told = "all" if not refused else f"not those of {_documents(refused)}"
            message += f"; $convert turns {told}"
        draft = self._draft(spot, "wrong_type", message, count)
        draft.convertible = convertible
        draft.shows = lambda value: bson_type(value) == kind
        condition = {"$type": kind}
        if kind != "array":
            condition |= self._no_list(spot)
        draft.query = self.ground.query(spot.places, condition)
        site = self.ground.site(spot.places)
        if site.nameable:
            draft.proposal = self._retyped(spot, site, kind, condition, message)
        return draft

    def _retyped(
        self, spot: Spot, site: Site, kind: str, condition: Mapping[str, Any], message: str
    ) -> RuleProposal | None:
        facts = spot.facts
        flags = spot.converts.get(kind, {})
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
            if proposal is not None and not proposal.asks and self._misreads(spot, kind, to):
                return asked_about(proposal, "some of these values may mean something else")
            return proposal
        if spot.is_item:
            return pulled(site, condition, message)
        lost = replacement_of(facts)
        if lost is None:
            return None
        return cleared(site, condition, asking(lost, LOST), "reset", message)

    def _misreads(self, spot: Spot, kind: str, to: str) -> bool:
        """Whether there are values that `$convert` turns without complaint, into something else."""
        doubtful = condition_of_doubt(kind, to)
        if isinstance(doubtful, bool):
            return doubtful
        queries = [self.ground.query(spot.places, each) for each in ({"$type": kind}, doubtful)]
        return any(each is None for each in queries) or self.is_there({"$and": queries})

    def _outside(self, spot: Spot) -> Iterator[Draft]:
        facts = spot.facts
        choices = list(facts.choices or ())
        frequent = sorted(spot.outside.items(), key=lambda item: -item[1].documents)
        meant: dict[str, str] = {}
        for (kind, text), count in frequent:
            likely = meant_choice(text, choices) if kind == "string" and len(text) < 100 else None
            if likely is None or len(meant) == _MOST_VALUES:
                continue
            meant[text] = likely
            yield self._misspelt(spot, text, likely, count)
        rest = {key: count for key, count in spot.outside.items() if key[1] not in meant}
        if not rest:
            return
        total = Count(sum(each.documents for each in rest.values()), ())
        total.ids = next(iter(rest.values())).ids
        examples = [text for (_kind, text), _ in frequent if text not in meant][:3]
        message = (
            f"{spot.path!r} is none of its choices in {_documents(total.documents)}: "
            f"{', '.join(map(repr, examples))}"
        )
        draft = self._draft(spot, "outside_choices", message, total)
        known = [*choices, *meant]
        kinds = sorted({kind for kind, _text in rest})
        draft.shows = lambda value: bson_type(value) in kinds and value not in known
        draft.values = tuple(
            (text, count.documents) for (_kind, text), count in frequent if text not in meant
        )[:_MOST_VALUES]
        condition = {
            "$type": kinds[0] if len(kinds) == 1 else kinds,
            "$nin": known,
            **self._no_list(spot),
        }
        draft.query = self.ground.query(spot.places, condition)
        site = self.ground.site(spot.places)
        if site.nameable:
            if spot.is_item:
                draft.proposal = pulled(site, condition, message)
            else:
                replacement = replacement_of(facts)
                if replacement is not None:
                    replacement = asking(replacement, LOST)
                    draft.proposal = cleared(site, condition, replacement, "reset", message)
        yield draft

    def _misspelt(self, spot: Spot, text: str, likely: str, count: Count) -> Draft:
        message = (
            f"{spot.path!r} is {text!r}, none of its choices, in {_documents(count.documents)}"
        )
        draft = self._draft(spot, "outside_choices", message, count)
        draft.values = ((text, count.documents),)
        draft.candidates = (likely,)
        draft.shows = partial(_equals, text)
        draft.query = self.ground.query(spot.places, {"$eq": text})
        site = self.ground.site(spot.places)
        if site.nameable:
            draft.proposal = corrected(site, text, likely, f"{message}. Does it mean {likely!r}?")
        return draft

    # --- What is not there ---

    def _absences(self, spot: Spot) -> Iterator[Draft]:
        missing = spot.types.get("missing")
        facts = spot.facts
        if missing is None or spot.is_item or facts.primary_key:
            return
        default = facts.default()
        told: str
        kind: Kind
        if is_stored(default):
            kind, told = "missing_default", "has a default and"
        elif facts.required:
            kind, told = "missing_required", "is required and"
        elif facts.null and "null" in spot.types:
            kind, told = "missing_null", "is null in some documents, but"
        else:
            return
        message = f"{spot.path!r} {told} is missing in {_documents(missing.documents)}"
        if kind == "missing_default":
            message += ": queries by it do not find them"
        draft = self._draft(spot, kind, message, missing)
        draft.shows = lambda value: value is MISSING
        draft.query = self.ground.query(spot.places, IS_MISSING)
        yield self._filled(spot, draft, kind, message)

    def _filled(self, spot: Spot, draft: Draft, kind: Kind, message: str) -> Draft:
        """Add a proposal, if there is a value for all documents that lack one."""
        site = self.ground.site(spot.places)
        if not site.nameable:
            return draft
        others = None
        former = self.former.get(id(spot))
        if former is not None:
            # They have it under its former name.
            others = {former: IS_MISSING}
            neither = self.ground.query(spot.places, IS_MISSING, None, others)
            if neither is None or not self.is_there(neither):
                draft.candidates = (former,)
                return draft
        replacement = Replacement(None) if kind == "missing_null" else replacement_of(spot.facts)
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


def _documents(number: int) -> str:
    return "1 document" if number == 1 else f"{number:,} documents"
