"""What is done through a model: drawn as data, so that it can be done twice and printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from mongoengine import Document, EmbeddedDocument, Q
from mongoengine.queryset.base import BaseQuerySet

from tests.equivalence.changes import BOOLEANS, IDS, Draw, Path, Raw, World
from tests.equivalence.circumstances import NOTHING, Circumstances


@dataclass(frozen=True)
class Operation:
    """One call through one model of a world.

    :param conditions: filters, one call of `filter` for each: a tree of tuples.
    :param arguments: what else the kind of operation takes.
    """

    kind: str
    model: str
    conditions: tuple[Any, ...]
    arguments: Raw
    alone: bool = False
    around: Circumstances = NOTHING

    def run(self, model: Any, arrive: Callable[[], None]) -> Any:
        """Carry it out; give what is comparable of its result.

        :param arrive: stores one more document, for operations that look twice.
        """
        queryset = self.around.asked(model)
        if self.alone:
            queryset = queryset.no_sub_classes()
        for condition in self.conditions:
            queryset = queryset.filter(_built(condition))
        order = self.arguments.get("order")
        if order is not None:
            queryset = queryset.order_by(*order)
        return shown(RUN[self.kind](queryset, {**self.arguments, "arrive": arrive}))


def shown(value: Any) -> Any:
    """A result as raw values."""
    if isinstance(value, Document):
        return [type(value).__name__, value.to_mongo().to_dict()]
    if isinstance(value, EmbeddedDocument):
        return value.to_mongo().to_dict()
    if isinstance(value, dict):
        return {str(key): shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


# --- Filters ----------------------------------------------------------------------------

_LOOKUPS = {
    "string": ("", "", "ne", "in", "nin", "gt", "lte", "exists", "contains", "startswith"),
    "number": ("", "", "ne", "in", "nin", "gt", "gte", "lt", "exists", "not__gt", "mod"),
    "bool": ("", "", "ne", "in", "exists"),
    "list": ("", "ne", "in", "nin", "all", "size", "exists", "0"),
    "reference": ("", "", "ne", "in", "nin", "exists"),
}
_RAW_OPERATORS = ("$eq", "$eq", "$ne", "$in", "$nin", "$gt", "$lte", "$exists", "$type", "$not")


def _condition(draw: Draw, world: World) -> Any:
    path = draw(st.sampled_from(world.paths))
    lookup = draw(st.sampled_from(_LOOKUPS[path.kind]))
    value: Any
    if lookup == "exists":
        value = draw(BOOLEANS)
    elif lookup in ("in", "nin", "all"):
        values = path.values if lookup == "all" else st.one_of(path.values, st.none())
        value = draw(st.lists(values, min_size=1, max_size=2))
    elif lookup == "size":
        value = draw(st.integers(0, 2))
    elif lookup == "mod":
        value = (2, draw(st.integers(0, 1)))
    else:
        value = draw(path.values if lookup else st.one_of(path.values, path.values, st.none()))
    return ("where", f"{path.name}__{lookup}" if lookup else path.name, value)


def _raw_leaf(draw: Draw, world: World) -> Raw:
    known = [(path.stored, path.values) for path in world.paths]
    gone = [(name, st.sampled_from(["a", "b", "on", 1])) for name in world.gone]
    if "_cls" in world.gone:
        classes = [change.target.get("_cls") for change in world.changes]
        names = [name for name in classes if isinstance(name, str)]
        gone.append(("_cls", st.sampled_from(names)))
    path, values = draw(st.sampled_from([*known, *known, *gone]))
    operator = draw(st.sampled_from(_RAW_OPERATORS))
    operand: Any
    if operator in ("$in", "$nin"):
        operand = draw(st.lists(st.one_of(values, st.none()), max_size=2))
    elif operator == "$exists":
        operand = draw(BOOLEANS)
    elif operator == "$type":
        operand = draw(st.sampled_from(["string", "number", "null", "array", "bool", "object"]))
    elif operator == "$not":
        operand = {draw(st.sampled_from(["$gt", "$eq"])): draw(values)}
    else:
        operand = draw(st.one_of(values, values, st.none()))
    if draw(st.integers(0, 2)) == 0 and operator == "$eq":
        return {path: operand}
    return {path: {operator: operand}}


def _raw(draw: Draw, world: World) -> Raw:
    kind = draw(st.sampled_from(["leaf", "leaf", "$or", "$nor", "$and", "$expr"]))
    if kind == "leaf":
        return _raw_leaf(draw, world)
    if kind == "$expr":
        path = draw(st.sampled_from(world.paths))
        return {"$expr": {"$eq": [f"${path.stored}", {"$literal": draw(path.values)}]}}
    return {kind: [_raw_leaf(draw, world) for _ in range(draw(st.integers(1, 2)))]}


def _filter(draw: Draw, world: World, depth: int = 0) -> Any:
    kinds = ["where", "where", "where", "raw"]
    if depth < 2:
        kinds += ["and", "or"]
    kind = draw(st.sampled_from(kinds))
    if kind == "where":
        return _condition(draw, world)
    if kind == "raw":
        return ("where", "__raw__", _raw(draw, world))
    return (kind, _filter(draw, world, depth + 1), _filter(draw, world, depth + 1))


def _built(condition: Any) -> Any:
    kind, first, second = condition
    if kind == "where":
        return Q(**{first: second})
    one, other = _built(first), _built(second)
    return one & other if kind == "and" else one | other


# --- Operations -------------------------------------------------------------------------


def _order(draw: Draw, world: World) -> list[str]:
    paths = draw(st.lists(st.sampled_from(world.paths), max_size=2, unique_by=lambda p: p.name))
    return [*(draw(st.sampled_from(["", "-"])) + path.name for path in paths), "id"]


def _names(draw: Draw, world: World) -> list[str]:
    names = st.sampled_from([path.name for path in world.paths])
    return list(draw(st.lists(names, min_size=1, max_size=2, unique=True)))


def _sets(draw: Draw, path: Path) -> Raw:
    value = draw(path.values)
    if path.kind == "list" or path.name == "readers":
        names = ["push", "add_to_set", "pull", "set", "unset", "size"]
        operator = draw(st.sampled_from(names[:5]))
        return {f"{operator}__{path.name}": [value] if operator == "set" else value}
    if path.name.startswith("comments__"):
        return {"pull__comments__" + path.name.partition("__")[2]: value}
    operators = ["set", "set", "set", "unset"]
    if path.kind == "number":
        operators += ["inc", "min", "max", "mul"]
    return {f"{draw(st.sampled_from(operators))}__{path.name}": value}


def _update(draw: Draw, world: World) -> Raw:
    if draw(st.integers(0, 4)) == 0:
        path = draw(st.sampled_from(world.paths))
        if path.name.startswith("comments__") or path.kind == "list":
            return {"__raw__": {"$unset": {path.stored.partition(".")[0]: ""}}}
        value = draw(path.values)
        if world.gone and draw(st.integers(0, 2)) == 0:
            gone = draw(st.sampled_from(world.gone))
            return {"__raw__": {draw(st.sampled_from(["$set", "$unset"])): {gone: "a"}}}
        stage = {"$set": {path.stored: value}}
        return {"__raw__": draw(st.sampled_from([stage, [stage]]))}
    update: Raw = {}
    for path in draw(st.lists(st.sampled_from(world.paths), min_size=1, max_size=2)):
        roots = {key.split("__")[1] for key in update}
        if path.name.partition("__")[0] not in roots:
            update.update(_sets(draw, path))
    return update


def path_of(world: World, name: str) -> Path:
    """The path of a world of this name."""
    return next(path for path in world.paths if path.name == name)


def _positional(draw: Draw, world: World) -> Raw:
    if draw(BOOLEANS):
        return {"set__comments__S__author": draw(path_of(world, "comments__author").values)}
    return {"inc__comments__S__votes": draw(path_of(world, "comments__votes").values)}


def _assigned(draw: Draw, world: World) -> Raw:
    path = draw(st.sampled_from([path for path in world.paths if "__" not in path.name]))
    value = draw(path.values)
    listed = path.kind == "list" or path.name == "readers"
    return {"name": path.name, "value": [value] if listed else value}


def _aggregation(draw: Draw, world: World) -> list[Raw]:
    path = draw(st.sampled_from(world.paths)).stored
    if draw(BOOLEANS):
        return [{"$group": {"_id": f"${path}", "n": {"$sum": 1}}}]
    return [{"$match": _raw_leaf(draw, world)}, {"$project": {path: 1}}]


ARGUMENTS: dict[str, Callable[[Draw, World], Raw]] = {
    "list": lambda draw, world: {},
    "list of no_cache": lambda draw, world: {},
    "list in order": lambda draw, world: {"order": _order(draw, world)},
    "get": lambda draw, world: {"id": draw(st.one_of(st.none(), st.sampled_from(IDS)))},
    "first": lambda draw, world: {"order": _order(draw, world)},
    "count": lambda draw, world: {},
    "count of a part": lambda draw, world: {"skip": draw(st.integers(0, 2))},
    "len": lambda draw, world: {},
    "bool": lambda draw, world: {},
    "in_bulk": lambda draw, world: {"ids": draw(st.lists(st.sampled_from(IDS), max_size=4))},
    "index": lambda draw, world: {
        "order": _order(draw, world),
        "index": draw(st.integers(0, 3)),
    },
    "slice": lambda draw, world: {
        "order": _order(draw, world),
        "first": draw(st.integers(0, 2)),
        "size": draw(st.integers(1, 3)),
    },
    "scalar": lambda draw, world: {"names": _names(draw, world)},
    "only": lambda draw, world: {"names": _names(draw, world)},
    "exclude": lambda draw, world: {"names": _names(draw, world)},
    "distinct": lambda draw, world: {"name": draw(st.sampled_from(world.paths)).name},
    "sum": lambda draw, world: {"name": draw(st.sampled_from(world.paths)).name},
    "average": lambda draw, world: {"name": draw(st.sampled_from(world.paths)).name},
    "item_frequencies": lambda draw, world: {"name": draw(st.sampled_from(world.paths)).name},
    "aggregate": lambda draw, world: {"pipeline": _aggregation(draw, world)},
    "update": lambda draw, world: {"update": _update(draw, world)},
    "update with a result": lambda draw, world: {"update": _update(draw, world)},
    "update_one": lambda draw, world: {
        "update": _update(draw, world),
        "id": draw(st.sampled_from(IDS)),
    },
    "modify": lambda draw, world: {
        "update": _update(draw, world),
        "order": _order(draw, world),
        "new": draw(BOOLEANS),
    },
    "modify with remove": lambda draw, world: {"order": _order(draw, world)},
    "upsert_one": lambda draw, world: {
        "update": _update(draw, world),
        "id": draw(st.sampled_from(IDS)),
    },
    "update with upsert": lambda draw, world: {
        "update": _update(draw, world),
        "id": draw(st.sampled_from(IDS)),
        "multi": draw(BOOLEANS),
    },
    "modify with upsert": lambda draw, world: {
        "update": _update(draw, world),
        "id": draw(st.sampled_from(IDS)),
        "new": draw(BOOLEANS),
    },
    "delete": lambda draw, world: {},
    "delete of a slice": lambda draw, world: {
        "order": _order(draw, world),
        "first": draw(st.integers(0, 2)),
        "size": draw(st.integers(1, 3)),
    },
    "count twice": lambda draw, world: {},
    "list twice": lambda draw, world: {},
    "order of a used one": lambda draw, world: {"then": _order(draw, world)},
    "where": lambda draw, world: {"path": draw(st.sampled_from(world.paths)).stored},
    "search_text": lambda draw, world: {"text": draw(st.sampled_from(["ab", "1"]))},
    "values of documents": lambda draw, world: {"names": _names(draw, world)},
    "update of a document": lambda draw, world: {
        "order": _order(draw, world),
        "update": _update(draw, world),
    },
    "save": lambda draw, world: {"order": _order(draw, world), **_assigned(draw, world)},
    "save on condition": lambda draw, world: {
        "order": _order(draw, world),
        **_assigned(draw, world),
        "condition": _condition(draw, world)[1:],
    },
    "modify of a document": lambda draw, world: {
        "order": _order(draw, world),
        "update": _update(draw, world),
        "condition": _condition(draw, world)[1:],
    },
    "delete of a document": lambda draw, world: {"order": _order(draw, world)},
    "reload": lambda draw, world: {"order": _order(draw, world)},
    "save of a partial document": lambda draw, world: {
        "order": _order(draw, world),
        "names": _names(draw, world),
        "carries": draw(BOOLEANS),
        **_assigned(draw, world),
    },
    "save of a partial document on condition": lambda draw, world: {
        "order": _order(draw, world),
        "names": _names(draw, world),
        "carries": draw(BOOLEANS),
        **_assigned(draw, world),
        "condition": _condition(draw, world)[1:],
    },
    "update of a partial document": lambda draw, world: {
        "order": _order(draw, world),
        "names": _names(draw, world),
        "carries": draw(BOOLEANS),
        "update": _update(draw, world),
    },
    "save of a made document": lambda draw, world: {
        "id": draw(st.sampled_from(IDS)),
        "created": draw(BOOLEANS),
        **_assigned(draw, world),
    },
    "positional update": lambda draw, world: {
        "author": draw(path_of(world, "comments__author").values),
        "update": _positional(draw, world),
        "many": draw(BOOLEANS),
    },
    "positional modify": lambda draw, world: {
        "author": draw(path_of(world, "comments__author").values),
        "update": _positional(draw, world),
        "order": _order(draw, world),
    },
    "positional projection": lambda draw, world: {
        "author": draw(path_of(world, "comments__author").values)
    },
    "list of many": lambda draw, world: {"batch": draw(st.sampled_from([None, 7, 100, 1000]))},
    "no_cache of many": lambda draw, world: {"batch": draw(st.sampled_from([None, 7, 100, 1000]))},
    "slice of many": lambda draw, world: {
        "order": _order(draw, world),
        "first": draw(st.sampled_from([0, 3, 120])),
        "size": draw(st.sampled_from([1, 130, 250, 1000])),
    },
    "limit of many": lambda draw, world: {
        "first": draw(st.sampled_from([0, 0, 3, 120])),
        "size": draw(st.sampled_from([130, 250, 1000])),
    },
    "order of many": lambda draw, world: {"by": _order(draw, world)[0]},
    "only of many": lambda draw, world: {"names": _names(draw, world)},
    "delete of many": lambda draw, world: {},
}
# Done to more documents than two of MongoEngine's batches hold.
MANY = frozenset(kind for kind in ARGUMENTS if kind.endswith(" of many"))
# Their results are documents, loaded after the operation has written.
RETURNING = frozenset(
    {"modify", "upsert_one", "modify with upsert", "save", "save on condition"}
    | {"modify of a document", "save of a partial document", "positional modify"}
    | {"save of a partial document on condition", "update of a partial document"}
    | {"save of a made document"}
)
# They hand out no documents, so they bring none up to date.
WRITING_NOTHING = frozenset(
    {"aggregate", "average", "count", "count of a part", "distinct"} | {"item_frequencies", "sum"}
)
# MongoDB may refuse a document after it has updated others.
UPDATING_MANY = frozenset({"update", "update with a result", "positional update"})


def _with_result(queryset: Any, arguments: Raw) -> Any:
    result = queryset.update(full_result=True, **arguments["update"])
    return [result.matched_count, result.modified_count]


def _where(queryset: Any, arguments: Raw) -> Any:
    root = arguments["path"].partition(".")[0]
    return _sorted_by_id(queryset.where(f"return this.hasOwnProperty({root!r}) && this.{root}"))


def _count_twice(queryset: Any, arguments: Raw) -> Any:
    first = queryset.count()
    arguments["arrive"]()
    return [first, queryset.count(), queryset.clone().count(), len(queryset)]


def _list_twice(queryset: Any, arguments: Raw) -> Any:
    first = _sorted_by_id(queryset)
    arguments["arrive"]()
    again = _sorted_by_id(queryset.clone())
    uncached = queryset.clone().no_cache()
    return [first, again, _sorted_by_id(uncached), _sorted_by_id(uncached)]


def _order_again(queryset: Any, arguments: Raw) -> Any:
    first = next(iter(queryset.order_by("id")), None)
    list(queryset)
    arguments["arrive"]()
    return [first, list(queryset.order_by(*arguments["then"]))]


def _delete_slice(queryset: Any, arguments: Raw) -> Any:
    first = arguments["first"]
    return queryset[first : first + arguments["size"]].delete()


def _update_document(queryset: Any, arguments: Raw) -> Any:
    document = queryset.first()
    return None if document is None else document.update(**arguments["update"])


def _save(queryset: Any, arguments: Raw) -> Any:
    document = queryset.first()
    if document is None:
        return None
    setattr(document, arguments["name"], arguments["value"])
    condition = arguments.get("condition")
    document.save(save_condition=None if condition is None else dict([condition]), validate=False)
    return document


def _partial(queryset: Any, arguments: Raw) -> Any:
    """The first document, with these fields alone or without them."""
    narrowed = queryset.only if arguments["carries"] else queryset.exclude
    return narrowed(*arguments["names"]).first()


def _save_partial(queryset: Any, arguments: Raw) -> Any:
    document = _partial(queryset, arguments)
    return None if document is None else _assign_and_save(document, arguments)


def _assign_and_save(document: Any, arguments: Raw) -> Any:
    setattr(document, arguments["name"], arguments["value"])
    condition = arguments.get("condition")
    document.save(save_condition=None if condition is None else dict([condition]), validate=False)
    return document.id


def _update_partial(queryset: Any, arguments: Raw) -> Any:
    document = _partial(queryset, arguments)
    return None if document is None else document.update(**arguments["update"])


def _save_made(queryset: Any, arguments: Raw) -> Any:
    model = queryset._document
    if arguments["created"]:
        document = model(id=arguments["id"])
    else:
        document = model.from_json(f'{{"_id": {{"$oid": "{arguments["id"]}"}}}}', created=False)
    return _assign_and_save(document, arguments)


def _positional_update(queryset: Any, arguments: Raw) -> Any:
    found = queryset.filter(comments__author=arguments["author"])
    return found.update(multi=arguments["many"] or not queryset, **arguments["update"])


def _positional_modify(queryset: Any, arguments: Raw) -> Any:
    found = queryset.filter(comments__author=arguments["author"])
    return found.modify(new=True, **arguments["update"])


def _in_batches(queryset: Any, arguments: Raw) -> Any:
    if arguments["batch"] is not None:
        queryset = queryset.batch_size(arguments["batch"])
    found = list(queryset)
    return [len(found), {document.id: document for document in found}]


def _limit_many(queryset: Any, arguments: Raw) -> Any:
    first = arguments["first"]
    found = [document.id for document in queryset[first : first + arguments["size"]]]
    # Which ones is a matter of natural order.
    return [len(found), len(set(found))]


def _order_many(queryset: Any, arguments: Raw) -> Any:
    found = list(queryset.order_by(arguments["by"]))
    return [len(found), {document.id: document for document in found}]


def _modify_document(queryset: Any, arguments: Raw) -> Any:
    document = queryset.first()
    if document is None:
        return None
    condition = dict([arguments["condition"]])
    return [document.modify(condition, **arguments["update"]), document]


def _delete_document(queryset: Any, _arguments: Raw) -> Any:
    document = queryset.first()
    return None if document is None else document.delete()


def _reload(queryset: Any, _arguments: Raw) -> Any:
    document = queryset.first()
    return None if document is None else type(document)(id=document.id).reload()


def _sorted_by_id(queryset: BaseQuerySet) -> Any:
    return {document.id: document for document in queryset}


def _get(queryset: Any, arguments: Raw) -> Any:
    return queryset.get() if arguments["id"] is None else queryset.get(id=arguments["id"])


def _upsert(queryset: Any, arguments: Raw) -> Any:
    return queryset.filter(id=arguments["id"]).update(
        upsert=True, multi=arguments["multi"], **arguments["update"]
    )


def _slice(queryset: Any, arguments: Raw) -> Any:
    first = arguments["first"]
    return list(queryset[first : first + arguments["size"]])


def _frequencies(queryset: Any, arguments: Raw) -> Any:
    return queryset.item_frequencies(arguments["name"], map_reduce=True)


RUN: dict[str, Callable[[Any, Raw], Any]] = {
    "list": lambda queryset, _: _sorted_by_id(queryset),
    "list of no_cache": lambda queryset, _: _sorted_by_id(queryset.no_cache()),
    "list in order": lambda queryset, _: list(queryset),
    "get": _get,
    "first": lambda queryset, _: queryset.first(),
    "count": lambda queryset, _: queryset.count(),
    "count of a part": lambda queryset, arguments: queryset.skip(arguments["skip"]).count(
        with_limit_and_skip=True
    ),
    "len": lambda queryset, _: len(queryset),
    "bool": lambda queryset, _: bool(queryset),
    "in_bulk": lambda queryset, arguments: queryset.in_bulk(arguments["ids"]),
    "index": lambda queryset, arguments: queryset[arguments["index"]],
    "slice": _slice,
    "scalar": lambda queryset, arguments: list(
        queryset.order_by("id").scalar("id", *arguments["names"])
    ),
    "only": lambda queryset, arguments: _sorted_by_id(queryset.only(*arguments["names"])),
    "exclude": lambda queryset, arguments: _sorted_by_id(queryset.exclude(*arguments["names"])),
    "distinct": lambda queryset, arguments: ("any order", queryset.distinct(arguments["name"])),
    "sum": lambda queryset, arguments: queryset.sum(arguments["name"]),
    "average": lambda queryset, arguments: queryset.average(arguments["name"]),
    "item_frequencies": _frequencies,
    "aggregate": lambda queryset, arguments: (
        "any order",
        list(queryset.aggregate(arguments["pipeline"])),
    ),
    "update": lambda queryset, arguments: queryset.update(**arguments["update"]),
    "update with a result": _with_result,
    "update_one": lambda queryset, arguments: queryset.filter(id=arguments["id"]).update_one(
        **arguments["update"]
    ),
    "modify": lambda queryset, arguments: queryset.modify(
        new=arguments["new"], **arguments["update"]
    ),
    "modify with remove": lambda queryset, _: queryset.modify(remove=True),
    "upsert_one": lambda queryset, arguments: queryset.filter(id=arguments["id"]).upsert_one(
        **arguments["update"]
    ),
    "update with upsert": _upsert,
    "modify with upsert": lambda queryset, arguments: queryset.filter(id=arguments["id"]).modify(
        upsert=True, new=arguments["new"], **arguments["update"]
    ),
    "delete": lambda queryset, _: queryset.delete(),
    "delete of an author": lambda queryset, arguments: queryset.filter(
        id__in=arguments["ids"]
    ).delete(),
    "delete of a slice": _delete_slice,
    "count twice": _count_twice,
    "list twice": _list_twice,
    "order of a used one": _order_again,
    "where": _where,
    "search_text": lambda queryset, arguments: _sorted_by_id(
        queryset.search_text(arguments["text"])
    ),
    "values of documents": lambda queryset, arguments: list(
        queryset.order_by("id").only("id", *arguments["names"]).values_list(*arguments["names"])
    ),
    "update of a document": _update_document,
    "save": _save,
    "save on condition": _save,
    "modify of a document": _modify_document,
    "delete of a document": _delete_document,
    "reload": _reload,
    "save of a partial document": _save_partial,
    "save of a partial document on condition": _save_partial,
    "update of a partial document": _update_partial,
    "save of a made document": _save_made,
    "positional update": _positional_update,
    "positional modify": _positional_modify,
    "positional projection": lambda queryset, arguments: _sorted_by_id(
        queryset.filter(comments__author=arguments["author"]).only("comments.$")
    ),
    "list of many": _in_batches,
    "no_cache of many": lambda queryset, arguments: _in_batches(queryset.no_cache(), arguments),
    "slice of many": _slice,
    "limit of many": _limit_many,
    "order of many": _order_many,
    "only of many": lambda queryset, arguments: _sorted_by_id(queryset.only(*arguments["names"])),
    "delete of many": lambda queryset, _: queryset.delete(),
}


DOCUMENTS = {
    "flat": ["Flat"],
    "named": ["Named"],
    "nested": ["Nested"],
    "lists": ["Lists"],
    "tree": ["Human", "GoodJedi", "BadSith", "GrandMaster"],
    "branch": ["Animal", "Dog", "Cat"],
    "heirs": ["Animal", "Dog", "Cat"],
    "dynamic": ["Dynamic"],
    "library": ["Book"],
    "states": ["Ticket"],
}
KINDS = (*ARGUMENTS, "delete of an author")


def worlds_of(kind: str) -> list[str]:
    """The names of the worlds in which there is such an operation."""
    if kind == "search_text":
        return ["flat"]
    if kind.startswith("positional"):
        return ["lists"]
    return ["library"] if kind == "delete of an author" else list(DOCUMENTS)


def draw_operation(
    draw: Draw, kind: str, world: World, around: Circumstances = NOTHING
) -> Operation:
    """An operation on a world, through one of its models."""
    if kind == "delete of an author":
        ids = draw(st.lists(st.sampled_from(IDS[:3]), min_size=1, max_size=2))
        return Operation(kind, "Author", (), {"ids": ids})
    most = draw(st.sampled_from([0, 0, 1] if "upsert" in kind else [0, 1, 1, 2]))
    conditions = tuple(_filter(draw, world) for _ in range(most))
    models = DOCUMENTS[world.name]
    alone = len(models) > 1 and draw(st.integers(0, 4)) == 0
    model = draw(st.sampled_from(models))
    arguments = ARGUMENTS[kind](draw, world)
    return Operation(kind, model, conditions, arguments, alone, around)
