"""Static rules as steps of one: what is known for some of their documents only is opaque."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazymig.rules.rewrite.steps import Step, compile_steps, opaque_step

__all__ = ["compile_step"]


def compile_step(
    name: str, target: Mapping[str, Any], update: Any, array_filters: Any = None
) -> Step:
    """Give a static rule as `rewrite` takes it: `compile_steps` in one."""
    steps = compile_steps(name, target, update, array_filters)
    if len(steps) == 1:
        return steps[0]
    return opaque_step(name, target, frozenset(steps[0].effects or ()))
