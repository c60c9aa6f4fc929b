"""The memory of a bulk run over a large collection, beside that of one over a small one.

`python -m benchmarks.memory [DOCUMENTS]` runs each kind of run in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import resource
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import mongoengine
from bson import ObjectId
from mongoengine import Document, IntField, StringField
from pymongo import MongoClient
from pymongo.database import Database

from benchmarks.data import Raw, restore
from lazymig import DocumentMigration, LazyMigrationMixin
from tests.support.server import CLIENT_OPTIONS, running_server

__all__ = ["main"]

_FULL = 1_000_000
_FEW = 10_000
_BATCH = 10_000
# The most that the large collection may take, as a share of what the small one does.
_LIMIT = 1.05
# Bytes in the unit of `ru_maxrss`.
_UNIT = 1 if sys.platform == "darwin" else 1024


class _Static(DocumentMigration):
    def allmigration01__open(self) -> None:
        self.target = {"state": {"$exists": False}}
        self.update = {"$set": {"state": "open"}}


class _Dynamic(DocumentMigration):
    def allmigration01__initial(self) -> None:
        self.target = {"initial": {"$exists": False}}
        self.update = {"$set": {"initial": self.doc["name"][:1]}}


class _Person(LazyMigrationMixin, Document):
    name = StringField()
    age = IntField()
    state = StringField()
    initial = StringField()
    digest = StringField()
    meta: ClassVar[Raw] = {"collection": "person", "auto_create_index": False}


class _Python(DocumentMigration):
    def allmigration01__digest(self) -> None:
        self.target = {"digest": {"$exists": False}}
        name = self.doc["name"]
        self.update = {"$set": {"digest": hashlib.sha256(name.encode()).hexdigest()}}


_HANDLERS: dict[str, Any] = {
    "static": _Static,
    "reads self.doc": _Dynamic,
    "computed in Python": _Python,
}
_KINDS = tuple(f"{handler}{option}" for option in ("", ", with backup") for handler in _HANDLERS)


def _person(number: int) -> Raw:
    return {"_id": ObjectId(f"{number:024x}"), "name": f"Person {number}", "age": number % 90}


def _fill(database: Database[Raw], count: int) -> None:
    """A template of so many old documents."""
    database["template"].drop()
    numbers = iter(range(1, count + 1))
    while batch := list(itertools.islice(numbers, _BATCH)):
        database["template"].insert_many(map(_person, batch))


def _run(kind: str, count: int) -> None:
    """One run over them."""
    handler, _, backup = kind.partition(", ")
    with tempfile.TemporaryDirectory(prefix="lazymig-benchmark-") as folder:
        options: Any = {"backup": Path(folder)} if backup else {}
        report = _HANDLERS[handler](_Person).migrate_all(again=True, **options)
    report.raise_for_errors()
    assert report.modified == count


def _peak() -> int:
    """The most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def _do(task: str, count: int, uri: str, name: str) -> None:
    """One task; the process ends with it."""
    client: MongoClient[Raw] = mongoengine.connect(name, host=uri, **CLIENT_OPTIONS)
    if task == "fill":
        _fill(client[name], count)
    else:
        _run(task, count)
    mongoengine.disconnect()
    print(_peak())


def _in_own_process(task: str, count: int, uri: str, name: str) -> int:
    """Do one task there; gives its peak memory in bytes."""
    options = ["--task", task, "--uri", uri, "--database", name]
    command = [sys.executable, "-m", "benchmarks.memory", str(count), *options]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(ended.stdout)


def _measured(uri: str, count: int) -> Iterator[tuple[str, int]]:
    """Each kind of run, with the peak of its process."""
    name = f"lazymig_benchmarks_{uuid.uuid4().hex}"
    client: MongoClient[Raw]
    with MongoClient(uri, **CLIENT_OPTIONS) as client:
        try:
            _in_own_process("fill", count, uri, name)
            for kind in _KINDS:
                restore(client[name]["template"], "person")
                yield kind, _in_own_process(kind, count, uri, name)
        finally:
            client.drop_database(name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a line for each kind of run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument(
        "documents", nargs="?", type=int, default=_FULL, help=f"how many (default: {_FULL})"
    )
    parser.add_argument("--task", choices=("fill", *_KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--uri", help=argparse.SUPPRESS)
    parser.add_argument("--database", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    count = options.documents
    if options.task is not None:
        _do(options.task, count, options.uri, options.database)
        return
    with running_server() as uri:
        few = min(_FEW, count)
        small = dict(_measured(uri, few))
        print(f"{'peak memory, MiB':<35} {few:>12,} {count:>12,} {'ratio':>8} {'limit':>6}")
        for kind, peak in _measured(uri, count):
            figures = f"{small[kind] / 2**20:>12.1f} {peak / 2**20:>12.1f}"
            ratio = peak / small[kind]
            verdict = "ok" if ratio <= _LIMIT else "over"
            print(f"{kind:<35} {figures} {ratio:>8.3f} {_LIMIT:>6}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
