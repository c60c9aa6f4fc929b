"""Where a call's settings come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lazymig.cli import settings
from lazymig.cli.failures import Misuse
from lazymig.cli.settings import Settings, load_settings

SHARED = '[tool.lazymig]\nmodels = ["a", "b:C"]\nuri = "shared"\nalias = "shared"\napp = "shared"\n'


def test_nothing_is_set_by_itself(tmp_path):
    """Without file, variables and options there are the defaults alone."""
    found = load_settings({"models": (), "uri": None}, {}, tmp_path)
    assert found == Settings()
    assert (found.models, found.uri, found.alias, found.app) == ((), None, "default", None)


def test_later_wins(tmp_path):
    """The environment wins over the file, and options win over both, each setting by itself."""
    (tmp_path / "pyproject.toml").write_text(SHARED)
    environment = {"LAZYMIG_URI": "variable", "LAZYMIG_ALIAS": "variable", "LAZYMIG_APP": ""}
    found = load_settings({"alias": "option", "app": None}, environment, tmp_path)
    assert found.models == ("a", "b:C")
    assert (found.uri, found.alias, found.app) == ("variable", "option", "shared")
    assert dict(found.sources) == {
        "models": "pyproject.toml",
        "uri": "LAZYMIG_URI",
        "alias": "--alias",
        "app": "pyproject.toml",
    }


@pytest.mark.parametrize("text", ["a b:C", "a,b:C", " a, b:C ,"])
def test_models_of_a_variable_are_a_list(tmp_path, text):
    """Several models in one text are parted by blanks or commas."""
    assert load_settings({}, {"LAZYMIG_MODELS": text}, tmp_path).models == ("a", "b:C")


@pytest.mark.parametrize("head", ["", "[tool.lazymig]\n"])
def test_the_file_of_our_own_wins(tmp_path, head):
    """lazymig.toml, with or without the table's name, is read instead of pyproject.toml."""
    (tmp_path / "pyproject.toml").write_text(SHARED)
    (tmp_path / "lazymig.toml").write_text(f'{head}models = "x"\n')
    found = load_settings({}, {}, tmp_path)
    assert (found.models, found.uri) == (("x",), None)


def test_other_tables_are_nobodys(tmp_path):
    """A pyproject.toml without our table sets nothing."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    assert load_settings({}, {}, tmp_path) == Settings()


def test_the_nearest_folder_above_that_has_settings(tmp_path):
    """Files are looked for in the folder, then above it; one that sets nothing is passed by."""
    below = tmp_path / "shop" / "orders"
    below.mkdir(parents=True)
    (tmp_path / "lazymig.toml").write_text('models = "far"\n')
    (tmp_path / "shop" / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    found = load_settings({}, {}, below)
    assert (found.models, found.folder) == (("far",), tmp_path)
    assert dict(found.sources) == {"models": str(tmp_path / "lazymig.toml")}
    (tmp_path / "shop" / "pyproject.toml").write_text(SHARED)
    found = load_settings({}, {}, below)
    assert (found.models, found.folder) == (("a", "b:C"), tmp_path / "shop")
    (below / "lazymig.toml").write_text('models = "near"\n')
    assert load_settings({}, {}, below).models == ("near",)


def test_settings_of_another_user_above_are_refused(tmp_path, monkeypatch):
    """They name modules to import: from a folder that others write they are not taken."""
    (tmp_path / "lazymig.toml").write_text('models = "x"\n')
    below = tmp_path / "below"
    below.mkdir()
    owner = (tmp_path / "lazymig.toml").stat().st_uid
    for user, fine in ((owner, True), (owner + 1, owner == 0)):
        monkeypatch.setattr(settings, "os", SimpleNamespace(getuid=lambda user=user: user))
        assert load_settings({}, {}, tmp_path).models == ("x",)
        if fine:
            assert load_settings({}, {}, below).models == ("x",)
        else:
            with pytest.raises(Misuse, match="belongs to another user; call lazymig in its folder"):
                load_settings({}, {}, below)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.lazymig]\nmodel = 'x'\n", "there is no setting 'model'; did you mean models?"),
        ("[tool.lazymig]\nx = 1\n", "there is no setting 'x'; there are models, uri, alias, app"),
        ("[tool.lazymig]\nuri = 5\n", "uri is 5; write a string"),
        ("[tool.lazymig]\nmodels = [5]\n", "models is [5]; write a string or a list of strings"),
        ("[tool]\nlazymig = 5\n", "tool.lazymig is no table; write [tool.lazymig]"),
        ("[tool.lazymig\n", "pyproject.toml is no TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, told):
    """What is wrong in the file is named, with the remedy."""
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(Misuse) as caught:
        load_settings({}, {}, tmp_path)
    assert told in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """A folder in the file's place is an error, not a file that is not there."""
    (tmp_path / "lazymig.toml").mkdir()
    with pytest.raises(Misuse, match=r"lazymig\.toml cannot be read"):
        load_settings({}, {}, Path(tmp_path))


def test_settings_do_not_show_the_connection_string():
    """A connection string has a password, so it is in no repr."""
    assert "secret" not in repr(Settings(uri="mongodb://ada:secret@host/db"))
