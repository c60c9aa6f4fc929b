"""Rules of source texts, as if they were in a file."""

from __future__ import annotations

import itertools
import linecache
import textwrap
import warnings
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from bson import ObjectId

from lazymig.query.operators import parse
from lazymig.rules.rule import Rule, RuleHandler
from lazymig.rules.translating.translate import translate
from lazymig.rules.translation import LeftToPython, Translation

Raw = dict[str, Any]

TARGET: Raw = {"x": {"$exists": True}}
_numbers = itertools.count()


def rule_of(body: str, target: Mapping[str, Any] = TARGET, **names: Any) -> Rule:
    """A rule with these statements, of which `d` is the document."""
    lines = [f"self.target = {target!r}", "d = self.doc", textwrap.dedent(body).strip()]
    source = "def rule(self):\n" + textwrap.indent("\n".join(lines), "    ") + "\n"
    file = f"<rule {next(_numbers)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope = {"datetime": datetime, "Decimal": Decimal, "ObjectId": ObjectId, **names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(compile(source, file, "exec"), scope)
    return Rule("migration01__x", 1, "lazy", scope["rule"])


def setting(expression: str) -> str:
    """The statement of a rule that moves `x` to `y`, by an expression."""
    return f'self.update = {{"$set": {{"y": {expression}}}, "$unset": {{"x": ""}}}}'


def translation_of(
    rule: Rule,
    target: Mapping[str, Any] = TARGET,
    handler_class: type[RuleHandler] = RuleHandler,
) -> Translation | LeftToPython:
    """What becomes of a rule."""
    return translate(rule, handler_class, object, target, parse(target))
