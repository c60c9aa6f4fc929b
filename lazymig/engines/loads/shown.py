"""Documents that are not what is stored, but what the rules will make of it."""

from __future__ import annotations

from typing import Any

__all__ = ["Shown"]


class Shown(dict[str, Any]):
    """A raw document as the rules will leave it; what is stored is older than that."""

    __slots__ = ()
