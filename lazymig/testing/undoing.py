"""The way from documents of today to old shapes: rules undone, as far as their targets say how.

What a rule's target asks for is put into the document; what its update brings is taken away.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from bson import Regex
from hypothesis import strategies as st

from lazymig.query.matching import compile_judge
from lazymig.query.operators import parse
from lazymig.query.predicates import judge_of
from lazymig.query.tree import And, Compare, Node, Not, Or, Path, conjuncts
from lazymig.raw.paths import overlaps
from lazymig.raw.values import MISSING, is_array
from lazymig.rules.bound_rule import BoundRule
from lazymig.testing.fields import field_at, plain
from lazymig.testing.values import SCALARS, Strategy, Values, values_of_type
from lazymig.updates.each import Each
from lazymig.updates.items import ANY_KEY
from lazymig.updates.operators import OPERATORS
from lazymig.updates.update import SET_STAGES, assignments, each_of, removed_paths

__all__ = ["Old", "undo_some"]

Draw: TypeAlias = Callable[[Strategy], Any]
Raw: TypeAlias = "dict[str, Any]"

_STEPS: Final[dict[type, Any]] = {int: 1, float: 1.0, datetime: timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Old:
    """What is known of the values in documents of a model: the fields, and old ones by path."""

    model: Any
    values: Values
    chosen: Mapping[str, Strategy]

    def at(self, path: Path) -> Strategy | None:
        """Values that a document of whatever age may have at a path; `None`: nothing is known."""
        names = tuple(name for name in path if not name.isdecimal())
        if ".".join(names) in self.chosen:
            return self.chosen[".".join(names)]
        known = field_at(self.model, names)
        return None if known is None else self.values.stored(known)


def undo_some(draw: Draw, document: Raw, rules: Sequence[BoundRule], old: Old) -> Raw:
    """Draw which rules have not been applied to a document yet, and give it its shape before them.

    With a rule all later rules are undone that read or write what it writes. A rule whose target
    cannot be met is left alone, and so are the earlier rules that such rules depend on.

    :param document: a raw document of today; it is not changed.
    :param rules: in the order in which they are applied.
    """
    open_rules = [rule.computed for rule in rules if _may_be_undone(rule.computed)]
    chosen = {position for position in range(len(open_rules)) if draw(st.booleans())}
    for position, rule in enumerate(open_rules):
        if position in chosen:
            chosen |= {
                later
                for later in range(position + 1, len(open_rules))
                if _depends(open_rules[later], rule)
            }
    kept: list[BoundRule] = []
    for position in sorted(chosen, reverse=True):
        rule = open_rules[position]
        if any(_depends(later, rule) for later in kept):
            kept.append(rule)
            continue
        undone = _Undoing(draw, old, rule).of(document)
        if undone is None:
            kept.append(rule)
        else:
            document = undone
    return document


def _may_be_undone(rule: BoundRule) -> bool:
    if rule.target is None or rule.by_hand:
        return False
    # Whose fields a document has, if a rule changes its class, only a constant says.
    return rule.update is not None or "_cls" not in (rule.writes or ())


def _depends(later: BoundRule, rule: BoundRule) -> bool:
    """Return whether a later rule is known to touch what a rule writes."""
    touched = (later.writes or frozenset()) | (later.reads or frozenset())
    return any(overlaps(path, other) for path in rule.writes or () for other in touched)


@dataclass(slots=True)
class _Undoing:
    """One rule and one document."""

    draw: Draw
    old: Old
    rule: BoundRule
    moves: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.moves = _moves(self.rule.update)

    def of(self, document: Raw) -> Raw | None:
        """The document before the rule; `None` if the rule's target could not be met."""
        rule = self.rule
        if dict(_sets(rule.update)).get("_cls", document.get("_cls")) != document.get("_cls"):
            return None
        assert rule.matcher is not None
        document = copy.deepcopy(document)
        items = each_of(rule.update)
        if items is not None:
            self._undo_items(document, items)
            return document if rule.matcher.judge(document) is True else None
        self._move_back(document)
        self._take_away(document)
        self._bring_back(document)
        self._fulfil(document, rule.matcher.tree)
        known = all(_has(document, path) for path in rule.inputs or ())
        return document if known and rule.matcher.judge(document) is True else None

    def _undo_items(self, document: Raw, update: Each) -> None:
        """Give some of the items of a list or map their shape before an `each`."""
        change = update.change
        computed_from = change.fields_computed_from()
        for item in list(_items(document, update.parts)):
            if not self.draw(st.booleans()):
                continue
            for old, new in change.rename.items():
                known = self.old.at((*update.parts, new))
                if new in item:
                    item[old] = item.pop(new)
                elif known is not None:
                    item[old] = self.draw(known)
            for name in change.unset:
                known = self.old.at((*update.parts, name))
                if known is None and computed_from is not None and name not in computed_from:
                    known = SCALARS
                if known is not None:
                    item[name] = self.draw(known)
            for name in (*change.set, *change.add):
                item.pop(name, None)
            if change.where:
                holder: Raw = {"item": item}
                self._fulfil(holder, parse(change.where), update.parts, ("item",))
                item.update(holder["item"])

    def _reads(self, path: str) -> bool:
        return any(overlaps(path, read) for read in self.rule.reads or ())

    def _move_back(self, document: Raw) -> None:
        """Put what was renamed back to its old name."""
        for source, goal in self.moves.items():
            value = _get(document, _parts(goal))
            if value is MISSING:
                values = self._free_values(_parts(source))
                if values is None:
                    continue
                value = self.draw(values)
            _remove(document, _parts(goal))
            self._put(document, _parts(source), value)

    def _take_away(self, document: Raw) -> None:
        """Take away some of what the rule sets, where its target says nothing of it."""
        update = self.rule.update
        sets = sorted(self.rule.creates or ()) if update is None else dict(_sets(update))
        for path in sets:
            computed_from = any(overlaps(path, one) for one in self.rule.inputs or ())
            spoken_of = path == "_cls" or computed_from or self._reads(path)
            if not spoken_of and self.draw(st.booleans()):
                _remove(document, _parts(path))

    def _bring_back(self, document: Raw) -> None:
        """Put back some of what the rule removes, where its target says nothing of it."""
        for path in sorted(removed_paths(self.rule.update or {})):
            values = None if path in self.moves else self._free_values(_parts(path))
            if values is not None and not self._reads(path) and self.draw(st.booleans()):
                self._put(document, _parts(path), self.draw(values))

    def _free_values(self, path: Path) -> Strategy | None:
        """Values for a path of which the target says nothing but that something is there."""
        found = self.old.at(path)
        if found is None and ".".join(path) in self.moves:
            found = self.old.at(_parts(self.moves[".".join(path)]))
        if found is None and self.rule.inputs == frozenset():
            # Nothing is computed from it, so it may be anything.
            found = SCALARS
        return found

    # --- Meeting the target ---------------------------------------------------------------

    def _fulfil(
        self,
        document: Raw,
        formula: Node,
        prefix: Path = (),
        base: Path = (),
        *,
        wanted: bool = True,
    ) -> None:
        """Change a document so that a formula holds, or does not, as far as that can be done.

        An element of an array is a document of its own while it is made.

        :param prefix: the path of that array in the whole document.
        :param base: the path of the element in `document`.
        """
        if isinstance(formula, Not):
            self._fulfil(document, formula.part, prefix, base, wanted=not wanted)
        elif isinstance(formula, (And, Or)):
            # What has to be there comes first, so that what it must not be is said of a value.
            parts = sorted(conjuncts(formula), key=lambda part: isinstance(part, Not))
            if isinstance(formula, Or):
                parts = list(formula.parts)
            if parts and wanted is isinstance(formula, Or):
                parts = [self.draw(st.sampled_from(parts))]
            for part in parts:
                self._fulfil(document, part, prefix, base, wanted=wanted)
        elif isinstance(formula, Compare):
            leaf = replace(formula, path=(*base, *formula.path))
            self._answer(document, leaf, (*prefix, *formula.path), wanted=wanted)

    def _answer(self, document: Raw, leaf: Compare, place: Path, *, wanted: bool) -> None:
        """Change what stands at one path until the question on it has the answer that is wanted."""
        judge = judge_of(leaf)
        if judge(document) is wanted:
            return
        for value in self._proposals(leaf, place, wanted=wanted):
            trial = copy.deepcopy(document)
            if value is MISSING:
                _remove(trial, leaf.path)
            else:
                self._put(trial, leaf.path, value, place)
            if judge(trial) is wanted:
                document.clear()
                document.update(trial)
                return

    def _proposals(self, leaf: Compare, place: Path, *, wanted: bool) -> Iterator[Any]:
        """What might be put at the path, the likeliest first; `MISSING` to take it away."""
        chosen = self.old.chosen.get(".".join(place))
        if chosen is not None:
            yield self.draw(chosen)
        if not wanted and self.draw(st.booleans()):
            yield MISSING
        if not wanted or leaf.operator == "$exists":
            free = self._free_values(place)
            if free is not None:
                yield self.draw(free)
            if not wanted and self.rule.inputs == frozenset():
                yield self.draw(SCALARS)
            yield MISSING
        elif leaf.operator == "$elemMatch":
            yield self._element(leaf, place)
        elif leaf.operator == "$size":
            yield [self.draw(SCALARS) for _ in range(int(leaf.operand))]
        else:
            values = _answers(leaf)
            if not values.is_empty:
                yield self.draw(values)

    def _element(self, leaf: Compare, place: Path) -> list[Any]:
        """An array with one element that answers an `$elemMatch`."""
        assert leaf.inner is not None
        known = self.old.at(place)
        drawn = None if known is None else self.draw(known)
        holder: Raw = {"element": drawn[0] if is_array(drawn) and drawn else {}}
        self._fulfil(holder, leaf.inner, place, ("element",))
        return [holder["element"]]

    def _put(self, document: Raw, path: Path, value: Any, place: Path | None = None) -> None:
        """Put a value at a path, in every element of the arrays on the way.

        A document that is missing on the way is one as the model has it. The `_id` never changes.
        """
        place = path if place is None else place
        name, rest = path[0], path[1:]
        if place == ("_id",):
            return
        if not rest:
            document[name] = copy.deepcopy(value)
            return
        if name not in document:
            known = self.old.at(place[: len(place) - len(rest)])
            drawn = None if known is None else self.draw(known)
            document[name] = drawn if isinstance(drawn, dict) else {}
        for inner, left in _inside(document[name], rest):
            self._put(inner, left, value, place)


def _answers(leaf: Compare) -> Strategy:
    """Values for which a leaf holds, mostly."""
    operator, operand = leaf.operator, leaf.operand
    if operator == "$type":
        return values_of_type(operand)
    if operator == "$in":
        return st.sampled_from(list(operand)).flatmap(_equal_to) if operand else st.nothing()
    if operator == "$eq":
        return _equal_to(operand)
    if operator == "$regex":
        return _matching(operand, str(leaf.options or ""))
    if operator == "$mod":
        return st.integers(0, 5).map(lambda times: int(operand[0]) * times + int(operand[1]))
    step = _STEPS.get(type(operand))
    if step is None:
        longer = [f"{operand}a"] if isinstance(operand, str) else []
        return st.sampled_from(["", *longer] if isinstance(operand, str) else [operand])
    signed: Any = step if operator in ("$gt", "$gte") else -step
    return st.integers(1, 5).map(lambda times: operand + times * signed)


def _equal_to(value: Any) -> Strategy:
    if isinstance(value, (re.Pattern, Regex)):
        return _matching(value, "")
    return st.just(MISSING if value is None else plain(value))


def _matching(pattern: Any, options: str) -> Strategy:
    flags = 0
    for letter in options:
        flags |= getattr(re, letter.upper(), 0)
    try:
        compiled = pattern.try_compile() if isinstance(pattern, Regex) else pattern
        return st.from_regex(re.compile(compiled, flags) if flags else compiled)
    except re.error:
        return st.nothing()


# --- Updates and paths ------------------------------------------------------------------


def _sets(update: Any) -> Iterator[tuple[str, Any]]:
    """The paths that a static update sets, and what to; an expression, in a pipeline."""
    if isinstance(update, Mapping):
        for operator, fields in update.items():
            if OPERATORS[operator].replaces:
                yield from fields.items()
    for stage in update if isinstance(update, list) else ():
        ((name, value),) = stage.items()
        if name in SET_STAGES:
            for parts, expression in assignments(value):
                yield ".".join(parts), expression


def _moves(update: Any) -> dict[str, str]:
    """New names by old ones: what an update renames, be it by `$set` and `$unset` of a pipeline."""
    if isinstance(update, Mapping):
        moving = (fields for operator, fields in update.items() if OPERATORS[operator].moves)
        return {source: goal for fields in moving for source, goal in fields.items()}
    removed = removed_paths(update or {})
    return {
        expression[1:]: path
        for path, expression in _sets(update)
        if isinstance(expression, str) and expression[:1] == "$" and expression[1:] in removed
    }


def _parts(path: str) -> Path:
    """The names on a path, without what stands for the elements of an array."""
    return tuple(name for name in path.split(".") if not name.startswith("$"))


def _inside(value: Any, rest: Path) -> Iterator[tuple[Raw, Path]]:
    """The documents in which a path continues, each with what is left of it."""
    if isinstance(value, dict):
        yield value, rest
    elif is_array(value):
        for index, element in enumerate(value):
            if not rest[0].isdecimal():
                yield from _inside(element, rest)
            elif int(rest[0]) == index and len(rest) > 1:
                yield from _inside(element, rest[1:])


def _items(value: Any, steps: Path) -> Iterator[Raw]:
    """The documents of a list or map that the path of an `each` leads to."""
    for one in value if is_array(value) else [value]:
        if not isinstance(one, dict):
            continue
        if not steps:
            yield one
        elif steps[0] == ANY_KEY:
            for entry in one.values():
                yield from _items(entry, steps[1:])
        elif steps[0] in one:
            yield from _items(one[steps[0]], steps[1:])


def _get(document: Raw, path: Path) -> Any:
    value: Any = document
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def _remove(document: Raw, path: Path) -> None:
    if len(path) == 1:
        if path[0] != "_id":
            document.pop(path[0], None)
    elif path[0] in document:
        for inner, left in _inside(document[path[0]], path[1:]):
            _remove(inner, left)


def _has(document: Raw, path: str) -> bool:
    return compile_judge({path: {"$exists": True}})(document) is True
