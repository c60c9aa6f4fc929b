"""The clauses of a query beside others that hold: what of it is needless, and what is impossible.

Everything is proved for arrays as well: `{a: 1}` and `{a: 2}` do not exclude each other. Only
`_cls` is known to hold one name, for MongoEngine writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lazymig.query.clauses import FALSE, TRUE, Clause, conjuncts, every, negated, some
from lazymig.query.facts import Given, asks_presence, heeds, needs, says
from lazymig.query.tree import And, Leaf, Not, Or

__all__ = ["SMALL", "both", "either", "pruned", "simplified", "without"]

SMALL: Final = 16
"""Conditions. In larger clauses only those parts are looked at that something new is known about:
to look at each beside all others would take longer than MongoDB needs to plan one in vain."""

# What became simpler may bear on what was looked at before.
_PASSES: Final = 3


def simplified(clause: Clause) -> Clause:
    """Return an equal clause: no part of it is needless or impossible beside the others."""
    for _ in range(_PASSES):
        before, clause = clause, _assuming(clause, Given(), afresh=True)
        if clause.key == before.key:
            break
    return clause


def pruned(clause: Clause) -> Clause:
    """Return an equal clause, simplified; a small one without branches that can hold for nothing.

    Each branch is looked at beside all that is around it, on every level.
    """
    clause = simplified(clause)
    while clause.leaves <= SMALL:
        before, clause = clause, _pruned(clause, ())
        if clause.key == before.key:
            break
        clause = simplified(clause)
    return clause


def _pruned(clause: Clause, around: Sequence[Clause]) -> Clause:
    if isinstance(clause, And):
        parts = list(clause.parts)
        for place, part in enumerate(parts):
            parts[place] = _pruned(part, [*around, *parts[:place], *parts[place + 1 :]])
        return every(parts) if _differ(parts, clause.parts) else clause
    if isinstance(clause, Or):
        able = [part for part in clause.parts if simplified(every([*around, part])) is not FALSE]
        kept = [_pruned(part, around) for part in able]
        same = len(kept) == len(clause.parts) and not _differ(kept, clause.parts)
        return clause if same else some(kept)
    if isinstance(clause, Not):
        part = _pruned(clause.part, around)
        return clause if part is clause.part else negated(part)
    return clause


def both(target: Clause, clause: Clause) -> Clause:
    """Return that target and clause hold."""
    rest = _assuming(clause, Given(conjuncts(target)), afresh=_is_small(clause))
    if rest is FALSE:
        return FALSE
    parts = conjuncts(target)
    given = conjuncts(rest)
    if not says(rest).isdisjoint(heeds(target)):
        parts = tuple(part for part in parts if not any(_implies(one, part) for one in given))
    return _settled(every([*parts, rest]))


def either(target: Clause, clause: Clause) -> Clause:
    """Return that target or clause holds."""
    given = Given(conjuncts(negated(target)))
    return _settled(some([target, _assuming(clause, given, afresh=_is_small(clause))]))


def without(clause: Clause, target: Clause) -> Clause:
    """Return that the clause holds and the target does not."""
    if isinstance(clause, Or):
        apart = [part for part in clause.parts if _exclude_each_other(part, target)]
        if apart:
            chosen = set(map(id, apart))
            others = some([part for part in clause.parts if id(part) not in chosen])
            return _settled(some([*apart, without(others, target)]))
    left = target
    if not says(clause).isdisjoint(heeds(target)) or not _is_settled(target):
        left = _assuming(target, Given(conjuncts(clause)))
    left = negated(left)
    rest = _assuming(clause, Given(conjuncts(left)), afresh=_is_small(clause))
    return _settled(every([rest, left]))


def _is_small(clause: Clause) -> bool:
    """Return whether to look at each part again: what else is given may say more by now."""
    return clause.leaves <= SMALL


def _exclude_each_other(part: Clause, target: Clause) -> bool:
    if says(part).isdisjoint(heeds(target)):
        return False
    return _assuming(target, Given(conjuncts(part))) is FALSE


def _settled(clause: Clause) -> Clause:
    """Note of a clause that its parts are known to need each other."""
    if isinstance(clause, (And, Or)) and all(map(_is_settled, clause.parts)):
        clause.settled = True
    return clause


def _is_settled(clause: Clause) -> bool:
    if isinstance(clause, (And, Or)):
        return clause.settled
    return not isinstance(clause, Not) or _is_settled(clause.part)


def _assuming(clause: Clause, given: Given, *, afresh: bool = False) -> Clause:
    """Return a clause that is equal to `clause` wherever all of `given` hold, and simpler.

    :param afresh: look at each part, whatever is known about it.
    """
    if not afresh and _is_settled(clause) and not given.concerns(clause):
        return clause
    if isinstance(clause, And):
        clause = _every_assuming(clause, given, afresh=afresh)
    elif isinstance(clause, Or):
        parts = [_assuming(part, given, afresh=afresh) for part in clause.parts]
        clause = _settled(some(parts)) if _differ(parts, clause.parts) else _settled(clause)
    elif isinstance(clause, Not):
        part = _assuming(clause.part, given, afresh=afresh)
        clause = clause if part is clause.part else negated(part)
    return _answered(clause, given)


def _differ(parts: Sequence[Clause], others: Sequence[Clause]) -> bool:
    return any(part is not other for part, other in zip(parts, others, strict=True))


def _every_assuming(clause: And, given: Given, *, afresh: bool) -> Clause:
    """Simplify the parts, each beside the others and what is given.

    One after the other: of two parts that imply each other, one has to stay.
    """
    parts = list(clause.parts)
    settled = clause.settled and not afresh
    beside = False
    try:
        for place, part in enumerate(clause.parts):
            if settled and not given.concerns(part):
                continue
            if not beside:
                given.add(parts)
                beside = True
            given.remove([part])
            parts[place] = TRUE
            simple = _assuming(part, given, afresh=afresh)
            if simple is FALSE:
                return FALSE
            # Several where a part has become a clause of its own.
            parts[place] = simple
            given.add([simple])
            settled = settled and simple is part
    finally:
        if beside:
            given.remove(parts)
    return _settled(every(parts) if _differ(parts, clause.parts) else clause)


def _answered(clause: Clause, given: Given) -> Clause:
    """Return TRUE or FALSE for a clause that is needless or impossible beside what is given."""
    if isinstance(clause, Leaf) and clause.choices == {}:
        return TRUE if clause.denied else FALSE
    classes = isinstance(clause, Leaf) and clause.dotted == "_cls"
    about = list(given.about(clause))
    if any(_implies(one, clause) for one in about):
        return TRUE
    if isinstance(clause, Leaf) and classes and _leaves_no_class(clause, about):
        return FALSE
    if any(_excludes(one, clause) for one in about if not isinstance(one, Or)):
        return FALSE
    for union in given.unions:
        if not says(union).isdisjoint(heeds(clause)) and _excludes(union, clause):
            return FALSE
    return clause


def _implies(given: Clause, clause: Clause) -> bool:
    if given.key == clause.key:
        return True
    if not isinstance(given, Leaf) or not isinstance(clause, Leaf):
        return False
    if clause.dotted == given.dotted == "_cls" and _names_only_classes_of(given, clause):
        return True
    if given.dotted == clause.dotted and given.choices is not None and clause.choices is not None:
        ours, theirs = given.choices.keys(), clause.choices.keys()
        if given.denied is clause.denied and (theirs <= ours if given.denied else ours <= theirs):
            return True
    return asks_presence(clause, exists=True) and clause.dotted in needs(given)


def _excludes(given: Clause, clause: Clause) -> bool:
    """Return whether it is proved that no document satisfies both."""
    if isinstance(given, Or):
        return all(_assuming(clause, Given(conjuncts(part))) is FALSE for part in given.parts)
    if isinstance(given, Not):
        held = conjuncts(clause)
        return all(any(_holds_too(part, one) for one in held) for part in conjuncts(given.part))
    if not isinstance(given, Leaf) or not isinstance(clause, Leaf):
        return False
    if given.dotted == clause.dotted:
        if given.choices is None or clause.choices is None:
            opposed = negated(given).key == clause.key
        else:
            ours, theirs = given.choices.keys(), clause.choices.keys()
            covered = theirs <= ours if given.denied else ours <= theirs
            opposed = given.denied is not clause.denied and covered
        if opposed:
            return True
    return (asks_presence(given, exists=False) and given.dotted in needs(clause)) or (
        asks_presence(clause, exists=False) and clause.dotted in needs(given)
    )


def _holds_too(clause: Clause, given: Clause) -> bool:
    """Return whether it is proved that `clause` holds wherever `given` does."""
    if given.key == clause.key:
        return True
    if not isinstance(given, Leaf) or not isinstance(clause, Leaf):
        return False
    return _implies(given, clause) or _excludes(given, negated(clause))


# --- The class of a document ------------------------------------------------------------


def _leaves_no_class(clause: Leaf, given: Sequence[Clause]) -> bool:
    """Return whether a condition on `_cls` and those that are given allow no name together."""
    if clause.dotted != "_cls":
        return False
    allowed: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()
    for one in (clause, *given):
        names = _class_names(one) if isinstance(one, Leaf) and one.dotted == "_cls" else None
        if names is None or not isinstance(one, Leaf):
            continue
        if one.denied:
            denied |= names
        else:
            allowed = names if allowed is None else allowed & names
    return allowed is not None and allowed <= denied


def _names_only_classes_of(given: Leaf, clause: Leaf) -> bool:
    ours, theirs = _class_names(given), _class_names(clause)
    if ours is None or theirs is None or given.denied:
        return False
    return ours.isdisjoint(theirs) if clause.denied else ours <= theirs


def _class_names(clause: Leaf) -> frozenset[str] | None:
    """Return the names that a condition on `_cls` allows, or those that it denies."""
    names = None if clause.choices is None else clause.choices.values()
    return (
        None
        if names is None or not all(isinstance(one, str) for one in names)
        else frozenset(names)
    )
