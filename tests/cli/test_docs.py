"""docs/cli.md has every command, option, setting, exit code and JSON key, and no other."""

from __future__ import annotations

import re

import click
import pytest

from lazymig.cli import failures
from lazymig.cli.commands import COMMON
from lazymig.cli.main import main
from lazymig.cli.settings import VARIABLES
from tests.cli.conftest import ROOT, schema_of
from tests.cli.test_program import commands

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = commands()

_NAMES = re.compile(r"`(--?[a-z-]+)`")
_KEYS = re.compile(r"`(\w+)`")
_SAME = re.compile(r"as `([\w\[\].]+)` of `lazymig (\w+)`")

each_command = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def sections() -> dict[str, str]:
    """The text of each heading, by heading."""
    parts = re.split(r"^##+ (.*)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(text: str, head: str) -> dict[str, str]:
    """The rows of the first table whose first column has this head."""
    _, found, rest = f"\n{text}".partition(f"\n| {head} |")
    rows: dict[str, str] = {}
    for line in rest.splitlines()[2:] if found else []:
        if not line.startswith("|"):
            break
        first, _, second = line.strip("| ").partition(" | ")
        rows[first] = second
    return rows


def section_of(words: tuple[str, ...]) -> str:
    """The section of a command."""
    arguments = [
        each.name.upper() if each.required else f"[{each.name.upper()}]"
        for each in COMMANDS[words].params
        if isinstance(each, click.Argument)
    ]
    return sections()[f"`{' '.join(['lazymig', *words, *arguments])}`"]


def common_names() -> set[str]:
    """The options that every command has."""
    command: object = lambda: 0  # noqa: E731
    for option in COMMON:
        command = option(command)
    names = {name for option in click.command()(command).params for name in option.opts}
    return names | {"--json", "--json-schema"}


def test_every_command_has_a_section():
    """There is a section for each command, and for nothing that is none."""
    found = [head for head in sections() if head.startswith("`lazymig ")]
    assert len(found) == len(COMMANDS)
    for words in COMMANDS:
        assert section_of(words).strip()


@each_command
def test_every_option_is_documented(words):
    """A command's table has its options, each with all of its names, and no other."""
    rows = table(section_of(words), "option")
    documented = [tuple(_NAMES.findall(first)) for first in rows]
    declared = [
        tuple(sorted(option.opts, key=len, reverse=True))
        for option in COMMANDS[words].params
        if isinstance(option, click.Option) and not common_names() & set(option.opts)
    ]
    assert documented == declared


@each_command
def test_defaults_are_documented(words):
    """A default that the help shows stands in the table, too."""
    rows = table(section_of(words), "option")
    for option in COMMANDS[words].params:
        if isinstance(option, click.Option) and option.show_default:
            (row,) = [text for first, text in rows.items() if f"`{option.opts[0]}`" in first]
            assert re.search(rf"\(`?{option.default}`?\)", row)


def test_the_options_of_all_commands_are_documented():
    """What all commands take has a table of its own."""
    rows = table(sections()["Settings"], "option")
    names = {name for first in rows for name in _NAMES.findall(first)}
    assert names == {*common_names(), "--help"}


def test_every_setting_is_documented():
    """Each key of the configuration file stands there with its variable and option."""
    rows = table(sections()["Settings"], "key")
    assert [first.strip("`") for first in rows] == list(VARIABLES)
    for first, text in rows.items():
        name = first.strip("`")
        assert text.startswith(f"`{VARIABLES[name]}` | `--{name}`")


def exit_codes() -> set[int]:
    """The exit codes that there are."""
    constants = {value for value in vars(failures).values() if type(value) is int}
    signals = {143}
    return {value for value in constants if value < 5 or value == 130} | signals


def test_every_exit_code_is_documented():
    """Each exit code that there is stands in the table."""
    rows = table(sections()["Exit codes"], "code")
    codes = {int(number) for first in rows for number in re.findall(r"\d+", first)}
    assert codes == exit_codes()


def test_the_help_names_settings_and_exit_codes():
    """The program's help says what wins, options first, and has every variable and exit code."""
    text = " ".join(main.get_help(click.Context(main)).split())
    settings, _, codes = text.partition("Exit codes:")
    codes = codes.partition("Options:")[0]
    order = ("options", *VARIABLES.values(), "lazymig.toml", "pyproject.toml")
    places = [settings.index(name, settings.index("Settings")) for name in order]
    assert places == sorted(places)
    assert {int(number) for number in re.findall(r"\d+", codes)} == exit_codes()


def objects(schema: dict, path: str = "") -> dict[str, dict]:
    """The objects with named keys in a schema, by their paths."""
    found: dict[str, dict] = {}
    for option in schema.get("anyOf", ()):
        found.update(objects(option, path))
    if "items" in schema:
        found.update(objects(schema["items"], f"{path}[]"))
    if "properties" in schema:
        found[path or "(top)"] = schema
        for key, value in schema["properties"].items():
            found.update(objects(value, f"{path}.{key}" if path else key))
    return found


@pytest.mark.parametrize("words", [words for words in COMMANDS if words != ("demo",)], ids=" ".join)
def test_every_key_is_documented(words):
    """A command's table has each object of its JSON with all of its keys, and no other."""
    rows = {first.strip("`"): text for first, text in table(section_of(words), "JSON").items()}
    wanted = objects(schema_of(*words))
    for path, text in rows.items():
        same = _SAME.search(text)
        if same:
            other = objects(schema_of(same[2]))
            assert wanted.pop(path) == other[same[1]]
            wanted = {
                each: keys for each, keys in wanted.items() if not each.startswith(f"{path}.")
            }
        else:
            assert set(_KEYS.findall(text)) == set(wanted.pop(path)["properties"])
    assert wanted == {}
