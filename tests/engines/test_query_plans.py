"""The plan of a query, in the forms in which servers explain one."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import BooleanField, Document, IntField
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin
from lazymig.engines.query_plans import UNKNOWN, stages_in, summary_of
from lazymig.odm.plans import plan_for
from lazymig.reports import query_plans

SCAN = {"stage": "COLLSCAN", "filter": {"a": {"$eq": 1}}, "direction": "forward"}


def fetched(name: str, **more: Any) -> dict[str, Any]:
    """A stage that fetches what a scan of an index finds."""
    scan = {
        "stage": "IXSCAN",
        "keyPattern": {name: 1},
        "indexName": f"{name}_1",
        "isMultiKey": False,
        "multiKeyPaths": {name: []},
        "isPartial": False,
        "indexVersion": 2,
        "direction": "forward",
        "indexBounds": {name: ["[1, 1]"]},
        **more,
    }
    return {"stage": "FETCH", **more, "inputStage": scan}


def planned(winning: Any, **more: Any) -> dict[str, Any]:
    """What is known of a plan, as all versions word it, beside plans that were not chosen."""
    return {
        "namespace": "shop.order",
        "indexFilterSet": False,
        "parsedQuery": {"stage": {"$eq": "COLLSCAN"}},
        **more,
        "winningPlan": winning,
        "rejectedPlans": [{"stage": "FETCH", "inputStage": {"stage": "IXSCAN", "indexName": "no"}}],
    }


def slots(plan: Any, **more: Any) -> dict[str, Any]:
    """A plan of the slot-based engine: the stages of a text of its own are not for us."""
    text = {"slots": "$$RESULT=s13 $$RID=s14", "stages": "[2] nlj [] [s9, s5] \n left"}
    return {**more, "queryPlan": plan, "slotBasedPlan": text}


def shard(name: str, plan: Any) -> dict[str, Any]:
    """What a router has heard from a shard."""
    server = {"host": name, "port": 27018, "version": "7.0.0", "gitVersion": "0"}
    return {"shardName": name, "connectionString": name, "serverInfo": server, **planned(plan)}


AROUND: dict[str, Any] = {
    "command": {"find": "order", "filter": {"queryPlanner": 1, "stages": []}, "$db": "shop"},
    "serverInfo": {"host": "db", "port": 27017, "version": "0", "gitVersion": "0"},
    "ok": 1.0,
}

OR = {
    "stage": "SUBPLAN",
    "inputStage": {
        "stage": "FETCH",
        "inputStage": {"stage": "OR", "inputStages": [fetched("a")["inputStage"], SCAN]},
    },
}

A = [("IXSCAN", "a_1")]
WHOLE = [("COLLSCAN", "")]
NONE = [(UNKNOWN, "")]

# As the manual of each version words them.
RECORDED: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "4.4": ({"queryPlanner": planned(fetched("a"), plannerVersion=1), **AROUND}, A),
    "4.4 scan": ({"queryPlanner": planned(SCAN, plannerVersion=1), **AROUND}, WHOLE),
    "5.0": ({"explainVersion": "1", "queryPlanner": planned(fetched("a")), **AROUND}, A),
    "5.1 slots": (
        {"explainVersion": "2", "queryPlanner": planned(slots(fetched("a", planNodeId=1)))},
        A,
    ),
    "6.0 classic": (
        {"explainVersion": "1", "queryPlanner": planned(OR), **AROUND},
        [*A, *WHOLE],
    ),
    "7.0 slots": (
        {"explainVersion": "2", "queryPlanner": planned(slots(OR)), **AROUND},
        [*A, *WHOLE],
    ),
    "8.0 classic": (
        {"explainVersion": "1", "queryPlanner": planned({"isCached": False, **fetched("a")})},
        A,
    ),
    "8.0 slots": (
        {"explainVersion": "2", "queryPlanner": planned(slots(SCAN, isCached=False)), **AROUND},
        WHOLE,
    ),
    "8.0 express": (
        {"queryPlanner": planned({"stage": "EXPRESS_IXSCAN", "indexName": "_id_"}), **AROUND},
        [("EXPRESS_IXSCAN", "_id_")],
    ),
    "no such collection": ({"queryPlanner": planned({"stage": "EOF"}), **AROUND}, [("EOF", "")]),
    "a view": (
        {"stages": [{"$cursor": {"queryPlanner": planned(SCAN)}}, {"$project": {"a": 1}}]},
        WHOLE,
    ),
    "a view, slots": (
        {
            "explainVersion": "2",
            "stages": [{"$cursor": {"queryPlanner": planned(slots(fetched("a")))}}, {"$set": {}}],
            **AROUND,
        },
        A,
    ),
    "one shard": (
        {
            "queryPlanner": {
                "mongosPlannerVersion": 1,
                "winningPlan": {"stage": "SINGLE_SHARD", "shards": [shard("one", fetched("a"))]},
            },
            **AROUND,
        },
        A,
    ),
    "shards": (
        {
            "queryPlanner": {
                "winningPlan": {
                    "stage": "SHARD_MERGE",
                    "shards": [
                        shard("one", {"stage": "SHARDING_FILTER", "inputStage": fetched("a")}),
                        shard("two", slots({"stage": "SHARDING_FILTER", "inputStage": SCAN})),
                    ],
                }
            },
            **AROUND,
        },
        [*A, *WHOLE],
    ),
    "a view of shards": (
        {
            "mergeType": "mongos",
            "splitPipeline": {"shardsPart": [{"$match": {}}], "mergerPart": []},
            "shards": {
                "one": {
                    "host": "one:27018",
                    "stages": [{"$cursor": {"queryPlanner": planned(fetched("a"))}}, {"$set": {}}],
                },
                "two": {"host": "two:27018", "queryPlanner": planned(slots(SCAN))},
            },
            **AROUND,
        },
        [*A, *WHOLE],
    ),
    "shards of partitions": (
        {
            "queryPlanner": {
                "elasticPlannerVersion": 1,
                "winningPlan": {
                    "stage": "SINGLE_SHARD",
                    "shards": [
                        {
                            "winningPlan": {
                                "stage": "SHARD_MERGE",
                                "shards": [
                                    shard("1", {"stage": "PARTITION_MERGE", "inputStages": [SCAN]})
                                ],
                            }
                        }
                    ],
                },
            }
        },
        WHOLE,
    ),
}

# What emulations, and servers of later versions, may say instead.
OTHER: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "nothing": ({"ok": 1.0}, NONE),
    "an empty planner": ({"queryPlanner": {}}, NONE),
    "no winner": ({"queryPlanner": {"namespace": "shop.order"}}, NONE),
    "another planner": (
        {"queryPlanner": {"Plan": {"Node Type": "Seq Scan", "Plans": []}}, "explainVersion": "1"},
        NONE,
    ),
    "several planners": ({"queryPlanner": [{"Plan": {"Node Type": "Seq Scan"}}]}, NONE),
    "no planner": ({"queryPlanner": None}, NONE),
    "a text": ({"queryPlanner": {"winningPlan": "(a seq scan)"}}, NONE),
    "a stage with no name": ({"queryPlanner": {"winningPlan": {"stage": 7}}}, NONE),
    "stages with no plan": (
        {"stages": [{"stage": "$query", "details": {"indexUsage": {"pathsIndexed": {}}}}]},
        NONE,
    ),
    "a search": ({"stages": [{"$_internalSearchMongotRemote": {"mongotQuery": {}}}]}, NONE),
    "no stages": ({"stages": []}, NONE),
    "stages in no list": ({"stages": {"$cursor": {}}}, NONE),
    "no shards": ({"queryPlanner": {"winningPlan": {"stage": "SHARD_MERGE", "shards": []}}}, NONE),
    "a shard that does not say": (
        {
            "queryPlanner": {
                "winningPlan": {
                    "stage": "SHARD_MERGE",
                    "shards": [shard("one", fetched("a")), {"shardName": "two"}],
                }
            }
        },
        [*A, *NONE],
    ),
}


@pytest.mark.parametrize(("answer", "stages"), RECORDED.values(), ids=RECORDED.keys())
def test_the_stages_that_read_are_found(answer: Any, stages: list[tuple[str, str]]) -> None:
    """Whatever the version, engine and deployment, the scans of the winning plan are known."""
    assert stages_in(answer) == stages


@pytest.mark.parametrize(("answer", "stages"), OTHER.values(), ids=OTHER.keys())
def test_another_form_is_an_unknown_plan(answer: Any, stages: list[tuple[str, str]]) -> None:
    """What is explained in an unknown form is an unknown plan, and so is a part of one."""
    assert stages_in(answer) == stages


def test_the_summary_says_what_is_unknown() -> None:
    """In words, an unknown part stands beside what is known."""
    assert summary_of([*A, *NONE]) == "IXSCAN a_1, unknown plan"


class Migration(DocumentMigration):
    def migration01__enable(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}


class TestReaders:
    """Everything that looks at a plan, on a server that explains it in a form of its own."""

    @pytest.fixture
    def posts(self, mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
        """A model whose server does so."""
        command = Database.command

        def emulated(self: Any, command_: Any, *args: Any, **options: Any) -> Any:
            if "explain" in command_:
                return {"queryPlanner": {"Plan": {"Node Type": "Seq Scan"}}, "ok": 1.0}
            return command(self, command_, *args, **options)

        class Post(LazyMigrationMixin, Document):
            key = IntField(primary_key=True)
            enabled = BooleanField()
            migration_handler = Migration
            meta = {"collection": "post"}

        mongoengine_db["post"].insert_one({"_id": 1})
        monkeypatch.setattr(Database, "command", emulated)
        return Post

    def test_preview(self, posts: Any) -> None:
        """A preview has the counts and the sample, and an unknown plan."""
        (previewed,) = (report := Migration(posts).preview()).rules
        assert (previewed.remaining, len(report.samples)) == (1, 1)
        assert previewed.plan is not None
        assert (previewed.plan.summary, previewed.plan.indexes) == (UNKNOWN, ())
        assert "plan: unknown plan" in str(report)

    def test_explain_migration(self, posts: Any) -> None:
        """A queryset says what is sent, and that the plan is unknown."""
        assert "Plan: unknown plan." in posts.objects(enabled=True).explain_migration()

    def test_scan_warnings(self, posts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody is warned of a scan that is not known."""
        monkeypatch.setattr(query_plans, "LARGE", 0)
        plan = plan_for(Migration, posts)
        assert query_plans.scan_warnings(posts._get_collection(), plan) == {}
