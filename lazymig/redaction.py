"""Connection strings, which hold passwords, kept out of logs, reports and journals."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["without_secrets"]

_URI = re.compile(r"\b(mongodb(?:\+srv)?)://\S+", re.IGNORECASE)


def without_secrets(value: Any) -> Any:
    """The value with every connection string in its texts, keys too, cut down to its scheme."""
    if isinstance(value, str):
        return _URI.sub(r"\1://...", value)
    if isinstance(value, Mapping):
        return {without_secrets(key): without_secrets(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(part) for part in value]
    return value
