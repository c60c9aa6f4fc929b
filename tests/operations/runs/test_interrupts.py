"""Ctrl-C and SIGTERM during a run: the first asks it to stop, the second acts at once."""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lazymig.operations.runs.interrupts import interruptible

BOTH = (signal.SIGINT, signal.SIGTERM)


pytestmark = pytest.mark.usefixtures("python_signals")


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in BOTH]


def _send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "expected", "again"),
    [
        (signal.SIGINT, KeyboardInterrupt, "press Ctrl-C again"),
        (signal.SIGTERM, SystemExit, "send it again"),
    ],
)
def test_the_first_signal_only_asks(
    caplog: pytest.LogCaptureFixture, number: signal.Signals, expected: type, again: str
) -> None:
    """It is noted and logged; delivered, it does what it would have done without us."""
    with interruptible() as interrupts:
        assert interrupts.requested is None
        _send(number)
        assert interrupts.requested == number.name
        assert interrupts.wait(60)
        assert interrupts.wait(60)
    assert [record.getMessage() for record in caplog.records] == [
        f"{number.name}: finishing the current chunk; {again} to break off at once"
    ]
    with pytest.raises(expected) as caught:
        interrupts.deliver()
    assert getattr(caught.value, "code", 143) == 143


def test_a_second_signal_acts_at_once() -> None:
    """The first one puts the former handlers back: a run that hangs can be broken off."""
    with interruptible() as interrupts:
        _send(signal.SIGTERM)
        assert _handlers() == [signal.default_int_handler, signal.SIG_DFL]
        with pytest.raises(KeyboardInterrupt):
            _send(signal.SIGINT)
    assert interrupts.requested == "SIGTERM"


def test_a_signal_within_the_handler_acts_at_once() -> None:
    """Two signals in one moment are two: the second is not swallowed, and nothing hangs."""
    with interruptible() as interrupts:
        _send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts._arrived(signal.SIGINT, None)


@pytest.mark.parametrize("seconds", [0, 0.001, -1])
def test_a_sleep_without_a_request_just_ends(seconds: float) -> None:
    """No signal, no request."""
    with interruptible() as interrupts:
        assert not interrupts.wait(seconds)


def test_a_signal_that_wakes_nobody_is_noticed_soon() -> None:
    """One that arrives just before the sleep begins ends it within a second."""
    naps: list[float] = []

    class Deaf:
        def get(self, timeout: float) -> None:
            naps.append(timeout)
            if len(naps) == 3:
                _send(signal.SIGINT)
            raise queue.Empty

        def put(self, _item: None) -> None:
            """Nobody is woken."""

    with interruptible() as interrupts:
        interrupts._wake = Deaf()  # type: ignore[assignment]
        assert interrupts.wait(600)
    assert len(naps) == 3
    assert max(naps) <= 1


def test_nothing_is_delivered_without_a_signal() -> None:
    """A run that was not interrupted goes on behind its end."""
    with interruptible() as interrupts:
        pass
    interrupts.deliver()


@pytest.mark.parametrize("number", BOTH)
def test_a_handler_of_the_application_is_called(number: signal.Signals) -> None:
    """It is called when the signal is delivered, not before, and may let the program go on."""
    calls = []
    signal.signal(number, lambda *arguments: calls.append(arguments))
    with interruptible() as interrupts:
        _send(number)
        assert calls == []
    interrupts.deliver()
    assert [called for called, _ in calls] == [number]
    assert calls[0][1].f_code.co_name == "deliver"


def test_ctrl_c_is_a_keyboard_interrupt_by_default_too() -> None:
    """Where SIGINT had the system's own handling, delivering it still unwinds the program."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with interruptible() as interrupts:
        _send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupts.deliver()


def test_the_former_handlers_are_put_back() -> None:
    """At the end, after an error, and not over a handler that was set meanwhile."""
    former = _handlers()
    with interruptible():
        assert former[0] not in _handlers()
        assert former[1] not in _handlers()
    assert _handlers() == former

    def fail() -> None:
        with interruptible():
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert _handlers() == former

    def another(*_: Any) -> None:
        """Set by somebody else."""

    with interruptible():
        signal.signal(signal.SIGTERM, another)
    assert _handlers() == [former[0], another]


def test_an_ignored_signal_stays_ignored() -> None:
    """Under nohup or in the background, a signal that the caller ignores asks for nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible() as interrupts:
        _send(signal.SIGINT)
        assert interrupts.requested is None
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        _send(signal.SIGTERM)
        assert interrupts.requested == "SIGTERM"


def test_a_run_within_a_run_passes_the_request_on() -> None:
    """The inner run is asked first; delivered, the signal asks the outer one."""
    with interruptible() as outer:
        with interruptible() as inner:
            _send(signal.SIGTERM)
            assert (inner.requested, outer.requested) == ("SIGTERM", None)
        inner.deliver()
        assert outer.requested == "SIGTERM"
    with pytest.raises(SystemExit):
        outer.deliver()


def test_another_thread_leaves_the_signals_alone() -> None:
    """Outside of the main thread no handler is set, and a sleep is just a sleep."""
    former = _handlers()
    found: list[Any] = []

    def run() -> None:
        with interruptible() as interrupts:
            found.extend((_handlers(), interrupts.wait(0.001), interrupts.requested))
        interrupts.deliver()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [former, False, None]


def test_no_thread_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """A run that ends without a signal leaves neither a thread nor a log line."""
    caplog.set_level(logging.DEBUG, logger="lazymig")
    before = threading.active_count()
    with interruptible():
        pass
    assert threading.active_count() == before
    assert caplog.records == []


RUN = """
import sys, threading
from lazymig.operations.runs.interrupts import interruptible

def tell_when_in(function):
    main = threading.main_thread().ident
    while sys._current_frames()[main].f_code is not function.__code__:
        pass
    print("ready", flush=True)

def hang():
    sys.stdin.read()

with interruptible() as interrupts:
    hangs = sys.argv[1] == "hang"
    place = hang if hangs else type(interrupts).wait
    threading.Thread(target=tell_when_in, args=(place,)).start()
    if hangs:
        hang()
    assert interrupts.wait(600)
    print("checkpoint", flush=True)
interrupts.deliver()
print("not reached", flush=True)
"""


@contextmanager
def _process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_a_process_ends_as_it_would_have_but_later(number: int, code: int) -> None:
    """Its sleep ends, the checkpoint is written, then it ends with the signal's own exit code."""
    with _process(RUN, "wait") as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "checkpoint\n")
    assert "finishing the current chunk" in err


@pytest.mark.parametrize("number", BOTH)
def test_a_process_that_hangs_is_ended_by_the_second_signal(number: int) -> None:
    """The first signal is logged while the chunk is still at work; the second one ends it."""
    with _process(RUN, "hang") as process:
        process.send_signal(number)
        assert process.stderr is not None
        assert "to break off at once" in process.stderr.readline()
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-number, "")


FORK = """
import os, signal
from lazymig.operations.runs.interrupts import interruptible

def child(number):
    told, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.write(told[1], b"x")
        os.read(go[0], 1)
        os._exit(7 if interrupts.requested is None else 8)
    os.read(told[0], 1)
    os.kill(pid, number)
    os.write(go[1], b"x")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

with interruptible() as interrupts:
    print("ready", flush=True)
    print(child(signal.SIGINT), child(signal.SIGTERM), interrupts.requested)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_worker_finishes_its_chunk_on_ctrl_c() -> None:
    """Ctrl-C reaches all processes of a terminal: workers leave it to the runner; SIGTERM acts."""
    with _process(FORK) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "7 -15 None\n"), err
