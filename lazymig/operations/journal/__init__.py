"""The journal of bulk runs, their leases, and the documents they have refused."""

from __future__ import annotations

from typing import Final

__all__ = ["JOURNAL"]

JOURNAL: Final = "lazymig_journal"
"""The default name of the journal's collection; here, so that nothing is loaded for it."""
