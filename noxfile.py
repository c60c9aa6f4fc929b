"""The suite with the oldest and the newest versions that lazymig supports: `nox`.

And with a checkout of MongoEngine: `nox -s checkout -- PATH [pytest arguments]`.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False

# The oldest and the newest of each that `setup.cfg` admits.
VERSIONS = [
    ("0.29.1", "4.9"),
    ("0.29.*", "4.*"),
]

SHARED = ("--numprocesses", "auto", "--dist", "worksteal")


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
@nox.parametrize(("mongoengine", "pymongo"), VERSIONS, ids=["oldest", "newest"])
def tests(session: nox.Session, mongoengine: str, pymongo: str) -> None:
    """Run the tests, or those that are named after `--`."""
    session.install(".[test]", f"mongoengine=={mongoengine}", f"pymongo=={pymongo}")
    session.run("python", "-m", "pytest", *SHARED, *session.posargs)


@nox.session(default=False)
def checkout(session: nox.Session) -> None:
    """Run the tests with the MongoEngine of a checkout, say of its development version."""
    path, *arguments = session.posargs or [""]
    if not Path(path, "mongoengine", "__init__.py").is_file():
        session.error("name a checkout of MongoEngine: nox -s checkout -- PATH [pytest arguments]")
    session.install(".[test]")
    # Its number may be that of an older release, which lazymig does not admit.
    session.install("--no-deps", path)
    session.run("python", "-m", "pytest", *SHARED, *arguments)
