"""What an import of lazymig loads, and what it leaves to the calls that need it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

IMPORTS = """
import json, sys
import mongoengine
before = set(sys.modules)
import lazymig
"""
DEFINES = """
from mongoengine import Document, IntField, StringField
from lazymig import ConvergenceWarning, DocumentMigration, LazyMigrationMixin, as_stored, once

class Rules(DocumentMigration):
    def migration01__static(self):
        self.target = {"count": {"$exists": False}}
        self.update = {"$set": {"count": 0}}

    def migration02__computed(self):
        self.target = {"words": {"$exists": False}}
        self.update = {"$set": {"words": str(self.doc["count"])}}

    @once
    def migration03__once(self):
        self.target = {"sent": {"$exists": False}}
        self.update = {"$set": {"sent": self.doc["_id"]}}

    def allmigration01__pipeline(self):
        self.target = {"half": {"$exists": False}}
        self.update = [{"$set": {"half": {"$divide": ["$count", 2]}}}]

class Post(LazyMigrationMixin, Document):
    count = IntField()
    words = StringField()
    sent = IntField()
    half = IntField()
    migration_handler = Rules
"""
TELLS = "print(json.dumps(sorted(set(sys.modules) - before)))"

# What runs, reports and programs need.
OF_COMMANDS = ("click", "jinja2", "rich", "tomli", "tomllib")
OF_OPERATORS = (
    "cli",
    "codegen",
    "demo",
    "operations.backup",
    "operations.runs",
    "reports",
    "testing",
)


def _loaded(folder: Path, *parts: str) -> set[str]:
    """The modules that a program has loaded beyond MongoEngine, in a process of its own."""
    # Rules are read from their source, so it is a file.
    program = folder / "program.py"
    program.write_text("\n".join((IMPORTS, *parts, TELLS)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_import_loads_errors_locks_and_signals_alone(tmp_path: Path) -> None:
    """`import lazymig` loads these alone of its own, and no library that MongoEngine does not."""
    loaded = _loaded(tmp_path)
    assert {name for name in loaded if name.startswith("lazymig.")} == {
        "lazymig.errors",
        "lazymig.locks",
        "lazymig.signals",
    }
    assert loaded & set(OF_COMMANDS) == set()


def test_a_model_loads_no_runs_and_no_reports(tmp_path: Path) -> None:
    """A model with rules of each kind is defined without what migrates or examines collections."""
    loaded = _loaded(tmp_path, DEFINES)
    assert loaded & set(OF_COMMANDS) == set()
    assert [
        name for name in loaded if name.startswith(tuple(f"lazymig.{x}" for x in OF_OPERATORS))
    ] == []


# What old documents, rules in Python and the indexes of rules need.
OF_OLD_DOCUMENTS = (
    "engines.computed",
    "engines.loads.attempt",
    "engines.loads.batch",
    "engines.loads.rounds",
    "engines.once",
    "engines.reading.id_store",
    "odm.indexes",
    "rules.rule_indexes",
    "rules.tracing",
)


def test_the_names_of_a_model_load_nothing_that_old_documents_need(tmp_path: Path) -> None:
    """The mixin and the handler are imported without what only migrates, or traces a rule."""
    loaded = _loaded(tmp_path, "from lazymig import DocumentMigration, LazyMigrationMixin")
    ready = tuple(f"lazymig.{name}" for name in OF_OLD_DOCUMENTS)
    assert [name for name in loaded if name.startswith(ready) or name == "sqlite3"] == []


@pytest.mark.parametrize("name", ["frobnicate", "migrate_all"])
def test_a_name_that_there_is_not(name: str) -> None:
    """A name that is not public is an AttributeError, as of any module, and has no home."""
    import lazymig

    assert set(lazymig._HOMES) < set(lazymig.__all__)
    with pytest.raises(AttributeError, match=f"module 'lazymig' has no attribute '{name}'"):
        getattr(lazymig, name)


def test_a_name_is_looked_up_once(tmp_path: Path) -> None:
    """A public name is listed at once, and an attribute of the package once it was asked for."""
    program = """
assert "diff" in dir(lazymig) and "diff" not in vars(lazymig)
found = lazymig.diff
assert vars(lazymig)["diff"] is found
"""
    assert "lazymig.reports.drift.diff" in _loaded(tmp_path, program)
