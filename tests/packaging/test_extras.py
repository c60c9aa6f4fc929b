"""Lazymig without the extra `lazymig[cli]`, and the line that names it where it is missing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lazymig import MissingExtra, ProgressBar, render_report, write_report
from lazymig.cli.failures import USAGE, described
from lazymig.operations.runs.progress import ProgressLog, reporter

ROOT = Path(__file__).parents[2]
LIBRARIES = ("click", "jinja2", "libcst", "rich", "tomli")
REMEDY = "which is not installed; run pip install 'lazymig[cli]'"


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the libraries of the extra is installed."""
    for name in LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)


def _without(library: str, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{library!r}] = None\n{program}"],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("library", ["click", "rich"])
@pytest.mark.parametrize(
    "program",
    [
        "import runpy; runpy.run_module('lazymig', run_name='__main__')",
        "from lazymig.__main__ import main; main()",
    ],
    ids=["module", "script"],
)
def test_the_program_names_the_extra(library: str, program: str) -> None:
    """Without one of its libraries the program is one line with the remedy, and exit code 2."""
    done = _without(library, program)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"lazymig: the command line needs {library}, {REMEDY}\n"


def test_models_and_loads_need_no_extra() -> None:
    """All that is public can be imported without the libraries of the extra."""
    blocked = f"sys.modules.update(dict.fromkeys({LIBRARIES!r}))"
    done = _without("click", f"{blocked}\nfrom lazymig import *")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("light")
def test_the_page_names_the_extra(tmp_path: Path) -> None:
    """A report without jinja2 is an error with the remedy, before anything is read or written."""
    for call in (lambda: render_report([]), lambda: write_report(tmp_path / "x.html", [])):
        with pytest.raises(MissingExtra, match="the HTML report needs jinja2, which") as caught:
            call()
        assert caught.value.name == "jinja2"
        assert isinstance(caught.value, ImportError)
        assert described(caught.value) == (f"the HTML report needs jinja2, {REMEDY}", USAGE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("light")
def test_a_bar_names_the_extra() -> None:
    """A bar without rich is an error with the remedy."""
    with pytest.raises(MissingExtra, match=REMEDY.replace("[", r"\[")):
        ProgressBar()


@pytest.mark.usefixtures("light")
def test_a_run_that_is_to_show_its_progress_logs_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`progress=True` on a terminal without rich logs, and says what a bar needs."""
    monkeypatch.setattr("lazymig.operations.runs.progress._is_terminal", lambda: True)
    with caplog.at_level(logging.WARNING), reporter(True) as display:
        assert isinstance(display, ProgressLog)
    assert caplog.messages == [f"a progress bar needs rich, {REMEDY}; the progress is logged"]
