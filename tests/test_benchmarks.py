"""The benchmarks compare like with like: every side does the same work. No times are asserted."""

from __future__ import annotations

import json

import pytest
from mongoengine import Document

from benchmarks.__main__ import BENCHMARKS, connected, main
from benchmarks.measure import Benchmark, Comparison, Side, measured

TINY = 0.002


def comparable(outcome):
    """An outcome with raw documents in place of instances."""
    if isinstance(outcome, list):
        return [comparable(item) for item in outcome]
    return outcome.to_mongo().to_dict() if isinstance(outcome, Document) else outcome


@pytest.mark.parametrize("name", BENCHMARKS)
def test_same_work(server_uri, name):
    """All sides of a benchmark give the same documents or counts and leave the same data."""
    with connected(server_uri) as database:
        benchmark = BENCHMARKS[name](database, TINY)
        found = {}
        for side in benchmark.sides:
            side.prepare()
            outcome = comparable(side.run())
            found[side.name] = (outcome, benchmark.left_behind())
    first, *others = found.values()
    assert first[0]
    assert first[1]
    assert others
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", ["stale", "bulk-static", "bulk-computed"])
def test_prepared_each_time(server_uri, name):
    """A benchmark that writes finds the old shape again before each turn."""
    with connected(server_uri) as database:
        benchmark = BENCHMARKS[name](database, TINY)
        for side in benchmark.sides:
            side.prepare()
            old = benchmark.left_behind()
            side.run()
            assert benchmark.left_behind() != old
            side.prepare()
            assert benchmark.left_behind() == old


def test_turns():
    """Each side runs once more than it is timed, prepared each time, and its factor counts."""
    calls = []
    sides = (
        Side("one", lambda: calls.append("run"), lambda: calls.append("prepare")),
        Side("other", lambda: None, factor=0.0),
    )
    comparisons = (Comparison("nothing", "other", "one", 0.5),)
    (row,) = measured(Benchmark("idle", sides, comparisons), repeat=3)
    assert calls == ["prepare", "run"] * 4
    assert (row.ratio, row.best, row.seconds, row.verdict) == (0.0, 0.0, 0.0, "ok")


def test_command(server_uri, monkeypatch, capsys, tmp_path):
    """The command prints a line for each comparison and writes the same rows as JSON."""
    monkeypatch.setenv("LAZYMIG_TEST_URI", server_uri)
    figures = tmp_path / "figures.json"
    main(["get", "stale", "--repeat", "1", "--scale", str(TINY), "--json", str(figures)])
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(figures.read_text(encoding="utf-8"))
    assert len(lines) == len(rows) + 1 == 4
    assert all(line.startswith(row["what"]) for line, row in zip(lines[1:], rows, strict=True))
    assert all(row["verdict"] in line for line, row in zip(lines[1:], rows, strict=True))


@pytest.mark.parametrize("arguments", [["no-such"], ["--repeat", "0"]])
def test_command_refuses(arguments):
    """An unknown benchmark, or no turn at all, ends the command before anything is measured."""
    with pytest.raises(SystemExit):
        main(arguments)
