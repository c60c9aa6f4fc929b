"""`lazymig report`: one HTML page about the state of the migrations."""

from __future__ import annotations

from pathlib import Path

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINE, Misuse
from lazymig.cli.results import ReportResult
from lazymig.cli.session import Invocation
from lazymig.errors import check_extra
from lazymig.reports.drift.checks import check_documents
from lazymig.reports.drift.diff import diff

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "report", ReportResult)
    @click.option(
        "--html",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        required=True,
        help="The page to write, with examples of stored data.",
    )
    @click.option("--title", metavar="TEXT", help="The page's heading.")
    @click.option(
        "--sample",
        type=click.IntRange(0),
        metavar="N",
        default=1000,
        show_default=True,
        help="Random documents to check and to compare; 0 leaves that out.",
    )
    @click.option("--all", "every", is_flag=True, help="Check and compare all documents.")
    @click.option("--no-record", is_flag=True, help="Do not keep what is left in the journal.")
    def report(
        session: Invocation,
        file: Path,
        title: str | None,
        sample: int,
        every: bool,
        no_record: bool,
    ) -> int:
        """Write an HTML page about the state of the migrations."""
        check_extra("the HTML report", "jinja2")
        # Only this command pays for the import.
        from lazymig.reports.page.page import write_report  # noqa: PLC0415

        if not file.absolute().parent.is_dir():
            raise Misuse(f"--html: there is no folder {file.absolute().parent}; make it")
        targets = session.targets("named")
        models = [target.model for target in targets]
        size = None if every else sample
        journal = session.settings.journal
        looked_at = models if every or sample else []
        write_report(
            file,
            models,
            checks=[check_documents(model, size, journal=journal) for model in looked_at],
            drift=[diff(model, size, journal=journal) for model in looked_at],
            title=title,
            journal=journal,
            keep=not no_record,
        )
        session.warn_of_missing(targets)
        output = session.output
        if output.as_json:
            names = [model.__name__ for model in models]
            output.data({"file": str(file.absolute()), "models": names})
        else:
            output.print(f"written: {file}")
        return FINE
