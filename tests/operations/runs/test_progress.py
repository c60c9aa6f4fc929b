"""How far a run is: the rate, the bar, the log lines, and whom a run reports to."""

from __future__ import annotations

import io
import logging
import re
import sys
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lazymig.errors import RunOptionError
from lazymig.operations.runs import progress as module
from lazymig.operations.runs.overall import Overall, PlannedRun
from lazymig.operations.runs.progress import Meter, Progress, ProgressBar, ProgressLog, reporter


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of this test."""
    return Clock()


AT_WORK = Progress(
    run_id=ObjectId(),
    model="User",
    collection="shop.user",
    scope="lazy",
    rule="migration01__add_enabled",
    position=1,
    rules=2,
    done=1_234_567,
    total=100_000_000,
    exact=False,
    matched=1_200_000,
    modified=1_199_999,
    quarantined=0,
    rate=12_345.6,
    eta=8000.4,
    seconds=100.0,
    waiting=None,
    finished=False,
)
NEXT = replace(AT_WORK, rule="migration02__rename", position=2, done=5, total=50, exact=True)


# --- the meter ----------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_last_half_minute(clock: Clock) -> None:
    """A change of pace shows in full after 30 seconds, and in part before."""
    meter = Meter(clock=clock)
    done = 0
    for _ in range(100):
        clock.now += 1
        done += 1000
        meter.note(done)
    assert meter.rate == pytest.approx(1000)
    for _ in range(15):
        clock.now += 1
        done += 100
        meter.note(done)
    assert meter.rate == pytest.approx(550, rel=0.02)
    for _ in range(15):
        clock.now += 1
        done += 100
        meter.note(done)
    assert meter.rate == pytest.approx(100)
    assert meter.eta(12_000) == pytest.approx(120)


def test_nothing_is_known_before_the_first_chunk(clock: Clock) -> None:
    """Without a chunk, or without time, there is no rate; without documents left, no time left."""
    meter = Meter(clock=clock)
    assert (meter.rate, meter.eta(5), meter.eta(0), meter.eta(-1)) == (0.0, None, 0.0, 0.0)
    meter.note(5)
    assert (meter.rate, meter.eta(5)) == (0.0, None)
    clock.now += 1
    meter.note(5)
    assert meter.rate == 5.0


def test_the_meter_stays_small(clock: Clock) -> None:
    """Thousands of chunks within the half minute are kept as a few samples, and still averaged."""
    meter = Meter(clock=clock)
    for done in range(10_000):
        clock.now += 0.001
        meter.note(done)
    assert len(meter._samples) <= 64
    assert meter.rate == pytest.approx(1000, rel=0.01)


def test_pauses_are_left_out(clock: Clock) -> None:
    """An hour in which the run waited neither lowers the rate nor makes the rest take longer."""
    meter = Meter(clock=clock)
    for done in (100, 200, 300):
        clock.now += 1
        meter.note(done)
        clock.now += 3600
        meter.pause(3600)
    assert meter.rate == pytest.approx(100)
    meter.pause(50)
    meter.note(300)
    assert meter.rate == pytest.approx(100)


def test_a_rule_begins_with_what_was_done_before(clock: Clock) -> None:
    """What an earlier session or rule has done is no work of this second."""
    meter = Meter(clock=clock)
    clock.now += 9
    meter.note(10**6)
    meter.restart(500)
    assert meter.rate == 0.0
    clock.now += 2
    meter.note(700)
    assert meter.rate == pytest.approx(100)


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.integers(0, 10**6), st.floats(0, 50)),
        min_size=1,
        max_size=300,
    )
)
def test_a_rate_lies_between_the_slowest_and_the_fastest(
    steps: list[tuple[float, int, float]],
) -> None:
    """Whatever the samples, the rate is one that occurred, and the meter stays small."""
    clock = Clock()
    meter = Meter(clock=clock)
    done, rates = 0, []
    for seconds, documents, paused in steps:
        clock.now += seconds + paused
        meter.pause(paused)
        done += documents
        meter.note(done)
        if seconds > 0.001:
            rates.append(documents / seconds)
        else:
            rates.extend([0.0, float("inf")])
    assert len(meter._samples) <= 64
    if meter.rate:
        assert min(rates) * 0.99 <= meter.rate <= max(rates) * 1.01


# --- the bar ------------------------------------------------------------------------------------


def _terminal(width: int = 80) -> tuple[io.StringIO, Console]:
    stream = io.StringIO()
    return stream, Console(
        file=stream, force_terminal=True, color_system=None, width=width, height=24
    )


def _screen(stream: io.StringIO) -> list[str]:
    """The lines that a terminal shows in the end, without those that are blank."""
    lines = [""]
    row = 0
    for text, code in re.findall(
        r"([^\x1b\n\r]+)|(\n|\r|\x1b\[[0-9;?]*[A-Za-z])", stream.getvalue()
    ):
        if text:
            lines[row] += text
        elif code == "\n":
            row += 1
            lines.extend([""] * (row + 1 - len(lines)))
        elif code.endswith("A"):
            row -= int(code[2:-1] or 1)
        elif code.endswith("K"):
            lines[row] = ""
    return [line.rstrip() for line in lines if line.strip()]


def test_each_rule_has_a_bar(clock: Clock) -> None:
    """Bars of rules that are done stay, with what came of them; the last one, too."""
    stream, console = _terminal()
    with ProgressBar(console, clock=clock) as bar:
        bar(AT_WORK)
        bar(replace(AT_WORK, done=10**8, total=10**8, exact=True, matched=99_000_000, eta=0.0))
        bar(NEXT)
        bar(replace(NEXT, done=0, total=0, finished=True))
    first, first_bar, second, second_bar = _screen(stream)
    assert first == "User: 1/2 migration01__add_enabled  matched 99.0M, modified 1.20M"
    assert re.fullmatch(r"━+ 100% +100M/100M 12\.3k/s +done", first_bar)
    assert second == "User: 2/2 migration02__rename  matched 1.20M, modified 1.20M"
    assert re.fullmatch(r"━+ 100% +0/0 12\.3k/s +done", second_bar)


def test_a_run_that_ends_early_leaves_its_bar(clock: Clock) -> None:
    """What was last reported is what stays on the terminal, drawn a moment ago or not."""
    stream, console = _terminal()
    bar = ProgressBar(console, clock=clock)
    bar(AT_WORK)
    bar(replace(AT_WORK, done=50_000_000, quarantined=3))
    bar.close()
    bar.close()
    assert len(_screen(stream)) == 2
    head, bar_row = _screen(stream)
    assert head.endswith("  matched 1.20M, modified 1.20M, quarantined 3")
    assert re.fullmatch(r"━+╸?━* +50% 50\.0M/~100M 12\.3k/s +2:13:20", bar_row)


def test_the_reason_of_a_wait_is_shown_at_once(clock: Clock) -> None:
    """A wait is drawn although the bar was drawn a moment ago; its line stays, and is emptied."""
    stream, console = _terminal()
    reason = "replication lag 12.0 s > max_replication_lag 5 s"
    with ProgressBar(console, clock=clock) as bar:
        bar(AT_WORK)
        bar(replace(AT_WORK, waiting=reason))
        assert _screen(stream)[2:] == [f"waiting: {reason}"]
        clock.now += 1
        for _ in range(2):
            drawn = len(stream.getvalue())
            clock.now += 1
            bar(AT_WORK)
            assert stream.getvalue()[drawn:].count("\n") == 2, "three lines, the last one blank"
        bar(replace(AT_WORK, waiting="[bold]paused[/bold]"))
    assert _screen(stream)[2:] == ["waiting: [bold]paused[/bold]"]


def test_nobody_who_pauses_a_run_commands_its_terminal(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The name of whoever asked for a pause is shown in one line, in the bar and in the log."""
    caplog.set_level(logging.INFO)
    asked = replace(AT_WORK, waiting="paused by \x1b]0;owned\x07\x1b[2J\u202eops\nmodified 0")
    shown = r"waiting: paused by \x1b]0;owned\x07\x1b[2J\u202eops modified 0"
    stream, console = _terminal()
    with ProgressBar(console, clock=clock) as bar:
        bar(asked)
    assert _screen(stream)[2:] == [shown]
    log = ProgressLog(clock=clock)
    clock.now += 10
    log(asked)
    assert caplog.messages[0].endswith(shown)


def test_a_bar_is_drawn_ten_times_a_second(clock: Clock) -> None:
    """Chunks of a millisecond do not each cost a drawing."""
    stream, console = _terminal()
    with ProgressBar(console, clock=clock) as bar:
        bar(AT_WORK)
        drawn = stream.getvalue()
        for _ in range(9):
            clock.now += 0.01
            bar(replace(AT_WORK, done=2_000_000))
        assert stream.getvalue() == drawn
        clock.now += 0.02
        bar(replace(AT_WORK, done=2_000_000))
        assert "2.00M" in stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "changes",
    [
        {"rule": ", ".join(f"migration{n:02}__something_long" for n in range(9)), "eta": 10**7},
        {"done": 99_999_999_999, "total": 99_999_999_999, "rate": 999_949.0, "rules": 10_000},
        {"matched": 10**9, "modified": 10**9, "quarantined": 10**5, "waiting": "because " * 40},
        {"done": 0, "total": 0, "rate": 0.0, "eta": None, "matched": 0, "modified": 0},
        {"done": 11, "total": 10},
        {"rule": "迁移" * 30},
    ],
)
def test_a_bar_fits_its_terminal(clock: Clock, width: int, changes: dict[str, Any]) -> None:
    """No row is longer than the terminal is wide, whatever is reported, and names are whole."""
    stream, console = _terminal(width)
    reported = replace(AT_WORK, **{"done": 50_000_000, **changes})
    with ProgressBar(console, clock=clock) as bar:
        bar(reported)
    lines = _screen(stream)
    assert max(map(cell_len, lines)) <= width
    bar_row = lines.pop(-2 if "waiting" in changes else -1)
    assert "━━" in bar_row or not changes.get("done", 1)
    assert reported.rule.replace(" ", "") in "".join(lines).replace(" ", "")


def test_a_bar_is_full_only_at_the_end(clock: Clock) -> None:
    """A share is rounded down: 100% is said of a rule that is done."""
    stream, console = _terminal()
    with ProgressBar(console, clock=clock) as bar:
        bar(replace(AT_WORK, done=99_999_999))
    assert " 99% " in _screen(stream)[1]


def test_a_bar_into_a_file_is_drawn_once(clock: Clock) -> None:
    """Without a terminal, each rule leaves its last picture and no control codes."""
    stream = io.StringIO()
    with ProgressBar(Console(file=stream, width=80), clock=clock) as bar:
        bar(AT_WORK)
        clock.now += 1
        bar(replace(AT_WORK, done=3_000_000))
        bar(NEXT)
    assert "\x1b" not in stream.getvalue()
    rows = stream.getvalue().splitlines()
    assert [row.split()[1] for row in rows[::2]] == ["1/2", "2/2"]
    assert len(rows) == 4


def test_a_bar_leaves_standard_output_alone(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a program prints meanwhile stays on its own output, and so do its streams."""
    former = sys.stdout, sys.stderr
    stream, console = _terminal()
    with ProgressBar(console, clock=clock) as bar:
        bar(AT_WORK)
        sys.stdout.write("a result\n")
        bar(NEXT)
    assert (sys.stdout, sys.stderr) == former
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in stream.getvalue()


def test_a_bar_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a console named, nothing of the bar comes to standard output."""
    with ProgressBar() as bar:
        bar(AT_WORK)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "migration01__add_enabled" in captured.err


def test_an_estimate_that_was_too_small_is_no_fault(clock: Clock) -> None:
    """More documents than were expected are 100%, not more."""
    stream, console = _terminal()
    with ProgressBar(console, clock=clock) as bar:
        bar(replace(AT_WORK, done=15, total=10))
    assert re.search(r" 100% +15/~10 ", _screen(stream)[1])


def test_a_terminal_that_is_gone_does_not_end_the_run(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A bar that cannot be drawn is given up with one warning."""

    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(5, "Input/output error")

    with ProgressBar(Console(file=Gone(), force_terminal=True), clock=clock) as bar:
        for report in (AT_WORK, NEXT, replace(NEXT, finished=True)):
            clock.now += 1
            bar(report)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# --- all runs of a call -------------------------------------------------------------------------


def _report(run: int, position: int, done: int, total: int, rules: int = 2) -> Progress:
    return replace(
        AT_WORK,
        model=f"Model{run}",
        position=position,
        rules=rules,
        done=done,
        total=total,
        exact=True,
        rate=10.0,
        eta=1.0,
    )


def test_all_rules_count_as_much_as_they_pass() -> None:
    """Documents are counted once for each rule; what is over is done, what is to come is not."""
    overall = Overall([PlannedRun(2, 100), PlannedRun(3, 1000), PlannedRun(1, 0)])
    assert (overall.total, overall.rules, overall.eta) == (3200, 6, None)
    overall.note(_report(0, 1, 40, 100))
    assert (overall.done, overall.position, overall.eta) == (40, 1, 316.0)
    overall.note(_report(0, 2, 50, 100))
    assert (overall.done, overall.position) == (150, 2)
    overall.begin(1)
    overall.note(_report(1, 2, 300, 1000, rules=3))
    assert (overall.done, overall.position, overall.eta) == (1500, 4, 170.0)


def test_runs_that_have_nothing_to_do_are_over() -> None:
    """A run that reports nothing, as one whose rules were applied before, holds nothing up."""
    overall = Overall([PlannedRun(2, 100), PlannedRun(1, 100)])
    overall.begin(1)
    overall.note(_report(1, 1, 100, 100, rules=1))
    assert (overall.done, overall.total, overall.eta, overall.position) == (300, 300, 0.0, 3)


def test_a_run_is_as_large_as_it_says() -> None:
    """What was estimated of a run gives way to what it reports, so that no share is above 1."""
    overall = Overall([PlannedRun(1, 10)])
    overall.note(_report(0, 2, 90, 90))
    assert (overall.done, overall.total) == (180, 180)
    overall.note(_report(0, 2, 95, 90))
    assert overall.done <= overall.total


def test_the_rate_that_was_known_last_counts() -> None:
    """A rule that has just begun has no rate yet; the time left is not unknown for that."""
    overall = Overall([PlannedRun(2, 100)])
    overall.note(_report(0, 1, 50, 100))
    overall.note(replace(_report(0, 2, 0, 100), rate=0.0, eta=None))
    assert overall.eta == 10.0


@pytest.mark.parametrize("width", [80, 140])
def test_one_bar_of_all_is_above_that_of_the_rule(clock: Clock, width: int) -> None:
    """At work there are two bars of one length; of a rule that is over its own one stays."""
    stream, console = _terminal(width)
    overall = Overall([PlannedRun(2, 100), PlannedRun(1, 100)])
    with ProgressBar(console, overall=overall, clock=clock) as bar:
        bar(_report(0, 1, 50, 100))
        above, all_bar, head, own_bar = _screen(stream)
        assert above == "all rules, 1 of 3"
        assert re.fullmatch(r"━+╸?━* +16% +50/~300 +10/s +0:00:25", all_bar)
        assert head.startswith("Model0: 1/2 migration01__add_enabled  matched")
        assert re.fullmatch(r"━+╸?━* +50% +50/100 +10/s +0:00:01", own_bar)
        assert all_bar.index("%") == own_bar.index("%")
        assert max(map(cell_len, (all_bar, own_bar))) <= width
        bar(_report(0, 2, 0, 100))
        assert [line for line in _screen(stream) if line.startswith("all rules")] == [
            "all rules, 2 of 3"
        ]


def test_one_rule_alone_has_one_bar(clock: Clock) -> None:
    """Where there is nothing to add up, the second bar would say the same."""
    stream, console = _terminal()
    with ProgressBar(console, overall=Overall([PlannedRun(1, 100)]), clock=clock) as bar:
        bar(_report(0, 1, 50, 100, rules=1))
        assert len(_screen(stream)) == 2


# --- the log ------------------------------------------------------------------------------------


def test_a_line_tells_everything(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Model, rule, documents, counts, rate, time left and why the run waits are in one line."""
    caplog.set_level(logging.INFO)
    log = ProgressLog(clock=clock)
    clock.now += 10
    log(replace(AT_WORK, waiting="paused by ops", match_rate=1170.0))
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        (
            "lazymig.operations.runs.progress",
            (
                "User.migration01__add_enabled (1 of 2): 1,234,567 of about 100,000,000 documents "
                "(1.2%), matched 1,200,000 at 1,170/s, modified 1,199,999, quarantined 0, "
                "12.3k documents/s, 2:13:20 left; waiting: paused by ops"
            ),
        )
    ]


def test_a_line_is_written_per_interval(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """However many chunks there are, one line comes in each interval."""
    caplog.set_level(logging.INFO)
    log = ProgressLog(10, clock=clock)
    for _ in range(95):
        clock.now += 1
        log(AT_WORK)
    assert len(caplog.records) == 9


def test_each_rule_ends_with_a_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A rule that is done gets a line at once, the last one too, and none twice."""
    caplog.set_level(logging.INFO)
    with ProgressLog(clock=clock) as log:
        log(AT_WORK)
        log(NEXT)
        log(NEXT)
        clock.now += 60
        log(replace(NEXT, done=50, finished=True))
    assert [re.findall(r"migration0\d|done", each.getMessage()) for each in caplog.records] == [
        ["migration01", "done"],
        ["migration02", "done"],
    ]


def test_a_run_that_ends_early_tells_where(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The last report is logged at the end, unless it was already."""
    caplog.set_level(logging.INFO)
    with ProgressLog(clock=clock) as log:
        clock.now += 60
        log(AT_WORK)
    assert len(caplog.records) == 1
    with ProgressLog(clock=clock) as log:
        log(AT_WORK)
        log(NEXT)
    assert len(caplog.records) == 3
    assert "2:13:20 left" in caplog.records[-1].getMessage()


# --- whom a run reports to ----------------------------------------------------------------------


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_no_progress_is_reported_to_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """None and False neither draw nor log."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "stderr", Terminal())
    for nothing in (None, False):
        with reporter(nothing) as report:
            report(AT_WORK)
    assert sys.stderr.getvalue() == ""
    assert caplog.records == []


def test_a_callable_is_given_each_report() -> None:
    """It gets what the run tells, nothing more; what it raises is let through."""
    told: list[Progress] = []
    with reporter(told.append) as report:
        report(AT_WORK)
        report(NEXT)
    assert told == [AT_WORK, NEXT]

    def stop(_: Progress) -> None:
        raise LookupError

    with pytest.raises(LookupError), reporter(stop) as report:
        report(AT_WORK)


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """True draws a bar on a terminal and closes it, after an error too; nothing is logged."""
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    def fail() -> None:
        with reporter(True) as report:
            report(AT_WORK)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert "migration01__add_enabled" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[?25h"), "the cursor is shown again"
    assert caplog.records == []


@pytest.mark.parametrize(
    ("stream", "term"), [(io.StringIO(), "xterm"), (Terminal(), "dumb"), (None, "xterm")]
)
def test_anything_else_gets_log_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: Any, term: str
) -> None:
    """True logs where standard error is a file, a terminal that cannot draw, or not there."""
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TERM", term)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with reporter(True) as report:
            report(replace(AT_WORK, finished=True))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("wrong", ["yes", 1, 0, object()])
def test_what_cannot_be_called_is_refused(wrong: Any) -> None:
    """A mistake in the option is told before anything is done."""
    with (
        pytest.raises(RunOptionError, match=r"^progress: .*; give True, or a function"),
        reporter(wrong),
    ):
        pass


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0"),
        (0.04, "0.0"),
        (99.94, "99.9"),
        (100, "100"),
        (123.4, "123"),
        (9_999.4, "9,999"),
        (9_999.6, "10.0k"),
        (99_949, "99.9k"),
        (99_951, "100k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (1_234_567, "1.23M"),
        (999_500_000, "1.00G"),
        (12_345_678_901, "12.3G"),
    ],
)
def test_a_number_takes_five_places(number: float, expected: str) -> None:
    """Numbers are cut to what can be read at a glance, and round up into the next unit."""
    assert module._short(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-:--:--"),
        (0, "0:00:00"),
        (59.6, "0:01:00"),
        (86_399, "23:59:59"),
        (90_061, "1d 01:01"),
    ],
)
def test_a_time_is_written_in_hours(seconds: float | None, expected: str) -> None:
    """Hours, minutes and seconds; from a day on, days, hours and minutes."""
    assert module._duration(seconds) == expected
