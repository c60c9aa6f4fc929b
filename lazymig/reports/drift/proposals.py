"""Rules that findings of `diff` offer: names, targets and updates as data.

A proposal is made for a field of a model, wherever it lies: in the document, in embedded documents,
in lists of them. What lies in a map has no path that a rule could name: nothing is proposed there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lazymig.odm.fields import FieldFacts
from lazymig.query.matching import compile_query
from lazymig.raw.json_values import JsonValue
from lazymig.reports.drift.layout import identifier_in
from lazymig.reports.drift.sites import EXISTS, IS_MISSING, RuleSite
from lazymig.rules.rule import Scope
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import check_update

__all__ = [
    "Replacement",
    "RuleProposal",
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
class RuleProposal(JsonValue):
    """A rule as data, to be written down as source code.

    :ivar words: what comes after `migrationNN__`.
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


def asked_about(proposal: RuleProposal, doubt: str) -> RuleProposal:
    """The same proposal with a question."""
    question = f"{doubt[:1].upper()}{doubt[1:]}: is it right?"
    return replace(proposal, comments=(*proposal.comments, question), asks=True)


# --- The rules ----------------------------------------------------------------------------


def filled(
    site: RuleSite, replacement: Replacement, comment: str, others: Mapping[str, Any] | None = None
) -> RuleProposal | None:
    """Put a value where none is.

    :param others: conditions on fields beside it, by name.
    """
    update, filters = site.operators("$set", replacement.value, IS_MISSING, others)
    query = site.query(IS_MISSING, others)
    return _proposal(f"add_{site.path}", query, update, filters, comment, replacement)


def cleared(
    site: RuleSite, condition: Mapping[str, Any], replacement: Replacement, verb: str, comment: str
) -> RuleProposal | None:
    """Replace, or take away, the values for which a condition holds."""
    operator, value = ("$unset", True) if replacement.remove else ("$set", replacement.value)
    update, filters = site.operators(operator, value, condition)
    query = site.query(condition)
    return _proposal(f"{verb}_{site.path}", query, update, filters, comment, replacement)


def corrected(site: RuleSite, wrong: Any, right: Any, comment: str) -> RuleProposal | None:
    """Replace one value by another."""
    condition = {"$eq": wrong}
    update, filters = site.operators("$set", right, condition)
    words = f"correct_{site.path}_{wrong}"
    query = site.query(condition)
    return _proposal(words, query, update, filters, comment, Replacement(asks=True))


def pulled(
    site: RuleSite, condition: Mapping[str, Any], comment: str, asks: bool = True
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
    site: RuleSite, comments: Sequence[str], others: Mapping[str, Any] | None = None
) -> RuleProposal | None:
    """Take a field away."""
    update, filters = site.operators("$unset", True, EXISTS, others)
    query = site.query(EXISTS, others)
    words = f"remove_{site.path}"
    return _proposal(words, query, update, filters, comments, Replacement(asks=True))


def renamed(site: RuleSite, new: str, comments: Sequence[str]) -> RuleProposal | None:
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
    site: RuleSite,
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
    site: RuleSite, kind: str, condition: Mapping[str, Any], comment: str
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
    site: RuleSite, wrong: str | None, right: str | None, comment: str
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
