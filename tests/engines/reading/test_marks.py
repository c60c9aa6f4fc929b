"""Marks: whether an engine has been at work on a collection since a moment."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from lazymig.engines.reading.marks import Mark, marks_writes
from tests.support.forking import PATIENCE, forking, in_child


class Work:
    """Something that may write to a collection."""

    def __init__(self, name):
        self.collection = SimpleNamespace(full_name=name)

    @marks_writes
    def run(self, during):
        """Do what is asked for."""
        return during()


@pytest.fixture
def work(request):
    """Work on a collection of the test's own."""
    return Work(request.node.nodeid)


def test_work_disturbs_marks_of_its_collection(work):
    """A mark is disturbed by work on its collection, during it and after, and by no other."""
    mark = Mark(work.collection)
    Work("another").run(lambda: None)
    assert mark.is_undisturbed

    assert not work.run(lambda: mark.is_undisturbed)

    assert not mark.is_undisturbed
    assert Mark(work.collection).is_undisturbed


def test_a_mark_amid_work_is_disturbed(work):
    """A mark that is set while work is under way is disturbed, also when the work has ended."""
    marks = work.run(lambda: [Mark(work.collection)])

    assert not marks[0].is_undisturbed


def test_work_that_fails_has_ended(work):
    """After work that raised, new marks are undisturbed."""
    with pytest.raises(ZeroDivisionError):
        work.run(lambda: 1 / 0)

    assert Mark(work.collection).is_undisturbed


def test_work_of_several_threads(work):
    """Nothing is lost where many threads work at once."""

    def run():
        for _ in range(500):
            work.run(lambda: None)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Mark(work.collection).is_undisturbed


class TestForks:
    """Marks in a forked process."""

    pytestmark = forking

    def test_work_of_another_thread_stays_with_the_parent(self, work):
        """A child's marks are disturbed by no work that another thread of its parent was at."""
        begun, go_on = threading.Event(), threading.Event()

        def wait():
            begun.set()
            assert go_on.wait(PATIENCE)

        thread = threading.Thread(target=work.run, args=(wait,))
        thread.start()
        try:
            assert begun.wait(PATIENCE)
            assert in_child(lambda: str(Mark(work.collection).is_undisturbed)) == "True"
            assert not Mark(work.collection).is_undisturbed
        finally:
            go_on.set()
            thread.join()

    def test_work_of_the_thread_that_forks_goes_on(self, work):
        """Work of the thread that forks disturbs marks of the child, until it has ended there."""

        def fork():
            return in_child(lambda: str(Mark(work.collection).is_undisturbed))

        assert work.run(fork) == "False"
        assert in_child(lambda: str(Mark(work.collection).is_undisturbed)) == "True"
