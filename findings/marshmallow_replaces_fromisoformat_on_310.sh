#!/usr/bin/env bash
# marshmallow 4.3.1 on Python 3.10: to import it replaces datetime.fromisoformat for the whole process, which then reads what Python 3.10 refuses.
#
# Seen with Python 3.10.13, marshmallow 4.3.1, backports-datetime-fromisoformat 2.0.3, Linux x86-64; needs a `python3.10` on the path.
# Before the import datetime.fromisoformat("2024-07-01T20:00:00Z") raises ValueError; after it there is a date, and
# datetime.fromisoformat is a plain function of the module backports._datetime_fromisoformat, which does not equal the former one.
# So a program that accepts such texts depends on whether anything in the process imports marshmallow, as Flask and MongoEngine
# extensions do, and what recognises the function by identity or in a table of functions finds it no longer.
# On Python 3.11 and later the backport is not installed, and nothing is replaced.
#
# Exit code 0: the behaviour is as described; 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.10 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check marshmallow==4.3.1 backports-datetime-fromisoformat==2.0.3
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime


def read():
    try:
        return datetime.fromisoformat("2024-07-01T20:00:00Z").isoformat()
    except ValueError:
        return "ValueError"


before = datetime.fromisoformat
seen = [read()]
import marshmallow  # noqa: E402

after = datetime.fromisoformat
seen += [read(), after == before, after.__module__]
print("Python", sys.version.split()[0], "before, after, the same, its module:", *seen)
sys.exit(seen != ["ValueError", "2024-07-01T20:00:00+00:00", False, "backports._datetime_fromisoformat"])
PYTHON
