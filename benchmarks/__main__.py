"""The command: which benchmarks, how often, how large; table, verdict, and figures as JSON."""

from __future__ import annotations

import argparse
import json
import math
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mongoengine
from pymongo import MongoClient
from pymongo.database import Database

from benchmarks import (
    bulk,
    curves,
    importing,
    loading,
    loops,
    pending,
    queries,
    runs,
    shown,
    status,
)
from benchmarks.data import ALIAS
from benchmarks.machine import Circumstances, circumstances
from benchmarks.measure import Benchmark, Row, measured
from benchmarks.page import Measurement, Section, write_page
from lazymig.testing.mongod import EmbeddedServer
from tests.support.server import CLIENT_OPTIONS, running_server

__all__ = ["BENCHMARKS", "HEADLINES", "connected", "main"]

BENCHMARKS: dict[str, Callable[[Database[Any], float], Benchmark]] = {
    "import": importing.importing,
    "status": status.status,
    "iterate": loading.iterating,
    "iterate-wide": loading.iterating_wide,
    "no-rules": loading.without_rules,
    "get": loading.getting,
    "stale": loading.iterating_stale,
    "bulk-static": bulk.static_bulk,
    "bulk-computed": bulk.computed_bulk,
    "bulk-copy": loops.copying,
    "bulk-move": loops.moving,
    "bulk-list": loops.listing,
    "bulk-python": loops.hashing,
    "deprecated": bulk.deprecated,
    "run-static": runs.static_run,
    "run-computed": runs.computed_run,
    "run-workers": runs.worked_run,
    "query-built": queries.building,
    "query-many-rules": queries.many_rules,
    "query-iterate": queries.iterating,
    "query-first": queries.first,
    "query-limit": queries.limited,
    "query-get": queries.getting,
    "count-covered": queries.counting_covered,
    "count-missing": queries.counting_missing,
    "pending-find": pending.finding,
    "pending-sort": pending.sorting,
    "pending-write": pending.writing,
    "pending-sum": pending.summing,
    "pending-untouched": pending.untouched,
    "pending-growth": curves.growing,
    "pending-share": curves.sharing,
    "shown-order": shown.ordering,
    "shown-reverse": shown.reversing,
    "shown-group": shown.grouping,
}

# What users pay day by day: loads of new and of old documents, bulk runs, queries.
HEADLINES = (
    "iterate",
    "no-rules",
    "get",
    "stale",
    "bulk-static",
    "bulk-copy",
    "bulk-list",
    "bulk-python",
    "query-built",
    "query-iterate",
)


@contextmanager
def connected(uri: str) -> Iterator[Database[Any]]:
    """A fresh database, which MongoEngine knows under the alias of the benchmarks."""
    name = f"lazymig_benchmarks_{uuid.uuid4().hex}"
    client = mongoengine.connect(name, host=uri, alias=ALIAS, **CLIENT_OPTIONS)
    try:
        yield client[name]
    finally:
        client.drop_database(name)
        mongoengine.disconnect(ALIAS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line for each comparison, and write the files that are asked for."""
    options = _options(arguments)
    started = time.monotonic()
    # With the options of MongoDB itself and on disk, as in production.
    with running_server(EmbeddedServer()) as uri:
        around = _circumstances(uri)
        print(*around.lines(), f"seed {options.seed}", "", sep="\n")
        print(_line("what", "against", "ratio", "best", "limit", "", "medians"))
        sections = list(_measured(uri, options, started + options.seconds))
    rows = [row for section in sections for row in section.rows]
    verdict, seconds = _verdict(rows), time.monotonic() - started
    print(f"\n{verdict}; {seconds:.0f} s")
    if options.json is not None:
        figures = {
            **asdict(around),
            "seed": options.seed,
            "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
            "verdict": verdict,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.markdown is not None:
        measurement = Measurement(
            around, options.seed, options.scale, options.repeat, seconds, sections
        )
        write_page(options.markdown, measurement)


def _measured(uri: str, options: argparse.Namespace, ends: float) -> Iterator[Section]:
    """Do one benchmark after the other, and print the rows of each.

    :param ends: when the time for all of them is over.
    """
    names = _chosen(options)
    for number, name in enumerate(names):
        # What a benchmark leaves of its share of the time goes to those after it.
        begun = time.monotonic()
        share = (ends - begun) / (len(names) - number)
        make = BENCHMARKS[name]
        with connected(uri) as database:
            benchmark = make(database, options.scale)
            left = share - (time.monotonic() - begun)
            rows = measured(benchmark, options.repeat, options.seed, left)
        print(*map(_formatted, rows), sep="\n", flush=True)
        about = str(make.__doc__).partition("\n")[0]
        yield Section(name, make.__module__.rpartition(".")[2], about, rows, benchmark.plot)


def _circumstances(uri: str) -> Circumstances:
    client: MongoClient[Any]
    with MongoClient(uri, **CLIENT_OPTIONS) as client:
        return circumstances(str(client.server_info()["version"]))


def _chosen(options: argparse.Namespace) -> Sequence[str]:
    if options.names:
        names: Sequence[str] = options.names
        return names
    return tuple(BENCHMARKS) if options.all else HEADLINES


def _verdict(rows: Sequence[Row]) -> str:
    judged = [row for row in rows if row.limit is not None]
    over = [row.what for row in judged if row.verdict == "over"]
    if not over:
        return f"ok: all {len(judged)} rows with a limit are within it"
    return f"over: {len(over)} of {len(judged)} rows with a limit: {'; '.join(over)}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Costs as ratios of medians; 'best' is the ratio of the fastest runs.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which: {', '.join(BENCHMARKS)} (default: the main ones)",
    )
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="for all benchmarks together: fewer turns, three at least (default: no limit)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(2**32),
        help="repeat the order of an earlier run, which has printed its seed",
    )
    parser.add_argument("--repeat", type=int, default=11, help="timed turns (default: 11)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the documents (default: 1, all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write them as a page there as well, with plots in a folder images beside it",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    if options.repeat < 1:
        parser.error("--repeat is below 1; one timed turn is needed")
    return options


def _formatted(row: Row) -> str:
    medians = f"{row.seconds * 1000:.1f} ms / {row.seconds_against * 1000:.1f} ms"
    limit = "" if row.limit is None else f"{row.limit:.3f}"
    ratio, best = f"{row.ratio:.3f}", f"{row.best:.3f}"
    return _line(row.what, row.against, ratio, best, limit, row.verdict, medians)


def _line(
    what: str, against: str, ratio: str, best: str, limit: str, verdict: str, medians: str
) -> str:
    return f"{what:<58} {against:<18} {ratio:>6} {best:>6} {limit:>6}  {verdict:<4}  {medians}"


if __name__ == "__main__":
    main()
