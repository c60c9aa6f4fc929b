#!/usr/bin/env bash
# graphene-mongo 0.4.5: a connection counts what its arguments match without the lookups of `filter_fields`.
#
# Seen with graphene-mongo 0.4.5, graphene 3.4.3, MongoEngine 0.29.3, PyMongo 4.20.1, mongomock 4.3.0, Python 3.11, Linux x86-64.
# Five books of 7 cost at least 900. `books(cents_Gte: 900, last: 2)` should give two of them, and gives none: 7 are counted, so it skips
# 5 of the 5 that are found. `books(cents_Gte: 900)` gives all 5, and says hasNextPage: true.
# The count is a count_documents() of the collection itself with the arguments that are names of fields; where it finds none, a connection has no edges.
#
# Exit code 0: the behaviour is as described; 1: it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    graphene-mongo==0.4.5 graphene==3.4.3 mongoengine==0.29.3 pymongo==4.20.1 mongomock==4.3.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import graphene
import mongoengine
import mongomock
from graphene_mongo import MongoengineConnectionField, MongoengineObjectType

mongoengine.connect("finding", mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard")


class Book(mongoengine.Document):
    cents = mongoengine.IntField()


class BookType(MongoengineObjectType):
    class Meta:
        model = Book
        interfaces = (graphene.relay.Node,)
        filter_fields = {"cents": ["gte"]}
        order_by = "cents"


class Query(graphene.ObjectType):
    books = MongoengineConnectionField(BookType)


print(*(f"{name} {version(name)}" for name in ("graphene-mongo", "graphene", "mongoengine", "pymongo", "mongomock")))
for cents in (500, 800, 900, 1000, 1100, 1200, 1300):
    Book(cents=cents).save()
found = {}
for arguments in ("cents_Gte: 900", "cents_Gte: 900, last: 2"):
    asked = "{ books(%s) { edges { node { cents } } pageInfo { hasNextPage } } }" % arguments
    answer = graphene.Schema(query=Query).execute(asked).data["books"]
    found[arguments] = ([edge["node"]["cents"] for edge in answer["edges"]], answer["pageInfo"]["hasNextPage"])
    print(arguments, "->", *found[arguments])
sys.exit(list(found.values()) != [([900, 1000, 1100, 1200, 1300], True), ([], False)])
PYTHON
