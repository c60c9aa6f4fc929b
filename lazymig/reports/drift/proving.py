"""Proposed rules tried on copies, before one is offered without a question.

A rule that is only written down may make a document worse: what it puts there need not be what the
field takes. So each is applied to copies of documents with its finding, and these are loaded and
validated through the model. What a pipeline makes of them an aggregation shows; other updates are
applied in a scratch collection. The collection itself is only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from lazymig.engines.access import (
    Description,
    by_ids,
    describe,
    key_of,
    read_raw,
    readable,
    tolerant,
)
from lazymig.engines.scratch import scratch_like
from lazymig.locks import cached_property
from lazymig.odm.examining import Examiner, Problem
from lazymig.query.matching import compile_query
from lazymig.redaction import excerpt
from lazymig.reports.drift.doubts import doubt_about
from lazymig.reports.drift.drafts import Draft
from lazymig.reports.drift.evidence import faults_by
from lazymig.reports.drift.proposals import RuleProposal, asked_about
from lazymig.reports.dryrun.cures import read_by_ids

__all__ = ["prove"]

_UNAUTHORIZED = 13

# Documents that a rule is tried on.
_MOST_TRIED = 60


def prove(
    collection: Collection[Any],
    examiner: Examiner,
    drafts: Iterable[Draft],
    prefix: Sequence[Mapping[str, Any]],
) -> None:
    """Let each proposal of these findings ask that has not passed on copies; within `examining`.

    :param prefix: stages that pick the documents.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    proof = _Proof(collection, examiner)
    for draft in drafts:
        proposal = draft.proposal
        if proposal is None or proposal.asks:
            continue
        judge = compile_query(proposal.target).judge
        documents = [
            raw
            for raw in read_by_ids(collection, _chosen(collection, draft, proposal, prefix))
            # A finding may be in documents that are another rule's: those of a former name.
            if judge(readable(raw, collection)) is not False
        ]
        doubt = proof.doubt(draft, proposal, documents)
        if doubt is not None:
            draft.proposal = asked_about(proposal, doubt)


def _chosen(
    collection: Collection[Any],
    draft: Draft,
    proposal: RuleProposal,
    prefix: Sequence[Mapping[str, Any]],
) -> list[Any]:
    """The `_id`s of documents to try a proposal on: those of the finding, and extreme values."""
    ids = [*draft.ids]
    found: dict[str, Any] = {"$match": proposal.target}
    ends: list[list[dict[str, Any]]] = [[{"$limit": _MOST_TRIED}]]
    if draft.kind == "wrong_type":
        # What is misread shows in the least and in the greatest value first.
        path = draft.path.replace("[]", "")
        ends += [[{"$sort": {path: way}}, {"$limit": 1}] for way in (1, -1)]
    for end in ends:
        stages = [*prefix, found, *end, {"$project": {"_id": 1}}]
        ids.extend(each["_id"] for each in tolerant(collection).aggregate(stages))
    return ids


class _Proof:
    """Proposals at work on copies, one after the other."""

    def __init__(self, collection: Collection[Any], examiner: Examiner) -> None:
        self.collection = collection
        self.examiner = examiner
        self.faults = faults_by(examiner, collection)
        self.there: dict[Any, bool] = {}

    def doubt(self, draft: Draft, proposal: RuleProposal, documents: Sequence[Any]) -> str | None:
        """Why a proposal must ask; `None` if nothing is wrong with what it does to copies."""
        if not documents:
            return "it was not tried: no document for it was found"
        try:
            after = self._after(proposal, documents)
        except OperationFailure as exc:
            if exc.code == _UNAUTHORIZED:
                return "it was not tried, because the user may not make a collection for copies"
            # The message may hold stored values.
            code = (exc.details or {}).get("codeName") or exc.code
            return f"tried on a copy, MongoDB refuses it ({code})"
        except PyMongoError:
            raise
        except Exception as exc:  # noqa: BLE001 - a copy may hold what PyMongo does not write
            return f"it could not be tried ({type(exc).__name__}: {excerpt(exc)})"
        for raw in documents:
            key = key_of(raw["_id"])
            if key in after:
                doubt = next(self._doubts(draft, raw, after[key]), None)
                if doubt is not None:
                    return f"tried on a copy of the document {raw['_id']!r}, {doubt}"
        return None if after else "it was not tried: no document could be copied"

    def _after(self, proposal: RuleProposal, documents: Sequence[Any]) -> Mapping[Any, Any]:
        """The documents as the rule would leave them, by the keys of their `_id`s."""
        if isinstance(proposal.update, list):
            return self._shown(proposal, documents)
        filters = None if proposal.array_filters is None else list(proposal.array_filters)
        with scratch_like(self.collection, self._description, documents) as scratch:
            scratch.collection.update_many(proposal.target, proposal.update, array_filters=filters)
            return {key_of(raw["_id"]): raw for raw in read_raw(scratch.collection).find()}

    @cached_property
    def _description(self) -> Description:
        return describe(self.collection) or Description("collection", {})

    def _shown(self, proposal: RuleProposal, documents: Sequence[Any]) -> Mapping[Any, Any]:
        """What a pipeline makes of documents: the server shows it without writing anywhere."""
        ids = by_ids([raw["_id"] for raw in documents])
        stages = [{"$match": {"$and": [ids, proposal.target]}}, *proposal.update]
        shown = read_raw(self.collection).aggregate(stages)
        return {key_of(raw["_id"]): raw for raw in (*documents, *shown)}

    def _doubts(self, draft: Draft, before: Any, after: Any) -> Iterator[str]:
        """What is wrong with a copy that was not wrong with its document."""
        old, new = (readable(raw, self.collection) for raw in (before, after))
        if draft.evidence(new):
            yield "it leaves the finding as it is"
        for path, kind, _value in self.faults(after) - self.faults(before):
            yield f"it makes {path!r} wrong ({kind})"
        if draft.values_in is None:
            return
        values = list(draft.values_in(old)), list(draft.values_in(new))
        for one, other in zip(*values, strict=False) if len(values[0]) == len(values[1]) else ():
            if draft.shows(one):
                doubt = doubt_about(one, other, draft.facts)
                if doubt is not None:
                    yield doubt
        yield from self._dangling(draft.path, new)

    def _dangling(self, path: str, document: Any) -> Iterator[str]:
        """What is referred to at a path, or beneath it, and is not there."""
        for each in self.examiner.references(document):
            beneath = each.path == path or each.path.startswith((f"{path}[", f"{path}."))
            if isinstance(each, Problem) or not beneath:
                continue
            place = each.database.name, each.collection, key_of(each.document_id)
            if place not in self.there:
                collection = each.database[each.collection]
                found = collection.find_one(by_ids([each.document_id]), {"_id": 1})
                self.there[place] = found is not None
            if not self.there[place]:
                yield f"it refers to a document that is not in {each.collection}"
