"""`lazymig new`: a rule, or the rules that `diff` proposes, written into the handler's file."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINE, Misuse
from lazymig.cli.models import is_migrated
from lazymig.cli.output import Output, short_path
from lazymig.cli.results import NewResult
from lazymig.cli.session import Invocation
from lazymig.rules.rule import Scope
from lazymig.rules.unfinished import waiting_rules

if TYPE_CHECKING:
    from lazymig.codegen.handler_file import Edit
    from lazymig.codegen.rule_source import RuleSource
    from lazymig.reports.drift.proposals import RuleProposal

__all__ = ["register"]

_COLOURS = {"+": "green", "-": "red", "@": "dim"}


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "new", NewResult)
    @click.argument("name", required=False)
    @click.option("--from-diff", is_flag=True, help="Write the rules that diff proposes.")
    @click.option(
        "--path",
        "paths",
        metavar="PATH",
        multiple=True,
        help="With --from-diff: only the findings at this path; repeatable.",
    )
    @click.option(
        "--sample",
        type=click.IntRange(1),
        metavar="N",
        help="With --from-diff: random documents to compare.  [default: all]",
    )
    @click.option(
        "--yes",
        "-y",
        is_flag=True,
        help="With --from-diff: the questions that rules ask are answered with yes; without it "
        "such a rule is none until you have answered in the file.",
    )
    @click.option(
        "--scope",
        type=click.Choice(["lazy", "bulk"]),
        default="lazy",
        show_default=True,
        help="Whether loads apply the rule, or bulk runs alone.",
    )
    @click.option("--reads-document", is_flag=True, help="The update is to read self.doc.")
    @click.option(
        "--file", type=click.Path(path_type=Path), metavar="FILE", help="Where a new handler goes."
    )
    @click.option("--dry-run", is_flag=True, help="Show what would be written, and write nothing.")
    def new(session: Invocation, name: str | None, file: Path | None, **options: Any) -> int:
        """Write the next rule into the handler's file.

        A model without a handler gets a new file.

        NAME is what the rule does, in words. With --from-diff it may be left out; it is put before
        the words of the rules if there are several.
        """
        formatter = _formatter(session.settings.format)
        made = _from_diff if options["from_diff"] else _from_name
        model, rules = made(session, name, options)
        if not rules:
            return _nothing(session.output, _waiting(model))
        edit = _edit(model, file, rules)
        written = not options["dry_run"]
        if written:
            edit.write()
            _format(session.output, formatter, edit.path)
        folder = _folder_of(edit.path, session.settings.folder)
        _show(session.output, edit, rules, folder, written=written)
        return FINE


def _show(
    output: Output, edit: Edit, rules: Sequence[RuleSource], folder: Path, *, written: bool
) -> None:
    """Write what has been done to the file, or would be.

    :param folder: where a patch is to be applied.
    """
    patch = edit.patch(folder)
    if output.as_json:
        output.data(_to_dict(edit, rules, patch, written=written))
    elif written:
        output.code(patch.splitlines(), 0, _COLOURS)
        output.print("")
        _remark(output.print, edit, rules, f"written: {short_path(edit.path)}")
    else:
        output.patch(patch, edit.encoding)
        where = "" if folder == Path.cwd() else f" in {folder}"
        done = f"not written: {short_path(edit.path)}; git apply takes this patch{where}"
        _remark(output.note, edit, rules, done)


def _from_diff(
    session: Invocation, name: str | None, options: dict[str, Any]
) -> tuple[Any, list[RuleSource]]:
    model = _only([target.model for target in session.targets("all")])
    return model, _proposed(model, name, options, session.settings.journal)


def _from_name(
    session: Invocation, name: str | None, options: dict[str, Any]
) -> tuple[Any, list[RuleSource]]:
    if name is None:
        raise Misuse("a rule has no name; say in words what it does, or add --from-diff")
    model = _only(session.models("all"))
    return model, [_skeleton(model, name, options)]


def _only(models: Sequence[Any]) -> Any:
    if len(models) > 1:
        names = ", ".join(model.__name__ for model in models)
        raise Misuse(f"there are several models: {names}; name one with --models module:Model")
    return models[0]


class _Numbers:
    """The numbers that come next in each scope of a model's handler."""

    def __init__(self, model: Any) -> None:
        self._handler = model.migration_handler if is_migrated(model) else None
        self._taken: dict[Scope, int] = {"lazy": 0, "bulk": 0}

    def take(self, scope: Scope) -> tuple[int, int]:
        """A number, and how many digits it has at least."""
        # Only this command pays for the import.
        from lazymig.codegen.handler_file import next_number  # noqa: PLC0415

        self._taken[scope] += 1
        if self._handler is None:
            return self._taken[scope], 2
        number, digits = next_number(self._handler, scope)
        return number + self._taken[scope] - 1, digits


def _skeleton(model: Any, name: str, options: dict[str, Any]) -> RuleSource:
    from lazymig.codegen.rule_source import RuleSource  # noqa: PLC0415

    scope: Scope = options["scope"]
    number, digits = _Numbers(model).take(scope)
    return RuleSource(
        number, name, scope=scope, reads_document=options["reads_document"], digits=digits
    )


def _waiting(model: Any) -> list[str]:
    """The names of the rules in a model's handler that are not finished, or wait for one."""
    if not is_migrated(model):
        return []
    return [rule.name for rule in waiting_rules(model.migration_handler)]


def _folder_of(path: Path, project: Path | None) -> Path:
    """The folder in which a patch of a file is to be applied."""
    here = Path.cwd()
    return here if project is None or path.absolute().is_relative_to(here) else project


def _proposed(
    model: Any, name: str | None, options: dict[str, Any], journal: str
) -> list[RuleSource]:
    from lazymig.codegen.rule_source import source_of_proposal  # noqa: PLC0415
    from lazymig.reports.drift.diff import diff  # noqa: PLC0415

    report = diff(model, options["sample"], journal=journal)
    wanted = options["paths"]
    paths = {each.path for each in report.findings}
    unknown = [path for path in wanted if path not in paths]
    if unknown:
        there = ", ".join(sorted(path for path in paths if path))
        remedy = f"there are {there}" if there else "diff finds nothing"
        raise Misuse(f"--path: no finding has the path {' or '.join(unknown)}; {remedy}")
    begun = {each.partition("__")[2] for each in _waiting(model)}
    proposals = [
        each.proposal
        for each in report.findings
        if each.proposal is not None
        and (not wanted or each.path in wanted)
        # What an earlier call has written need not be written again.
        and source_of_proposal(each.proposal, 1).name.partition("__")[2] not in begun
    ]
    numbers = _Numbers(model)
    rules = []
    for proposal in proposals:
        number, digits = numbers.take(proposal.scope)
        named = _named(proposal, name, alone=len(proposals) == 1)
        rules.append(source_of_proposal(named, number, held=not options["yes"], digits=digits))
    return rules


def _named(proposal: RuleProposal, name: str | None, *, alone: bool) -> RuleProposal:
    if name is None:
        return proposal
    return replace(proposal, words=name if alone else f"{name}_{proposal.words}")


def _edit(model: Any, file: Path | None, rules: Sequence[RuleSource]) -> Edit:
    from lazymig.codegen.handler_file import (  # noqa: PLC0415
        add_rules,
        handler_place,
        new_handler_file,
    )

    if is_migrated(model):
        if file is not None:
            raise Misuse(f"--file: {model.__name__} has a handler already; leave the option out")
        place = handler_place(model.migration_handler)
        return add_rules(place.path, place.name, rules)
    return new_handler_file(
        file or _beside(model), f"{model.__name__}Migration", rules, model=model
    )


def _formatter(command: str | None) -> list[str]:
    """The words of the command that the settings name; none without one."""
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise Misuse(f"format: {command!r} is not a command; name one, such as 'ruff format'")
    return words


def _format(output: Output, command: Sequence[str], path: Path) -> None:
    """Call the user's formatter, if there is one; the file is written whatever comes of it."""
    if not command:
        return
    try:
        # The settings of a project may name any command, as they may name any module to import.
        subprocess.run(  # noqa: S603
            [*command, str(path)], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        reason = next(iter(said.strip().splitlines()), "no reason given")
        output.warn(f"{short_path(path)} is written, but not formatted by {command[0]}: {reason}")


def _beside(model: Any) -> Path:
    """A file beside the one that the model is written in."""
    source = getattr(sys.modules.get(model.__module__), "__file__", None)
    if source is None:
        raise Misuse(f"{model.__name__} is written in no file; say with --file where to write")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model.__name__).lower()
    return Path(source).with_name(f"{words}_migration.py")


def _nothing(output: Output, waiting: Sequence[str]) -> int:
    if output.as_json:
        output.data(_to_dict(None, [], "", written=False))
    else:
        but = f" but what waits to be finished: {', '.join(waiting)}" if waiting else ""
        output.print(f"there is no rule to write: diff proposes none{but}")
    return FINE


def _to_dict(
    edit: Edit | None, rules: Sequence[RuleSource], patch: str, *, written: bool
) -> dict[str, Any]:
    return {
        "file": None if edit is None else str(edit.path),
        "created": edit is not None and edit.before is None,
        "written": written,
        "rules": [
            {
                "name": rule.name,
                "scope": rule.scope,
                "complete": rule.is_complete,
                "held": rule.held,
            }
            for rule in rules
        ],
        "diff": patch,
        "advice": "" if edit is None else edit.advice,
    }


def _remark(
    say: Callable[[str], object], edit: Edit, rules: Sequence[RuleSource], done: str
) -> None:
    """Say what has become of the file, and what is left to do by hand."""
    say(done)
    for rule in rules:
        if rule.held:
            say(f"  {rule.name} asks a question, and is no rule until it is answered")
        elif not rule.is_complete:
            say(f"  {rule.name} is no rule until its target and update are written")
    if edit.advice:
        say("")
        for line in edit.advice.splitlines():
            say(line)
