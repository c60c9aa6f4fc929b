"""The program on a terminal: what it asks, the bar, colours, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lazymig import History
from lazymig.cli.output import Output
from tests.cli.app import models
from tests.cli.app.models import FAULTY, fill
from tests.support.server import URI_VARIABLE

COLUMNS, ROWS = 80, 24
PATIENCE = 60

each_width = pytest.mark.parametrize("columns", [80, 140])

_COLOUR = re.compile(r"\x1b\[(?:\d+;)*3[0-7]m")
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process with a terminal for its input, its errors and, if that is asked for, its output."""

    def __init__(self, process: subprocess.Popen[str], master: int) -> None:
        self.process = process
        self._master = master
        self.text = ""

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text is there."""
        while text not in self.text:
            assert self._read(), f"{text!r} never came: {self.text!r}"

    def end(self) -> tuple[int, str]:
        """Read all; give the exit code, and what was written elsewhere than to the terminal."""
        while self._read():
            pass
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out or ""

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        assert ready, f"no word for {PATIENCE} seconds: {self.text!r}"
        try:
            data = os.read(self._master, 4096)
        except OSError:
            # The process has ended, and with it its side of the terminal.
            return False
        self.text += data.decode()
        return bool(data)


@contextmanager
def terminal(
    shell, *arguments: str, out: bool = False, columns: int = COLUMNS, **variables: str
) -> Iterator[Terminal]:
    """Call the program on a terminal of 24 lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environment = shell.environment(TERM="xterm", **variables)
    for name in ("COLUMNS", "LINES", "FORCE_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "lazymig", *arguments],
        cwd=shell.folder,
        encoding="utf-8",
        env=environment,
        start_new_session=True,
        stderr=slave,
        stdin=slave,
        stdout=slave if out else subprocess.PIPE,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        os.close(master)


def _drawn(call: Terminal) -> list[str]:
    """The rows that were written, also those that others were written over."""
    # A full screen is drawn from its top anew, and left in the middle of its last row.
    text = _SEQUENCE.sub("", re.sub(r"\x1b\[(H|\?1049l)", "\n", call.text))
    return [row for row in re.split(r"[\r\n]+", text) if row]


def test_it_asks_before_it_writes(shop, database):
    """On a terminal the documents that each rule would change are told, and nothing is written."""
    fill(database, 3)
    with terminal(shop, "migrate") as call:
        call.wait_for("Write to the database? [y/N]: ")
        assert f"User in {database.name}.user on 127.0.0.1:" in call.text
        assert "    migration01__add_enabled: 3 documents" in call.text
        assert "    allmigration01__drop_draft: 0 documents" in call.text
        assert "No backup: what is written cannot be undone; --backup DIR makes one." in call.text
        assert database.list_collection_names() == ["user"]
        call.type("n\n")
        assert call.end() == (1, "")
    assert "lazymig: nothing was written" in call.text
    assert database.list_collection_names() == ["user"]


def test_yes_goes_on(shop, database):
    """Once it is agreed to, the documents are migrated; the summary alone is standard output."""
    fill(database, 3)
    with terminal(shop, "migrate") as call:
        call.wait_for("[y/N]: ")
        call.type("y\n")
        code, out = call.end()
    assert code == 0
    assert out.startswith("User in ")
    assert "\x1b" not in out
    assert database.user.count_documents({"first": "Ada"}) == 3


@pytest.mark.parametrize("typed", ["\n", "no\n", "ye\n", "\x04"])
def test_everything_else_is_a_no(shop, database, typed):
    """An empty answer, any other one and the end of the input write nothing."""
    fill(database, 3)
    with terminal(shop, "migrate") as call:
        call.wait_for("[y/N]: ")
        call.type(typed)
        assert call.end() == (1, "")
    assert "lazymig: nothing was written" in call.text
    assert database.list_collection_names() == ["user"]


def test_the_question_says_that_there_is_a_backup(shop, database):
    """With --backup the question names the folder; that of a resumed run, the folder it had."""
    fill(database, 3)
    with terminal(shop, "migrate", "--backup", "saved") as call:
        call.wait_for("[y/N]: ")
        assert "Backup: saved gets the documents as they were; lazymig restore" in call.text
        assert "No backup" not in call.text
        call.type("n\n")
        assert call.end() == (1, "")
    shop.set(**{FAULTY: "1"})
    assert shop("migrate", "--yes", "--backup", "saved").code == 1
    with terminal(shop, "migrate", "--resume") as call:
        call.wait_for("[y/N]: ")
        saved = shop.folder / "saved"
        assert (
            f"The run to resume has written a backup to {saved}; add --backup {saved}" in call.text
        )
        assert "No backup: what is written cannot be undone" in call.text
        call.type("n\n")
        assert call.end() == (1, "")


def test_restore_asks(shop, database):
    """What is put back, where, is said; without a yes nothing is."""
    fill(database, 3)
    assert shop("migrate", "--yes", "--backup", "saved").code == 0
    with terminal(shop, "restore", "saved") as call:
        call.wait_for("Put them back as they were? [y/N]: ")
        assert f"saved: the documents of user in {database.name} on 127.0.0.1:" in call.text
        assert "Those that were changed or deleted since are left alone." in call.text
        call.type("n\n")
        assert call.end() == (1, "")
    assert "lazymig: nothing was put back" in call.text
    assert database.user.count_documents({"name": {"$exists": True}}) == 0
    with terminal(shop, "restore", "saved", "--force") as call:
        call.wait_for("[y/N]: ")
        assert "are put back, too (--force)." in call.text
        call.type("y\n")
        code, _ = call.end()
    assert code == 0
    assert database.user.count_documents({"name": {"$exists": True}}) == 3


def test_there_is_nothing_to_ask(shop, database):
    """Where no document matches a rule, nobody is asked."""
    database.user.insert_one({"_id": 1, "enabled": True})
    with terminal(shop, "migrate") as call:
        assert call.end() == (0, "nothing to do: no document of User matches a rule\n")
    assert call.text == ""


def test_an_interrupt_at_the_question(shop, database, monkeypatch):
    """Ctrl-C at the question has the exit code of an interrupt; nothing is written."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Output, "asks", True)
    monkeypatch.setattr(Output, "agrees", interrupted)
    fill(database, 3)
    result = shop("migrate")
    assert (result.code, result.out) == (130, "")
    assert result.err.endswith("lazymig: interrupted\n")
    assert database.list_collection_names() == ["user"]


def test_the_bar(shop, database):
    """While it migrates there is a bar on the terminal, with counts, in 80 columns."""
    fill(database, 300)
    with terminal(shop, "migrate", "--yes", "--json", "--chunk-size", "50") as call:
        code, out = call.end()
    assert code == 0
    assert out.startswith("{")
    assert "1/2 migration01__add_enabled" in call.text
    assert "matched 300, modified 300" in call.text
    assert max(map(len, _drawn(call))) <= COLUMNS


@each_width
def test_one_bar_is_of_all_rules(shop, database, columns):
    """Above the rule's bar there is one for the rules of all models, with the time left."""
    fill(database, 300)
    database.animal.insert_many({"_id": number, "_cls": "Animal"} for number in range(200))
    names = [f"--models={models.__name__}:{each}" for each in ("User", "Animal")]
    with terminal(shop, "migrate", "--yes", *names, columns=columns) as call:
        assert call.end()[0] == 0
    drawn = _drawn(call)
    assert max(map(len, drawn)) <= columns
    above = [place for place, row in enumerate(drawn) if row.startswith("all rules, ")]
    # User has two lazy rules and a bulk rule, Animal one.
    assert {drawn[place] for place in above} == {f"all rules, {n} of 4" for n in range(1, 5)}
    for place in above:
        assert re.fullmatch(r"[━╸╺ ]+ +\d+% .+/~.+ .+/s +[-\d:d ]+", drawn[place + 1])
        assert re.match(r"(User|Animal): \d/\d \w+  matched ", drawn[place + 2])
        # Both bars end in the same column.
        assert drawn[place + 1].index("%") == drawn[place + 3].index("%")
    shares = [int(re.search(r"(\d+)%", drawn[place + 1])[1]) for place in above]
    assert shares == sorted(shares)


LONG = "migration01__split_the_name_of_the_customer_into_first_and_last_and_keep_the_title_apart"
LONG_RULES = f"""
import lazymig, mongoengine
class Rules(lazymig.DocumentMigration):
    def {LONG}(self):
        self.target = {{'a': {{'$exists': False}}}}
        self.update = {{'$set': {{'a': 1}}}}
    def migration02__short(self):
        self.target = {{'b': {{'$exists': False}}}}
        self.update = {{'$set': {{'b': 1}}}}
class Shop(lazymig.LazyMigrationMixin, mongoengine.Document):
    a = mongoengine.IntField()
    b = mongoengine.IntField()
    migration_handler = Rules
"""


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_names_are_whole_at_any_width(shell, uri, database, columns):
    """However long a rule's name is, `status` and the bar have all of it, and break no row."""
    shell.write("long.py", LONG_RULES)
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="long")
    database.shop.insert_many([{"a": 1}, {"b": 1}, {}])
    with terminal(shell, "status", out=True, columns=columns) as call:
        assert call.end()[0] == 0
    rows = _drawn(call)
    assert max(map(len, rows)) <= columns
    assert LONG in "".join(row.strip() for row in rows)
    assert [row.strip()[:3] for row in rows if row.strip().startswith("[")] == ["[ ]"] * 3
    assert sum("2 of 3 left" in row for row in rows) == 2
    with terminal(shell, "migrate", "--yes", columns=columns) as call:
        assert call.end()[0] == 0
    rows = _drawn(call)
    assert max(map(len, rows)) <= columns
    assert LONG in "".join(rows)


@pytest.mark.usefixtures("python_signals")
def test_ctrl_c_is_an_orderly_end(shop, database):
    """Ctrl-C ends the run after its chunk, with code 130, and names the command that resumes it."""
    fill(database, 2000)
    slow = ("--max-rate", "200", "--chunk-size", "100")
    with terminal(shop, "migrate", "--yes", *slow) as call:
        call.wait_for("modified 100")
        call.process.send_signal(signal.SIGINT)
        code, out = call.end()
    assert (code, out) == (130, "")
    (run,) = History(database).runs()
    assert run.state == "stopped"
    options = "--yes --chunk-size 100 --max-rate 200"
    (told,) = [line for line in call.text.splitlines() if "--resume" in line]
    assert told.endswith(f"resume with lazymig migrate --resume {run.id} {options}")
    assert shop("migrate", "--yes", "--resume", run.id).code == 0
    assert History(database).run(run.id).state == "finished"
    assert database.user.count_documents({"first": "Ada"}) == 2000


@pytest.mark.usefixtures("python_signals")
def test_sigterm_is_an_orderly_end(shop, database):
    """SIGTERM does the same, with code 143."""
    fill(database, 2000)
    slow = ("--max-rate", "200", "--chunk-size", "100")
    with terminal(shop, "migrate", "--yes", *slow) as call:
        call.wait_for("modified 100")
        call.process.send_signal(signal.SIGTERM)
        assert call.end() == (143, "")
    assert History(database).runs()[0].state == "stopped"


def test_ctrl_c_is_tested_in_the_background_as_well(server_uri):
    """Where a script has started the suite with Ctrl-C ignored, its tests pass as elsewhere."""
    test = f"{__file__}::test_ctrl_c_is_an_orderly_end"
    pytest_call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest_call],
        cwd=Path(__file__).parents[2],
        env={**os.environ, URI_VARIABLE: server_uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_colours_on_a_terminal_alone(shop, database):
    """Differences have colours on a terminal, unless NO_COLOR is set; 80 columns are kept."""
    fill(database, 2)
    with terminal(shop, "preview", out=True) as call:
        assert call.end()[0] == 0
    assert _COLOUR.search(call.text)
    assert max(map(len, _SEQUENCE.sub("", call.text).splitlines())) <= COLUMNS
    with terminal(shop, "preview", out=True, NO_COLOR="1") as call:
        assert call.end()[0] == 0
    assert "- name: 'Ada " in _SEQUENCE.sub("", call.text)
    assert not _COLOUR.search(call.text)


def test_bars_of_other_commands(shop, database):
    """A check and a restore show how far they are, and leave nothing of that behind."""
    fill(database, 1200)
    assert shop("migrate", "--yes", "--backup", "saved").code == 0
    for arguments, told in (
        (("check", "--all"), "checking User"),
        (("restore", "--yes", "saved"), "restoring"),
    ):
        with terminal(shop, *arguments) as call:
            code, out = call.end()
        assert code == 0
        assert told in call.text
        assert told not in out


# --- the watch ----------------------------------------------------------------------------------

_SCREEN, _NO_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


@pytest.mark.usefixtures("python_signals")
@each_width
def test_a_watch_draws_anew_until_ctrl_c(shop, database, columns):
    """`status --watch` has the screen, shows what changes, and gives it back with the last look."""
    fill(database, 3)
    with terminal(
        shop, "status", "--watch", "--interval", "0.05", out=True, columns=columns
    ) as call:
        call.wait_for("3 of 3 documents left")
        database.user.delete_one({"_id": 0})
        call.wait_for("2 of 2 documents left")
        call.process.send_signal(signal.SIGINT)
        assert call.end() == (0, "")
    assert call.text.index(_SCREEN) < call.text.index("3 of 3 documents left")
    watched, _, after = call.text.partition(_NO_SCREEN)
    assert "2 of 2 documents left" in _SEQUENCE.sub("", after)
    assert "Traceback" not in call.text
    assert after.count("\x1b[?25h") <= 1
    assert "\x1b[?25h" in watched + after, "the cursor is shown again"
    assert max(map(len, _drawn(call))) <= columns


@pytest.mark.usefixtures("python_signals")
def test_a_terminated_watch_gives_the_terminal_back(shop, database):
    """SIGTERM ends a watch with 143; the screen and the cursor are as they were."""
    fill(database, 3)
    with terminal(shop, "status", "--watch", out=True) as call:
        call.wait_for("3 of 3 documents left")
        call.process.send_signal(signal.SIGTERM)
        assert call.end()[0] == 143
    assert _NO_SCREEN in call.text
    assert call.text.rindex("\x1b[?25h") > call.text.rindex("\x1b[?25l")


@pytest.mark.usefixtures("python_signals")
def test_a_watch_says_what_the_screen_has_no_room_for(shell, uri, database):
    """More rows than the terminal has are counted, not scrolled away."""
    rules = "".join(
        f"    def migration{n:02}__add(self):\n"
        f"        self.target = {{'f{n}': {{'$exists': False}}}}\n"
        f"        self.update = {{'$set': {{'f{n}': 1}}}}\n"
        for n in range(1, 41)
    )
    shell.write(
        "many.py",
        f"import lazymig, mongoengine\nclass Rules(lazymig.DocumentMigration):\n{rules}"
        "class Many(lazymig.LazyMigrationMixin, mongoengine.DynamicDocument):\n"
        "    migration_handler = Rules\n",
    )
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="many")
    database.many.insert_one({})
    with terminal(shell, "status", "--watch", out=True) as call:
        call.wait_for(" more lines, for a higher terminal")
        call.process.send_signal(signal.SIGINT)
        assert call.end()[0] == 0
    watched, _, after = call.text.partition(_NO_SCREEN)
    *_, more = re.findall(r"and (\d+) more lines", watched)
    assert after.count("migration") == 40
    assert ROWS - 1 + int(more) == len([row for row in after.split("\n") if row.strip()])


@pytest.mark.usefixtures("python_signals")
def test_a_watch_without_a_terminal_is_plain(shop, database):
    """Into a pipe, looks stand one below the other, without what only a terminal understands."""
    fill(database, 3)
    arguments = ("status", "--watch", "--interval", "0.05")
    with subprocess.Popen(
        [sys.executable, "-m", "lazymig", *arguments],
        cwd=shop.folder,
        env=shop.environment(),
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        seen = 0
        text = ""
        while seen < 3:
            row = process.stdout.readline()
            assert row, process.stderr.read()
            text += row
            seen += "documents left" in row
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert "\x1b" not in text + rest
    assert max(map(len, (text + rest).splitlines())) <= COLUMNS
