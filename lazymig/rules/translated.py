"""A computed rule as it is used: by its translation, where that is all the same, or in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from lazymig.query.joining import all_of
from lazymig.query.matching import Matcher
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.declared import is_read_within
from lazymig.rules.translation import LeftToPython, Translation
from lazymig.updates.convergence import ends_match, facts_after, leads_to
from lazymig.updates.update import read_paths

__all__ = ["as_translated"]


def as_translated(
    bound: BoundRule, matcher: Matcher, declared_inputs: Iterable[str] | None
) -> BoundRule:
    """Give a computed rule what the server can do of it; what is known of its paths stays.

    Only an update that provably ends the match may take the method's place: of another one each
    document's own is judged.

    :param matcher: that of its target.
    :param declared_inputs: what the rule itself says that it reads; `None` if it says nothing.
    """
    # Only a model with a computed rule pays for the import.
    from lazymig.rules.translating.translate import translate  # noqa: PLC0415

    rule = bound.rule
    found = translate(rule, bound.handler_class, bound.doc_class, matcher.query, matcher.tree)
    if isinstance(found, LeftToPython):
        return replace(bound, left_to_python=found)
    reason = None
    if not _is_as_declared(bound, found, declared_inputs):
        # Each update that the method computes is held against what it declares.
        reason = "is not certain to read and write only what it declares"
    elif bound.converges is not True and not _ends_match(matcher, found):
        reason = "sets what does not provably end the match of its target"
    if reason is not None:
        return replace(bound, left_to_python=LeftToPython(rule.name, None, reason))
    if found.guard is not None:
        return replace(bound, translation=found)
    return replace(bound, kind="static", update=found.update, converges=True, translation=found)


def _ends_match(matcher: Matcher, found: Translation) -> bool:
    """Return whether the update ends the match of the documents for which the guard holds."""
    if found.guard is None:
        return ends_match(matcher.tree, found.update)
    reached = all_of(matcher.query, *_implied_by(found.guard))
    return leads_to(facts_after(reached, found.update), matcher.tree) is False


def _implied_by(guard: Any) -> Iterator[Mapping[str, Any]]:
    """What every document answers for which a guard holds, as far as it asks for types."""
    if not isinstance(guard, Mapping) or len(guard) != 1:
        return
    ((operator, argument),) = guard.items()
    if not isinstance(argument, list):
        return
    if operator == "$and":
        for part in argument:
            yield from _implied_by(part)
    elif operator == "$cond" and argument[-1] is False:
        for part in argument[:-1]:
            yield from _implied_by(part)
    elif operator in ("$eq", "$in", "$ne") and isinstance(argument[0], Mapping):
        path, wanted = argument[0].get("$type"), argument[1]
        # Of a path through an array, an expression gets an array, and a query its elements.
        if not isinstance(path, str) or not path.startswith("$") or "." in path or "$$" in path:
            return
        if operator == "$ne":
            if wanted == "missing":
                yield {path[1:]: {"$exists": True}}
        elif "missing" not in wanted:
            yield {path[1:]: {"$type": wanted}}


def _is_as_declared(
    bound: BoundRule, found: Translation, declared_inputs: Iterable[str] | None
) -> bool:
    if bound.declares and not bound.covers(found.update):
        return False
    if declared_inputs is None:
        return True
    read = read_paths(found.update)
    return read is not None and all(is_read_within(path, declared_inputs) for path in read)
