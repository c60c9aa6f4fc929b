"""The stages that show documents: after them each is as the rules, in their order, will leave it.

A rule is one stage where nothing can hinder it. Otherwise a stage first notes in the document what
becomes of the rule there, and the next one goes by the note. Each stage costs as much as several
operators, so that what rules do to different fields is done in one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lazymig.query.expressing import Expression
from lazymig.query.expressions import expression_paths
from lazymig.raw.paths import overlaps, root
from lazymig.rules.showing.logic import all_hold, chosen, negated
from lazymig.rules.showing.shown import ShownChange, ShownRule
from lazymig.rules.showing.whole import MARK, NOTES

__all__ = ["MARK", "stages_of"]

# What becomes of a document: no rule is at work, the rule at hand applies, or none will any more,
# since MongoDB would refuse one, or since it is not known what one makes of the document. Which
# rule that is is said by a number of the rule's own, if somebody asks.
_STATE: Final = f"{MARK}_state"
_APART, _APPLIES, _STOPPED, _UNKNOWN = range(4)

# What there was before the rule at hand.
_BEFORE: Final = f"{MARK}_before"

# A condition is asked anew for each field of a stage up to this number of operators of them all:
# another stage costs more.
_MOST_REPEATED: Final = 12

Stages = list[dict[str, Any]]
Fields = dict[str, Expression]


def stages_of(
    rules: Sequence[ShownRule],
    reads: frozenset[str] | None = None,
    *,
    marks: bool = False,
    refusals: bool = False,
) -> Stages:
    """Return the stages after which each document is as the rules will leave it.

    A document of which it is not known what a rule makes, or for which MongoDB would refuse the
    rule, stays as the earlier rules made it, and gets no later one.

    :param rules: in their order.
    :param reads: the paths that whatever follows reads; None: whole documents. What nobody reads is
        left out, so that the server fetches no more than it has to.
    :param marks: whether a document of which it is not known what a rule makes has
        `{MARK: {"unshown": name}}` afterwards, with the name of the first such rule. No other
        document has such a field.
    :param refusals: whether, with `marks`, one for which MongoDB would refuse a rule has
        `{MARK: {"refused": name}}`.
    """
    kept = _kept(rules, reads)
    refusals = refusals and marks
    pipeline = _Pipeline()
    for number, rule in enumerate(kept):
        is_last = number + 1 == len(kept)
        unknown = _UNKNOWN + number if marks and _may_be_unknown(rule) else _STOPPED
        refused = _UNKNOWN + len(kept) + number if refusals else _STOPPED
        told = unknown != _STOPPED or (refusals and _may_be_refused(rule))
        noted = _may_stop(rule) and (not is_last or told)
        _StageWriter(pipeline, unknown, refused).write(rule, noted=noted)
    if marks and pipeline.noted:
        names = {"$literal": [rule.name for rule in kept]}
        place = {"$subtract": [f"${_STATE}", _UNKNOWN]}
        mark: Expression = {"unshown": {"$arrayElemAt": [names, place]}}
        if refusals:
            by = {"$arrayElemAt": [names, {"$subtract": [place, len(kept)]}]}
            mark = {"$cond": [{"$lt": [place, len(kept)]}, mark, {"refused": by}]}
        is_unknown = {"$gte": [f"${_STATE}", _UNKNOWN]}
        pipeline.set({MARK: {"$cond": [is_unknown, mark, "$$REMOVE"]}})
    if pipeline.noted and (marks or reads is None):
        pipeline.stages.append({"$unset": _STATE})
    return pipeline.stages


def _may_stop(rule: ShownRule) -> bool:
    return any(one.exact is not True or one.refused is not False for one in rule.changes)


def _may_be_unknown(rule: ShownRule) -> bool:
    return any(one.exact is not True for one in rule.changes)


def _may_be_refused(rule: ShownRule) -> bool:
    return any(one.refused is not False for one in rule.changes)


# --- What is read ---------------------------------------------------------------------------


def _kept(rules: Sequence[ShownRule], reads: frozenset[str] | None) -> list[ShownRule]:
    """The rules that somebody reads, each with the fields that somebody reads."""
    wanted = None if reads is None else frozenset(map(root, reads))
    kept: list[ShownRule] = []
    for rule in reversed(rules):
        changes: list[ShownChange] = []
        needed = wanted
        for change in reversed(rule.changes):
            own, needed = _needed(change, needed)
            changes.append(own)
        told = _may_stop(rule) and (bool(kept) or reads is None)
        if all(_is_idle(one) for one in changes) and not told:
            continue
        kept.append(replace(rule, changes=tuple(reversed(changes))))
        wanted = _with(needed, [rule.target])
    kept.reverse()
    return kept


def _is_idle(change: ShownChange) -> bool:
    return change.fields is not None and not change.fields


def _needed(
    change: ShownChange, wanted: frozenset[str] | None
) -> tuple[ShownChange, frozenset[str] | None]:
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


# --- The pipeline ---------------------------------------------------------------------------


class _Pipeline:
    """Stages one after the other; what one of them can do beside another is done there.

    :ivar noted: whether there are notes in the documents.
    """

    def __init__(self) -> None:
        self.stages: Stages = []
        self.noted = False
        # What the last stage writes; None: more may not be added to it.
        self._written: set[str] | None = None

    def set(self, fields: Fields) -> None:
        """Set fields; all expressions see the document as the stage before has left it."""
        if not fields:
            return
        self.noted = self.noted or any(name.startswith(MARK) for name in fields)
        if self._written is not None and not self._meets(fields):
            self.stages[-1]["$set"].update(fields)
        else:
            self.stages.append({"$set": dict(fields)})
            self._written = set()
        self._written.update(fields)

    def replace(self, document: Expression) -> None:
        """Put another document in the place of each; the notes are the document's part."""
        self.stages.append({"$replaceWith": document})
        self._written = None

    def _meets(self, fields: Fields) -> bool:
        """Return whether fields, or what they are computed from, are written by the last stage."""
        paths = expression_paths(list(fields.values()))
        if paths is None:
            return True
        written = self._written or ()
        return any(overlaps(path, name) for path in (*paths, *fields) for name in written)


# --- One rule -------------------------------------------------------------------------------


class _StageWriter:
    """The writing of one rule's stages.

    :param unknown: the state of a document of which it is not known what the rule makes.
    :param refused: that of one for which MongoDB would refuse it.
    """

    def __init__(self, pipeline: _Pipeline, unknown: int, refused: int) -> None:
        self._pipeline = pipeline
        self._unknown = unknown
        self._refused = refused

    def write(self, rule: ShownRule, *, noted: bool) -> None:
        """Add the stages of a rule.

        :param noted: whether somebody asks afterwards what has become of the rule.
        """
        first, *others = rule.changes
        if noted or others:
            self._note(rule)
            return
        condition = all_hold([rule.target, negated(first.refused), first.exact])
        if first.exact is False:
            return
        fields = first.fields
        if fields is None or _operators_in(condition) * (len(fields) - 1) > _MOST_REPEATED:
            self._pipeline.set({_STATE: self._going_on(chosen(condition, _APPLIES, _APART))})
            self._apply(first, _applies())
        elif self._pipeline.noted:
            self._apply(first, all_hold([{"$lt": [f"${_STATE}", _STOPPED]}, condition]))
        else:
            self._apply(first, condition)

    def _note(self, rule: ShownRule) -> None:
        """Note first what becomes of the rule, and go by that."""
        first, *others = rule.changes
        undone = any(one.exact is not True or one.refused is not False for one in others)
        notes = {_STATE: self._going_on(chosen(rule.target, self._state_of(first), _APART))}
        if undone:
            notes[_BEFORE] = _saved(rule)
        self._pipeline.set(notes)
        if first.exact is not False:
            self._apply(first, _applies())
        for change in others:
            if change.exact is not True or change.refused is not False:
                state = chosen(_applies(), self._state_of(change), f"${_STATE}")
                self._pipeline.set({_STATE: state})
            self._apply(change, _applies())
        if undone:
            self._undo(rule)

    def _going_on(self, state: Expression) -> Expression:
        """The state, unless an earlier rule has been the last one for the document."""
        if not self._pipeline.noted:
            return state
        return {"$cond": [{"$lt": [f"${_STATE}", _STOPPED]}, state, f"${_STATE}"]}

    def _state_of(self, change: ShownChange) -> Expression:
        known = chosen(change.exact, _APPLIES, self._unknown)
        return chosen(change.refused, self._refused, known)

    def _apply(self, change: ShownChange, condition: Expression) -> None:
        if change.fields is not None:
            self._pipeline.set(_where(condition, change.fields))
            return
        kept = {"$mergeObjects": [change.root, {"_id": "$_id"}, NOTES]}
        self._pipeline.replace({"$cond": [condition, kept, "$$ROOT"]})

    def _undo(self, rule: ShownRule) -> None:
        """Take back what the rule has done before a later change of it turned out impossible."""
        failed = {"$gte": [f"${_STATE}", _STOPPED]}
        written = rule.writes
        if written is None:
            back = {"$mergeObjects": [f"${_BEFORE}", NOTES]}
            self._pipeline.replace({"$cond": [failed, back, "$$ROOT"]})
        else:
            before = {name: f"${_BEFORE}.{name}" for name in sorted(written)}
            self._pipeline.set(_where(failed, before))
        self._pipeline.set({_BEFORE: "$$REMOVE"})


def _applies() -> Expression:
    return {"$eq": [f"${_STATE}", _APPLIES]}


def _where(condition: Expression, fields: Mapping[str, Expression]) -> Fields:
    return {name: chosen(condition, value, f"${name}") for name, value in fields.items()}


def _saved(rule: ShownRule) -> Expression:
    written = rule.writes
    if written is None:
        return "$$ROOT"
    return {name: f"${name}" for name in sorted(written)}


def _operators_in(expression: Expression) -> int:
    """Return how many operators an expression has."""
    if isinstance(expression, Mapping):
        return sum(name.startswith("$") + _operators_in(one) for name, one in expression.items())
    if isinstance(expression, (list, tuple)):
        return sum(map(_operators_in, expression))
    return 0
