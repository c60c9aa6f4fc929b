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
from lazymig.query.expressing import has_type, is_there
from lazymig.query.matching import compile_query
from lazymig.raw.json_values import JsonValue
from lazymig.reports.drift.layout import identifier_in
from lazymig.reports.drift.sites import EXISTS, IS_MISSING, RuleSite, Update
from lazymig.rules.rule import Scope
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import check_update

__all__ = [
    "Conversion",
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


_ASKED: Final = Replacement(asks=True)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion of values of a BSON type into one of a field's.

    :ivar otherwise: what stands for values that `$convert` does not turn; `None`: it turns all.
    """

    facts: FieldFacts
    kind: str
    to: str
    otherwise: Replacement | None


def asked_about(proposal: RuleProposal, doubt: str) -> RuleProposal:
    """The same proposal with a question."""
    question = f"{doubt[:1].upper()}{doubt[1:]}: is it right?"
    return replace(proposal, comments=(*proposal.comments, question), asks=True)


# --- The rules: each is `None` where MongoDB cannot name the path, or the value ---------------


def filled(
    site: RuleSite, replacement: Replacement, comment: str, others: Mapping[str, Any] | None = None
) -> RuleProposal | None:
    """Put a value where none is.

    :param others: conditions on fields beside it, by name.
    """
    update = site.operators("$set", replacement.value, IS_MISSING, others)
    query = site.query(IS_MISSING, others)
    return _proposal(site, f"add_{site.path}", query, update, [comment], replacement)


def cleared(
    site: RuleSite, condition: Mapping[str, Any], replacement: Replacement, verb: str, comment: str
) -> RuleProposal | None:
    """Replace, or take away, the values for which a condition holds."""
    operator, value = ("$unset", True) if replacement.remove else ("$set", replacement.value)
    update = site.operators(operator, value, condition)
    words = f"{verb}_{site.path}"
    return _proposal(site, words, site.query(condition), update, [comment], replacement)


def corrected(site: RuleSite, wrong: Any, right: Any, comment: str) -> RuleProposal | None:
    """Replace one value by another."""
    condition = {"$eq": wrong}
    update = site.operators("$set", right, condition)
    words = f"correct_{site.path}_{wrong}"
    return _proposal(site, words, site.query(condition), update, [comment], _ASKED)


def pulled(
    site: RuleSite, condition: Mapping[str, Any], comment: str, *, asks: bool = True
) -> RuleProposal | None:
    """Take the items for which a condition holds out of their list."""
    parent = site.place.parent
    assert parent is not None
    holder = replace(site, place=parent)
    update = holder.operators("$pull", dict(condition), {"$elemMatch": dict(condition)})
    words = f"pull_from_{holder.path}"
    query = site.query(condition)
    return _proposal(site, words, query, update, [comment], Replacement(asks=asks))


def removed(
    site: RuleSite, comments: Sequence[str], others: Mapping[str, Any] | None = None
) -> RuleProposal | None:
    """Take a field away."""
    update = site.operators("$unset", True, EXISTS, others)
    query = site.query(EXISTS, others)
    return _proposal(site, f"remove_{site.path}", query, update, comments, _ASKED)


def renamed(site: RuleSite, new: str, comments: Sequence[str]) -> RuleProposal | None:
    """Give a field another name, where there is no field of that name yet."""
    old = site.name
    assert old is not None
    *lists, level = site.levels()
    update: Update = {"$rename": {level.path: ".".join((*level.names[:-1], new))}}, None
    if lists:
        update = site.pipeline(lambda path: _with_name(path, old, new), of_object=True)
    words = f"rename_{site.path}_to_{new}"
    query = site.query(EXISTS, {new: IS_MISSING})
    return _proposal(site, words, query, update, comments, _ASKED)


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
    is_free = has_type(f"{path}.{new}", "missing")
    matches = {"$and": [is_there(f"{path}.{old}"), is_free]}
    return {"$cond": [matches, {"$arrayToObject": pairs}, path]}


def converted(
    site: RuleSite, conversion: Conversion, condition: Mapping[str, Any], comments: Sequence[str]
) -> RuleProposal | None:
    """Convert values of another type.

    :param condition: finds values of that type.
    """
    kind, otherwise = conversion.kind, conversion.otherwise

    def change(path: str) -> Any:
        result = _converted(path, conversion, in_list=site.in_list)
        # The list has other elements as well.
        return _if_of_type(path, kind, result) if site.in_list else result

    *lists, level = site.levels()
    update = site.pipeline(change, drop_null=not level.names and otherwise is not None)
    if lists and level.names and otherwise is not None and otherwise.remove:
        # In an element of a list, MongoDB takes a field away only with the element made anew.
        name = level.names[-1]
        update = site.pipeline(
            lambda path: _without_null(path, name, change(f"{path}.{name}")), of_object=True
        )
    words = f"convert_{site.path}_from_{kind}"
    replacement = otherwise or Replacement(remove=True)
    return _proposal(site, words, site.query(condition), update, comments, replacement)


def _converted(path: str, conversion: Conversion, *, in_list: bool) -> Any:
    """An expression for the converted value at a path."""
    kind, to, otherwise = conversion.kind, conversion.to, conversion.otherwise
    if to == "bool" and kind == "string":
        return {"$in": [{"$toLower": {"$trim": {"input": path}}}, _YES]}
    is_dbref = conversion.facts.is_reference and kind == "object"
    value: Any = identifier_in(path) if is_dbref else path
    result = {_CONVERTERS[to]: value}
    if otherwise is None:
        return result
    attempt = {"$convert": {"input": value, "to": to, "onError": None}}
    other = _literal(otherwise.value)
    if otherwise.remove:
        other = None if in_list else "$$REMOVE"
    return {"$cond": [{"$eq": [attempt, None]}, other, result]}


def _if_of_type(path: str, kind: str, value: Any) -> Any:
    return {"$cond": [{"$eq": [{"$type": path}, kind]}, value, path]}


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
    result = {"$let": {"vars": {"new": value}, "in": new}}
    return {"$cond": [is_there(f"{path}.{name}"), result, path]}


def wrapped(
    site: RuleSite, kind: str, condition: Mapping[str, Any], comment: str
) -> RuleProposal | None:
    """Put single values of a type into lists."""
    in_list = site.in_list
    update = site.pipeline(lambda path: _if_of_type(path, kind, [path]) if in_list else [path])
    words = f"wrap_{site.path}"
    return _proposal(site, words, site.query(condition), update, [comment], Replacement())


def reclassified(
    site: RuleSite, wrong: str | None, right: str | None, comment: str
) -> RuleProposal | None:
    """Give the documents of one class to another.

    :param site: their `_cls`.
    :param right: `None` to take `_cls` away.
    """
    condition: Mapping[str, Any] = IS_MISSING if wrong is None else {"$eq": wrong}
    operator, value = ("$unset", True) if right is None else ("$set", right)
    update = site.operators(operator, value, condition)
    words = f"class_{wrong or 'missing'}_to_{right or 'none'}"
    return _proposal(site, words, site.query(condition), update, [comment], _ASKED)


def _literal(value: Any) -> Any:
    if isinstance(value, (Mapping, list)) or (isinstance(value, str) and value.startswith("$")):
        return {"$literal": value}
    return value


def _proposal(
    site: RuleSite,
    words: str,
    target: Mapping[str, Any],
    update: Update,
    comments: Sequence[str],
    replacement: Replacement,
) -> RuleProposal | None:
    if not site.nameable:
        return None
    lines = [*comments]
    if replacement.comment is not None:
        lines.append(replacement.comment)
    change, filters = update
    try:
        compile_query(target)
        check_update(change, None if filters is None else list(filters))
    except ValueError:
        # A path, or a value, that no rule can name.
        return None
    lazy = ends_match(target, change, filters)
    if not lazy:
        lines.append("A bulk rule: no load could see that it has been applied.")
    plain = re.sub(r"[^0-9A-Za-z]+", "_", words).strip("_")
    return RuleProposal(
        words=plain[:_LONGEST_WORDS].rstrip("_"),
        scope="lazy" if lazy else "bulk",
        target=target,
        update=change,
        array_filters=filters,
        comments=tuple(lines),
        asks=replacement.asks,
    )
