"""`lazymig migrate`: all options of a run, what it asks, what it tells, how it ends."""

from __future__ import annotations

import re
import shlex

import pytest

from lazymig import DocumentMigration, History
from lazymig.cli.main import main
from lazymig.cli.migrate import _options, call_to_resume
from lazymig.cli.output import Output
from lazymig.operations.journal.lease import Lease
from tests.cli.app import models
from tests.cli.app.models import FAULTY, User, fill
from tests.cli.conftest import PASSWORD


def done(database) -> int:
    """The users that are as all rules leave them."""
    return database.user.count_documents(
        {
            "enabled": True,
            "first": "Ada",
            "name": {"$exists": False},
            "draft": {"$exists": False},
        }
    )


def test_all_rules_are_applied(shop, database):
    """Lazy and bulk rules are applied to all documents, and the summary has each of them."""
    fill(database, 30, draft=1)
    told = shop.json("migrate", "--yes")
    assert done(database) == 30
    assert (told["complete"], told["not_begun"]) == (True, [])
    assert [(run["scope"], run["state"], run["modified"]) for run in told["runs"]] == [
        ("lazy", "finished", 60),
        ("bulk", "finished", 30),
    ]
    assert [rule["name"] for run in told["runs"] for rule in run["rules"]] == [
        "migration01__add_enabled",
        "migration02__split_name",
        "allmigration01__drop_draft",
    ]
    runs = {str(run.id) for run in History(database).runs()}
    assert {run["run"] for run in told["runs"]} == runs


@pytest.mark.parametrize(
    ("scope", "left"), [("lazy", [0, 0, 3]), ("bulk", [3, 3, 0]), ("all", [0, 0, 0])]
)
def test_rules_of_one_scope(shop, database, scope, left):
    """--scope leaves the other rules alone."""
    fill(database, 3, draft=1)
    assert shop("migrate", "--yes", "--scope", scope).code == 0
    assert [rule["remaining"] for rule in shop.json("status")["models"][0]["rules"]] == left


def test_the_summary(shop, database):
    """The summary tells state, counts and seconds of each rule."""
    fill(database, 3)
    result = shop("migrate", "--yes", "--scope", "lazy")
    assert result.code == 0
    head, _, table = result.out.partition("  rule ")
    told = rf"User in {database.name}\.user, lazy rules: finished, 6 applications of rules in "
    assert re.fullmatch(told + r"[\d.]+ s", " ".join(head.split()))
    first, *rows = table.splitlines()
    assert first.split() == ["matched", "modified", "refused", "seconds"]
    assert [line.split()[:4] for line in rows] == [
        ["migration01__add_enabled", "3", "3", "0"],
        ["migration02__split_name", "3", "3", "0"],
    ]


def test_without_a_terminal_it_needs_yes(shop, database):
    """Where nobody can be asked, nothing is written without --yes, and the code is 2."""
    fill(database, 3)
    result = shop("migrate")
    assert (result.code, result.out) == (2, "")
    assert result.error == (
        "there is no terminal to ask on; add --yes, or look with lazymig preview"
    )
    assert database.list_collection_names() == ["user"]
    assert done(database) == 0


def test_progress_is_logged_without_a_terminal(shop, database):
    """Without a terminal each rule's end is a log line on standard error."""
    fill(database, 3)
    result = shop("migrate", "--yes")
    assert [line.partition(" (")[0] for line in result.err.splitlines()] == [
        "lazymig: User.migration01__add_enabled",
        "lazymig: User.migration02__split_name",
        "lazymig: User.allmigration01__drop_draft",
    ]


def test_options_reach_the_run(shop, database, tmp_path, monkeypatch):
    """Each option arrives at `migrate_pending` under its name, and no other does."""
    fill(database, 1)
    given = {}

    def migrate_pending(self, collection, **options):
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(DocumentMigration, "migrate_pending", migrate_pending)
    assert shop("migrate", "--yes").code == 130
    assert given.keys() == {"progress", "journal", "resume"}
    options = {
        "note": "ticket 4711",
        "backup": str(tmp_path / "saved"),
        "max_errors": 3,
        "max_rate": 50.0,
        "max_replication_lag": 5.0,
        "max_latency": 0.5,
        "nice": 0.25,
        "flag_file": str(tmp_path / "flag"),
        "chunk_size": 10,
        "chunk_seconds": 2.0,
        "lease": 30.0,
        "keep_runs": 7,
        "journal": "notes",
    }
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    shop("migrate", "--yes", "--resume", *words)
    assert {name: given[name] for name in options} == options
    assert given["resume"] is True
    shop("migrate", "--yes", "--chunk-size", "all")
    assert given["chunk_size"] is None
    shop("migrate", "--yes", "--transactions")
    assert given["transactions"] is True
    shop("migrate", "--yes", "--workers", "3")
    assert (given["executor"].args, given["in_flight"]) == ((3,), 6)
    shop("migrate", "--yes", "--workers", "3", "--in-flight", "4")
    assert given["in_flight"] == 4


def test_every_option_of_a_run_can_be_given():
    """No option of `RunOptions` is missing, except those that take a function."""
    from lazymig.operations.runs.options import RunOptions

    there = {option.name for option in main.commands["migrate"].params}
    assert set(RunOptions.__annotations__) - there == {"throttle", "progress", "executor"}
    assert "workers" in there


def test_wrong_options_are_told_before_anything_is_done(shop, database):
    """An option that a run does not take is told by its name on the command line."""
    fill(database, 1)
    for words, told in (
        (["--max-rate", "inf"], "'--max-rate': inf is not finite"),
        (["--lease", "nan"], "'--lease': nan is not finite"),
        (["--backup", "x", "--workers", "2"], "--backup excludes --workers"),
    ):
        result = shop("migrate", "--yes", *words)
        assert result.code == 2
        assert told in result.error
    assert database.list_collection_names() == ["user"]


def test_wrong_options_are_told_before_the_database_is_asked(shell):
    """What the library refuses is told before anything else."""
    shell.set(LAZYMIG_MODELS=f"{models.__name__}:User", LAZYMIG_URI="mongodb://127.0.0.1:1/db")
    result = shell("migrate", "--yes", "--flag-file", "")
    assert result.code == 2
    assert result.error.startswith("--flag-file: '' is no path; give")


def test_workers(shop, database):
    """With --workers the rules that read the document are done by other processes."""
    fill(database, 300)
    result = shop.apart("migrate", "--yes", "--workers", "2", "--chunk-size", "50")
    assert result.code == 0
    assert done(database) == 300


def test_refused_documents(shop, database):
    """A refused document ends the run with code 1; the remedy is told, the rest is not begun."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    result = shop("migrate", "--yes")
    assert result.code == 1
    run = str(History(database).runs()[0].id)
    assert "User.migration02__split_name: the rule raised ValueError" in " ".join(
        result.out.split()
    )
    assert f"lazymig quarantine list {run}" in result.out
    assert f"resume with lazymig migrate --resume {run}" in result.out
    assert "User, bulk rules: not begun" in result.out


def test_refused_documents_in_json(shop, database):
    """In JSON each refused document has its rule, `_id` and error."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    result = shop("migrate", "--yes", "--json")
    assert result.code == 1
    assert '"complete": false' in result.out
    assert '"not_begun": [\n    {\n      "model": "User",\n      "scope": "bulk"' in result.out
    assert '"$numberInt": "1"' in result.out
    assert '"type": "MigrationFailed"' in result.out


def test_refused_documents_that_are_allowed(shop, database):
    """With --max-errors the run comes to its end, and the code is 1 all the same."""
    fill(database, 3, draft=1)
    shop.set(**{FAULTY: "1"})
    result = shop("migrate", "--yes", "--max-errors", "5")
    assert result.code == 1
    assert "lazy rules: finished" in result.out
    assert "bulk rules: finished" in result.out
    assert done(database) == 2


def test_going_on(shop, database):
    """--resume resumes the latest run that has not finished, or the one named."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    assert shop("migrate", "--yes").code == 1
    (run,) = History(database).runs()
    shop.set(**{FAULTY: ""})
    result = shop("migrate", "--yes", f"--resume={str(run.id)[:20]}")
    assert result.code == 1
    assert f"lazymig quarantine retry {run.id}" in " ".join(result.out.split())
    assert "bulk rules" not in result.out
    assert [(each.id, each.state) for each in History(database).runs()] == [(run.id, "finished")]
    assert len(History(database).run(run.id).sessions) == 2

    fill_again = [{"_id": number, "name": "Ada x"} for number in range(10, 13)]
    database.user.insert_many(fill_again)
    shop.set(**{FAULTY: "11"})
    assert shop("migrate", "--yes", "--scope", "lazy").code == 1
    shop.set(**{FAULTY: ""})
    told = shop.json("migrate", "--yes", "--scope", "lazy", "--resume", code=1)
    assert told["complete"] is False
    assert [each["document_id"] for each in told["runs"][0]["errors"]] == [{"$numberInt": "11"}]
    assert sum(rule["refused"] for rule in told["runs"][0]["rules"]) == 1
    assert len(History(database).runs()) == 2
    assert shop("quarantine", "retry", told["runs"][0]["run"]).code == 0


def test_going_on_with_a_run_of_another_model(shop, database):
    """A run of a model that is not among those of the call is refused."""
    fill(database, 1)
    assert shop("migrate", "--yes").code == 0
    run = str(History(database).runs()[0].id)
    result = shop("migrate", "--yes", "--models", f"{models.__name__}:Animal", "--resume", run)
    assert result.code == 2
    assert (
        f"run {run} is one of {models.__name__}.User over {database.name}.user, which is not "
        "among the models" in result.err
    )
    assert shop("migrate", "--yes", "--resume", "00").code == 2


def test_a_collection_that_is_locked(shop, database):
    """While another run is at work the code is 1, and the line says who it is."""
    fill(database, 1)
    with Lease(database.lazymig_journal, "user"):
        result = shop("migrate", "--yes")
    assert result.code == 1
    assert "holds the lease" in result.error


def test_a_run_that_is_in_the_way(shop, database):
    """The run that holds the collection is told with the command that stops it."""
    fill(database, 1)
    holder = {"run": "6b0837745dca87eb7d9de3d5"}
    with Lease(database.lazymig_journal, "user", holder=holder):
        result = shop("migrate", "--yes")
    assert result.code == 1
    assert "or stop it with lazymig stop 6b0837745dca87eb7d9de3d5; if" in result.error


def test_nothing_to_do(shop, database):
    """Where no document matches a rule, that is one line; no run is begun."""
    told = "nothing to do: no document of User, Animal matches a rule\n"
    database.user.insert_one({"_id": 1, "enabled": True})
    result = shop("migrate", "--yes", "--models", models.__name__)
    assert (result.code, result.out) == (0, told)
    assert History(database).runs() == []
    assert shop.json("migrate", "--yes") == {"complete": True, "runs": [], "not_begun": []}
    database.user.insert_one({"_id": 2, "enabled": True, "draft": 1})
    result = shop("migrate", "--yes", "--scope", "lazy")
    assert (result.code, result.out) == (0, "nothing to do: no document of User matches a rule\n")
    result = shop("migrate", "--yes")
    words = " ".join(result.out.split())
    assert f"User in {database.name}.user, lazy rules: finished, nothing to do User in" in words
    assert "bulk rules: finished, 1 application of a rule in" in words


def test_time_of_work_and_of_waiting(shop, database):
    """The summary has the time of the work and that of the waiting apart, with the reasons."""
    fill(database, 30)
    result = shop("migrate", "--yes", "--scope", "lazy", "--max-rate", "40")
    words = " ".join(result.out.split())
    assert " 60 applications of rules in " in words
    assert re.search(r" in [\d.]+ s of work and [\d.]+ s of waiting \(max_rate ", words)
    (run,) = History(database).runs()
    assert run.waited.keys() == {"max_rate"}
    assert re.search(r" s \([\d.]+ s of it waiting\);|; 60 applications", shop("runs").out)


def test_there_may_be_no_rule(shop, database):
    """A scope without rules is told, and nothing is begun."""
    result = shop("migrate", "--yes", "--models", f"{models.__name__}:Animal", "--scope", "bulk")
    assert (result.code, result.out) == (0, "there is no rule to apply\n")
    assert database.list_collection_names() == []


def test_several_models(shop, database):
    """Each model has its runs, in the order of the names."""
    fill(database, 2)
    database.animal.insert_one({"_id": 1, "_cls": "Animal"})
    told = shop.json("migrate", "--yes", "--models", models.__name__)
    assert [(run["model"], run["scope"]) for run in told["runs"] if run["run"]] == [
        ("User", "lazy"),
        ("User", "bulk"),
        ("Animal", "lazy"),
    ]


def test_an_interrupt_says_how_to_go_on(shop, database, monkeypatch):
    """Ctrl-C ends with code 130, SIGTERM with 143, and both say how to go on."""
    fill(database, 2)
    for raised, code in ((KeyboardInterrupt(), 130), (SystemExit(143), 143)):

        def migrate_pending(self, collection, raised=raised, **options):
            raise raised

        monkeypatch.setattr(DocumentMigration, "migrate_pending", migrate_pending)
        result = shop("migrate", "--yes")
        assert (result.code, result.out) == (code, "")
        assert result.error == (
            "interrupted; what was done is noted, resume with lazymig migrate --resume --yes"
        )


def test_how_to_go_on_has_the_options_of_the_call(shop, database):
    """The command that resumes a run can be copied, and has all options of the call."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    given = [
        *("--models", f"{models.__name__}:User", "--journal", "notes", "--scope", "lazy"),
        *("--yes", "--note", "it's a test", "--backup", "saved here", "--max-rate", "1234567.5"),
        *("--nice", "0", "--chunk-size", "all", "--lease", "20"),
    ]
    result = shop("migrate", *given, "--max-errors", "0")
    assert result.code == 1
    (run,) = History(database, "notes").runs()
    assert result.err.count("--resume") == 0
    _, found, rest = result.out.partition("resume with ")
    assert found
    command = re.match(r"(?:.*\\\n)*.*", rest)[0]
    assert "\\\n" in command
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:4] == ["lazymig", "migrate", "--resume", str(run.id)]
    assert sorted(words[4:]) == sorted([*given, "--max-errors", "0"])
    shop.set(**{FAULTY: ""})
    assert "lazy rules: finished" in shop(*words[1:]).out
    assert len(History(database, "notes").run(run.id).sessions) == 2
    assert History(database, "notes").run(run.id).options["backup"].endswith("saved here")


def test_how_to_go_on_keeps_the_password(shell, uri, database):
    """A connection string of the call stands there without its password."""
    fill(database, 3)
    shell.set(**{FAULTY: "1"})
    secret = uri.replace("mongodb://", f"mongodb://ada:{PASSWORD}@")
    context = main.make_context("lazymig", ["migrate"])
    called = main.commands["migrate"].make_context(
        "migrate", ["--uri", secret, "--note", "-x", "-m", "a", "-m", "b"], context
    )
    words = call_to_resume(called, None)
    shown = secret.replace(PASSWORD, "***")
    assert words == [
        *("lazymig", "migrate", "--resume", "--models", "a", "--models", "b", "--uri", shown),
        "--note=-x",
    ]


def test_a_run_that_has_finished_is_not_gone_on_with(shop, database, monkeypatch):
    """After an interrupt between two runs the command names none that has finished."""
    fill(database, 2)

    def migrate_all(self, collection, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(DocumentMigration, "migrate_all", migrate_all)
    result = shop("migrate", "--yes")
    assert result.code == 130
    assert result.err.splitlines()[-1].endswith("resume with lazymig migrate --resume --yes")


def test_what_is_resumed_and_what_is_begun(shop, database, monkeypatch):
    """A call says before it writes which runs go on, which are new, and where there is none."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes")
    (run,) = History(database).runs()
    monkeypatch.setattr(Output, "asks", True)
    monkeypatch.setattr(Output, "agrees", lambda *_: False)
    result = shop("migrate", "--resume")
    lines = result.err.splitlines()
    started = f"{run.started:%Y-%m-%d %H:%M:%S}"
    assert lines[0].endswith(", lazy rules")
    assert lines[1] == f"    resumes run {run.id}, failed, of {started} UTC"
    assert "bulk rules" not in result.err
    assert "    begins a new run" in shop("migrate").err.splitlines()
    assert f"    resumes run {run.id}, failed" in shop("migrate", "--resume", run.id).err

    shop.set(**{FAULTY: ""})
    result = shop("migrate", "--yes", "--resume")
    told, *rest = result.err.splitlines()
    assert told == f"lazymig: User, lazy rules: resumes run {run.id}, failed, of {started} UTC"
    assert "no run of the bulk rules over" in " ".join(rest)
    assert result.out.splitlines()[-2:] == [
        "User, bulk rules: nothing is to be resumed",
        "a new run begins with lazymig migrate --yes",
    ]
    assert [each.id for each in History(database).runs()] == [run.id]


def test_a_run_that_a_later_one_made_needless_is_not_resumed(shop, database):
    """Where a later run with the same rules has finished, --resume does nothing, and says so."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes", "--scope", "lazy")
    shop.set(**{FAULTY: ""})
    assert shop("migrate", "--yes", "--scope", "lazy").code == 0
    result = shop("migrate", "--yes", "--scope", "lazy", "--resume")
    assert "a call without --resume begins a new run" in result.error
    assert result.out.splitlines()[0] == "User, lazy rules: nothing is to be resumed"
    assert (result.code, len(History(database).runs())) == (0, 2)


def test_resume_begins_nothing(shop, database):
    """After a call that has finished, --resume changes no document, and the code is 0."""
    fill(database, 3, draft=1)
    assert shop("migrate", "--yes", "--models", models.__name__).code == 0
    runs = [run.id for run in History(database).runs()]
    database.user.insert_one({"_id": 9, "name": "Ada 9", "draft": 1})
    result = shop("migrate", "--yes", "--models", models.__name__, "--resume")
    assert result.code == 0
    for name in ("User, lazy", "User, bulk", "Animal, lazy"):
        assert f"{name} rules: nothing is to be resumed" in result.out
    assert shop("migrate", "--yes", "--resume", str(runs[-1])).code == 0
    told = shop.json("migrate", "--yes", "--resume")
    assert [run["nothing_to_resume"] for run in told["runs"]] == [True, True]
    assert database.user.find_one({"_id": 9}) == {"_id": 9, "name": "Ada 9", "draft": 1}
    assert [run.id for run in History(database).runs()] == runs


TALLY = """
import lazymig, mongoengine

class TallyMigration(lazymig.DocumentMigration):
    def allmigration01__count(self):
        self.target = {}
        self.update = {"$inc": {"n": 1}}

class Tally(lazymig.LazyMigrationMixin, mongoengine.Document):
    id = mongoengine.IntField(primary_key=True)
    n = mongoengine.IntField()
    migration_handler = TallyMigration
"""


def test_a_rule_that_was_applied_to_all(shop, database):
    """A rule that does not end its match is left out of a later call, unless with --again."""
    shop.write("tallies.py", TALLY)
    database.tally.insert_many([{"_id": number, "n": 0} for number in range(3)])
    of = ("--models", "tallies:Tally", "--scope", "bulk")
    assert shop("migrate", "--yes", *of).code == 0
    (run,) = History(database).runs()
    result = shop("migrate", "--yes", *of)
    assert result.code == 0
    text = " ".join(result.out.split())
    assert f"allmigration01__count is skipped: run {run.id} has applied it" in text
    assert shop.json("migrate", "--yes", *of)["runs"][0]["rules"][0]["covered_by"] == str(run.id)
    assert {each["n"] for each in database.tally.find()} == {1}
    assert shop("migrate", "--yes", "--again", *of).code == 0
    assert {each["n"] for each in database.tally.find()} == {2}
    assert shop("migrate", "--yes", "--again", "--resume", *of).code == 2


def test_one_run_is_not_all(shop, database):
    """After --resume RUN it is told that this was one run, and how the others go on."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes")
    (run,) = History(database).runs()
    shop.set(**{FAULTY: ""})
    result = shop("migrate", "--yes", "--resume", run.id)
    assert "lazy rules: finished" in result.out
    assert f"that was run {run.id} alone; lazymig migrate --resume, without an id," in " ".join(
        result.out.split()
    )
    assert "alone" not in shop("migrate", "--yes").out


def test_runs_without_rules_are_not_told(shop, database):
    """What was not begun are runs that there would have been: not those of no rule."""
    database.animal.insert_one({"_id": 1, "_cls": "Animal"})
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    result = shop("migrate", "--yes", "--models", models.__name__)
    assert "User, bulk rules: not begun" in result.out
    assert "Animal, lazy rules: not begun" in result.out
    assert "Animal, bulk rules" not in result.out
    told = shop.json("migrate", "--yes", "--models", models.__name__, code=1)
    assert told["not_begun"] == [
        {"model": "User", "scope": "bulk"},
        {"model": "Animal", "scope": "lazy"},
    ]


def test_options_that_are_not_given_are_left_to_the_library():
    """The defaults of a run are those of the library."""
    assert _options({"max_rate": None, "chunk_size": None}, None) == {}
    assert User.migration_handler is models.UserMigration


HANDING = """\
from mongoengine import Document, IntField
from lazymig import DocumentMigration, LazyMigrationMixin


class Years(DocumentMigration):
    def migration01__rename(self):
        self.target = {"years": {"$exists": True}}
        self.update = {"$rename": {"years": "age"}}


class Moves(DocumentMigration):
    def SCOPE01__hand_over(self):
        self.target = {"moved": True}
        self.update = {"$set": {"_cls": "Pet.Cat"}, "$unset": {"moved": ""}}


class Pet(LazyMigrationMixin, Document):
    id = IntField(primary_key=True)
    age = IntField()
    meta = {"allow_inheritance": True}


class Cat(Pet):
    migration_handler = Years


class Dog(Pet):
    migration_handler = Moves
"""


@pytest.mark.parametrize("scope", ["migration", "allmigration"])
def test_what_a_model_hands_over_is_migrated_by_the_other(shop, database, scope):
    """A model is migrated after those of its collection that hand documents over to it."""
    shop.write("pets.py", HANDING.replace("SCOPE", scope))
    database.pet.insert_one({"_id": 1, "_cls": "Pet.Dog", "years": 3, "moved": True})
    assert shop.json("migrate", "--yes", "-m", "pets")["complete"] is True
    assert database.pet.find_one() == {"_id": 1, "_cls": "Pet.Cat", "age": 3}
