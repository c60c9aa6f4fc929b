"""The conditions under which expressions are exact, and what is known of types under them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lazymig.rules.translating.symbols import MISSING, PRESENT, TYPES, Types, key_of

__all__ = ["Scope", "all_of", "choice", "is_type", "type_test"]

_NEVER: Final = False


class Scope:
    """One branch of a rule: its conditions, in the order in which they may be asked.

    A condition raises for no document that the earlier ones hold for. `facts` are the types that
    expressions may have, by `key_of`; an expression that is not in it may have any.
    """

    def __init__(self, facts: Mapping[str, Types] | None = None) -> None:
        self.facts: dict[str, Types] = dict(facts or {})
        self.conditions: list[Any] = []

    def branch(self, learned: Mapping[str, Types] | None = None) -> Scope:
        """Return a scope with what is known here, and conditions of its own."""
        inner = Scope(self.facts)
        for key, types in (learned or {}).items():
            inner.learn_key(key, types)
        return inner

    def require(self, condition: Any) -> None:
        """Let the expressions be used only where a condition holds."""
        if condition is not True and not any(_same(condition, one) for one in self.conditions):
            self.conditions.append(condition)

    def types_of(self, expression: Any, most: Types = TYPES) -> Types:
        """Return the types that an expression may have."""
        return most & self.facts.get(key_of(expression), TYPES)

    def learn(self, expression: Any, types: Types) -> None:
        """Note that an expression has one of these types from here on."""
        self.learn_key(key_of(expression), types)

    def learn_key(self, key: str, types: Types) -> None:
        """The same, by the key of the expression."""
        self.facts[key] = types & self.facts.get(key, TYPES)

    def join(self, test: Any, yes: Scope, no: Scope) -> None:
        """Take over what the two branches require."""
        self.require(choice(test, yes.guard, no.guard))

    @property
    def guard(self) -> Any:
        """All conditions as one expression that raises for no document."""
        return all_of(self.conditions)


def _same(one: Any, other: Any) -> bool:
    return key_of(one) == key_of(other)


def all_of(conditions: list[Any]) -> Any:
    """Join conditions so that each is asked only where the earlier ones hold.

    `$and` does not promise that.
    """
    joined: Any = True
    for condition in reversed(conditions):
        joined = choice(condition, joined, _NEVER)
    return joined


def choice(test: Any, yes: Any, no: Any) -> Any:
    """Return `$cond`, or what it comes to."""
    if test is True:
        return yes
    if test is False:
        return no
    if _same(yes, no):
        return yes
    if yes is True and no is False:
        return test
    return {"$cond": [test, yes, no]}


def is_type(expression: Any, types: Types) -> Any:
    """Return a condition: the type of an expression is one of these."""
    if types >= TYPES:
        return True
    if types >= PRESENT:
        return {"$ne": [{"$type": expression}, MISSING]}
    if len(types) == 1:
        return {"$eq": [{"$type": expression}, *types]}
    if len(types) > len(TYPES) // 2:
        return {"$not": [{"$in": [{"$type": expression}, sorted(TYPES - types)]}]}
    return {"$in": [{"$type": expression}, sorted(types)]}


def type_test(expression: Any, known: Types, wanted: Types) -> Any:
    """Return a condition: an expression that has one of the known types has a wanted one."""
    if known <= wanted:
        return True
    if not known & wanted:
        return False
    return is_type(expression, PRESENT if wanted >= known - {MISSING} else known & wanted)
