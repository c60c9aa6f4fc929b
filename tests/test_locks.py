"""Locks and forks: a child waits for no thread that its parent alone has."""

from __future__ import annotations

import ast
import pkgutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import lazymig
from lazymig import locks
from lazymig.engines.once.memory import Memory
from lazymig.locks import cached_property, new_event, new_lock
from tests.support.forking import PATIENCE, forking, in_child

PACKAGE = Path(lazymig.__file__).parent

# Names of the standard library that are, or have, a lock which a fork may leave locked.
LOCKING = {
    "functools": {"cached_property"},
    "queue": {"LifoQueue", "PriorityQueue", "Queue"},
    "threading": {
        *("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"),
        "Timer",
    },
}


def _types_in(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.AnnAssign(annotation=found) | ast.arg(annotation=ast.AST() as found):
            yield found
        case ast.FunctionDef(returns=ast.AST() as found):
            yield found
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, found]):
            yield found


def _made_elsewhere(tree: ast.AST) -> Iterator[str]:
    """The locks that a module makes; one that an annotation or `isinstance` names is none."""
    named = {
        id(inner) for node in ast.walk(tree) for each in _types_in(node) for inner in ast.walk(each)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in LOCKING.get(node.module or "", ()):
                    yield f"{node.lineno}: {node.module}.{alias.name}"
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in LOCKING.get(node.value.id, ())
            and id(node) not in named
        ):
            yield f"{node.lineno}: {node.value.id}.{node.attr}"


@contextmanager
def _held(*held: Any) -> Iterator[None]:
    """The time in which another thread holds these locks."""
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for each in held:
                stack.enter_context(each)
            ready.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield
    finally:
        done.set()
        thread.join()


def test_every_lock_is_made_by_the_module_for_it() -> None:
    """No module makes a lock, or what has one, but by `lazymig.locks`."""
    found = {
        str(path.relative_to(PACKAGE)): list(_made_elsewhere(ast.parse(path.read_text("utf-8"))))
        for path in PACKAGE.rglob("*.py")
    }
    assert found.pop("locks.py")
    assert {path: made for path, made in found.items() if made} == {}


@pytest.mark.parametrize(
    "source",
    [
        "lock = threading.Lock()",
        "make = threading.RLock",
        "from threading import Event",
        "event: threading.Event = threading.Event()",
        "@functools.cached_property\ndef name(self): ...",
        "from functools import cached_property",
        "jobs = queue.Queue()",
    ],
)
def test_a_lock_of_another_make_is_seen(source: str) -> None:
    """Every spelling of a lock that a fork may leave locked is found."""
    assert len(list(_made_elsewhere(ast.parse(source)))) == 1


class TestForks:
    """What a forked process finds."""

    pytestmark = forking

    def test_a_child_has_every_lock(self) -> None:
        """A child takes each lock that threads of its parent hold, of modules and of objects."""
        for module in pkgutil.walk_packages([str(PACKAGE)], "lazymig."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
        objects = [Memory(), new_lock(), new_event()]
        every = [getattr(each, "_cond", each) for each in locks._made]
        assert len(every) > len(objects)

        def take() -> str:
            return str(sum(each.acquire(blocking=False) for each in every))

        with _held(*every):
            assert in_child(take) == str(len(every))

    def test_a_child_can_set_an_event(self) -> None:
        """An event that a thread of the parent was about to wait for is set in the child."""
        event = new_event()
        with _held(event._cond):
            assert in_child(lambda: str(event.set() or event.is_set())) == "True"

    def test_a_child_keeps_what_it_holds(self) -> None:
        """What the thread that forks holds is held in the child as well, and is released there."""
        lock = new_lock()
        with lock:
            assert in_child(lambda: str(lock.release() or lock.acquire(blocking=False))) == "True"

    def test_a_child_has_the_properties_that_a_thread_computes(self) -> None:
        """A property is computed in the child where a thread of the parent computes another's."""
        begun, go_on = threading.Event(), threading.Event()

        class Slow:
            @cached_property
            def value(self) -> str:
                if threading.current_thread() is thread:
                    begun.set()
                    assert go_on.wait(PATIENCE)
                return "computed"

        thread = threading.Thread(target=lambda: Slow().value)
        thread.start()
        try:
            assert begun.wait(PATIENCE)
            assert in_child(lambda: Slow().value) == "computed"
        finally:
            go_on.set()
            thread.join()
