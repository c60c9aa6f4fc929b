"""RuleRun: how far a run is with one rule, from its chunks to the journal and the reports.

The names of its fields are those of the stored keys. A new counter is a field with a default here,
which entries of earlier versions are read with, a line of `RuleStep.count`, and for JSON one of
`RuleOfRun` in cli/results.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from lazymig.engines.access import Raw
from lazymig.raw.elements import known_again

__all__ = ["RuleRun"]


@dataclass(frozen=True, slots=True)
class RuleRun:
    """What a run has done of one rule so far; all counts are those since the run began.

    `state` is `pending`, `running`, `done`, or `skipped`: not to be applied. `done` of `total`
    documents are done (`exact` unless the total is an estimate, `None` before it is
    known); `matched` and `modified` were counted by MongoDB, `quarantined` were left as they are.
    `passes` over the collection have ended, `seconds` were spent. `last_id` is the last `_id` done.
    `edited`: the rule's text was changed while the run was interrupted, and the rule began anew.

    `at` is the checkpoint: the last `_id` that is done and its place in the walk, `None` before the
    first. `repeatable` is false once an update was met that must not be written twice.
    """

    name: str
    digest: str
    state: str = "pending"
    done: int = 0
    total: int | None = None
    exact: bool = False
    matched: int = 0
    modified: int = 0
    quarantined: int = 0
    passes: int = 0
    seconds: float = 0.0
    edited: bool = False
    at: Raw | None = None
    repeatable: bool = True

    @classmethod
    def read(cls, stored: Raw) -> RuleRun:
        """Take it from the `rules` of a run entry."""
        return cls(**{name: stored[name] for name in _NAMES if name in stored})

    def to_bson(self) -> dict[str, Any]:
        """The sub-document of a run entry."""
        return {name: getattr(self, name) for name in _NAMES}

    @property
    def last_id(self) -> Any:
        """The `_id` of the last document that is done; `None` before the first."""
        return None if self.at is None else known_again(self.at["_id"])

    def begun_anew(self, digest: str) -> RuleRun:
        """The state after an edit of the rule: what was counted before stays counted."""
        return replace(
            self,
            digest=digest,
            state="pending",
            at=None,
            done=0,
            total=None,
            exact=False,
            passes=0,
            repeatable=True,
            edited=True,
        )


_NAMES = tuple(field.name for field in fields(RuleRun))
