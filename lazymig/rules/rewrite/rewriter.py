"""Rewriting through the rules of one collection, with a memory of what was asked before."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from bson import ObjectId, Regex

from lazymig.query.clauses import negated, read, written
from lazymig.query.context import simplified
from lazymig.query.indexable import indexable, worded_paths
from lazymig.query.matching import copied, query_paths
from lazymig.query.operators import LOGICAL, is_reference
from lazymig.rules.rewrite.forms import Forms, filled
from lazymig.rules.rewrite.rewriting import (
    CannotRewrite,
    Step,
    is_concerned,
    rewrite,
    simplify,
)

__all__ = ["Rewriter"]

# More are forgotten all at once: what is asked again is soon there again.
_MOST_KNOWN: Final = 256
_LONGEST_LIST: Final = 20

# Equal values of one of these types are one value to MongoDB. MongoEngine makes a pattern of each
# condition on a part of a text.
_SCALARS: Final = frozenset(
    {bool, bytes, datetime, float, int, ObjectId, re.Pattern, str, type(None), UUID}
)

_UNKNOWN: Final = object()


class Rewriter:
    """`rewrite` through some steps, which remembers what became of the same conditions before.

    Only the conditions on paths that a step writes or its target reads are looked at; the ones
    beside them, such as an `_id`, may differ from query to query.
    """

    def __init__(self, steps: tuple[Step, ...], *, types: bool = True) -> None:
        self.steps = steps
        # Whether lists of types are said, which an imitation of MongoDB may not know.
        self.types = types
        read = [step.condition.roots for step in steps]
        # None if one of them may read any path.
        self._read_by_targets = None if None in read else frozenset().union(*filter(None, read))
        targets = [step.target for step in steps if step.target is not None]
        # What is said besides, so that the indexes of the rules find what is old.
        self._worded = frozenset[str]().union(*map(worded_paths, targets))
        # An index of a target that names classes among other things has them in its filter. Where
        # no branch needs them, they stay beside the `$or`: MongoDB tries ten choices of indexes for
        # the branches, and for a branch with a class every index that begins with it is a choice.
        self._by_class = any("_cls" in target and len(target) > 1 for target in targets)
        self._forms = Forms(steps)
        self._known: dict[Hashable, Mapping[str, Any] | CannotRewrite | None] = {}
        # Whether a step writes a path.
        self._concerned: dict[str, bool] = {}
        self._writing: dict[str, list[int]] = {}
        # Those of which it is not known what they write.
        self._opaque: list[int] = []
        for number, step in enumerate(steps):
            if step.effects is None:
                self._opaque.append(number)
            for root in step.roots:
                self._writing.setdefault(root, []).append(number)

    def is_concerned(self, query: Mapping[str, Any]) -> bool:
        """Return whether a rule writes a path that the query reads."""
        known = self._concerned
        for name, value in query.items():
            if name.startswith("$") and not is_reference(name):
                if any(True for _ in self.concerning({name: value})):
                    return True
                continue
            found = known.get(name)
            if found is None:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                found = known[name] = is_concerned({name: None}, self.steps)
            if found:
                return True
        return False

    def concerning(self, query: Mapping[str, Any]) -> Iterator[int]:
        """Yield the numbers of the steps that write a path which the query reads."""
        roots = _roots_of(query)
        numbers: Iterable[int] = range(len(self.steps))
        if roots is not None:
            numbers = {*self._opaque, *(n for root in roots for n in self._writing.get(root, ()))}
        return (number for number in numbers if is_concerned(query, (self.steps[number],)))

    def rewrite(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the query whose answer on stored documents is that of `query` on migrated ones.

        :return: the same object if nothing changes.
        :raises CannotRewrite: there is no such query, or it is not known.
        """
        asked = query
        if not self.is_concerned(query):
            return query
        if len(query) > 1:
            asked = {
                name: value
                for name, value in query.items()
                if self._meets_a_target(name) or self.is_concerned({name: value})
            }
        found = self._forms.of(asked)
        form, values = found or (asked, {})
        key = _key(form)
        if key is None:
            return self._rewritten(query)
        seen: Any = self._known.get(key, _UNKNOWN)
        if seen is _UNKNOWN:
            seen = self._learned(key, form)
        if seen is None:
            return query
        if isinstance(seen, CannotRewrite):
            raise CannotRewrite(seen.rule, seen.path, seen.reason, seen.place)
        if asked is not query and any(name in query and name not in asked for name in seen):
            return self._rewritten(query)
        try:
            return _replaced(query, asked, filled(seen, values) if values else copied(seen))
        except ValueError:
            return self._rewritten(query)

    def simplify(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a query that finds the same, without branches that its other conditions exclude.

        :param query: made of what `rewrite` has returned, and perhaps of other conditions.
        """
        return self._indexable(simplify(query))

    def _rewritten(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        seen = rewrite(query, self.steps)
        return seen if seen is query else self._indexable(seen)

    def _indexable(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        return indexable(query, self._worded, by_class=self._by_class, types=self.types)

    def parted(self, query: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return a query, and one for all other documents, as indexes answer them."""
        others = written(simplified(negated(read(query))))
        return self.simplify(query), indexable(others, by_class=self._by_class, types=self.types)

    def meets_targets(self, query: Mapping[str, Any]) -> bool:
        """Return whether a query asks for something that a target asks for, too, or may do so."""
        return any(map(self._meets_a_target, query))

    def _meets_a_target(self, name: str) -> bool:
        """Return whether a condition may rule out what a target asks for, such as another class."""
        known = self._read_by_targets
        return known is None or name in LOGICAL or name.partition(".")[0] in known

    def _learned(
        self, key: Hashable, asked: Mapping[str, Any]
    ) -> Mapping[str, Any] | CannotRewrite | None:
        """Rewrite and remember, a refusal too; `None` if nothing changes."""
        known: Mapping[str, Any] | CannotRewrite | None
        try:
            seen = self._rewritten(asked)
        except CannotRewrite as refusal:
            # Without the frames that it was raised through, and what they hold.
            known = refusal.with_traceback(None)
        else:
            # The values in there are the caller's, who may change them.
            known = None if seen is asked else copied(seen)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = known
        return known


def _roots_of(query: Mapping[str, Any]) -> set[str] | None:
    """Return the first components of the paths that a query reads; None: it does not say which."""
    roots: set[str] = set()
    for name, value in query.items():
        if name in LOGICAL:
            for part in value if isinstance(value, (list, tuple)) else ():
                inner = _roots_of(part) if isinstance(part, Mapping) else set()
                if inner is None:
                    return None
                roots |= inner
            continue
        paths: frozenset[str] | None = frozenset((name,))
        if name.startswith("$") and not is_reference(name):
            paths = query_paths({name: value})
        if paths is None:
            return None
        roots.update(path.partition(".")[0] for path in paths)
    return roots


def _replaced(
    query: Mapping[str, Any], asked: Mapping[str, Any], seen: Mapping[str, Any]
) -> dict[str, Any]:
    """A query with these of its conditions replaced, in the place of the first."""
    result: dict[str, Any] = {}
    for name, value in query.items():
        if name not in asked:
            result[name] = value
        elif seen.keys().isdisjoint(result):
            result.update(seen)
    return result


def _key(value: Any) -> Hashable | None:
    """What only equal conditions have in common; `None` for what is not remembered."""
    kind = type(value)
    if kind in _SCALARS:
        return kind, value
    if kind is Regex:
        return kind, value.pattern, value.flags
    if kind in (list, tuple) and len(value) <= _LONGEST_LIST:
        items = [_key(item) for item in value]
    elif kind is dict:
        items = [_key(item) for pair in value.items() for item in pair]
    else:
        return None
    return None if None in items else (kind, *items)
