"""`lazymig new` and `finish`: rules as they come into the handler's file, and as they go."""

from __future__ import annotations

import difflib
import subprocess
import sys

import pytest

from tests.cli.app import models

SHOP = """\
from lazymig import DocumentMigration, LazyMigrationMixin
from mongoengine import BooleanField, Document, IntField, StringField


class UserMigration(DocumentMigration):
    # Users were all enabled once.
    def migration01__add_enabled(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}


class User(LazyMigrationMixin, Document):
    id = IntField(primary_key=True)
    enabled = BooleanField()
    name = StringField()
    migration_handler = UserMigration


class BlogNote(Document):
    id = IntField(primary_key=True)
    text = StringField()
"""


@pytest.fixture
def project(shell, uri):
    """A folder with an application of one file, and its settings."""
    shell.write("shop.py", SHOP)
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="shop:User")
    shell.source = lambda name="shop.py": (shell.folder / name).read_text(encoding="utf-8")
    return shell


def test_a_new_rule(project, database):
    """A skeleton with the next number comes behind the last rule; no other line is touched."""
    told = project.json("new", "split the name")
    assert told["rules"] == [
        {"name": "migration02__split_the_name", "scope": "lazy", "complete": False, "held": False}
    ]
    assert (told["file"], told["created"], told["written"]) == (
        str(project.folder / "shop.py"),
        False,
        True,
    )
    changed = difflib.ndiff(SHOP.splitlines(), project.source().splitlines())
    assert {line[0] for line in changed} == {" ", "+"}
    assert "    def migration02__split_the_name(self) -> None:\n" in project.source()
    result = project.apart("status")
    assert result.code == 0
    assert "User.migration02__split_the_name: it is no rule yet; finish it" in result.err
    row = "[ ] migration02__split_the_name is no rule yet; finish it, and delete its line TODO"
    assert row in " ".join(result.out.split())
    database.user.insert_one({"_id": 1, "enabled": True})
    finish = project.apart("finish")
    assert finish.code == 1
    assert "  pending: migration02__split_the_name, unknown\n" in finish.out


def test_the_next_new_rule(project):
    """A skeleton that is not finished does not stop the next one, which has the next number."""
    assert project("new", "split the name").code == 0
    for words, name in (("again", "migration03__again"), ("more", "migration04__more")):
        result = project.apart("new", words)
        assert (result.code, f"def {name}(" in project.source()) == (0, True)


def test_a_new_rule_is_shown(project):
    """The added lines are shown; with --dry-run they are not written."""
    words = ("new", "split", "--scope", "bulk", "--reads-document", "--dry-run")
    result = project.run("-m", "lazymig", *words)
    assert result.returncode == 0
    assert "+    def allmigration01__split(self) -> None:" in result.stdout
    assert result.stderr == (
        "not written: shop.py; git apply takes this patch\n"
        "  allmigration01__split is no rule until its target and update are written\n"
    )
    assert project.source() == SHOP
    assert project("new", "split").out.splitlines()[-2] == "written: shop.py"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_dry_run_is_a_patch(project, database, ending):
    """What --dry-run gives, git applies: to a handler's file as to a new one, from where it says.

    It is what would have been written, byte for byte.
    """
    text = SHOP.replace("once.", "once: caf\u00e9.").replace("\n", ending).encode("latin-1")
    coded = f"# -*- coding: latin-1 -*-{ending}".encode() + text
    (project.folder / "shop.py").write_bytes(coded)
    project.write("lazymig.toml", 'models = "shop:User"\n')
    (project.folder / "docs").mkdir()
    drifted(database)
    call = [sys.executable, "-m", "lazymig", "new", "--dry-run"]
    for words, file in (
        (["a field"], "shop.py"),
        (["--from-diff"], "shop.py"),
        (["notes", "-m", "shop:BlogNote"], "blog_note_migration.py"),
    ):
        made = subprocess.run(
            [*call, *words],
            cwd=project.folder / "docs",
            env=project.environment(),
            capture_output=True,
            check=True,
        )
        assert f"git apply takes this patch in {project.folder}\n".encode() in made.stderr
        subprocess.run(["git", "apply", "-"], cwd=project.folder, input=made.stdout, check=True)
        applied = (project.folder / file).read_bytes()
        if file == "shop.py":
            (project.folder / file).write_bytes(coded)
        else:
            (project.folder / file).unlink()
        written = [word for word in call if word != "--dry-run"]
        subprocess.run(
            [*written, *words], cwd=project.folder, env=project.environment(), check=True
        )
        assert (project.folder / file).read_bytes() == applied
        (project.folder / "shop.py").write_bytes(coded)


def test_the_file_is_formatted_by_the_users_formatter(project):
    """The command of the setting is called with the file; one that fails is a warning."""
    quotes = "format.quote-style='single'"
    command = f'{sys.executable} -m ruff format --isolated --config "{quotes}"'
    project.write("lazymig.toml", f"format = '''{command} '''\n")
    result = project("new", "split the name")
    assert (result.code, result.err) == (0, "")
    assert "NotImplementedError('TODO: write the rule, then delete this line')" in project.source()
    project.set(LAZYMIG_FORMAT="no-such-formatter --quick")
    result = project("new", "again", "--scope", "bulk")
    assert result.code == 0
    assert "shop.py is written, but not formatted by no-such-formatter: " in result.err
    project.set(LAZYMIG_FORMAT=" ")
    result = project("new", "never", "--scope", "bulk")
    assert (result.code, "never" in project.source()) == (2, False)
    assert "format: ' ' is not a command" in result.err
    assert "def allmigration01__again" in project.source()


def test_a_new_rule_needs_no_database(project):
    """Without --from-diff nobody connects."""
    project.monkeypatch.delenv("LAZYMIG_URI")
    assert project("new", "x").code == 0


def test_a_model_without_a_handler_gets_a_file(project):
    """The file lies beside the model's; what is left to do by hand is told."""
    project.set(LAZYMIG_MODELS="shop:BlogNote")
    told = project.json("new", "add text")
    assert told["created"] is True
    assert told["file"] == str(project.folder / "blog_note_migration.py")
    assert "class BlogNoteMigration(DocumentMigration):" in project.source("blog_note_migration.py")
    assert "migration_handler = BlogNoteMigration" in told["advice"]
    result = project("new", "add text")
    assert result.code == 2
    assert "is there already; give BlogNote its handler" in result.error
    assert "else name a new file" in result.error
    result = project("new", "add text", "--file", "rules.py")
    assert result.code == 0
    assert "    from rules import BlogNoteMigration" in result.out
    assert project.source() == SHOP


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "a rule has no name"),
        (["!"], "'!' does not name a rule; say in words what it does"),
        (["x", "--models", "shop:BlogNote"], None),
        (["x", "--models", "shop:User", "--models", "shop:BlogNote"], "several models: User, Blog"),
        (["x", "--file", "y.py"], "--file: User has a handler already; leave the option out"),
    ],
)
def test_wrong_calls(project, arguments, told):
    """What a rule cannot be written for is told, and no file is touched."""
    result = project("new", *arguments)
    assert (result.code == 0) is (told is None)
    if told is not None:
        assert told in result.error
    assert project.source() == SHOP


def drifted(database) -> None:
    """Documents that the model does not know: a question, and a plain conversion."""
    database.user.insert_many(
        [{"_id": 1, "enabled": True, "name": 7}, {"_id": 2, "enabled": False, "nmae": "Bob"}]
    )


def test_rules_from_the_drift_work(project, database):
    """What --from-diff --yes writes passes ruff, and once it is applied, diff reports nothing."""
    drifted(database)
    assert project.apart("diff").code == 1
    told = project.json("new", "--from-diff", "--yes")
    assert [(rule["name"], rule["complete"], rule["held"]) for rule in told["rules"]] == [
        ("migration02__rename_nmae_to_name", True, False),
        ("migration03__convert_name_from_int", True, False),
    ]
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=100", "shop.py"]
    checked = subprocess.run(ruff, cwd=project.folder, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "All checks passed!\n")
    assert project.apart("migrate", "--yes").code == 0
    assert project.apart("diff").code == 0
    assert list(database.user.find().sort("_id")) == [
        {"_id": 1, "enabled": True, "name": "7"},
        {"_id": 2, "enabled": False, "name": "Bob"},
    ]


def test_rules_with_a_question_are_held(project, database):
    """Without --yes a rule that asks is none until somebody has answered, and so it is told.

    The next call leaves out what is there already, until the line TODO is gone.
    """
    drifted(database)
    result = project("new", "--from-diff")
    assert result.code == 0
    assert "migration02__rename_nmae_to_name asks a question, and is no rule until" in result.out
    assert "migration03__convert_name_from_int asks" not in result.out
    looked = project.apart("status")
    assert looked.code == 0
    assert "until then migration03__convert_name_from_int will not run" in looked.error
    again = project.apart("new", "--from-diff")
    assert " ".join(again.out.split()) == (
        "there is no rule to write: diff proposes none but what waits to be finished: "
        "migration02__rename_nmae_to_name, migration03__convert_name_from_int"
    )
    answered = [line for line in project.source().splitlines(True) if "TODO" not in line]
    project.write("shop.py", "".join(answered))
    assert project.apart("migrate", "--yes").code == 0
    assert project.apart("diff").code == 0


def test_names_of_rules_from_the_drift(project, database):
    """A name is put before the words of several rules, and is that of a single one."""
    drifted(database)
    told = project.json("new", "tidy up", "--from-diff", "--dry-run")
    assert [rule["name"] for rule in told["rules"]] == [
        "migration02__tidy_up_rename_nmae_to_name",
        "migration03__tidy_up_convert_name_from_int",
    ]
    told = project.json("new", "as text", "--from-diff", "--dry-run", "--path", "name")
    assert [rule["name"] for rule in told["rules"]] == ["migration02__as_text"]


def test_a_path_that_no_finding_has(project, database):
    """A path at which diff finds nothing is a wrong call; the paths that there are are told."""
    result = project("new", "--from-diff", "--path", "x")
    assert (result.code, result.out) == (2, "")
    assert result.error == "--path: no finding has the path x; diff finds nothing"
    drifted(database)
    for paths in (["--path", "nane"], ["--path", "name", "--path", "nane"]):
        result = project("new", "--from-diff", *paths)
        assert (result.code, result.out) == (2, "")
        assert result.error == "--path: no finding has the path nane; there are name, nmae"
    assert project.source() == SHOP


def test_without_drift_there_is_no_rule(project, database):
    """Where diff proposes nothing, nothing is written."""
    database.user.insert_one({"_id": 1, "enabled": True})
    assert project("new", "--from-diff").out == "there is no rule to write: diff proposes none\n"
    told = project.json("new", "--from-diff")
    assert (told["file"], told["rules"], told["written"]) == (None, [], False)
    assert project.source() == SHOP


def test_what_can_be_deleted(project, database):
    """Once nothing is pending, the lines of each rule are shown, with their numbers."""
    database.user.insert_one({"_id": 1, "enabled": True})
    told = project.json("finish")
    (model,) = told["models"]
    assert (told["ok"], model["pending"]) == (True, [])
    ((place,),) = [rule["places"] for rule in model["removable"]]
    assert (place["first"], place["last"]) == (6, 9)
    assert place["text"] == "".join(SHOP.splitlines(keepends=True)[5:9])
    result = project("finish")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        f"User in {database.name}.user",
        "  nothing is pending",
        "  can be deleted: migration01__add_enabled",
        "    shop.py, lines 6 to 9:",
        *(f"      {line}" for line in SHOP.splitlines()[5:9]),
        "  note: no code is left in UserMigration then",
        "  note: after that, User.migration_handler = UserMigration can go, too",
    ]


def test_a_class_without_code_is_named_once(project, database):
    """What is left of a class is told once for all of its rules, not once for each."""
    more = "".join(SHOP.splitlines(keepends=True)[5:9]).replace("01__add", "02__add")
    described = SHOP.replace("Migration):\n", f'Migration):\n    """Doc."""\n\n{more}\n', 1)
    project.write("shop.py", described)
    database.user.insert_one({"_id": 1, "enabled": True})
    (model,) = project.json("finish")["models"]
    assert [rule["places"][0]["empties"] for rule in model["removable"]] == [True, True]
    assert project("finish").out.count("no code is left in UserMigration then") == 1


@pytest.mark.parametrize("more", ["", "    limit = 1\n"], ids=["nothing", "an attribute"])
def test_what_names_the_handler_goes_with_its_last_rule(project, database, more):
    """It is named once no rule is left, whatever else the handler has; a skeleton keeps it."""
    project.write("shop.py", SHOP.replace("Migration):\n", f"Migration):\n{more}", 1))
    database.user.insert_one({"_id": 1, "enabled": True})
    assert project.json("finish")["models"][0]["assignment"] == "User.migration_handler"
    assert "User.migration_handler = UserMigration can go, too" in project("finish").out
    assert project("new", "split the name").code == 0
    waiting = project.apart("finish")
    assert "can be deleted: migration01__add_enabled" in waiting.out
    assert "migration_handler" not in waiting.out


def test_what_names_a_handler_without_rules(project, database):
    """It can go once all rules were deleted; until then, indexes and seals need it."""
    lines = SHOP.splitlines(keepends=True)
    project.write("shop.py", "".join([*lines[:5], "    pass\n", *lines[9:]]))
    database.user.insert_one({"_id": 1})
    assert project("finish").out.splitlines()[1:] == [
        "  nothing is pending",
        "  note: it has no rule: User.migration_handler = UserMigration can go",
    ]


def test_what_names_the_handler_of_a_subclass(shell, uri, database):
    """It stays where the rules of the parent class would be those of the subclass without it."""
    meta = '    meta = {"allow_inheritance": True}\n'
    more = "class More(UserMigration): pass\nclass Admin(User):\n    migration_handler = More\n"
    name = "    name = StringField()\n"
    shell.write("shop.py", SHOP.replace(name, name + meta, 1) + "\n\n" + more)
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="shop")
    database.user.insert_one({"_id": 1, "_cls": "User.Admin", "enabled": True})
    told = {each["model"]: each["assignment"] for each in shell.json("finish")["models"]}
    assert told == {"User": "User.migration_handler", "Admin": None}


def test_nothing_can_be_deleted_for_a_collection_that_is_not_there(project, database):
    """A rule is no rule to delete where the model's collection does not exist: the code is 1."""
    told = project.json("finish", code=1)
    assert (told["ok"], told["models"][0]["pending"]) == (False, [])
    assert told["models"][0]["removable"] == []
    result = project("finish")
    assert result.code == 1
    assert result.out == f"User in {database.name}.user\n  the collection does not exist\n"


def test_what_is_pending(project, database):
    """While a rule has documents left, the code is 1 and the rule is named."""
    database.user.insert_one({"_id": 1})
    told = project.json("finish", code=1)
    assert told["models"][0]["pending"] == [
        {"rule": "migration01__add_enabled", "scope": "lazy", "remaining": 1}
    ]
    assert told["models"][0]["removable"] == []
    assert "  pending: migration01__add_enabled, 1 document\n" in project("finish").out


def test_a_handler_of_two_models(shell, uri, database):
    """A rule that one of two models needs can be deleted for neither."""
    other = SHOP.replace("class BlogNote(", "class BlogNote(LazyMigrationMixin, ")
    more = "    enabled = BooleanField()\n    migration_handler = UserMigration\n"
    shell.write("shop.py", other + more)
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS="shop")
    database.blog_note.insert_one({"_id": 1})
    user, note = shell.json("finish", code=1)["models"]
    assert (user["pending"], user["removable"]) == ([], [])
    assert [rule["rule"] for rule in note["pending"]] == ["migration01__add_enabled"]


def test_lines_that_cannot_be_found(shop, database, monkeypatch):
    """Where the source is not there, the rules are named all the same."""
    database.user.insert_one({"_id": 1, "enabled": True})
    monkeypatch.setattr(models.UserMigration, "__module__", "nowhere")
    result = shop("finish")
    assert result.code == 0
    assert "note: the lines are not shown" in result.out
    assert "can be deleted: migration01__add_enabled" in result.out
