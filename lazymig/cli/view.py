"""`lazymig view`: views of MongoDB in today's shape, listed, created and dropped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINE, Misuse
from lazymig.cli.output import Output
from lazymig.cli.results import ViewsOfModel, ViewsResult
from lazymig.cli.session import Invocation, Target
from lazymig.operations.model_view import ModelView

__all__ = ["register", "show_older"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "view", ViewsResult)
    @click.argument("name", required=False)
    @click.option("--drop", is_flag=True, help="Drop it instead.")
    def view(session: Invocation, name: str | None, drop: bool) -> int:
        """Create the view NAME of a model's documents in today's shape.

        What reads it needs no lazymig, and writes nothing. One that is there is brought up to date.
        Without NAME the views that there are, are listed.
        """
        if drop and name is None:
            raise Misuse("--drop needs the name of the view")
        targets = session.targets()
        session.warn_of_missing(targets)
        dropped: list[str] = []
        if name is not None:
            target = _chosen(targets, name, drop=drop)
            targets = [target]
            if drop:
                target.migration.drop_view(name, target.collection)
                dropped.append(name)
            else:
                target.migration.create_view(name, target.collection)
        found = [_views_of(target) for target in targets]
        output = session.output
        if output.as_json:
            output.data({"models": found, "dropped": dropped})
            return FINE
        for place, each in enumerate(found):
            if place:
                output.print("")
            _show(output, each, dropped)
        return FINE


def _chosen(targets: Sequence[Target], name: str, *, drop: bool) -> Target:
    """The model whose view is meant.

    :raises Misuse: it may be that of several.
    """
    if len(targets) == 1:
        return targets[0]
    if drop:
        for target in targets:
            if any(each.name == name for each in target.migration.views(target.collection)):
                return target
        raise Misuse(f"none of the models has a view {name!r}; lazymig view lists them")
    models = ", ".join(target.name for target in targets)
    raise Misuse(f"the view of which model? Name one with --models; these are {models}")


def _views_of(target: Target) -> ViewsOfModel:
    return {
        "model": target.name,
        "collection": str(target.collection.full_name),
        "views": tuple(target.migration.views(target.collection)),
    }


def _show(output: Output, found: ViewsOfModel, dropped: Sequence[str]) -> None:
    output.print(f"{found['model']} in {found['collection']}")
    for name in dropped:
        output.indented(f"dropped: {name}", 2, "green")
    if found["views"]:
        output.table(
            ("view", "of", "current"),
            [(each.name, each.model, "yes" if each.current else "no") for each in found["views"]],
        )
    elif not dropped:
        output.indented("has no views", 2)
    show_older(output, found["views"])


def show_older(output: Output, views: Iterable[ModelView]) -> None:
    """Say of the views that are not current why, and what to do."""
    for each in views:
        if each.reason is not None:
            output.indented(f"the view {each.name} {each.reason}", 2, "yellow")
