"""`lazymig status`: the standing of each rule, and the rate since the last look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

import click

from lazymig.cli.commands import Amount, command
from lazymig.cli.failures import FINE, Misuse
from lazymig.cli.session import Invocation, Target
from lazymig.cli.standing import picture_of
from lazymig.redaction import excerpt
from lazymig.reports.looks import Looks
from lazymig.reports.status import ModelStanding
from lazymig.reports.texts import Line

__all__ = ["register"]


class StatusResult(TypedDict):
    """What `status` writes."""

    models: list[ModelStanding]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "status", StatusResult)
    @click.option(
        "--no-record", is_flag=True, help="Do not keep this look; nothing at all is written."
    )
    @click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
    @click.option(
        "--interval",
        type=Amount(0, min_open=True),
        metavar="N",
        default=2,
        show_default=True,
        help="Seconds between two looks of --watch.",
    )
    def status(session: Invocation, no_record: bool, watch: bool, interval: float) -> int:
        """Count the documents each rule has to migrate, and the rate."""
        output = session.output
        if watch and output.as_json:
            raise Misuse("--watch and --json exclude each other; call it with --json repeatedly")
        targets = session.targets()
        session.warn_of_missing(targets)
        found = _looked_at(session, targets, keep=not no_record)
        for each in found:
            if each.refusal is not None:
                output.warn(
                    f"this look is not kept, the next one has no rate: {excerpt(each.refusal)}; "
                    "let the user write the journal, or call it with --no-record"
                )
        if output.as_json:
            output.data({"models": found})
        elif watch:
            _watch(session, targets, found, interval, keep=not no_record)
        else:
            for line in picture_of(found, output.width):
                output.indented(*line)
        return FINE


def _looked_at(
    session: Invocation, targets: Sequence[Target], *, keep: bool
) -> list[ModelStanding]:
    looks = Looks(session.settings.journal, keep=keep)
    return [looks.at(each.model, each.collection) for each in targets]


def _watch(
    session: Invocation,
    targets: Sequence[Target],
    first: list[ModelStanding],
    interval: float,
    *,
    keep: bool,
) -> None:
    # Only who watches pays for the import.
    from lazymig.cli.watching import watch  # noqa: PLC0415

    looks = [first]

    def picture() -> Iterator[Line]:
        found = looks.pop() if looks else _looked_at(session, targets, keep=keep)
        at = max(each.at for each in found)
        yield Line(f"{at:%Y-%m-%d %H:%M:%S} UTC, again after {interval:g} s; Ctrl-C ends", 0, "dim")
        yield from picture_of(found, session.output.width)

    watch(session.output, picture, interval)
