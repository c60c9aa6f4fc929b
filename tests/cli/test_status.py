"""`lazymig status`: what each rule has left, and the looks that are kept."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig import History
from tests.cli.app import models
from tests.cli.app.models import User, fill


def test_what_each_rule_has_left(shop, database):
    """Per rule: scope, remaining, total, the share that is done, and whether it can go."""
    fill(database, 4)
    database.user.update_one({"_id": 0}, {"$set": {"enabled": True}})
    (told,) = shop.json("status")["models"]
    assert (told["model"], told["collection"]) == ("User", f"{database.name}.user")
    assert [
        (
            rule["name"],
            rule["scope"],
            rule["remaining"],
            rule["total"],
            rule["done"],
            rule["removable"],
        )
        for rule in told["rules"]
    ] == [
        ("migration01__add_enabled", "lazy", 3, 4, 0.25, False),
        ("migration02__split_name", "lazy", 4, 4, 0.0, False),
        ("allmigration01__drop_draft", "bulk", 0, 4, 1.0, True),
    ]


def test_the_picture(shop, database):
    """The same is readable: a line with totals for the model, one for each rule; the code is 0."""
    fill(database, 1500)
    database.user.update_one({"_id": 0}, {"$set": {"enabled": True}})
    shop("indexes", "--create")
    result = shop("status")
    assert (result.code, result.err) == (0, "")
    model, place, *rows = result.out.splitlines()
    assert model == "[ ] User: 1,500 of 1,500 documents left, 1 of 3 rules done;"
    assert place == f"  {database.name}.user"
    assert rows[:2] == [
        "  [ ] migration01__add_enabled    1,499 of 1,500 left    0.0%  indexed",
        "  [ ] migration02__split_name     1,500 of 1,500 left    0.0%",
    ]
    # What does not fit beside the figures, and why one is computed in Python.
    assert rows[2] == "      indexed, in Python"
    assert rows[3].startswith("      computed in Python, because ")
    assert rows[-1] == "  [x] allmigration01__drop_draft      0 of 1,500 left  100.0%  indexed"


def test_sealed_rules_are_told(shop, database):
    """A rule whose old shape MongoDB refuses is done, and says so."""
    fill(database, 3)
    assert shop("migrate", "--yes").code == 0
    assert shop("seal").code == 0
    result = shop("status").out
    assert result.startswith("[x] User: 0 of 3 documents left, 3 of 3 rules done;")
    assert result.count("  sealed") == 3
    (found,) = shop.json("status")["models"]
    assert (found["complete"], found["left"], found["total"]) == (True, 0, 3)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 0),
        (["check"], 0),
        (["finish"], 1),
        (["migrate", "--yes"], 0),
        (["migrate", "--yes", "--scope", "lazy", "--json"], 0),
    ],
    ids=str,
)
def test_a_collection_that_is_not_there(shop, database, arguments, code):
    """A model without a collection is told, once: the database may be the wrong one."""
    told = (
        f"lazymig: User: the collection {database.name}.user does not exist; is this the right "
        "database?"
    )
    result = shop(*arguments)
    assert result.code == code
    assert result.err.splitlines()[0] == told
    assert result.err.count(told) == 1
    fill(database, 1)
    assert told not in shop(*arguments).err


def test_where_collections_cannot_be_listed(shop, database, monkeypatch):
    """Who may not list the collections is not told that one does not exist."""

    def refuse(*_args, **_options):
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(Database, "list_collection_names", refuse)
    result = shop("status", "--no-record")
    assert (result.code, result.err) == (0, "")


def test_the_rate_since_the_last_look(shop, database):
    """A rate is what has become less since the last look, by the server's clock."""
    fill(database, 100)
    first = shop.json("status")["models"][0]
    assert first["since"] is None
    assert [rule["rate"] for rule in first["rules"]] == [None, None, None]

    ago = timedelta(seconds=120)
    entry = database.lazymig_journal.find_one({"kind": "sample"})
    changes = {key: entry[key] - ago for key in ("at", "since")}
    database.lazymig_journal.update_one({"_id": entry["_id"]}, {"$set": changes})
    database.user.update_many({"_id": {"$lt": 60}}, {"$set": {"enabled": True}})
    database.user.insert_many([{"_id": 1000 + number, "name": "x y"} for number in range(60)])
    second = shop.json("status")["models"][0]
    assert second["since"] is not None
    rates = [rule["rate"] for rule in second["rules"]]
    assert rates[0] == 0
    assert -0.5 <= rates[1] < -0.4
    assert len(History(database).samples(User)) == 2

    database.user.delete_many({"_id": {"$gte": 1000}})
    table = shop("status").out
    assert table.splitlines()[-1].startswith("rates since the last look, 20")


def test_a_look_can_go_unnoted(shop, database):
    """With --no-record nothing is written, not even a journal."""
    fill(database, 2)
    shop.json("status", "--no-record")
    assert database.list_collection_names() == ["user"]


def test_a_look_that_cannot_be_kept(shop, database, monkeypatch):
    """Who may not write to the journal is told so, and gets the counts all the same."""
    fill(database, 2)
    database.create_collection("lazymig_journal", validator={"never": {"$exists": True}})
    result = shop("status")
    assert result.code == 0
    assert result.error.startswith("this look is not kept, the next one has no rate: ")
    assert result.error.endswith("; let the user write the journal, or call it with --no-record")
    assert "full error" not in result.error
    assert "migration01__add_enabled" in result.out


def test_another_journal(shop, database):
    """--journal names the collection in which looks are kept."""
    fill(database, 2)
    shop.json("status", "--journal", "notes")
    assert database.notes.count_documents({"kind": "sample"}) == 1
    assert "lazymig_journal" not in database.list_collection_names()


def test_the_total_of_a_subclass(shop, database):
    """A subclass has its own documents as total; its base class has all."""
    database.animal.insert_many(
        [{"_cls": "Animal"}, {"_cls": "Animal.Dog"}, {"_cls": "Animal.Dog", "legs": 4}]
    )
    names = [f"--models={models.__name__}:{each}" for each in ("Animal", "Dog")]
    animal, dog = shop.json("status", *names)["models"]
    assert [
        (each["rules"][0]["remaining"], each["rules"][0]["total"]) for each in (animal, dog)
    ] == [
        (2, 3),
        (1, 2),
    ]


def test_an_undetermined_rule(shell, uri, database):
    """Where the target needs a document, nothing is counted, and nothing can go."""
    shell.write(
        "shop.py",
        "import lazymig, mongoengine\n"
        "class Rules(lazymig.DocumentMigration):\n"
        "    def allmigration01__odd(self):\n"
        "        self.target = {'_id': self.doc['_id'], 'a': {'$exists': False}}\n"
        "        self.update = {'$set': {'a': 1}}\n"
        "class Odd(lazymig.LazyMigrationMixin, mongoengine.Document):\n"
        "    a = mongoengine.IntField()\n"
        "    migration_handler = Rules\n",
    )
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="shop")
    database.odd.insert_one({})
    (rule,) = shell.json("status")["models"][0]["rules"]
    assert (rule["remaining"], rule["done"], rule["removable"]) == (None, None, False)
    (model,) = shell.json("status")["models"]
    assert (model["at_least"], model["complete"]) == (True, False)
    first, *_, row, _since = shell("status").out.splitlines()
    assert first.startswith("[ ] Odd: at least 0 of 1 documents left, 0 of 1 rules done;")
    assert row == "  [ ] allmigration01__odd  unknown of 1 left  in Python"


BEGUN = """\
import lazymig, mongoengine
class Rules(lazymig.DocumentMigration):
    def migration01__a(self):
        self.target = {"a": 1}
        self.update = {"$set": {"a": 2}}
    def migration02__b(self):
        raise NotImplementedError("TODO: write the rule, then delete this line")
    def migration03__c(self):
        self.target = {"a": 3}
        self.update = {"$set": {"a": 4}}
class Begun(lazymig.LazyMigrationMixin, mongoengine.Document):
    a = mongoengine.IntField()
    migration_handler = Rules
"""


@pytest.mark.filterwarnings("ignore::lazymig.UnfinishedRuleWarning")
def test_what_is_no_rule_yet_is_not_done(shell, uri, database):
    """A skeleton, and the rules that wait for it, are shown, and the model is not done."""
    shell.write("shop.py", BEGUN)
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="shop")
    database.begun.insert_one({"a": 2})
    (told,) = shell.json("status")["models"]
    assert (told["complete"], told["left"], told["at_least"]) == (False, 0, True)
    assert [(rule["name"], rule["removable"]) for rule in told["rules"]] == [
        ("migration01__a", True)
    ]
    assert told["waiting"] == [
        {"name": "migration02__b", "scope": "lazy", "unfinished": True},
        {"name": "migration03__c", "scope": "lazy", "unfinished": False},
    ]
    rows = shell("status").out.splitlines()
    assert rows[0].startswith("[ ] Begun: at least 0 of 1 documents left, 1 of 3 rules done;")
    assert rows[-4:-1] == [
        "  [x] migration01__a  0 of 1 left  100.0%",
        "  [ ] migration02__b is no rule yet; finish it, and delete its line TODO",
        "  [ ] migration03__c waits for migration02__b",
    ]

    shell.write("alone.py", BEGUN.replace("def migration01__a", "def of_no_rule"))
    shell.set(LAZYMIG_MODELS="alone")
    assert "0 of 2 rules done" in shell("status").out
    assert shell.json("status")["models"][0]["complete"] is False


def test_a_handler_without_rules(shell, uri):
    """A model whose rules are all deleted is told as such."""
    shell.write(
        "shop.py",
        "import lazymig, mongoengine\n"
        "class Rules(lazymig.DocumentMigration):\n    pass\n"
        "class Done(lazymig.LazyMigrationMixin, mongoengine.Document):\n"
        "    migration_handler = Rules\n",
    )
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="shop")
    assert shell.json("status")["models"][0]["rules"] == []
    assert "its handler has no rules" in shell("status").out


@pytest.mark.parametrize("count", [1, 3])
def test_several_models(shop, database, count):
    """Several models stand one below the other, each with its rules."""
    chosen = ("User", "Animal", "Dog")[:count]
    names = [f"--models={models.__name__}:{each}" for each in chosen]
    rows = shop("status", *names).out.splitlines()
    assert [row.split(":")[0] for row in rows if row.startswith("[")] == [
        f"[ ] {name}" for name in chosen
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["check"],
        ["diff"],
        ["preview"],
        ["finish"],
        ["runs"],
        ["quarantine", "list"],
        ["report", "--html", "page.html"],
        ["new", "--from-diff", "--dry-run"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("has_database", [False, True], ids=["no database", "no collection"])
def test_looking_creates_nothing(shop, database, arguments, has_database):
    """No command that looks makes the collection or the database that it does not find."""
    if has_database:
        database.create_collection("other")

    def names():
        databases = sorted(database.client.list_database_names())
        return databases, sorted(database.list_collection_names())

    before = names()
    assert (database.name in before[0]) == has_database
    assert shop(*arguments).code in (0, 1)
    assert names() == before


@pytest.mark.parametrize("command", ["status", "finish"])
def test_of_a_collection_that_is_not_there_no_rule_is_removable(shop, command):
    """A database that is empty, or the wrong one, does not say that all is done."""
    (told,) = shop.json(command, code=0 if command == "status" else 1)["models"]
    if command == "status":
        assert [(rule["removable"], rule["done"]) for rule in told["rules"]] == [(False, None)] * 3
    else:
        assert told["removable"] == []


def test_what_waits_in_quarantine(shop, database):
    """A rule that a document in quarantine waits for is told, and is not removable."""
    fill(database, 3)
    shop.set(**{models.FAULTY: "1"})
    assert shop("migrate", "--yes", "--max-errors", "5").code == 1
    shop.set(**{models.FAULTY: ""})
    told = shop.json("status")["models"][0]["rules"]
    assert [(rule["name"], rule["quarantined"], rule["removable"]) for rule in told] == [
        ("migration01__add_enabled", 0, True),
        ("migration02__split_name", 1, False),
        ("allmigration01__drop_draft", 0, True),
    ]
    said = shop("status").out
    assert "2 of 3 rules done, 1 in quarantine;" in " ".join(said.split())
    assert "      1 document in quarantine; lazymig quarantine list lists" in said
    assert shop.json("status")["models"][0]["quarantined"] == 1
    finish = shop.json("finish", code=1)["models"][0]
    assert finish["quarantined"] == {"migration02__split_name": 1}
    assert "1 in quarantine" in shop("finish").out
    run = next(each for each in shop.json("runs")["runs"] if each["scope"] == "lazy")
    assert (run["state"], run["complete"], run["in_quarantine"]) == ("finished", False, 1)
    assert "in quarantine: 1 document" in shop("runs", run["id"]).out

    assert shop("quarantine", "retry", run["id"]).code == 0
    assert "1 (0 still)" not in shop("status").out
    assert "quarantined 1 (0 still)" in " ".join(shop("runs").out.split())
    assert shop("finish").code == 0


def test_a_rule_that_reads_the_whole_collection_is_warned_of(shop, database):
    """Status, check and preview name the documents and the command, which ends the warning."""
    fill(database, 1500)
    remedy = "lazymig indexes --create -m tests.cli.app.models:User ends that"
    expected = f"it reads all of about 1,500 documents to find what is old; {remedy}"
    rules = shop.json("status")["models"][0]["rules"]
    assert [rule["warning"] for rule in rules] == [expected, expected, None]
    (checked,) = shop.json("check", code=1)["models"]
    assert f"User.migration01__add_enabled: {expected}" in checked["problems"]
    previewed = shop.json("preview", "--sample", "0")["models"][0]["rules"]
    assert previewed[0]["plan"]["warning"] == expected
    said = shop("status").out
    assert said.count("scans") == 3, "twice as a mark, once with the reason"
    assert remedy in " ".join(said.split())

    shop("indexes", "--create")

    assert {rule["warning"] for rule in shop.json("status")["models"][0]["rules"]} == {None}
    (said,) = shop.json("check", code=1)["models"][0]["problems"]
    assert said.startswith("User.migration02__split_name: computed in Python, because ")


def test_a_watch_needs_no_json(shop):
    """A watch never ends by itself, so that its JSON would be no value."""
    result = shop("status", "--watch", "--json")
    assert result.code == 2
    assert result.error == ("--watch and --json exclude each other; call it with --json repeatedly")
