"""What a bulk run may cost: when the next chunk may start, and how far the secondaries are."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import AutoReconnect, ExecutionTimeout, OperationFailure

from lazymig.errors import LazyMigError, RunOptionError
from lazymig.operations.throttling.limits import Limits
from lazymig.operations.throttling.replication_lag import LagWatch, lag_of_hello, lag_of_status
from lazymig.operations.throttling.throttle import PACING, Throttle, Wait
from tests.support.commands import CommandLog


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


@pytest.fixture
def new(clock: Clock) -> Callable[..., Throttle]:
    """A throttle without a server, by the test's clock."""
    return lambda **limits: Throttle(Limits(**limits), None, clock=clock)


def _sleep(throttle: Throttle, clock: Clock) -> float:
    """Sleep as the runner does, until the next chunk may start; give the seconds."""
    began = clock.now
    while (held := throttle.wait()) is not None:
        clock.now += held.seconds
    return clock.now - began


def _work(throttle: Throttle, clock: Clock, documents: int, seconds: float, **told: Any) -> None:
    clock.now += seconds
    throttle.worked(documents, seconds, **told)


# --- limits -------------------------------------------------------------------------------------


async def _coroutine() -> None:
    """No answer at all."""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(
            (option, value)
            for option in ("max_rate", "max_replication_lag", "max_latency", "nice")
            for value in (-1, "10", True, float("nan"), float("inf"), [1])
        ),
        ("throttle", "busy"),
        ("throttle", _coroutine),
        ("flag_file", ""),
        ("flag_file", b"/tmp/x"),
        ("flag_file", "a\0b"),
        ("flag_file", 3),
    ],
)
def test_a_limit_that_is_none_is_refused(option: str, value: Any) -> None:
    """The error names option and value, is a ValueError, and survives a process boundary."""
    with pytest.raises(RunOptionError) as caught:
        Limits(**{option: value})
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, LazyMigError)
    assert str(error).startswith(f"{option}: {value!r}")
    assert "; give " in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (RunOptionError, str(error), vars(error))


def test_zero_and_nothing_is_no_limit(clock: Clock, new: Callable[..., Throttle]) -> None:
    """A run without limits, or with all of them at 0, never waits and has chunks of any size."""
    names = ("max_rate", "max_replication_lag", "max_latency", "nice")
    for limits in ({}, dict.fromkeys(names, 0), dict.fromkeys(names)):
        throttle = new(**limits, throttle=None, flag_file=None)
        _work(throttle, clock, 10**9, 100.0, latency=100.0)
        assert (throttle.wait(), throttle.chunk_limit()) == (None, None)


# --- max_rate -----------------------------------------------------------------------------------


@given(
    rate=st.floats(0.1, 10_000),
    chunks=st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 20)), min_size=1, max_size=20),
)
def test_no_stretch_of_a_run_is_faster_than_max_rate(
    rate: float, chunks: list[tuple[int, float]]
) -> None:
    """Between any two starts of chunks, no more documents are matched than the time allows."""
    clock = Clock()
    throttle = Throttle(Limits(max_rate=rate), None, clock=clock)
    starts: list[tuple[float, int]] = []
    total = 0
    for documents, seconds in chunks:
        _sleep(throttle, clock)
        starts.append((clock.now, total))
        _work(throttle, clock, documents, seconds)
        total += documents
    _sleep(throttle, clock)
    starts.append((clock.now, total))
    for index, (began, before) in enumerate(starts):
        for ended, after in starts[index + 1 :]:
            # A millisecond is not slept for, but owed; seconds are floats.
            assert after - before <= rate * (ended - began + 0.0011) + 1e-6 * total


def test_max_rate_is_reached(clock: Clock, new: Callable[..., Throttle]) -> None:
    """Work that is faster than allowed is slowed down to the rate, and no further."""
    throttle = new(max_rate=100)
    began = clock.now
    for _ in range(50):
        _sleep(throttle, clock)
        _work(throttle, clock, 100, 0.01)
    _sleep(throttle, clock)
    assert clock.now - began == pytest.approx(50, abs=0.01)


def test_slow_work_saves_nothing_up(clock: Clock, new: Callable[..., Throttle]) -> None:
    """A run that was slower than allowed does not catch up on it."""
    throttle = new(max_rate=100)
    _work(throttle, clock, 1, 1000.0)
    assert throttle.wait() is None
    clock.now += 1000.0
    _work(throttle, clock, 300, 1.0)
    assert _sleep(throttle, clock) == pytest.approx(2.0, abs=0.002)


def test_the_chunks_of_workers_overlap(clock: Clock, new: Callable[..., Throttle]) -> None:
    """Chunks that were worked on at the same time are all counted, the time only once."""
    throttle = new(max_rate=100)
    _work(throttle, clock, 1000, 10.0)
    throttle.worked(1000, 10.0)
    assert throttle.wait() is not None
    clock.now += 1
    throttle.worked(100, 11.0)
    assert _sleep(throttle, clock) == pytest.approx(10.0, abs=0.002)


@pytest.mark.parametrize(("rate", "expected"), [(None, None), (2500.7, 2500), (1, 1), (0.2, 1)])
def test_a_chunk_holds_a_second_of_max_rate(
    new: Callable[..., Throttle], rate: float | None, expected: int | None
) -> None:
    """The next chunk is as large as one second allows, and never empty."""
    assert new(max_rate=rate).chunk_limit() == expected


def test_max_rate_can_be_changed_while_the_run_waits(
    clock: Clock, new: Callable[..., Throttle]
) -> None:
    """What is still owed is paid off at the new rate, and dropped without one."""
    throttle = new(max_rate=1)
    throttle.worked(100, 0.0)
    clock.now += 50
    throttle.change(max_rate=10)
    assert _sleep(throttle, clock) == pytest.approx(5, abs=0.01)
    throttle.worked(10_000, 0.0)
    throttle.change(max_rate=None)
    assert (throttle.wait(), throttle.chunk_limit()) == (None, None)
    throttle.change(max_rate=10, nice=0.5)
    assert (throttle.wait(), throttle.chunk_limit()) == (None, 10)


@pytest.mark.parametrize(
    "overrides", [{"max_rate": -1}, {"nice": 1, "max_speed": 2}, {"nice": 1, "max_rate": -1}]
)
def test_a_wrong_change_changes_nothing(
    new: Callable[..., Throttle], overrides: dict[str, Any]
) -> None:
    """An unknown name or a wrong value is refused, and the run keeps its limits."""
    throttle = new(max_rate=7)
    with pytest.raises(RunOptionError):
        throttle.change(**overrides)
    assert throttle.limits == Limits(max_rate=7)


# --- nice and max_latency -----------------------------------------------------------------------


def test_nice_sleeps_a_share_of_the_work(clock: Clock, new: Callable[..., Throttle]) -> None:
    """After each chunk the run sleeps so many times as long as the chunk took."""
    throttle = new(nice=0.5)
    assert throttle.wait() is None
    for seconds in (0.2, 7.0, 0.0):
        _work(throttle, clock, 10, seconds)
        assert _sleep(throttle, clock) == pytest.approx(seconds / 2, abs=0.002)


def test_slow_writes_make_the_run_wait_longer_each_time(
    clock: Clock, new: Callable[..., Throttle]
) -> None:
    """The wait doubles from 0.1 to 5 s while writes are slow; one chunk measures anew each time."""
    throttle = new(max_latency=0.2)
    slept = []
    for _ in range(8):
        _work(throttle, clock, 1, 0.01, latency=0.3)
        slept.append(round(_sleep(throttle, clock), 6))
        assert throttle.wait() is None
    assert slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0], abs=0.002)
    _work(throttle, clock, 1, 0.01, latency=0.2)
    assert throttle.wait() is None
    _work(throttle, clock, 1, 0.01, latency=0.3)
    assert _sleep(throttle, clock) == pytest.approx(0.1, abs=0.002)


def test_a_chunk_without_a_write_measures_nothing(
    clock: Clock, new: Callable[..., Throttle]
) -> None:
    """Without a latency told, the run neither waits anew nor forgets how slow the writes were."""
    throttle = new(max_latency=0.2)
    _work(throttle, clock, 1, 0.01, latency=0.3)
    _sleep(throttle, clock)
    _work(throttle, clock, 1, 0.01)
    assert throttle.wait() is None
    _work(throttle, clock, 1, 0.01, latency=0.3)
    assert _sleep(throttle, clock) == pytest.approx(0.2, abs=0.002)


# --- the callable and the flag file -------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, False, 0, "", 0.0, -3, float("nan")])
def test_an_answer_that_is_false_lets_the_run_go_on(
    new: Callable[..., Throttle], answer: object
) -> None:
    """Nothing, an empty reason and no seconds are no reason to wait."""
    assert new(throttle=lambda: answer).wait() is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("backup at work", "backup at work"), (True, "throttle asks to wait"), ([1], None)],
)
def test_an_answer_that_is_true_holds_the_run(
    new: Callable[..., Throttle], answer: object, reason: str | None
) -> None:
    """The run waits for as long as the answer is true, asks each second, and gives the reason."""
    answers = [answer, answer, ""]
    throttle = new(throttle=lambda: answers.pop(0))
    expected = Wait(reason or "throttle asks to wait", 1.0, "throttle")
    assert (throttle.wait(), throttle.wait(), throttle.wait()) == (expected, expected, None)
    assert answers == []


def test_a_number_is_slept_once_for_each_chunk(clock: Clock, new: Callable[..., Throttle]) -> None:
    """A callable that always gives seconds slows the run down; it does not stop it for ever."""
    asked = []
    throttle = new(throttle=lambda: asked.append(clock.now) or 2.5)
    for chunk in (1, 2, 3):
        assert _sleep(throttle, clock) == pytest.approx(2.5, abs=0.002)
        assert len(asked) == chunk
        _work(throttle, clock, 1, 0.1)


def test_the_callable_is_asked_last(clock: Clock, new: Callable[..., Throttle]) -> None:
    """What it answers holds at the moment at which the chunk starts, not before other waits."""
    asked = []
    throttle = new(max_rate=10, throttle=lambda: asked.append(clock.now))
    throttle.worked(50, 0.0)
    _sleep(throttle, clock)
    assert asked == [clock.now]


def test_what_the_callable_raises_is_let_through(new: Callable[..., Throttle]) -> None:
    """A broken callable does not go unnoticed."""

    def broken() -> object:
        raise LookupError("no metrics")

    with pytest.raises(LookupError, match="no metrics"):
        new(throttle=broken).wait()


@pytest.mark.parametrize("kind", [str, Path])
def test_the_run_waits_while_the_flag_file_exists(
    new: Callable[..., Throttle], tmp_path: Path, kind: type
) -> None:
    """The file is looked for each time; what is no folder holds no file."""
    flag = tmp_path / "hold"
    throttle = new(flag_file=kind(flag))
    assert throttle.wait() is None
    flag.touch()
    assert throttle.wait() == Wait(f"flag file {flag} exists", 1.0, "flag_file")
    throttle.change(flag_file=str(flag / "in a file"))
    assert throttle.wait() is None
    throttle.change(flag_file=flag)
    flag.unlink()
    assert throttle.wait() is None


def test_a_flag_file_that_cannot_be_looked_for_holds_the_run(
    new: Callable[..., Throttle], tmp_path: Path
) -> None:
    """Where it cannot be known whether the file is there, the run stays on the safe side."""
    held = new(flag_file=tmp_path / ("x" * 300)).wait()
    assert held is not None
    assert held.reason.startswith("flag file cannot be looked for: ")


# --- all waits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "limit", "reason"),
    [
        ("max_rate", 50, "max_rate 50 matching documents/s"),
        ("nice", 0.5, "nice 0.5"),
        ("max_latency", 0.5, "write latency 2.00 s > max_latency 0.5 s"),
        ("throttle", lambda: 90, "throttle asks to wait 90 s"),
        ("throttle", lambda: "hold on", "hold on"),
    ],
)
def test_every_wait_gives_its_kind_and_reason(
    clock: Clock, new: Callable[..., Throttle], kind: str, limit: Any, reason: str
) -> None:
    """A wait names the limit and its value, and never lasts over a second before the next look."""
    throttle = new(**{kind: limit})
    _work(throttle, clock, 100_000, 100.0, latency=2.0)
    held = throttle.wait()
    assert held is not None
    assert (held.kind, held.reason) == (kind, reason)
    assert 0 < held.seconds <= 1
    assert {each for each in ("max_rate", "nice") if each in PACING} == PACING


def test_waits_overlap(clock: Clock, new: Callable[..., Throttle]) -> None:
    """Two limits that hold the run at the same time cost the longer of the two waits."""
    throttle = new(max_rate=10, nice=2)
    _work(throttle, clock, 60, 1.0)
    assert _sleep(throttle, clock) == pytest.approx(5, abs=0.01)
    _work(throttle, clock, 10, 2.0)
    assert _sleep(throttle, clock) == pytest.approx(4, abs=0.01)


def test_the_time_slept_is_added_up_by_kind(new: Callable[..., Throttle]) -> None:
    """Each kind has its sum, kinds of the runner's own too; the answer is a copy."""
    throttle = new()
    assert throttle.waited == {}
    throttle.slept("nice", 0.25)
    throttle.slept("paused", 4.0)
    throttle.slept("nice", 0.5)
    throttle.waited["nice"] = 99.0
    assert throttle.waited == {"nice": 0.75, "paused": 4.0}


# --- replication lag ----------------------------------------------------------------------------


def _at(minute: int, second: int) -> datetime:
    return datetime(2026, 11, 21, 1, minute, second)


def _member(
    number: int, state: int, name: str, optime: datetime | None, health: float = 1.0
) -> dict[str, Any]:
    member = {
        "_id": number,
        "name": f"127.0.0.1:{27217 + number}",
        "health": health,
        "state": state,
        "stateStr": name,
        "uptime": 49,
        "configVersion": 1,
    }
    return member if optime is None else {**member, "optimeDate": optime}


# What a MongoDB 6.0 with a delayed member (3) and an arbiter (4) answered: in `LAGGING` the member
# 1 applies nothing, in `DOWN` it was killed.
LAGGING = {
    "set": "lag",
    "date": datetime(2026, 11, 21, 1, 10, 22, 893000),
    "myState": 1,
    "term": 1,
    "heartbeatIntervalMillis": 2000,
    "members": [
        {**_member(0, 1, "PRIMARY", _at(10, 21)), "self": True},
        _member(1, 2, "SECONDARY", _at(9, 59)),
        _member(2, 2, "SECONDARY", _at(10, 21)),
        _member(3, 2, "SECONDARY", _at(9, 59)),
        _member(4, 7, "ARBITER", None),
    ],
    "ok": 1.0,
}
DOWN = {
    **LAGGING,
    "members": [
        {**_member(0, 1, "PRIMARY", _at(10, 43)), "self": True},
        _member(1, 8, "(not reachable/healthy)", datetime(1970, 1, 1), health=0.0),
        _member(2, 2, "SECONDARY", _at(10, 43)),
        _member(3, 2, "SECONDARY", _at(9, 59)),
        _member(4, 7, "ARBITER", None),
    ],
}
CONFIG = {
    "config": {
        "_id": "lag",
        "version": 1,
        "members": [
            {"_id": number, "host": f"127.0.0.1:{27217 + number}", "secondaryDelaySecs": delay}
            for number, delay in enumerate((0, 0, 0, 3600, 0))
        ],
    },
    "ok": 1.0,
}
HELLO = {
    "hosts": ["127.0.0.1:27217", "127.0.0.1:27218", "127.0.0.1:27219"],
    "setName": "lag",
    "isWritablePrimary": True,
    "lastWrite": {"lastWriteDate": _at(10, 29), "majorityWriteDate": _at(9, 59)},
    "ok": 1.0,
}
STANDALONE = {"isWritablePrimary": True, "maxWireVersion": 17, "readOnly": False, "ok": 1.0}
MONGOS = {"isWritablePrimary": True, "msg": "isdbgrid", "maxWireVersion": 17, "ok": 1.0}

NO_REPLICATION = OperationFailure("not running with --replSet", 76)
NOT_PERMITTED = OperationFailure("not authorized on admin to execute command", 13)


def _with_states(status: dict[str, Any], states: dict[int, int]) -> dict[str, Any]:
    members = [
        {**each, "state": states.get(each["_id"], each["state"])} for each in status["members"]
    ]
    return {**status, "members": members}


@pytest.mark.parametrize(
    ("status", "delays", "expected"),
    [
        (LAGGING, None, 22.0),
        (LAGGING, {1: 3600.0}, 22.0),
        (LAGGING, {1: 20.0, 3: 3600.0}, 2.0),
        (DOWN, None, 44.0),
        (DOWN, {3: 3600.0}, 0.0),
        # Members that recover (3), start (5) or roll back (9) are not behind, they are away.
        (_with_states(LAGGING, {1: 3, 3: 5}), None, 0.0),
        (_with_states(LAGGING, {1: 9}), {3: 1.0}, 21.0),
        (_with_states(LAGGING, {0: 2}), None, None),
        ({**LAGGING, "members": LAGGING["members"][:1]}, None, 0.0),
        # For a moment after an election, two members call themselves primary.
        (_with_states(LAGGING, {1: 1, 2: 1}), None, 22.0),
        ({"ok": 1.0}, None, None),
    ],
)
def test_the_lag_is_that_of_the_slowest_secondary(
    status: dict[str, Any], delays: Any, expected: float | None
) -> None:
    """Only secondaries count, less their delay; without a primary there is nothing to compare."""
    assert lag_of_status(status, delays) == expected


def test_a_secondary_is_never_ahead() -> None:
    """A lag is never negative, neither by the order of the answers nor by a delay."""
    ahead = {**LAGGING, "members": [_member(0, 1, "P", _at(1, 0)), _member(1, 2, "S", _at(1, 1))]}
    assert lag_of_status(ahead) == 0.0
    last = {"lastWriteDate": _at(1, 0), "majorityWriteDate": _at(1, 1)}
    assert lag_of_hello({**HELLO, "lastWrite": last}) == 0.0


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (HELLO, 30.0),
        (STANDALONE, None),
        (MONGOS, None),
        ({**HELLO, "lastWrite": {"lastWriteDate": _at(10, 29)}}, None),
    ],
)
def test_the_lag_of_a_majority_is_in_hello(hello: dict[str, Any], expected: float | None) -> None:
    """It is the time between the newest write and the newest that a majority has."""
    assert lag_of_hello(hello) == expected


class Server:
    """Answers commands from a table; an exception in it is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def command(self, name: str) -> Any:
        """Answer one command."""
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_lag_is_asked_once_per_second(clock: Clock) -> None:
    """However often it is looked at, one command per second is sent."""
    server = Server(replSetGetStatus=LAGGING)
    watch = LagWatch(server.command, clock=clock)
    for _ in range(31):
        assert watch.seconds(60) == 22.0
        clock.now += 0.1
    assert server.asked == ["replSetGetStatus"] * 4


def test_a_server_that_answers_slowly_gets_its_rest(clock: Clock) -> None:
    """The second begins with the answer."""

    def slow(_name: str) -> Any:
        clock.now += 3
        return LAGGING

    watch = LagWatch(slow, clock=clock)
    assert watch.seconds(60) == 22.0
    assert watch.until_asked() == 1.0


def test_a_delayed_member_does_not_hold_the_run_for_ever(clock: Clock) -> None:
    """The delays are asked for when the lag is too large, and are no lag."""
    server = Server(replSetGetStatus=DOWN, replSetGetConfig=CONFIG)
    watch = LagWatch(server.command, clock=clock)
    assert watch.seconds(60) == 44.0
    clock.now += 1
    assert watch.seconds(5) == 0.0
    assert server.asked == ["replSetGetStatus", "replSetGetStatus", "replSetGetConfig"]


def test_delays_that_are_not_told_are_none(clock: Clock) -> None:
    """Where the configuration may not be read, every member counts in full."""
    server = Server(replSetGetStatus=LAGGING, replSetGetConfig=NOT_PERMITTED)
    assert LagWatch(server.command, clock=clock).seconds(5) == 22.0


def test_a_delay_is_known_by_its_old_name(clock: Clock) -> None:
    """Before MongoDB 5.0 the configuration says slaveDelay."""
    members = [{"_id": 1, "slaveDelay": 3600}, {"_id": 3, "slaveDelay": 3600}]
    server = Server(replSetGetStatus=LAGGING, replSetGetConfig={"config": {"members": members}})
    assert LagWatch(server.command, clock=clock).seconds(5) == 0.0


def test_hello_is_asked_where_the_status_is_not_permitted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to replSetGetStatus, the lag of the majority counts; it is asked once."""
    caplog.set_level(logging.WARNING)
    server = Server(replSetGetStatus=NOT_PERMITTED, hello=HELLO)
    watch = LagWatch(server.command, clock=clock)
    assert watch.seconds(5) == 30.0
    clock.now += 1
    assert watch.seconds(5) == 30.0
    assert server.asked == ["replSetGetStatus", "hello", "hello"]
    assert caplog.records == []


@pytest.mark.parametrize("hello", [STANDALONE, MONGOS, NOT_PERMITTED])
def test_a_server_without_lag_is_warned_of_once(
    clock: Clock, caplog: pytest.LogCaptureFixture, hello: Any
) -> None:
    """Where nothing tells the lag, the limit steps aside, says so once, and asks no more."""
    server = Server(replSetGetStatus=NO_REPLICATION, hello=hello)
    watch = LagWatch(server.command, clock=clock)
    for _ in range(3):
        assert watch.seconds(5) is None
        clock.now += 1
    assert server.asked == ["replSetGetStatus", "hello"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "max_replication_lag is not watched" in caplog.text


def test_a_stand_in_is_warned_of_once(
    clock: Clock, mock_db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """On mongomock, the limit steps aside and says so once."""
    for stand_in in (mock_db["c"], mock_db, mock_db.client):
        caplog.clear()
        throttle = Throttle(Limits(max_replication_lag=5), stand_in, clock=clock)
        for _ in range(3):
            assert throttle.wait() is None
            clock.now += 1
        assert len(caplog.records) == 1


@pytest.mark.parametrize("away", [AutoReconnect("gone"), ExecutionTimeout("slow", 50)])
def test_a_server_that_is_away_tells_no_lag_this_time(
    clock: Clock, caplog: pytest.LogCaptureFixture, away: Exception
) -> None:
    """The run goes on to its own write, which knows what to do; the lag is asked again later."""
    caplog.set_level(logging.WARNING)
    server = Server(replSetGetStatus=away)
    watch = LagWatch(server.command, clock=clock)
    assert watch.seconds(60) is None
    server.answers["replSetGetStatus"] = LAGGING
    clock.now += 1
    assert watch.seconds(60) == 22.0
    assert caplog.records == []


def test_the_run_waits_until_the_secondaries_have_caught_up(
    clock: Clock, new: Callable[..., Throttle]
) -> None:
    """Lag and limit are in the reason; the run asks again after a second and goes on by itself."""
    throttle = new(max_replication_lag=5)
    server = Server(replSetGetStatus=LAGGING, replSetGetConfig=CONFIG)
    throttle._lag = LagWatch(server.command, clock=clock)
    reason = "replication lag 22.0 s > max_replication_lag 5 s"
    assert throttle.wait() == Wait(reason, 1.0, "max_replication_lag")
    clock.now += 0.25
    assert throttle.wait() == Wait(reason, 0.75, "max_replication_lag")
    server.answers["replSetGetStatus"] = DOWN
    clock.now += 0.75
    assert throttle.wait() is None
    throttle.change(max_replication_lag=44)
    server.answers["replSetGetConfig"] = NOT_PERMITTED
    clock.now += 1
    assert throttle.wait() is None
    throttle.change(max_replication_lag=None)
    clock.now += 5
    asked = len(server.asked)
    assert throttle.wait() is None
    assert len(server.asked) == asked


def test_the_server_tells_its_lag(server_uri: str, database: Database[Any]) -> None:
    """What the real server answers is understood: by the status, and by hello."""
    database["c"].insert_one({})
    admin = database.client["admin"]
    if "setName" not in admin.command("hello"):
        pytest.skip("the server of the tests belongs to no replica set")
    by_status = lag_of_status(admin.command("replSetGetStatus"))
    by_hello = lag_of_hello(admin.command("hello"))
    assert by_status is not None
    assert by_hello is not None
    assert min(by_status, by_hello) >= 0


def test_the_lag_is_asked_on_admin_only_if_it_is_limited(
    database: Database[Any], command_log: CommandLog, clock: Clock
) -> None:
    """A client, a database and a collection lead to the server; without a limit nothing is sent."""
    client = command_log.client
    for source in (client, client[database.name], client[database.name]["c"]):
        throttle = Throttle(Limits(max_replication_lag=1000), source, clock=clock)
        assert throttle.wait() is None
        assert (command_log.names[0], command_log.commands[0][1]["$db"]) == (
            "replSetGetStatus",
            "admin",
        )
        command_log.clear()
        throttle.change(max_replication_lag=0)
        clock.now += 10
        assert throttle.wait() is None
        assert command_log.names == []
