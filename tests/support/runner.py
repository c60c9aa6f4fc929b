"""A process of its own that runs the rules over the items.

`python -m tests.support.runner URI DATABASE OPTIONS STAGE N`

At the N-th time that it reaches the stage it says "here", and waits to be killed. Stages: `work`,
before a chunk is written; `written`, behind it; `noted`, behind its checkpoint; `none`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mongoengine

from lazymig.engines.bulk import Work
from lazymig.operations.journal.journal import Journal
from tests.support.items import Item, ItemMigration
from tests.support.server import CLIENT_OPTIONS

ROOT = Path(__file__).parents[2]


def command(uri: str, database: str, stage: str, occurrence: int, **options: Any) -> list[str]:
    """The command line of such a process."""
    arguments = [uri, database, json.dumps(options), stage, str(occurrence)]
    return [sys.executable, "-m", "tests.support.runner", *arguments]


class _Stage:
    def __init__(self, occurrence: int) -> None:
        self.left = occurrence

    def reach(self) -> None:
        """Say so and wait, the last time."""
        self.left -= 1
        if self.left == 0:
            sys.stdout.write("here\n")
            sys.stdout.flush()
            sys.stdin.readline()


def _surrounded(
    function: Callable[..., Any], before: _Stage | None, after: _Stage | None
) -> Callable[..., Any]:
    def surrounded(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before.reach()
        result = function(*args, **kwargs)
        if after is not None:
            after.reach()
        return result

    return surrounded


def main(uri: str, database: str, options: str, stage: str, occurrence: str) -> None:
    """Run all rules."""
    mongoengine.connect(database, host=uri, **CLIENT_OPTIONS)
    there = _Stage(int(occurrence))
    if stage in ("work", "written"):
        before, after = (there, None) if stage == "work" else (None, there)
        Work.apply = _surrounded(Work.apply, before, after)  # type: ignore[method-assign]
    elif stage == "noted":
        Journal.checkpoint = _surrounded(Journal.checkpoint, None, there)  # type: ignore[method-assign]
    report = ItemMigration(Item).migrate_all(**json.loads(options))
    sys.stdout.write(f"{report.state}\n")
    mongoengine.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
