"""The rules of a handler class, in their order."""

from __future__ import annotations

import inspect
import itertools
import re
from typing import Any

from lazymig.errors import RuleDefinitionError
from lazymig.rules.once import once_options
from lazymig.rules.rule import Rule, Scope

__all__ = ["discover"]

_RULE_NAME = re.compile(r"(?P<scope>all)?migration(?P<number>\d+)_{1,2}(?P<words>[A-Za-z0-9]\w*)")
_RULE_LIKE = re.compile(r"(?:all)?migration")


def discover(handler_class: type) -> tuple[Rule, ...]:
    """Return the rules of a handler class: lazy ones first, each scope in the order of the numbers.

    :raises RuleDefinitionError: a name looks like a rule's and is none, a number is used twice, or
        `once` stands on a method that is no rule.
    """
    rules: list[Rule] = []
    # As inspect.getattr_static() would find each, in a tenth of its time.
    members: dict[str, Any] = {}
    for base in reversed(handler_class.__mro__):
        members.update(vars(base))
    for name, method in sorted(members.items()):
        if not _RULE_LIKE.match(name):
            if once_options(method) is not None:
                raise RuleDefinitionError(
                    "is marked with once and is no rule; name it migrationNN__words or "
                    "allmigrationNN__words",
                    model=handler_class.__name__,
                    rule=name,
                )
            continue
        match = _RULE_NAME.fullmatch(name)
        if method is None:
            # A subclass takes an inherited rule back by setting its name to None.
            continue
        if match is None or not inspect.isfunction(method):
            raise RuleDefinitionError(
                "looks like a rule and is none; name a method migrationNN__words or "
                "allmigrationNN__words, or choose a name that does not begin with 'migration'",
                model=handler_class.__name__,
                rule=name,
            )
        scope: Scope = "bulk" if match["scope"] else "lazy"
        rules.append(Rule(name, int(match["number"]), scope, method, once_options(method)))
    rules.sort(key=lambda rule: (rule.scope == "bulk", rule.number, rule.name))
    for earlier, later in itertools.pairwise(rules):
        if (earlier.scope, earlier.number) == (later.scope, later.number):
            raise RuleDefinitionError(
                f"has the number {later.number} like {earlier.name}, so their order is open; "
                "give each rule of a handler a number of its own",
                model=handler_class.__name__,
                rule=later.name,
            )
    return tuple(rules)
