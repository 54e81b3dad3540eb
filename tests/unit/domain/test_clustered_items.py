"""What a hub says of clusters when a replica is placed and enabled: the brokers of both ends."""

from pydantic import JsonValue

from service_hub.domain.arguments import arguments_of
from service_hub.domain.job_events import Dispatch
from service_hub.domain.jobs import Job
from service_hub.domain.planning import ItemPlan, JobIdentity, plan_item_job
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ReplicationPolicy
from tests.support.item_walk import NOW, item_in, provider
from tests.support.site_views import machine
from wire_contract.vocabulary import Side, Verb

BROKER = "cluster-broker.tokyo.example"
PLACED = {"replica_host": "host1.osaka.example", "replica_port": 8084}


def enabling(broker: str | None) -> Job:
    policy = ReplicationPolicy(id="p", vault_id="v", name="p", provider_type="HyperVReplica2012R2")
    item = item_in(ProtectionState.UNPROTECTED, Side.PRIMARY)
    plan = ItemPlan(
        item, policy, provider("a"), provider("b"), {}, machine("i", "tokyo"), primary_broker=broker
    )
    return plan_item_job(plan, Operation.ENABLE, {}, JobIdentity("j", "activity", NOW))


def told(job: Job, verb: Verb) -> dict[str, JsonValue]:
    return dict(arguments_of(job, Dispatch("task", Side.PRIMARY, 1, verb, NOW)))


def test_placing_names_the_broker_of_the_primarys_cluster_where_there_is_one() -> None:
    assert told(enabling(BROKER), Verb.PLACE_REPLICA)["primary_broker"] == BROKER
    assert "primary_broker" not in told(enabling(None), Verb.PLACE_REPLICA)


def test_enabling_is_told_the_broker_that_the_replica_was_placed_behind() -> None:
    job = enabling(None)
    for placed in (PLACED, {**PLACED, "replica_broker": "cluster-broker.osaka.example"}):
        known = job.model_copy(
            update={"context": {**job.context, "result:CreateProtectionTargetTask": placed}}
        )
        asked = told(known, Verb.ENABLE_REPLICATION)
        assert {name: asked[name] for name in placed} == placed
        assert ("replica_broker" in asked) == ("replica_broker" in placed)
