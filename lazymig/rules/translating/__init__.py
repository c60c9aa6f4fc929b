"""Rules' methods as updates by the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazymig.query.tree import Node
from lazymig.rules.rule import Rule, RuleHandler
from lazymig.rules.translation import LeftToPython, Translation

__all__ = ["translate"]


def translate(
    rule: Rule,
    _handler_class: type[RuleHandler],
    _doc_class: Any,
    _target: Mapping[str, Any],
    _tree: Node,
) -> Translation | LeftToPython:
    """Translate nothing as yet."""
    return LeftToPython(rule.name, None, "no rule is translated as yet")
