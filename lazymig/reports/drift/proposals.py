"""Rules that findings of `diff` offer: names, targets and updates as data.

A proposal is made for a field of a model, wherever it lies: in the document, in embedded documents,
in lists of them. What lies in a map has no path that a rule could name: nothing is proposed there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lazymig.odm.fields import FieldFacts
from lazymig.query.matching import compile_query
from lazymig.raw.differences import extended_json
from lazymig.reports.drift.shapes import Place, identifier_in
from lazymig.rules.rule import Scope
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import check_update

__all__ = [
    "EXISTS",
    "IS_MISSING",
    "ClassCondition",
    "Replacement",
    "RuleProposal",
    "Site",
    "asked_about",
    "cleared",
    "converted",
    "corrected",
    "filled",
    "pulled",
    "reclassified",
    "removed",
    "renamed",
    "wrapped",
]

IS_MISSING: Final[Mapping[str, Any]] = {"$exists": False}
EXISTS: Final[Mapping[str, Any]] = {"$exists": True}

# The values of an object's `_cls` that a rule concerns; `None` in it stands for no `_cls`.
ClassCondition = tuple[str | None, ...]

_LONGEST_WORDS = 48

_CONVERTERS: Final[Mapping[str, str]] = {
    "bool": "$toBool",
    "date": "$toDate",
    "decimal": "$toDecimal",
    "double": "$toDouble",
    "int": "$toInt",
    "long": "$toLong",
    "objectId": "$toObjectId",
    "string": "$toString",
}

# What people write for yes. MongoDB makes true of every text, "false" and "no" included.
_YES: Final = ["1", "on", "t", "true", "y", "yes"]


@dataclass(frozen=True, slots=True)
class RuleProposal:
    """A rule as data, to be written down as source code.

    :ivar words: what comes behind `migrationNN__`.
    :ivar scope: `"lazy"`, or `"bulk"` where lazymig cannot prove that the update ends the match of
        its target, so that a load must not start it.
    :ivar comments: why there should be such a rule, in lines to be written above it.
    :ivar asks: whether a comment is a question that somebody has to answer before the rule is used.
    """

    words: str
    scope: Scope
    target: Mapping[str, Any]
    update: Any
    array_filters: tuple[Mapping[str, Any], ...] | None
    comments: tuple[str, ...]
    asks: bool

    def name(self, number: int) -> str:
        """The name of the rule's method under a number."""
        prefix = "allmigration" if self.scope == "bulk" else "migration"
        return f"{prefix}{number:02}__{self.words}"

    def to_dict(self) -> dict[str, Any]:
        """The proposal in JSON's types; target, update and filters are canonical Extended JSON."""
        filters = None if self.array_filters is None else list(self.array_filters)
        return {
            "words": self.words,
            "scope": self.scope,
            "target": extended_json(self.target),
            "update": extended_json(self.update),
            "array_filters": extended_json(filters),
            "comments": list(self.comments),
            "asks": self.asks,
        }


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a rule puts in the place of a value, or of none.

    :ivar value: the new value; it says nothing if `remove`.
    :ivar comment: what there is to say of it; `asks` if that is a question.
    """

    value: Any = None
    remove: bool = False
    comment: str | None = None
    asks: bool = False


@dataclass(frozen=True, slots=True)
class _Level:
    """A document, or the elements of a list: class conditions and a path relative to it."""

    classes: Mapping[str, Any]
    names: tuple[str, ...]

    @property
    def path(self) -> str:
        return ".".join(self.names)

    def around(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """The query for what is here, of the one for the elements of the list that is here."""
        elements = {"$elemMatch": query}
        return {**self.classes, self.path: elements} if self.names else elements


@dataclass(frozen=True)
class Site:
    """Where a rule works: a field, or the items of a list, in the documents of some classes.

    :ivar place: a place of the layout; with `name`, an object whose field of that name is meant.
    :ivar conditions: for each object that leads to it, which classes; `None` for all.
    :ivar strangers: whether lists on the way may hold other things than documents.
    """

    place: Place
    conditions: tuple[ClassCondition | None, ...]
    name: str | None = None
    strangers: bool = False

    @property
    def path(self) -> str:
        """The path, with `[]` for the elements of lists."""
        outer = self.place.path
        if self.name is None:
            return outer
        return f"{outer}.{self.name}" if outer else self.name

    @property
    def nameable(self) -> bool:
        """Whether MongoDB's queries and updates can name the path."""
        places = []
        place: Place | None = self.place
        while place is not None:
            places.append(place)
            place = place.parent
        if any(each.role == "item" and each.parent and each.parent.is_map for each in places):
            return False
        name = self.name
        return name is None or not (
            not name or "." in name or name.startswith("$") or name.isdecimal()
        )

    def beside(self, name: str) -> Site:
        """The field of another name in the same object."""
        parent = self.place if self.name is not None else self.place.parent
        assert parent is not None
        return replace(self, place=parent, name=name)

    def levels(self) -> list[_Level]:
        """The document itself, then the elements of each list on the way."""
        chain: list[Place] = []
        place: Place | None = self.place
        while place is not None:
            chain.insert(0, place)
            place = place.parent
        levels: list[_Level] = []
        classes: dict[str, Any] = {}
        names: list[str] = []
        conditions = iter(self.conditions)
        for each in chain:
            if each.role == "object":
                condition = next(conditions)
                if condition is not None:
                    classes[".".join((*names, "_cls"))] = _one_of(condition)
            elif each.role == "item":
                levels.append(_Level(classes, tuple(names)))
                classes, names = {}, []
            else:
                assert each.facts is not None
                names.append(each.facts.stored)
        if self.name is not None:
            names.append(self.name)
        levels.append(_Level(classes, tuple(names)))
        return levels

    def query(self, condition: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Any:
        """The query for documents in which the condition holds here.

        :param others: conditions on fields beside this one, by name.
        """
        *outer, inner = self.levels()
        query = self._innermost(inner, condition, others)
        for level in reversed(outer):
            query = level.around(query)
        return query

    def operators(
        self,
        operator: str,
        value: Any,
        condition: Mapping[str, Any],
        others: Mapping[str, Any] | None = None,
    ) -> tuple[Any, tuple[Mapping[str, Any], ...] | None]:
        """An update that writes here where the condition holds, and its array filters."""
        *outer, level = self.levels()
        query = self._innermost(level, condition, others)
        path = level.path
        filters: list[Mapping[str, Any]] = []
        for number, holder in reversed(list(enumerate(outer, start=1))):
            name = "item" if len(outer) == 1 else f"item{number}"
            if level.names:
                filters.insert(0, {f"{name}.{key}": part for key, part in query.items()})
            else:
                filters.insert(0, {name: query})
            path = ".".join(part for part in (holder.path, f"$[{name}]", path) if part)
            query, level = holder.around(query), holder
        return {operator: {path: value}}, tuple(filters) or None

    def pipeline(
        self, change: Callable[[str], Any], of_object: bool = False, drop_null: bool = False
    ) -> list[Mapping[str, Any]]:
        """An update that computes the new value here from the old one.

        :param change: makes an expression for the new value, of the path of the old one.
        :param of_object: not the field is to be changed, but the list element that has it.
        :param drop_null: items that become null are taken out of their list.
        """
        first, *inner = self.levels()
        if of_object:
            inner[-1] = replace(inner[-1], names=inner[-1].names[:-1])
        if not inner:
            return [{"$set": {first.path: change(f"${first.path}")}}]
        value = self._mapped(inner, f"${first.path}", change, 1, drop_null)
        return [{"$set": {first.path: value}}]

    def _mapped(
        self,
        levels: Sequence[_Level],
        values: str,
        change: Callable[[str], Any],
        number: int,
        drop_null: bool,
    ) -> Any:
        """An expression for a list with each of its elements changed."""
        first, *inner = levels
        variable = "item" if number == 1 else f"item{number}"
        element = f"$${variable}"
        here = ".".join((element, *first.names))
        new = self._mapped(inner, here, change, number + 1, drop_null) if inner else change(here)
        for depth in reversed(range(len(first.names))):
            parent = ".".join((element, *first.names[:depth]))
            new = {"$mergeObjects": [parent, {first.names[depth]: new}]}
            if self.strangers or depth:
                new = {"$cond": [{"$eq": [{"$type": parent}, "object"]}, new, parent]}
        for path, names in first.classes.items():
            concerned = names["$in"] if isinstance(names, Mapping) else [names]
            name = {"$ifNull": [f"{element}.{path}", None]}
            new = {"$cond": [{"$in": [name, concerned]}, new, element]}
        result: Any = {"$map": {"input": values, "as": variable, "in": new}}
        if drop_null and not inner and not first.names:
            result = {"$filter": {"input": result, "cond": {"$ne": ["$$this", None]}}}
        if number > 1:
            # Not each element of the outer list need have the inner one.
            result = {"$cond": [{"$isArray": values}, result, values]}
        return result

    def _innermost(
        self, level: _Level, condition: Mapping[str, Any], others: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if not level.names:
            return dict(condition)
        *outer, _name = level.names
        query = dict(level.classes)
        if outer and condition == IS_MISSING:
            # Where there is no parent there is nothing to be missed in it.
            query[".".join(outer)] = {"$type": "object"}
        query[level.path] = dict(condition)
        for name, other in (others or {}).items():
            query[".".join((*outer, name))] = dict(other)
        return query


def _one_of(names: ClassCondition) -> Any:
    return names[0] if len(names) == 1 else {"$in": list(names)}


def asked_about(proposal: RuleProposal, doubt: str) -> RuleProposal:
    """The same proposal with a question."""
    question = f"{doubt[:1].upper()}{doubt[1:]}: is it right?"
    return replace(proposal, comments=(*proposal.comments, question), asks=True)


# --- The rules ----------------------------------------------------------------------------


def filled(
    site: Site, replacement: Replacement, comment: str, others: Mapping[str, Any] | None = None
) -> RuleProposal | None:
    """Put a value where none is.

    :param others: conditions on fields beside it, by name.
    """
    update, filters = site.operators("$set", replacement.value, IS_MISSING, others)
    query = site.query(IS_MISSING, others)
    return _proposal(f"add_{site.path}", query, update, filters, comment, replacement)


def cleared(
    site: Site, condition: Mapping[str, Any], replacement: Replacement, verb: str, comment: str
) -> RuleProposal | None:
    """Replace, or take away, the values for which a condition holds."""
    operator, value = ("$unset", True) if replacement.remove else ("$set", replacement.value)
    update, filters = site.operators(operator, value, condition)
    query = site.query(condition)
    return _proposal(f"{verb}_{site.path}", query, update, filters, comment, replacement)


def corrected(site: Site, wrong: Any, right: Any, comment: str) -> RuleProposal | None:
    """Replace one value by another."""
    condition = {"$eq": wrong}
    update, filters = site.operators("$set", right, condition)
    words = f"correct_{site.path}_{wrong}"
    query = site.query(condition)
    return _proposal(words, query, update, filters, comment, Replacement(asks=True))


def pulled(
    site: Site, condition: Mapping[str, Any], comment: str, asks: bool = True
) -> RuleProposal | None:
    """Take the items for which a condition holds out of their list."""
    parent = site.place.parent
    assert parent is not None
    holder = replace(site, place=parent)
    elements = {"$elemMatch": dict(condition)}
    update, filters = holder.operators("$pull", dict(condition), elements)
    words = f"pull_from_{holder.path}"
    query = site.query(condition)
    return _proposal(words, query, update, filters, comment, Replacement(asks=asks))


def removed(
    site: Site, comments: Sequence[str], others: Mapping[str, Any] | None = None
) -> RuleProposal | None:
    """Take a field away."""
    update, filters = site.operators("$unset", True, EXISTS, others)
    query = site.query(EXISTS, others)
    words = f"remove_{site.path}"
    return _proposal(words, query, update, filters, comments, Replacement(asks=True))


def renamed(site: Site, new: str, comments: Sequence[str]) -> RuleProposal | None:
    """Give a field another name, where there is no field of that name yet."""
    assert site.name is not None
    others = {new: IS_MISSING}
    *lists, level = site.levels()
    update: Any
    if lists:
        old = site.name
        update = site.pipeline(lambda path: _with_name(path, old, new), of_object=True)
    else:
        update = {"$rename": {level.path: ".".join((*level.names[:-1], new))}}
    words = f"rename_{site.path}_to_{new}"
    query = site.query(EXISTS, others)
    return _proposal(words, query, update, None, comments, Replacement(asks=True))


def _with_name(path: str, old: str, new: str) -> Any:
    """An object in which a field has another name, if it has none of that name yet."""
    name = {"$cond": [{"$eq": ["$$pair.k", old]}, new, "$$pair.k"]}
    pairs = {
        "$map": {
            "input": {"$objectToArray": path},
            "as": "pair",
            "in": {"k": name, "v": "$$pair.v"},
        }
    }
    concerned = {
        "$and": [
            {"$ne": [{"$type": f"{path}.{old}"}, "missing"]},
            {"$eq": [{"$type": f"{path}.{new}"}, "missing"]},
        ]
    }
    return {"$cond": [concerned, {"$arrayToObject": pairs}, path]}


def converted(
    site: Site,
    facts: FieldFacts,
    kind: str,
    condition: Mapping[str, Any],
    to: str,
    complete: bool,
    replacement: Replacement,
    comments: Sequence[str],
) -> RuleProposal | None:
    """Convert values of another type.

    :param kind: their BSON type; `condition` finds them.
    :param complete: `$convert` turns all of them; otherwise `replacement` stands for the others.
    """

    def change(path: str) -> Any:
        value: Any = identifier_in(path) if facts.is_reference and kind == "object" else path
        result: Any = {_CONVERTERS[to]: value}
        if to == "bool" and kind == "string":
            result = {"$in": [{"$toLower": {"$trim": {"input": path}}}, _YES]}
        elif not complete:
            attempt = {"$convert": {"input": value, "to": to, "onError": None}}
            other = _literal(replacement.value)
            if replacement.remove:
                other = "$$REMOVE" if len(site.levels()) == 1 else None
            result = {"$cond": [{"$eq": [attempt, None]}, other, result]}
        if len(site.levels()) == 1:
            return result
        # The list has other elements as well.
        return {"$cond": [{"$eq": [{"$type": path}, kind]}, result, path]}

    *lists, level = site.levels()
    is_item = not level.names
    update = site.pipeline(change, drop_null=is_item and not complete)
    if lists and not complete and replacement.remove and not is_item:
        # In an element of a list, MongoDB takes a field away only with the element made anew.
        name = level.names[-1]
        update = site.pipeline(
            lambda path: _without_null(path, name, change(f"{path}.{name}")), of_object=True
        )
    words = f"convert_{site.path}_from_{kind}"
    return _proposal(words, site.query(condition), update, None, comments, replacement)


def _without_null(path: str, name: str, value: Any) -> Any:
    """An object with another value in a field that it has, or without the field for null."""
    others = {
        "$filter": {
            "input": {"$objectToArray": path},
            "as": "pair",
            "cond": {"$ne": ["$$pair.k", name]},
        }
    }
    new = {
        "$cond": [
            {"$eq": ["$$new", None]},
            {"$arrayToObject": others},
            {"$mergeObjects": [path, {name: "$$new"}]},
        ]
    }
    there = {"$ne": [{"$type": f"{path}.{name}"}, "missing"]}
    return {"$cond": [there, {"$let": {"vars": {"new": value}, "in": new}}, path]}


def wrapped(
    site: Site, kind: str, condition: Mapping[str, Any], comment: str
) -> RuleProposal | None:
    """Put single values of a type into lists."""

    def change(path: str) -> Any:
        if len(site.levels()) == 1:
            return [path]
        return {"$cond": [{"$eq": [{"$type": path}, kind]}, [path], path]}

    update = site.pipeline(change)
    query = site.query(condition)
    return _proposal(f"wrap_{site.path}", query, update, None, comment, Replacement())


def reclassified(
    site: Site, wrong: str | None, right: str | None, comment: str
) -> RuleProposal | None:
    """Give the documents of one class to another.

    :param site: their `_cls`.
    :param right: `None` to take `_cls` away.
    """
    condition: Mapping[str, Any] = IS_MISSING if wrong is None else {"$eq": wrong}
    operator, value = ("$unset", True) if right is None else ("$set", right)
    update, filters = site.operators(operator, value, condition)
    words = f"class_{wrong or 'missing'}_to_{right or 'none'}"
    query = site.query(condition)
    return _proposal(words, query, update, filters, comment, Replacement(asks=True))


def _literal(value: Any) -> Any:
    if isinstance(value, (Mapping, list)) or (isinstance(value, str) and value.startswith("$")):
        return {"$literal": value}
    return value


def _proposal(
    words: str,
    target: Mapping[str, Any],
    update: Any,
    filters: tuple[Mapping[str, Any], ...] | None,
    comments: str | Sequence[str],
    replacement: Replacement,
) -> RuleProposal | None:
    lines = [comments] if isinstance(comments, str) else list(comments)
    if replacement.comment is not None:
        lines.append(replacement.comment)
    try:
        compile_query(target)
        check_update(update, None if filters is None else list(filters))
    except ValueError:
        # A path, or a value, that no rule can name.
        return None
    lazy = ends_match(target, update, filters)
    if not lazy:
        lines.append("A bulk rule: no load could tell that it has been applied.")
    return RuleProposal(
        words=_words_of(words),
        scope="lazy" if lazy else "bulk",
        target=target,
        update=update,
        array_filters=filters,
        comments=tuple(lines),
        asks=replacement.asks,
    )


def _words_of(text: str) -> str:
    words = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")
    return words[:_LONGEST_WORDS].rstrip("_")
