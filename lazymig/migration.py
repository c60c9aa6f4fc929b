"""DocumentMigration: the class that users subclass to write rules, and call to run them.

Runs and reports are imported by the calls that need them: a web process that loads documents alone
does not pay for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bson import ObjectId
from mongoengine import Document
from mongoengine.errors import DoesNotExist

from lazymig.engines.access import as_bytes, on_primary
from lazymig.engines.deadline import without_client_limit
from lazymig.engines.reading.decoding import decode
from lazymig.engines.sessions import given_session
from lazymig.errors import Remedy, RunNotFound
from lazymig.odm.calls import HandlerCalls
from lazymig.odm.loading import Loading, Source, builder_of
from lazymig.odm.plans import family_for
from lazymig.odm.schema import collection_of, id_of
from lazymig.operations.journal import JOURNAL
from lazymig.rules.rule import Scope
from lazymig.rules.unfinished import waiting_rules

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lazymig.engines.bulk import MigrationReport
    from lazymig.engines.pending import RuleStatus
    from lazymig.operations.model_view import ModelView
    from lazymig.operations.rule_indexes import RuleIndex
    from lazymig.operations.runs.options import RunOptions
    from lazymig.operations.seals import SealReport
    from lazymig.reports.dryrun.preview import PreviewReport

__all__ = ["DocumentMigration"]


class DocumentMigration(HandlerCalls):
    """The rules of a model, and the calls that run them over stored documents.

    A subclass has a method for each change of shape: `migrationNN__words` is applied to documents
    as they are loaded and by `migrate_pending`, `allmigrationNN__words` by `migrate_all` alone. It
    sets `self.target`, a query for the old shape, and `self.update`, in database field names, and
    may set `self.array_filters`; it may read `self.doc`, `self.doc_class`, `self.collection` and
    `self.status`. A rule whose source does not show what it writes declares that: `self.writes`, a
    tuple of dotted paths, and `self.reads`, of the fields that its update is computed from. The
    vocabulary is that of MongoKit's DocumentMigration.

    :param doc_class: the model: a MongoEngine Document class.

    :cvar validate_on_load: whether loaded documents are validated, so that an invalid one starts
        the rules. `None`: only while there is a rule that no match can start.
    :cvar legacy_classes: former `_cls` values whose documents are documents of this model.
    :cvar on_error: what a load does with an old document that cannot be migrated: `"raise"` a
        `MigrationError`, or `"skip"` it: load it as it is stored if MongoEngine can, otherwise
        leave it out of the iteration. A save of it, and an operation that has to bring it up to
        date first, raise or skip it likewise.
    :cvar lazy_timeout: seconds that a load may wait for its write, within the limits of PyMongo,
        and after which it computes no further document; `None` for no other limit.
    :cvar see_through: whether queries see through pending rules; otherwise they are answered from
        what is stored.
    :cvar write_on_load: whether a load writes what the rules make of an old document; otherwise it
        only shows that, and a read that would have to write raises `ShowError`. It holds for all
        models of the collection.
    :cvar settle_limit: documents that an operation which cannot be rewritten may bring up to date
        before it runs; `None` for no limit, 0 for none. An error that names its remedy is better
        than a wrong answer, or than a request that rewrites a million documents.
    :cvar seal_refresh: seconds after which a process looks anew which rules are sealed; `None`:
        never, and no rule is taken for sealed.
    """

    def migrate(self, doc: Any) -> Any:
        """Apply the lazy rules, in order, to one stored document.

        What a load would do is done: rules that a match must not start are tried if the document
        fails to load or to validate.

        :param doc: an instance, a raw mapping with `_id`, or an `_id`.
        :return: the document as it is then: a new instance for an instance, else the raw mapping.
        :raises DoesNotExist: no such document is stored.
        :raises MigrationError: it could not be migrated.
        """
        model = self._doc_class
        collection = collection_of(model)
        document_id = doc
        if isinstance(doc, Document):
            model, collection, document_id = type(doc), collection_of(doc), id_of(doc)
        elif isinstance(doc, Mapping) and "_id" in doc:
            document_id = doc["_id"]
        query = {"_id": {"$eq": document_id}}
        reader = on_primary(collection)
        found = as_bytes(reader).find_one(query, **given_session(collection))
        raw: Any = None if found is None else decode(found, collection.codec_options)
        if raw is not None:
            family = family_for(type(self), self._doc_class)
            source = Source(collection, lone=True)
            (item,) = Loading(family, source, builder_of(model)).load([raw])
            if isinstance(doc, Document):
                raw = item
            elif not isinstance(item, Exception):
                raw = reader.find_one(query, **given_session(collection))
            if isinstance(item, Exception):
                raise item
        if raw is None or (isinstance(doc, Document) and not isinstance(raw, Document)):
            raise DoesNotExist(f"{model.__name__}: no document with _id {document_id!r} is stored")
        return raw

    def migrate_all(self, collection: Any = None, **options: Unpack[RunOptions]) -> MigrationReport:
        """Apply the `allmigrationNN__` rules, in order, to the whole collection.

        The collection is walked in `_id` ranges. In each a rule that reads no document is one
        update on the server; a rule that reads `self.doc` is computed for each matching document,
        1,000 at a time. Each range is noted in the journal; see `RunOptions` for the options.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: for each rule documents matched and modified, seconds, and an error for each
            document that was refused, which gets no later rule; of a run that is resumed, also for
            those that it had refused before and that are still in quarantine.
        :raises RunOptionError: an option has a value that it cannot have.
        :raises RunError: it was called in the transaction of a bound session, or within a
            `pymongo.timeout`.
        :raises CollectionLocked: another run is at work on the collection.
        :raises RuleChanged: the run to resume has begun with other rules.
        :raises RunError: a run that has not finished has applied to a part of the collection a rule
            whose target does not show to which.
        :raises BackupFailed: the backup could not be written.
        :raises MigrationFailed: a rule that writes by itself raised.
        :raises RuleIndexError: with `rule_indexes`, one could not be built; the run has ended.
        :raises pymongo.errors.PyMongoError: the connection or the rights.
        """
        return self._carry_out("bulk", collection, options)

    def migrate_pending(
        self, collection: Any = None, **options: Unpack[RunOptions]
    ) -> MigrationReport:
        """Apply the lazy rules to every document of the collection that needs them.

        The rules run in order, each on all documents that its target matches, those included that
        no match starts on a load. A document that would still match is refused. Rules whose target
        needs the document are tried on documents that fail to load or to validate.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: as from `migrate_all`, and what is raised too.
        """
        return self._carry_out("lazy", collection, options)

    def retry_quarantined(
        self, run_id: Any, collection: Any = None, *, journal: str = JOURNAL
    ) -> MigrationReport:
        """Apply to the documents that a run has refused the rule that failed, and those after it.

        A run that has failed or was stopped must be resumed first, until it has finished: it leaves
        these documents alone.

        :param run_id: the id of the run, as in its report and in `History`.
        :param collection: a PyMongo collection; the model's own if not given.
        :param journal: the name of the journal's collection.
        :return: as from `migrate_all`; documents that succeed leave the quarantine.
        :raises RunNotFound: the journal has no such run over the collection.
        :raises CollectionLocked: a bulk run is at work on the collection.
        :raises RunError: the run has not finished.
        :raises RuleChanged: it is a run of another model, or of a rule that the handler has not.
        """
        self._check("retry_quarantined")
        chosen = self._collection_or(collection)
        if not ObjectId.is_valid(str(run_id)):
            raise RunNotFound(
                f"{self._doc_class.__name__}: {run_id!r} is no run's id",
                collection=str(chosen.full_name),
                run=run_id,
                remedy=Remedy("list_runs"),
            )
        from lazymig.operations.runs.retrying import retry_quarantined  # noqa: PLC0415

        return retry_quarantined(
            chosen, self._plan(), self._is_broken(), ObjectId(str(run_id)), journal
        )

    def preview(
        self,
        collection: Any = None,
        *,
        sample: int = 20,
        scope: Literal["lazy", "bulk"] | None = None,
    ) -> PreviewReport:
        """Report what a run would do: counts, query plans, and samples before and after.

        The rules are tried on copies, in a scratch collection that is dropped afterwards. The
        collection itself is only read.

        :param collection: a PyMongo collection; the model's own if not given.
        :param sample: the most documents to try the rules on; 0 for none.
        :param scope: the rules of one scope alone; `None` for the lazy and then the bulk ones.
        :raises RunOptionError: `sample` or `scope` is invalid.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection, or the right to read.
        """
        self._check("preview")
        chosen = self._collection_or(collection)
        from lazymig.reports.dryrun.preview import preview_of  # noqa: PLC0415

        with without_client_limit(chosen.database):
            return preview_of(
                self._plan(),
                chosen,
                builder=builder_of(self._doc_class),
                sample=sample,
                scope=scope,
            )

    def get_deprecated(
        self, collection: Any = None, journal: str = JOURNAL
    ) -> dict[str, list[str]]:
        """Say which rules may be deleted, because no stored document needs them. Never writes.

        :param collection: a PyMongo collection; the model's own if not given.
        :param journal: the name of the journal's collection.
        :return: `{"deprecated": [...], "active": [...]}`, names of rules in order, lazy ones
            first. Active are the rules that match a document, those that a document in quarantine
            waits for, and those that cannot be asked about, because their target needs a document,
            or because they, or rules before them, are not finished. Where the collection does not
            exist, all are.
        """
        from lazymig.reports.status import active_rules  # noqa: PLC0415

        plan = self._plan()
        active = active_rules(self._collection_or(collection), plan, journal)
        names = [rule.name for rule in (*plan.lazy, *plan.bulk)]
        return {
            "deprecated": [name for name in names if name not in active],
            "active": [
                *(name for name in names if name in active),
                *(rule.name for rule in waiting_rules(type(self))),
            ],
        }

    def get_status(self, collection: Any = None, journal: str = JOURNAL) -> list[RuleStatus]:
        """Count the documents that each rule still matches. Never writes.

        :param collection: a PyMongo collection; the model's own if not given.
        :param journal: the name of the journal's collection, for what is in quarantine.
        :return: one `RuleStatus` for each rule, lazy ones first, each scope in order.
        """
        from lazymig.reports.status import standing_of  # noqa: PLC0415

        return standing_of(self._collection_or(collection), self._plan(), journal)

    def create_rule_indexes(self, collection: Any = None) -> list[RuleIndex]:
        """Build the indexes by which the documents of each rule are found at once.

        MongoDB serves reads and writes meanwhile. What is there already stays.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: as from `rule_indexes`.
        :raises RuleIndexError: one cannot be built, or there is no server; those that this call
            has built are dropped again.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection.
        """
        self._check("create_rule_indexes")
        from lazymig.operations.rule_indexes import build_indexes  # noqa: PLC0415

        chosen = self._collection_or(collection)
        with without_client_limit(chosen.database):
            return build_indexes(chosen, self._plan())

    def drop_rule_indexes(self, collection: Any = None) -> list[str]:
        """Drop the indexes of the rules, and those of rules that are gone.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: the names of the indexes that were dropped.
        :raises RuleIndexError: one cannot be dropped.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection.
        """
        self._check("drop_rule_indexes")
        from lazymig.operations.rule_indexes import drop_indexes  # noqa: PLC0415

        return drop_indexes(self._collection_or(collection), self._plan())

    def rule_indexes(self, collection: Any = None) -> list[RuleIndex]:
        """List the indexes that the rules need, and those that are there. Never writes.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: one `RuleIndex` or more for each rule, lazy ones first, each scope in order; then
            what is left of rules that are gone.
        :raises pymongo.errors.PyMongoError: the connection, or the right to list indexes.
        """
        from lazymig.operations.rule_indexes import indexes_of_rules  # noqa: PLC0415

        return indexes_of_rules(self._collection_or(collection), self._plan())

    def stages(
        self,
        collection: Any = None,
        *,
        reads: Iterable[str] | None = None,
        marks: bool = False,
    ) -> list[dict[str, Any]]:
        """Return the aggregation stages after which each document has today's shape.

        They stand in front of others, on the stored collection: nothing is written. They apply the
        lazy rules that a match starts, in their order, to all documents of the collection that
        these concern, those of subclasses with handlers of their own too.

        A document for which MongoDB would refuse a rule stays as it is stored, as after
        `migrate_pending`. So does one of which only Python, or MongoDB's own attempt, can say what
        a rule makes: a computed rule that is translated for some documents alone, an expression
        that may raise. These have to be migrated before they are shown; `marks` finds them.

        :param collection: what rules find in `self.collection`, if they ask for it.
        :param reads: the paths, in database field names, that the stages after these read; the
            server then fetches and computes no others. Whole documents if not given.
        :param marks: whether each document that is not shown has `{"__lazymig": {"unshown":
            name}}`, with the name of the rule, and others have no such field.
        :raises ShowError: a rule cannot be shown for any document, such as one that is computed in
            Python, or writes the present time.
        """
        from lazymig.odm.showing import shown_rules_of  # noqa: PLC0415
        from lazymig.rules.showing.stages import stages_of  # noqa: PLC0415

        rules = shown_rules_of(type(self), self._doc_class, collection)
        return stages_of(rules, None if reads is None else frozenset(reads), marks=marks)

    def seal(
        self,
        collection: Any = None,
        *,
        rules: Sequence[str] | None = None,
        journal: str = JOURNAL,
    ) -> SealReport:
        """Seal the rules that no document needs any more: MongoDB refuses the old shape then.

        A validator of the collection refuses each write after which a document would match the
        target of a sealed rule. One that is there already is joined with it. As soon as a process
        has learnt of it, a sealed rule is not matched, nor do queries see through it.

        :param collection: a PyMongo collection; the model's own if not given.
        :param rules: the names of rules; all if not given.
        :param journal: the name of the journal's collection, for what is in quarantine.
        :return: the rules that are sealed, and the others with the reason for each.
        :raises SealError: the collection takes no validator that refuses, or there is no right to
            change it (`collMod`), or an open transaction holds it; it is as it was.
        :raises RunOptionError: `rules` names none of the handler's.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection, or the right to read.
        """
        from lazymig.operations.seals import plan_to_seal, seal_rules  # noqa: PLC0415

        self._check("seal")
        plan = plan_to_seal(type(self), self._doc_class)
        return seal_rules(self._collection_or(collection), plan, journal, rules)

    def unseal(
        self, collection: Any = None, *, rules: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Take the seals out of the validator, and leave what else it says as it is.

        Other processes rely on a seal for up to `seal_refresh` seconds more.

        :param collection: a PyMongo collection; the model's own if not given.
        :param rules: the names of rules, also of those that the handler has no more; of other
            models as `Model.rule`. All of this model if not given.
        :return: what was taken out, as `Model.rule`.
        :raises SealError: as from `seal`.
        :raises RunOptionError: a rule of `rules` is not sealed.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection.
        """
        from lazymig.operations.seals import plan_to_seal, unseal_rules  # noqa: PLC0415

        self._check("unseal")
        plan = plan_to_seal(type(self), self._doc_class)
        return unseal_rules(self._collection_or(collection), plan, rules)

    def create_view(self, name: str, collection: Any = None) -> ModelView:
        """Create a view of the collection in today's shape, or bring the one there up to date.

        What reads it needs to know neither the rules nor lazymig, and writes nothing: its pipeline
        has the lazy rules that a match starts as stages. That of a subclass holds the documents of
        this class alone. What later comes to be stored in a form that cannot be shown is left as it
        is stored.

        :param name: that of the view, in the database of the collection. One that lazymig has made
            of this model is given today's rules, without a moment in which it is not there.
        :param collection: a PyMongo collection; the model's own if not given.
        :raises ShowError: a rule cannot be shown.
        :raises ViewError: documents are stored that cannot be shown before they are migrated; the
            name is that of something else; there is no server, or no collection; MongoDB refuses
            it, an open transaction holds it, or there is no right to do it.
        :raises RunOptionError: `name` is no text.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection, or the right to read.
        """
        self._check("create_view")
        from lazymig.operations.views import create_view  # noqa: PLC0415

        chosen = self._collection_or(collection)
        with without_client_limit(chosen.database):
            return create_view(chosen, type(self), self._doc_class, name)

    def drop_view(self, name: str, collection: Any = None) -> None:
        """Drop a view of the collection that lazymig has made.

        :param collection: a PyMongo collection; the model's own if not given.
        :raises ViewError: there is none of this name, or it is something else, or MongoDB refuses
            it, an open transaction holds it, or there is no right to do it.
        :raises RunOptionError: `name` is no text.
        :raises RunError: it was called in the transaction of a bound session.
        :raises pymongo.errors.PyMongoError: the connection.
        """
        self._check("drop_view")
        from lazymig.operations.views import drop_view  # noqa: PLC0415

        drop_view(self._collection_or(collection), self._doc_class, name)

    def views(self, collection: Any = None) -> list[ModelView]:
        """List the views of the collection that lazymig has made. Never writes.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: by name, those of other models of the collection included; each says whether it is
            older than the rules.
        :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
        """
        from lazymig.operations.views import views_of  # noqa: PLC0415

        return views_of(self._collection_or(collection), type(self), self._doc_class)

    def _carry_out(self, scope: Scope, collection: Any, options: RunOptions) -> MigrationReport:
        from lazymig.operations.runs.options import Options  # noqa: PLC0415
        from lazymig.operations.runs.runner import carry_out  # noqa: PLC0415

        # Before the collection is looked up: MongoEngine makes indexes with that.
        self._check("migrate_all" if scope == "bulk" else "migrate_pending")
        return carry_out(
            self._collection_or(collection),
            self._plan(),
            scope,
            Options.of(options),
            self._is_broken(),
        )
