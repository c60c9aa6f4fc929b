"""The Python blocks of a Markdown page."""

from __future__ import annotations

import re
from typing import NamedTuple

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>.*)$")
_NOT_EXECUTED = "no-test"


class Block(NamedTuple):
    """One block of code, and the line of the page on which its first line stands."""

    line: int
    source: str


def python_blocks(page: str) -> list[Block]:
    """Return the blocks to execute: those marked `python`, unless `no-test` is said as well.

    It is said in the block's info string, or in a comment `<!-- no-test -->` as the last thing
    before the block; a comment `<!-- file: NAME -->` there says that the block is a file, which
    nobody runs by itself.

    :raises ValueError: a block is never closed.
    """
    blocks: list[Block] = []
    lines = iter(enumerate(page.splitlines(), start=1))
    before = ""
    for number, line in lines:
        opening = _FENCE.match(line)
        if opening is None:
            before = line.strip() or before
            continue
        source: list[str] = []
        for _, inner in lines:
            if inner.rstrip() == opening["fence"]:
                break
            source.append(inner)
        else:
            raise ValueError(f"line {number}: the block is never closed; add {opening['fence']}")
        info = opening["info"].split()
        excepted = before.startswith((f"<!-- {_NOT_EXECUTED} -->", "<!-- file: "))
        excepted = excepted or _NOT_EXECUTED in info
        if info[:1] == ["python"] and not excepted:
            blocks.append(Block(number + 1, "\n".join(source) + "\n"))
        before = ""
    return blocks
