"""Packages that imitate MongoDB: the table of docs/mongomock.md is what really comes of each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ecosystem.stand_ins import PROBES, PYTHON_OF_MONGOECO
from tests.ecosystem.twins import needed

ROOT = Path(__file__).parents[2]

MODULES = {
    "mongomock": "mongomock",
    "mongomock-ng": "mongomock_ng",
    "mongoeco as a server": "mongoeco",
}


def _table() -> dict[str, dict[str, str]]:
    """The cells of the table, by package and row."""
    lines = (ROOT / "docs" / "mongomock.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    (head,) = (row for row in rows if row[1:] == list(MODULES))
    cells = [row for row in rows if len(row) == len(head) and row[0] in PROBES]
    assert [row[0] for row in cells] == list(PROBES)
    return {
        package: {row[0]: row[number] for row in cells}
        for number, package in enumerate(head[1:], start=1)
    }


def _outcomes(package: str) -> dict[str, str]:
    """The outcomes, from a process of its own: these packages warn of what they ignore."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ecosystem.stand_ins", package],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _import(module: str) -> None:
    if module == "mongoeco" and sys.version_info < PYTHON_OF_MONGOECO:
        pytest.skip("mongoeco needs Python 3.13")
    needed(module, module.replace("_", "-"), ((Warning, ""),))


@pytest.mark.parametrize("package", MODULES)
def test_what_works_on_a_package_is_what_the_docs_say(package: str) -> None:
    """Each cell is what became of the probe of its row: it works, or raises what stands there."""
    _import(MODULES[package])
    found = {
        name: outcome if outcome == "works" else f"`{outcome}`"
        for name, outcome in _outcomes(package).items()
    }
    assert found == _table()[package]


def test_everything_works_on_a_server(server_uri: str) -> None:
    """On MongoDB each probe works: what fails on a package is the package's."""
    assert set(_outcomes(server_uri).values()) == {"works"}


def test_mongoengine_itself_does_not_run_in_the_process_of_mongoeco() -> None:
    """With mongoeco's own client MongoEngine saves and iterates nothing, with lazymig or not."""
    _import("mongoeco")
    program = (
        "import mongoengine, mongoeco\n"
        "mongoengine.connect('t', mongo_client_class=lambda **_: mongoeco.MongoClient())\n"
        "class Item(mongoengine.Document):\n"
        "    n = mongoengine.IntField()\n"
        "for call in (Item(n=1).save, Item.objects.first, lambda: list(Item.objects)):\n"
        "    try:\n"
        "        call()\n"
        "    except TypeError:\n"
        "        print('TypeError')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["TypeError"] * 3
