"""The command: which benchmarks, how often, how large; the table, and the figures as JSON."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mongoengine
from pymongo.database import Database

from benchmarks import bulk, importing, loading, queries, runs
from benchmarks.data import ALIAS
from benchmarks.measure import Benchmark, Row, measured
from tests.support.server import CLIENT_OPTIONS, running_server

__all__ = ["BENCHMARKS", "connected", "main"]

BENCHMARKS: dict[str, Callable[[Database[Any], float], Benchmark]] = {
    "import": importing.importing,
    "iterate": loading.iterating,
    "iterate-wide": loading.iterating_wide,
    "no-rules": loading.without_rules,
    "get": loading.getting,
    "stale": loading.iterating_stale,
    "bulk-static": bulk.static_bulk,
    "bulk-computed": bulk.computed_bulk,
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
}


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
    """Measure, print a line for each comparison, and write the JSON file that is asked for."""
    options = _options(arguments)
    rows: list[Row] = []
    print(_line("what", "against", "ratio", "best", "limit", "", "medians"))
    with running_server() as uri:
        for name in options.names or BENCHMARKS:
            with connected(uri) as database:
                benchmark = BENCHMARKS[name](database, options.scale)
                for row in measured(benchmark, options.repeat):
                    rows.append(row)
                    print(_formatted(row), flush=True)
    if options.json is not None:
        figures = [{**asdict(row), "verdict": row.verdict} for row in rows]
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Costs as ratios of medians; 'best' is the ratio of the fastest runs.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all)"
    )
    parser.add_argument("--repeat", type=int, default=11, help="timed turns (default: 11)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the documents (default: 1, all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    if options.repeat < 1:
        parser.error("--repeat is below 1; one timed turn is needed")
    return options


def _formatted(row: Row) -> str:
    medians = f"{row.seconds * 1000:.1f} ms / {row.seconds_against * 1000:.1f} ms"
    ratio, best, limit = (f"{value:.3f}" for value in (row.ratio, row.best, row.limit))
    return _line(row.what, row.against, ratio, best, limit, row.verdict, medians)


def _line(
    what: str, against: str, ratio: str, best: str, limit: str, verdict: str, medians: str
) -> str:
    return f"{what:<58} {against:<18} {ratio:>6} {best:>6} {limit:>6}  {verdict:<4}  {medians}"


if __name__ == "__main__":
    main()
