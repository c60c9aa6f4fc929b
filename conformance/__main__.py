"""Runs MongoEngine's suite three ways and compares: `python -m conformance CHECKOUT [PYTEST_ARGS]`.

The checkout is of the tag whose MongoEngine is to be tested; its own sources are imported. Exit
code 1: a test ends otherwise with lazymig than without; 2: there is no suite to run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from conformance.plugin import ADDRESS, MODE, OUTCOMES, PASSES
from lazymig.testing.mongod import EmbeddedServer, memory_folder

_HOME = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> int:
    """Run the passes, print a table and the tests that differ; return the exit code."""
    if not arguments or not Path(arguments[0], "tests", "__init__.py").is_file():
        print("usage: make conformance MONGOENGINE=path/to/a/checkout", file=sys.stderr)
        return 2
    suite, options = Path(arguments[0]).resolve(), arguments[1:]
    outcomes = {name: _outcomes_of(name, suite, options) for name in PASSES}
    different = _different(outcomes)
    if different:
        # A test whose outcome is a matter of luck is no difference: once more, these alone.
        again = {name: _outcomes_of(name, suite, sorted(different)) for name in PASSES}
        different &= _different(again)
    for name, ends in outcomes.items():
        counts = Counter(ends.values())
        print(f"{name:6}", *(f"{count:5} {outcome}" for outcome, count in sorted(counts.items())))
    for test in sorted(different):
        ends = ", ".join(f"{name} {outcomes[name].get(test, 'missing')}" for name in PASSES)
        print(f"differs: {test}: {ends}")
    if not any(outcomes["plain"].values()):
        print("no test was run", file=sys.stderr)
        return 2
    return 1 if different else 0


def _outcomes_of(name: str, suite: Path, options: Sequence[str]) -> dict[str, str]:
    """The outcome of each test in one pass, on a server of its own."""
    own = EmbeddedServer(folder=memory_folder(), crash_safe=False)
    with tempfile.TemporaryDirectory() as folder, own as server:
        results = Path(folder, "outcomes.json")
        address = server.uri.removeprefix("mongodb://").partition("/")[0]
        environment = {
            **os.environ,
            "PYTHONPATH": str(_HOME),
            "PYTHONDONTWRITEBYTECODE": "1",
            MODE: name,
            ADDRESS: address,
            OUTCOMES: str(results),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "conformance.plugin"]
        command += ["-p", "no:cacheprovider", "-p", "no:lazymig", "--tb=short", *options]
        print(f"--- {name}", flush=True)
        subprocess.run(command, cwd=suite, env=environment, check=False)
        found: dict[str, str] = json.loads(results.read_text(encoding="utf-8"))
        return found


def _different(outcomes: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The tests that do not end alike in all passes."""
    tests = {test for ends in outcomes.values() for test in ends}
    return {test for test in tests if len({ends.get(test) for ends in outcomes.values()}) > 1}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
