"""`lazymig status` as a whole process, against its imports and its database commands alone.

The imports are those of the program and of the names that models need. What the application's own
module takes, and the rules in it, is part of the judged side alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import bson
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from benchmarks.data import size
from benchmarks.importing import compiled
from benchmarks.measure import Benchmark, Comparison, Side
from lazymig.odm.plans import plan_for
from lazymig.operations.rule_indexes import build_indexes
from lazymig.reports.looks import Looks

__all__ = ["status"]

_ROOT = Path(__file__).parents[1]
_FULL = 10_000

_IMPORTS_AND_COMMANDS = """
import sys
import lazymig.cli.main, lazymig.cli.status
from lazymig import DocumentMigration, LazyMigrationMixin
import bson
from pymongo import MongoClient
uri, file = sys.argv[1:]
database = MongoClient(uri).get_default_database()
kept = 0
for command in bson.decode_file_iter(open(file, "rb")):
    database.command(command)
    kept += "update" in command
print(kept)
"""

# What the driver adds to each command.
_DRIVERS = frozenset({"lsid", "$db", "$clusterTime", "$readPreference", "txnNumber"})


class _Log(monitoring.CommandListener):
    def __init__(self) -> None:
        self.commands: list[Mapping[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.commands.append(
            {name: value for name, value in event.command.items() if name not in _DRIVERS}
        )

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


def status(database: Database[Any], scale: float) -> Benchmark:
    """Six models with 39 rules that have their indexes, and a few old documents."""
    # Only here: it defines models.
    from benchmarks.status_models import MODELS  # noqa: PLC0415

    count = size(_FULL, scale)
    for model in MODELS:
        collection = database[model._meta["collection"]]  # noqa: SLF001
        collection.insert_many(
            {"_id": number, "label": "Old"} if number % 10 == 0 else {"_id": number, "name": "new"}
            for number in range(count)
        )
        build_indexes(collection, plan_for(model.migration_handler, model))
    host, port = database.client.address or ("", 0)
    uri = f"mongodb://{host}:{port}/{database.name}?directConnection=true"
    replay = [sys.executable, "-c", _IMPORTS_AND_COMMANDS, uri, str(_recorded(uri, database.name))]
    call = [sys.executable, "-m", "lazymig", "status", "--uri", uri]
    return Benchmark(
        "status",
        (
            Side("status", partial(_models_told, [*call, "-m", "benchmarks.status_models"])),
            Side("imports and commands", partial(_number, replay)),
        ),
        (Comparison("lazymig status, 6 models, 39 rules", "status", "imports and commands", 1.3),),
        lambda: sorted(database.list_collection_names()),
    )


def _recorded(uri: str, name: str) -> Path:
    """A file with the commands of a look at all models."""
    from benchmarks.status_models import MODELS  # noqa: PLC0415

    log = _Log()
    client: MongoClient[Any]
    with MongoClient(uri, event_listeners=[log]) as client:
        looks = Looks()
        for model in MODELS:
            looks.at(model, client[name][model._meta["collection"]])  # noqa: SLF001
    sent = [each for each in log.commands if not {"hello", "endSessions"} & each.keys()]
    file = Path(compiled()) / f"{name}.bson"
    file.write_bytes(b"".join(map(bson.encode, sent)))
    return file


def _models_told(call: list[str]) -> int:
    return _output_of(call).count(b"documents left")


def _number(call: list[str]) -> int:
    return int(_output_of(call))


def _output_of(call: list[str]) -> bytes:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled(), "PYTHONPATH": str(_ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(call, env=environment, cwd=_ROOT, capture_output=True, check=True)
    return done.stdout
