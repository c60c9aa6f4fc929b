"""The benchmarks compare like with like: every side does the same work. No times are asserted."""

from __future__ import annotations

import gc
import json
import re
from xml.etree import ElementTree as ET

import pytest
from mongoengine import Document

from benchmarks.__main__ import BENCHMARKS, HEADLINES, connected, main
from benchmarks.measure import Benchmark, Comparison, Plot, Row, Side, measured
from benchmarks.plots import plotted

TINY = 0.002


@pytest.fixture(autouse=True)
def uncollected(monkeypatch):
    """No collection of garbage between turns: of all that a test process holds it takes seconds."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


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
    (row,) = measured(Benchmark("idle", sides, comparisons), repeat=3, seed=1)
    assert calls == ["prepare", "run"] * 4
    assert (row.ratio, row.best, row.seconds, row.verdict) == (0.0, 0.0, 0.0, "ok")


def test_time_is_short():
    """When the time is up, three turns have been timed and no more is begun."""
    calls = []
    measured(Benchmark("idle", (Side("one", lambda: calls.append(1)),), ()), 9, seed=1, seconds=0)
    assert len(calls) == 1 + 3


def test_order():
    """The order of the sides is that of the seed: the same again, and another with another seed."""

    def order_of(seed):
        calls = []
        sides = tuple(Side(name, lambda name=name: calls.append(name)) for name in "abc")
        measured(Benchmark("idle", sides, ()), repeat=20, seed=seed)
        return calls

    assert order_of(1) == order_of(1)
    assert order_of(1) != order_of(2)


def test_command(server_uri, monkeypatch, capsys, tmp_path):
    """The command prints circumstances, a line for each comparison and a verdict, and JSON."""
    monkeypatch.setenv("LAZYMIG_TEST_URI", server_uri)
    figures = tmp_path / "figures.json"
    words = ["--repeat", "1", "--scale", str(TINY), "--seed", "7", "--json", str(figures)]
    main(["get", "stale", *words])
    machine, versions, seed, _, _, *lines, _, verdict = capsys.readouterr().out.splitlines()
    written = json.loads(figures.read_text(encoding="utf-8"))
    rows = written["rows"]
    assert written["processor"] in machine
    assert all(f"{name} {version}" in versions for name, version in written["versions"].items())
    assert seed == "seed 7"
    assert len(lines) == len(rows) == 3
    assert all(line.startswith(row["what"]) for line, row in zip(lines, rows, strict=True))
    assert all(row["verdict"] in line for line, row in zip(lines, rows, strict=True))
    assert verdict.startswith(written["verdict"])


def test_page(server_uri, monkeypatch, capsys, tmp_path):
    """The page has machine, versions and scale, each row that was printed, and the plots."""
    monkeypatch.setenv("LAZYMIG_TEST_URI", server_uri)
    page = tmp_path / "page.md"
    words = ["--repeat", "1", "--scale", str(TINY), "--seed", "7", "--markdown", str(page)]
    main(["get", "pending-growth", *words])
    machine, versions, _, _, _, *lines, _, _ = capsys.readouterr().out.splitlines()
    written = page.read_text(encoding="utf-8")
    for each in (machine, versions, f"a scale of {TINY:g}", "seed 7"):
        assert each in written
    rows = re.findall(r"^\| (.+?) \| .+? \| \**[\d.]+\** \| ", written, re.MULTILINE)
    assert len(rows) == len(lines)
    assert all(line.startswith(what) for line, what in zip(lines, rows, strict=True))
    (shown,) = re.findall(r"!\[.+?\]\((.+?)\)", written)
    drawn = (tmp_path / shown).read_text(encoding="utf-8")
    assert "no rule indexes" in drawn


def test_plot():
    """A plot has a line for each curve, with a point at each place, the larger ratio higher."""
    rows = [
        Row("x", "y", ratio, ratio, None, 1.0, 1.0, curve, at)
        for curve, ratios in {"flat": (1.0, 1.0), "steep": (1.0, 90.0)}.items()
        for at, ratio in zip(("few", "many"), ratios, strict=True)
    ]
    others = [Row("z", "y", 5.0, 5.0, 2.0, 1.0, 1.0)]
    root = ET.fromstring(plotted(Plot("costs", "documents"), [*rows, *others]))
    texts = {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"costs", "documents", "few", "many", "flat", "steep", "1", "10"} <= texts
    dots = [
        (float(each.attrib["cx"]), float(each.attrib["cy"]))
        for each in root.iter("{http://www.w3.org/2000/svg}circle")
    ]
    (left, low), (right, same), (_, start), (_, high) = dots
    assert left < right
    assert low == same == start > high


def test_plot_of_nothing():
    """Rows of no curve make no plot."""
    with pytest.raises(ValueError, match="nothing to plot: costs"):
        plotted(Plot("costs", "documents"), [])


def test_verdicts():
    """A row without a limit has no verdict, and the verdict of all is that of the others."""
    assert Row("x", "y", 9.0, 9.0, None, 1.0, 1.0).verdict == ""
    assert Row("x", "y", 9.0, 9.0, 8.0, 1.0, 1.0).verdict == "over"


def test_headlines():
    """The main benchmarks are some of all."""
    assert set(HEADLINES) < set(BENCHMARKS)


@pytest.mark.parametrize("arguments", [["no-such"], ["--repeat", "0"]])
def test_command_refuses(arguments):
    """An unknown benchmark, or no turn at all, ends the command before anything is measured."""
    with pytest.raises(SystemExit):
        main(arguments)
