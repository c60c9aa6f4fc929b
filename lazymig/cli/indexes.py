"""`lazymig indexes`: the indexes of the rules, listed, built and dropped."""

from __future__ import annotations

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINE
from lazymig.cli.output import Output
from lazymig.cli.results import IndexesOfModel, IndexesResult
from lazymig.cli.session import Invocation, Target

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "indexes", IndexesResult)
    @click.option("--create", is_flag=True, help="Build those that are missing.")
    @click.option("--drop", is_flag=True, help="Drop those of the rules, and of rules gone.")
    def indexes(session: Invocation, create: bool, drop: bool) -> int:
        """Show, build or drop the indexes that find old documents.

        The application reads and writes on while they are built.
        """
        if create and drop:
            raise click.UsageError("--create and --drop exclude each other; leave one of them out")
        targets = session.targets()
        session.warn_of_missing(targets)
        output = session.output
        found = []
        for place, target in enumerate(targets):
            each = _carried_out(target, create=create, drop=drop)
            found.append(each)
            if not output.as_json:
                if place:
                    output.print("")
                _show(output, each)
        if output.as_json:
            output.data({"models": found})
        return FINE


def _carried_out(target: Target, *, create: bool, drop: bool) -> IndexesOfModel:
    migration, collection = target.migration, target.collection
    dropped = migration.drop_rule_indexes(collection) if drop else []
    listed = migration.create_rule_indexes if create else migration.rule_indexes
    return {
        "model": target.name,
        "collection": str(collection.full_name),
        "indexes": tuple(listed(collection)),
        "dropped": tuple(dropped),
    }


def _show(output: Output, found: IndexesOfModel) -> None:
    output.print(f"{found['model']} in {found['collection']}")
    for name in found["dropped"]:
        output.indented(f"dropped: {name}", 2, "green")
    if not found["indexes"]:
        output.print("  its handler has no rules")
        return
    output.table(
        ("rule", "index", "there", "documents"),
        [
            (
                each.rule,
                each.name or "none",
                "yes" if each.exists else "no",
                "" if each.documents is None else f"{each.documents:,}",
            )
            for each in found["indexes"]
        ],
        right=(3,),
    )
    said = [each for each in found["indexes"] if each.reason is not None]
    # A rule has an index for each branch of its target, often with the same reason.
    for reason in dict.fromkeys(f"{each.rule}: {each.reason}" for each in said):
        output.indented(reason, 2, "yellow")
