"""The stages that show documents: after them each is as the rules, in their order, will leave it.

A rule is one stage where nothing can hinder it. Otherwise a stage first notes in the document what
becomes of the rule there, and the stages after it go by the note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lazymig.query.expressing import Expression, literal
from lazymig.query.expressions import expression_paths
from lazymig.raw.paths import root
from lazymig.rules.showing.logic import all_hold, chosen, negated
from lazymig.rules.showing.shown import Change, ShownRule
from lazymig.rules.showing.whole import MARK, NOTES

__all__ = ["MARK", "stages_of"]

# The notes: what becomes of the rule at hand, what there was before it, whether an earlier rule has
# stopped, and which one could not be shown.
_STATE: Final = f"{MARK}.state"
_BEFORE: Final = f"{MARK}.before"
_STOPPED: Final = f"{MARK}.stopped"
_UNSHOWN: Final = f"{MARK}.unshown"

_APART, _APPLIES, _REFUSED, _UNKNOWN = range(4)

# A target is asked anew for each field of a stage up to this size of all of them, in characters.
_LARGEST_REPEATED: Final = 1_000

Stages = list[dict[str, Any]]


def stages_of(
    rules: Sequence[ShownRule], reads: frozenset[str] | None = None, *, marks: bool = False
) -> Stages:
    """Return the stages after which each document is as the rules will leave it.

    A document of which it is not known what a rule makes, or for which MongoDB would refuse the
    rule, stays as the earlier rules made it, and gets no later one.

    :param rules: in their order.
    :param reads: the paths that whatever follows reads; None: whole documents. What nobody reads is
        left out, so that the server fetches no more than it has to.
    :param marks: whether a document of which it is not known what a rule makes has
        `{MARK: {"unshown": name}}` afterwards, with the name of the first such rule.
    """
    kept = _kept(rules, reads)
    stages: Stages = []
    stoppable = marked = False
    for number, rule in enumerate(kept):
        going_on = negated(f"${_STOPPED}") if stoppable else True
        matters = _may_stop(rule) and (number + 1 < len(kept) or (marks and _may_be_unknown(rule)))
        stages += _stages_of_rule(rule, going_on, noted=matters, marks=marks)
        stoppable = stoppable or matters
        marked = marked or (matters and marks and _may_be_unknown(rule))
    if marked:
        found = {"unshown": f"${_UNSHOWN}"}
        stages.append({"$set": {MARK: {"$cond": [f"${_UNSHOWN}", found, "$$REMOVE"]}}})
    elif any(_notes(stage) for stage in stages):
        stages.append({"$unset": MARK})
    return stages


def _notes(stage: Mapping[str, Any]) -> bool:
    return any(name.startswith(f"{MARK}.") for name in stage.get("$set", ()))


def _may_stop(rule: ShownRule) -> bool:
    return any(one.exact is not True or one.refused is not False for one in rule.changes)


def _may_be_unknown(rule: ShownRule) -> bool:
    return any(one.exact is not True for one in rule.changes)


# --- What is read ---------------------------------------------------------------------------


def _kept(rules: Sequence[ShownRule], reads: frozenset[str] | None) -> list[ShownRule]:
    """The rules that somebody reads, each with the fields that somebody reads."""
    wanted = None if reads is None else frozenset(map(root, reads))
    kept: list[ShownRule] = []
    for rule in reversed(rules):
        changes: list[Change] = []
        needed = wanted
        for change in reversed(rule.changes):
            own, needed = _needed(change, needed)
            changes.append(own)
        if all(_is_idle(one) for one in changes) and not (kept and _may_stop(rule)):
            continue
        kept.append(replace(rule, changes=tuple(reversed(changes))))
        wanted = _with(needed, [rule.target])
    kept.reverse()
    return kept


def _is_idle(change: Change) -> bool:
    return change.fields is not None and not change.fields


def _needed(change: Change, wanted: frozenset[str] | None) -> tuple[Change, frozenset[str] | None]:
    """A change with the fields that are wanted after it, and what is wanted before it."""
    if change.fields is None:
        return change, _with(wanted, [change.root, change.exact, change.refused])
    fields = {
        name: value for name, value in change.fields.items() if wanted is None or name in wanted
    }
    decided = [*fields.values(), change.exact, change.refused]
    return replace(change, fields=fields), _with(wanted, decided)


def _with(
    wanted: frozenset[str] | None, expressions: Iterable[Expression]
) -> frozenset[str] | None:
    """The fields that are wanted, and those that expressions read."""
    if wanted is None:
        return None
    for expression in expressions:
        paths = expression_paths(expression)
        if paths is None:
            return None
        wanted |= frozenset(map(root, paths))
    return wanted


# --- One rule -------------------------------------------------------------------------------


def _stages_of_rule(rule: ShownRule, going_on: Expression, *, noted: bool, marks: bool) -> Stages:
    target = all_hold([going_on, rule.target])
    first = rule.changes[0]
    if first.exact is False and not noted:
        return []
    if len(rule.changes) == 1 and not noted:
        condition = all_hold([target, negated(first.refused), first.exact])
        fields = first.fields
        if fields is not None and len(repr(condition)) * (len(fields) - 1) <= _LARGEST_REPEATED:
            return [{"$set": _where(condition, fields)}]
        noting = {"$set": {_STATE: chosen(condition, _APPLIES, _APART)}}
        return [noting, *_applied(first, _applies())]
    return _noted_stages(rule, target, noted=noted, marks=marks)


def _noted_stages(rule: ShownRule, target: Expression, *, noted: bool, marks: bool) -> Stages:
    first, *others = rule.changes
    undone = any(one.exact is not True or one.refused is not False for one in others)
    notes: dict[str, Any] = {_STATE: chosen(target, _state_of(first), _APART)}
    if undone:
        notes[_BEFORE] = _saved(rule)
    stages: Stages = [{"$set": notes}]
    if first.exact is not False:
        stages += _applied(first, _applies())
    for change in others:
        if change.exact is not True or change.refused is not False:
            stages.append({"$set": {_STATE: chosen(_applies(), _state_of(change), f"${_STATE}")}})
        stages += _applied(change, _applies())
    failed = {"$gte": [f"${_STATE}", _REFUSED]}
    if undone:
        stages += _undone(rule, failed)
    if noted:
        final: dict[str, Any] = {_STOPPED: chosen(failed, True, f"${_STOPPED}")}
        if marks and _may_be_unknown(rule):
            unknown = {"$eq": [f"${_STATE}", _UNKNOWN]}
            final[_UNSHOWN] = chosen(unknown, literal(rule.name), f"${_UNSHOWN}")
        stages.append({"$set": final})
    return stages


def _applies() -> Expression:
    return {"$eq": [f"${_STATE}", _APPLIES]}


def _state_of(change: Change) -> Expression:
    known = chosen(change.exact, _APPLIES, _UNKNOWN)
    return chosen(change.refused, _REFUSED, known)


def _applied(change: Change, condition: Expression) -> Stages:
    if change.fields is not None:
        return [{"$set": _where(condition, change.fields)}] if change.fields else []
    kept: list[Expression] = [change.root, {"_id": "$_id"}, NOTES]
    return [{"$replaceWith": {"$cond": [condition, {"$mergeObjects": kept}, "$$ROOT"]}}]


def _where(condition: Expression, fields: Mapping[str, Expression]) -> dict[str, Any]:
    return {name: chosen(condition, value, f"${name}") for name, value in fields.items()}


def _saved(rule: ShownRule) -> Expression:
    written = rule.writes
    if written is None:
        return "$$ROOT"
    return {name: f"${name}" for name in sorted(written)}


def _undone(rule: ShownRule, failed: Expression) -> Stages:
    """What a rule has done before one of its later changes turned out to be impossible."""
    written = rule.writes
    if written is None:
        back = {"$mergeObjects": [f"${_BEFORE}", NOTES]}
        return [{"$replaceWith": {"$cond": [failed, back, "$$ROOT"]}}]
    return [{"$set": _where(failed, {name: f"${_BEFORE}.{name}" for name in sorted(written)})}]
