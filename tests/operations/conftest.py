"""The rules of these tests stand for those that Python computes, however simple they are."""

from __future__ import annotations

import pytest

from tests.support.rights import as_user, guarded
from tests.support.translations import computed_in_python

__all__ = ["as_user", "computed_in_python", "guarded"]


@pytest.fixture(autouse=True)
def _in_python(computed_in_python: None) -> None:
    """Nothing is translated, unless a test says how."""
