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

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
@nox.parametrize(("mongoengine", "pymongo"), VERSIONS, ids=["oldest", "newest"])
def tests(session: nox.Session, mongoengine: str, pymongo: str) -> None:
    """Run the tests, or those that are named after `--`."""
    session.install(".[dev]", f"mongoengine=={mongoengine}", f"pymongo=={pymongo}")
    session.run("python", "-m", "pytest", *SHARED, *session.posargs)


@nox.session(python="3.11")
def ecosystem(session: nox.Session) -> None:
    """Run the tests of other libraries, each of which has to be there."""
    session.install(".[ecosystem,test]")
    # Setuptools 81 and later cannot build it, and it ships no wheel.
    session.install("setuptools<81", "wheel")
    session.install("--no-build-isolation", "django-mongoengine==0.5.6")
    session.run("python", "-m", "pip", "check")
    tests = session.posargs or ["tests/ecosystem"]
    session.run("python", "-m", "pytest", *tests, env={"LAZYMIG_ECOSYSTEM": "1"})


@nox.session(python="3.13")
def stand_ins(session: nox.Session) -> None:
    """Compare what works on packages that imitate MongoDB with the table of the docs."""
    # mongoeco needs Python 3.13.
    session.install(".[test]", "mongoeco[wire]>=4.11,<4.12", "mongomock-ng>=7.11,<7.12")
    tests = session.posargs or ["tests/ecosystem/test_stand_ins.py"]
    session.run("python", "-m", "pytest", *tests, env={"LAZYMIG_ECOSYSTEM": "1"})


@nox.session(python=PYTHONS, default=False)
def distributions(session: nox.Session) -> None:
    """Build wheel and sdist, install each where there is nothing else, and use it."""
    folder = Path(session.create_tmp())
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    for pattern in ("*.whl", "*.tar.gz"):
        (file,) = (folder / "dist").glob(pattern)
        session.run("python", "-m", "venv", "--clear", str(folder / "empty"))
        python = str(folder / "empty" / "bin" / "python")
        session.run(python, "-m", "pip", "install", "-q", f"{file}[cli]", external=True)
        session.run(python, "-I", "tests/packaging/smoke.py", external=True)


@nox.session(default=False)
def checkout(session: nox.Session) -> None:
    """Run the tests with the MongoEngine of a checkout, say of its development version."""
    path, *arguments = session.posargs or [""]
    if not Path(path, "mongoengine", "__init__.py").is_file():
        session.error("name a checkout of MongoEngine: nox -s checkout -- PATH [pytest arguments]")
    session.install(".[dev]")
    # Its number may be that of an older release, which lazymig does not admit.
    session.install("--no-deps", path)
    session.run("python", "-m", "pytest", *SHARED, *arguments)
