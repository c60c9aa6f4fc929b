"""Names and values of the database on the terminal: they command, forge and flood nothing."""

from __future__ import annotations

import pytest

from lazymig import DriftReport
from lazymig.operations.journal.collection import client_now
from lazymig.reports.drift.findings import DriftFinding
from tests.cli.app.models import fill
from tests.support.reports import add_quarantined, add_run

FORGED = "lazymig: all is done"
HOSTILE = {
    "control": "nul\x01 bell\x07 esc\x1b[31m\x1b]0;owned\x07 \x9b2J \x85 \x7f",
    "bidi": "\u202egnp.exe \u2066 \u200f \ufeff",
    "lines": f"x\r\n{FORGED}\n\u2028{FORGED}\u2029\x0b{FORGED}",
    "long": "long_" * 20_000,
    "markup": "[bold red]x[/bold red] [link=file:///etc/passwd]y[/link] :smile:",
    "surrogates": "\U000e0041\ufffe",
}

each_text = pytest.mark.parametrize("kind", HOSTILE)

COMMANDS = (
    ("status",),
    ("runs",),
    ("quarantine", "list"),
    ("check",),
    ("diff",),
    ("preview",),
    ("finish",),
    ("seal", "--show"),
    ("view",),
    ("indexes",),
)


def put_everywhere(database, text: str) -> str:
    """Put a text wherever the database has room for one; give the id of a run."""
    name = text.replace(".", "_").replace("$", "_")
    fill(database, 3)
    database.user.insert_one({"_id": text, name: {name: text}, "first": 5, "draft": text})
    run = add_run(
        database,
        started=client_now(),
        state="failed",
        quarantined=1,
        model="User",
        collection="user",
        rules=(text, text),
        note=text,
        error=text,
        host=text,
        handler=text,
        waited={name: 5.0},
        options={"throttle": text},
    )
    add_quarantined(database, run, [text], collection="user", rule=text, error=text, type=text)
    waits = {"collection": "user", "rule": "migration01__add_enabled"}
    add_quarantined(database, run, ["1"], error=text, type=text, **waits)
    comment = {"$match": {"$comment": "lazymig: view of User"}}
    database.command("create", name[:100].replace("\x00", ""), viewOn="user", pipeline=[comment])
    return str(run)


@each_text
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_command_obeys_what_is_stored(shop, database, kind, arguments):
    """Whatever is stored, nothing is obeyed, no line is forged, and no line is very long."""
    run = put_everywhere(database, HOSTILE[kind])
    calls = [arguments, ("runs", run)] if arguments == ("runs",) else [arguments]
    for call in calls:
        result = shop(*call)
        written = result.out + result.err
        assert all(char.isprintable() or char == "\n" for char in written)
        assert not [row for row in result.out.splitlines() if row.strip() == FORGED]
        assert len(written) < 60_000
        assert "Traceback" not in written


@each_text
def test_an_error_obeys_nothing(shop, database, kind):
    """An error that has what is stored in it is one line, without what a terminal would obey."""
    text = HOSTILE[kind]
    fill(database, 1)
    database.user.insert_one({"_id": text, "name": 5})
    result = shop("migrate", "--yes")
    written = result.out + result.err
    assert result.code == 1
    assert all(char.isprintable() or char == "\n" for char in written)
    assert not [row for row in written.splitlines() if row.strip() == FORGED]


@each_text
def test_a_report_that_is_printed_obeys_nothing(kind):
    """A report's own text is as safe: whoever prints it in a shell prints no more than text."""
    text = HOSTILE[kind]
    finding = DriftFinding(
        kind="unknown_field",
        path=text,
        message=text,
        count=1,
        cured_by=(),
        classes=(text,),
        types={},
        expected=(),
        convertible=None,
        values=(),
        examples=(),
        candidates=(),
        query=None,
        proposal=None,
    )
    said = str(DriftReport("User", "a.user", 1, None, (finding,), (text,), ()))
    assert all(char.isprintable() or char == "\n" for char in said)
    assert len(said.splitlines()) == 3
    assert max(map(len, said.splitlines())) < 24_100
