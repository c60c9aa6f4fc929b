"""From names to models, and what is said where there are none."""

from __future__ import annotations

import sys

import pytest
from pymongo.errors import ServerSelectionTimeoutError

from lazymig import RuleDefinitionError
from lazymig.cli.failures import Misuse
from lazymig.cli.models import call_app, find_models, make_importable
from tests.cli.app import models
from tests.cli.app.models import Animal, Dog, Note, User

MODULE = models.__name__


def test_a_model_by_its_name():
    """`module:Model` is that class, and no other."""
    assert find_models([f"{MODULE}:User"]) == [User]
    assert find_models([f"{MODULE}:Dog"]) == [Dog]


def test_a_module_is_all_migrated_models_in_it():
    """Models without a handler, and those whose rules another one of them has, are left out."""
    assert find_models([MODULE]) == [User, Animal]


def test_imported_models_count(shell):
    """A module that imports models has them; a subclass alone stands for itself."""
    shell.write("shop.py", f"from {MODULE} import Dog, Note, User\n")
    make_importable(shell.folder)
    assert find_models(["shop"]) == [Dog, User]


def test_each_model_is_there_once():
    """Names that overlap give a model once, where it was named first."""
    assert find_models([f"{MODULE}:Animal", MODULE]) == [Animal, User]


def test_models_without_rules():
    """A model without a handler is refused, unless it may have none."""
    with pytest.raises(Misuse, match="Note has no rules; let it inherit LazyMigrationMixin"):
        find_models([f"{MODULE}:Note"])
    for which in ("named", "all"):
        assert find_models([f"{MODULE}:Note"], which) == [Note]
    assert find_models([MODULE], "named") == [User, Animal]


def test_a_module_is_all_models_in_it(shell):
    """Where rules are not needed, only subclasses of another one of them are left out."""
    assert find_models([MODULE], "all") == [User, Animal, Note]
    shell.write("shop.py", f"from {MODULE} import Dog, Note\n")
    make_importable(shell.folder)
    assert find_models(["shop"], "all") == [Dog, Note]
    with pytest.raises(Misuse, match=r"no model: tests\.cli\.app has no Document class; name"):
        find_models(["tests.cli.app"], "all")


def test_a_folder_is_importable_beside_the_current_one(shell):
    """The folder of the settings is looked in, also where Python looks in the current one first."""
    shell.monkeypatch.setattr(sys, "path", ["", *sys.path])
    below = shell.folder / "below"
    below.mkdir()
    shell.monkeypatch.chdir(below)
    make_importable(shell.folder)
    make_importable(below)
    assert sys.path[:2] == [str(shell.folder), ""]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"{MODULE}:Usr", "has no model 'Usr'; did you mean User?"),
        (f"{MODULE}:Zebra", "has no model 'Zebra'; it has User, Animal, Dog, Note"),
        (f"{MODULE}:UserMigration", "UserMigration has no documents; name a class that inherits"),
        (f"{MODULE}:fill", "fill has no documents"),
        ("tests.cli.app.nothing", "there is no module 'tests.cli.app.nothing' in /"),
        (f"{MODULE}.User", f"for modules; did you mean {MODULE}:User?"),
        (f"{MODULE}.Usr", f"for modules; did you mean {MODULE}:User?"),
        ("nothing.at.all", "there is no module 'nothing' in /"),
        ("no-module", "'no-module' is no module; write package.module:Model"),
        ("", "'' is no module"),
        ("tests.cli.app", "no migrated model: tests.cli.app has no Document class; name others"),
    ],
)
def test_what_is_not_there(name, told):
    """The error says what was looked for, where, and what is there instead."""
    with pytest.raises(Misuse) as caught:
        find_models([name])
    assert told in str(caught.value)


def test_it_says_what_it_has_scanned(shell):
    """Where no model is migrated, the classes that were looked at are named."""
    shell.write("plain.py", f"from {MODULE} import Note\n")
    make_importable(shell.folder)
    with pytest.raises(Misuse) as caught:
        find_models(["plain", "tests.cli.app"])
    assert str(caught.value) == (
        "no migrated model: of Note in plain none has a handler, lazymig new writes one; "
        "tests.cli.app has no Document class; name others with --models"
    )


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import not_installed_at_all\n", "No module named 'not_installed_at_all'; install"),
        ("1 / 0\n", "broken cannot be imported: ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(0)\n", "broken cannot be imported: SystemExit: 0"),
        ("def\n", "broken cannot be imported: SyntaxError"),
    ],
)
def test_a_module_that_fails(shell, source, told):
    """What a module raises is told; it does not pass for a module that is not there."""
    shell.write("broken.py", source)
    make_importable(shell.folder)
    with pytest.raises(Misuse) as caught:
        find_models(["broken"])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("raise pymongo.errors.ServerSelectionTimeoutError('away')", ServerSelectionTimeoutError),
        ("raise lazymig.RuleDefinitionError('wrong')", RuleDefinitionError),
    ],
)
def test_errors_of_their_own_kind_come_through(shell, line, kind):
    """A database that is away, and a wrong rule, are no fault of the import."""
    shell.write("broken.py", f"import lazymig, pymongo\n{line}\n")
    make_importable(shell.folder)
    with pytest.raises(kind):
        find_models(["broken"])


def test_an_application_connects_by_itself(shell):
    """A module is imported, a function of it is called, and their faults are told."""
    shell.write(
        "app.py", "called = []\ndef setup():\n    called.append(1)\ndef bad():\n    1 / 0\n"
    )
    make_importable(shell.folder)
    call_app("app")
    assert sys.modules["app"].called == []
    call_app("app:setup")
    assert sys.modules["app"].called == [1]
    with pytest.raises(Misuse, match="app has no function 'nothing' to call; correct --app"):
        call_app("app:nothing")
    with pytest.raises(Misuse, match="app:bad raises ZeroDivisionError"):
        call_app("app:bad")
