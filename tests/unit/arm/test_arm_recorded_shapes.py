"""Our answers beside the recorded ones: every recorded field, or a reason why not."""

from typing import Any

import pytest

from service_hub.domain.jobs import JobState, TaskState
from service_hub.domain.protection import ProtectionState, TestState
from service_hub.domain.records import CurrentScenario
from tests.unit.arm.arm_estate import (
    CLASSIFICATION,
    CLOUDS,
    FABRICS,
    FREE_CLOUD,
    LOGICAL_NETWORK,
    MACHINE,
    MAPPING,
    NETWORK,
    NOW,
    POINT,
    POLICY,
    REPLICA,
)
from tests.unit.arm.conftest import Surface
from tests.unit.arm.recorded_bodies import RECORDED
from wire_contract.vocabulary import Side

NICS = "protected_item.properties.providerSpecificDetails.vmNics"
LEFT_OUT = {
    "fabric.properties.failoverHealthErrorDetails": "field of 2017, unknown to the 2025 models",
    "fabric.properties.encryptionDetails.kekCertExpiryDate": "no key encryption between two sites",
    "protected_item.properties.replicationHealthErrors": "of 2017; healthErrors since 2021",
    "protected_item.properties.failoverHealthErrors": "of 2017; healthErrors since 2021",
    f"{NICS}.vMSubnetName": "of 2017; in ipConfigs since 2021",
    f"{NICS}.recoveryVMSubnetName": "of 2017; in ipConfigs since 2021",
    f"{NICS}.ipAddressType": "of 2017; in ipConfigs since 2021",
    f"{NICS}.primaryNicStaticIPAddress": "of 2017; in ipConfigs since 2021",
    f"{NICS}.replicaNicStaticIPAddress": "of 2017; in ipConfigs since 2021",
}
"""What recorded bodies have and ours leave out, and why."""


def fields(value: Any, place: str) -> set[str]:
    """Return the dotted names of all fields; entries of a list count as one."""
    match value:
        case dict():
            below = {name: fields(part, f"{place}.{name}") for name, part in value.items()}
            return {f"{place}.{name}" for name in value} | set().union(*below.values())
        case list():
            return set().union(*(fields(part, place) for part in value)) if value else set()
        case _:
            return set()


def paths_of(surface: Surface) -> dict[str, str]:
    """Return where our body of each recorded kind is."""
    return {
        "policy": f"{surface.vault}/replicationPolicies/{POLICY}",
        "fabric": surface.fabric,
        "container": surface.container,
        "mapping": f"{surface.container}/replicationProtectionContainerMappings/{MAPPING}",
        "network": f"{surface.fabric}/replicationNetworks/{NETWORK}",
        "protectable_item": f"{surface.container}/replicationProtectableItems/{MACHINE}",
        "protected_item": surface.item,
    }


@pytest.mark.parametrize("kind", [kind for kind in RECORDED if kind != "job"])
async def test_every_recorded_field_is_there(surface: Surface, kind: str) -> None:
    surface.hub.items[MACHINE] = surface.hub.items[MACHINE].model_copy(
        update={"last_test_failover_at": NOW}
    )
    body = await surface.body(paths_of(surface)[kind])
    missing = fields(RECORDED[kind], kind) - fields(body, kind)
    assert missing <= set(LEFT_OUT), missing - set(LEFT_OUT)
    assert str(body["id"]).startswith("/Subscriptions/")
    assert body["type"] == RECORDED[kind]["type"]


async def test_a_policy_reads_as_recorded(surface: Surface) -> None:
    body = await surface.body(f"{surface.vault}/replicationPolicies/{POLICY.lower()}")
    recorded = RECORDED["policy"]["properties"]
    ours = body["properties"]
    changed = {"replicationPort": 8084, "allowedAuthenticationType": 2}
    assert ours["providerSpecificDetails"] == recorded["providerSpecificDetails"] | changed


async def test_a_2012_policy_has_no_frequency(surface: Surface) -> None:
    properties = {
        "providerSpecificInput": {
            "instanceType": "HyperVReplica2012",
            "recoveryPoints": 3,
            "compression": "Enable",
            "replicaDeletion": "NotRequired",
        }
    }
    path = f"{surface.vault}/replicationPolicies/old"
    response = await surface.ask("PUT", path, json={"properties": properties})
    assert response.status == 202
    details = (await surface.body(path))["properties"]["providerSpecificDetails"]
    assert "replicationFrequencyInSeconds" not in details
    assert (details["compression"], details["recoveryPoints"]) == ("Enabled", 3)


async def test_clouds_show_their_pairing(surface: Surface) -> None:
    body = await surface.body(f"{surface.vault}/replicationProtectionContainers")
    shown = {
        each["name"]: (
            each["properties"]["pairingStatus"],
            each["properties"]["role"],
            each["properties"]["protectedItemCount"],
        )
        for each in body["value"]
    }
    assert shown == {
        CLOUDS[Side.PRIMARY]: ("Paired", "Primary", 1),
        FREE_CLOUD: ("NotPaired", "", 0),
        CLOUDS[Side.RECOVERY]: ("Paired", "Recovery", 0),
    }
    assert body["nextLink"] is None


async def test_a_mapping_is_listed_under_both_clouds_with_one_id(surface: Surface) -> None:
    listed = []
    for side in Side:
        cloud = (
            f"{surface.vault}/replicationFabrics/{FABRICS[side]}"
            f"/replicationProtectionContainers/{CLOUDS[side]}"
        )
        body = await surface.body(f"{cloud}/replicationProtectionContainerMappings")
        listed.append([each["id"] for each in body["value"]])
    assert listed[0] == listed[1]
    assert CLOUDS[Side.PRIMARY] in listed[0][0]


async def test_the_replica_is_not_offered_for_protection(surface: Surface) -> None:
    for side, names in ((Side.PRIMARY, [MACHINE]), (Side.RECOVERY, [])):
        cloud = (
            f"{surface.vault}/replicationFabrics/{FABRICS[side]}"
            f"/replicationProtectionContainers/{CLOUDS[side]}"
        )
        body = await surface.body(f"{cloud}/replicationProtectableItems")
        assert [each["name"] for each in body["value"]] == names


async def test_what_lies_in_a_fabric_is_listed_and_found(surface: Surface) -> None:
    for kind, name in (
        ("replicationNetworks", NETWORK),
        ("replicationLogicalNetworks", LOGICAL_NETWORK),
        ("replicationStorageClassifications", CLASSIFICATION),
    ):
        listed = await surface.body(f"{surface.fabric}/{kind}")
        assert [each["name"] for each in listed["value"]] == [name]
        single = await surface.body(f"{surface.fabric}/{kind}/{name.upper()}")
        assert single == listed["value"][0]


async def test_a_provider_is_named_as_its_server(surface: Surface) -> None:
    body = await surface.body(f"{surface.vault}/replicationRecoveryServicesProviders")
    first = body["value"][0]
    assert first["name"] == first["properties"]["machineId"]
    assert first["properties"]["connectionStatus"] == "Connected"
    assert first["properties"]["lastHeartBeat"] == "2026-03-04T13:54:53.5590950Z"
    assert await surface.body(first["id"]) == first


# ------------------------------------------------------------------------------------------ items

STEADY = ["PlannedFailover", "UnplannedFailover", "DisableProtection", "TestFailover"]


@pytest.mark.parametrize(
    ("state", "shown", "description", "allowed"),
    [
        (ProtectionState.PROTECTED, "Protected", "Protected", STEADY),
        (
            ProtectionState.TEST_OPEN,
            "Protected",
            "Cleanup test failover pending",
            ["TestFailoverCleanup"],
        ),
        (
            ProtectionState.PLANNED_FAILED_OVER,
            "PlannedFailoverCommitRequired",
            "Planned failover finished",
            ["ReverseReplicate", "Commit", "DisableProtection", "ChangePit", "CancelFailover"],
        ),
        (
            ProtectionState.UNPLANNED_COMMITTED,
            "UnplannedFailoverStatesBegin",
            "Failover committed",
            ["ReverseReplicate", "DisableProtection"],
        ),
        (
            ProtectionState.PLANNED_FAILING_OVER,
            "PlannedFailoverInProgress",
            "Planned failover in progress",
            [],
        ),
    ],
)
async def test_an_item_shows_its_state_and_what_is_allowed(
    surface: Surface, state: ProtectionState, shown: str, description: str, allowed: list[str]
) -> None:
    item = surface.hub.items[MACHINE]
    surface.hub.items[MACHINE] = item.model_copy(update={"state": state})
    properties = (await surface.body(surface.item))["properties"]
    details = properties["providerSpecificDetails"]
    assert properties["protectionState"] == details["vmProtectionState"] == shown
    assert properties["protectionStateDescription"] == description
    assert details["vmProtectionStateDescription"] == description
    assert properties["allowedOperations"] == allowed


async def test_an_idle_item_has_the_recorded_unset_values(surface: Surface) -> None:
    properties = (await surface.body(surface.item))["properties"]
    scenario = properties["currentScenario"]
    assert scenario["scenarioName"] == "None"
    assert scenario["jobId"].endswith("/replicationJobs/None")
    assert scenario["startTime"] == "1753-01-01T01:01:01Z"
    assert properties["failoverRecoveryPointId"] == ""
    assert "lastSuccessfulFailoverTime" not in properties
    assert properties["testFailoverState"] == properties["testFailoverStateDescription"] == "None"
    details = properties["providerSpecificDetails"]
    assert details["initialReplicationDetails"] == {
        "initialReplicationType": "OverNetwork",
        "initialReplicationProgressPercentage": "41",
    }
    assert details["lastReplicatedTime"] == "2026-03-04T13:54:33Z"
    assert details["vmNics"][0]["replicaNicId"] == "51c5a87f-68e6-4740-89fe-811e6d22f36r"
    assert details["vMDiskDetails"][0]["maxSizeMB"] == 1024
    assert (properties["replicationHealth"], properties["healthErrors"]) == ("Normal", [])


async def test_a_busy_item_names_its_job(surface: Surface) -> None:
    busy = {
        "current": CurrentScenario(scenario_name="CommitFailover", job_id="j1", started_at=NOW),
        "test_state": TestState.MARKED_FOR_DELETION,
        "last_failover_at": NOW,
    }
    surface.hub.items[MACHINE] = surface.hub.items[MACHINE].model_copy(update=busy)
    properties = (await surface.body(surface.item))["properties"]
    assert properties["currentScenario"]["scenarioName"] == "CommitFailover"
    assert properties["currentScenario"]["jobId"].endswith("/replicationJobs/j1")
    assert properties["testFailoverState"] == "MarkedForDeletion"
    assert properties["testFailoverStateDescription"] == "Cleaning up test environment"
    assert properties["lastSuccessfulFailoverTime"] == "2026-03-04T13:54:53.5590950Z"


async def test_recovery_points_are_those_of_the_replica(surface: Surface) -> None:
    listed = (await surface.body(f"{surface.item}/recoveryPoints"))["value"]
    assert [each["name"] for each in listed] == [POINT]
    assert listed[0]["properties"]["recoveryPointType"] == "CrashConsistent"
    assert await surface.body(f"{surface.item}/recoveryPoints/{POINT.upper()}") == listed[0]
    missing = await surface.ask("GET", f"{surface.item}/recoveryPoints/none")
    assert missing.status == 404


# ------------------------------------------------------------------------------------------- jobs


async def _job(surface: Surface, verb: str, properties: dict[str, Any] | None) -> dict[str, Any]:
    body = None if properties is None else {"properties": properties}
    response = await surface.ask("POST", f"{surface.item}/{verb}", json=body)
    assert response.status == 202
    job_id = response.headers["Location"].split("/")[-1].split("?")[0]
    return await surface.body(f"{surface.vault}/replicationJobs/{job_id}")


FORWARD = {"failoverDirection": "PrimaryToRecovery"}


async def test_a_running_job_reads_as_recorded(surface: Surface) -> None:
    job = await _job(surface, "plannedFailover", FORWARD)
    recorded = RECORDED["job"]
    assert fields(recorded, "job") - fields(job, "job") == set()
    ours, theirs = job["properties"], recorded["properties"]
    names = ("taskId", "name", "friendlyName", "taskType", "customDetails", "errors", "startTime")
    for our_task, their_task in zip(ours["tasks"], theirs["tasks"], strict=True):
        assert [our_task[name] for name in names] == [their_task[name] for name in names]
        assert (our_task["state"], our_task["stateDescription"]) == ("NotStarted", "NotStarted")
    for name in ("scenarioName", "friendlyName", "state", "stateDescription", "targetInstanceType"):
        assert ours[name] == theirs[name]
    assert "endTime" not in ours
    assert ours["allowedActions"] == ["Cancel"]
    assert ours["startTime"] == "2026-03-04T13:54:53.5590950Z"
    affected = ours["customDetails"]["affectedObjectDetails"]
    assert (affected["primaryVmId"], affected["recoveryVmId"]) == (MACHINE, REPLICA)


async def test_an_ended_job_has_whole_seconds_and_its_own_request_id(surface: Surface) -> None:
    first = await _job(surface, "plannedFailover", FORWARD)
    response = await surface.ask("GET", first["id"])
    job = await response.json()
    assert response.headers.getall("x-ms-request-id") == [job["id"]]
    assert job["properties"]["endTime"] == "2026-03-04T13:54:55Z"
    assert (job["properties"]["state"], job["properties"]["stateDescription"]) == (
        "Succeeded",
        "Completed",
    )
    assert job["properties"]["tasks"][0]["endTime"] == "2026-03-04T13:54:54.5590950Z"
    assert job["properties"]["customDetails"]["protectedItemDetails"] == []


async def test_a_skipped_task_is_other_and_a_failed_job_carries_both_errors(
    surface: Surface,
) -> None:
    surface.hub.fail_jobs = True
    first = await _job(surface, "plannedFailover", FORWARD)
    stored = surface.hub.jobs[first["name"]]
    tasks = (
        *stored.tasks[:-1],
        stored.tasks[-1].model_copy(
            update={"state": TaskState.SKIPPED, "started_at": None, "ended_at": None}
        ),
    )
    surface.hub.jobs[stored.id] = stored.model_copy(update={"tasks": tasks})
    properties = (await surface.body(first["id"]))["properties"]
    last = properties["tasks"][-1]
    assert (last["state"], last["stateDescription"]) == ("Other", "Skipped")
    assert last["endTime"] == "0001-01-01T00:00:00"
    (error,) = properties["errors"]
    assert error["serviceErrorDetails"]["code"] == "28020"
    assert error["serviceErrorDetails"]["activityId"] == properties["activityId"]
    assert error["providerErrorDetails"]["errorCode"] == 32775
    assert error["taskId"] == "PlannedFailoverPreflightChecksTask"
    assert error["errorLevel"] == "Error"
    again = (await surface.body(first["id"]))["properties"]["errors"]
    assert again == [error]


@pytest.mark.parametrize("connected", [True, False])
async def test_a_test_job_shows_the_test_machine_at_its_end(
    surface: Surface, connected: bool
) -> None:
    properties = dict(FORWARD, networkType="NoNetworkAttachAsInput")
    network = f"{surface.vault}/replicationFabrics/{FABRICS[Side.RECOVERY]}/replicationNetworks"
    if connected:
        properties |= {"networkType": "VmNetworkAsInput", "networkId": f"{network}/{NETWORK}"}
    running = await _job(surface, "testFailover", properties)
    details = running["properties"]["customDetails"]
    assert details["instanceType"] == "TestFailoverJobDetails"
    assert details["protectedItemDetails"] == []
    assert details["testFailoverStatus"] == "Active"
    ended = (await surface.body(running["id"]))["properties"]["customDetails"]
    (machine,) = ended["protectedItemDetails"]
    assert machine["testVmName"] == "9b415dd8-c776-5a00-b398-92935005696d"
    assert machine["testVmFriendlyName"] == "VM1 - Test"
    assert machine["networkConnectionStatus"] == ("Connected" if connected else "Disconnected")
    assert machine["networkFriendlyName"] == ("corp" if connected else "")
    assert ended["networkName"] == (NETWORK if connected else "")
    assert ended["networkType"] == properties["networkType"]


async def test_a_clean_up_job_keeps_the_comments(surface: Surface) -> None:
    item = surface.hub.items[MACHINE]
    surface.hub.items[MACHINE] = item.model_copy(update={"state": ProtectionState.TEST_OPEN})
    job = await _job(surface, "testFailoverCleanup", {"comments": "all well"})
    details = job["properties"]["customDetails"]
    assert (details["comments"], details["testFailoverStatus"]) == ("all well", None)
    assert details["networkName"] is details["networkType"] is None


async def test_listed_jobs_come_newest_first_and_without_details(surface: Surface) -> None:
    await _job(surface, "plannedFailover", FORWARD)
    surface.hub.end(next(iter(surface.hub.jobs.values())))
    await _job(surface, "failoverCommit", None)
    listed = (await surface.body(f"{surface.vault}/replicationJobs"))["value"]
    names = [each["properties"]["scenarioName"] for each in listed]
    assert names == ["CommitFailover", "PlannedFailover"]
    for each in listed:
        properties = each["properties"]
        assert (properties["tasks"], properties["errors"]) == ([], [])
        assert properties["activityId"] is properties["customDetails"] is None


async def test_every_job_state_is_shown(surface: Surface) -> None:
    running = await _job(surface, "plannedFailover", FORWARD)
    special = {"Succeeded": "Completed", "Suspended": "WaitingForManualAction"}
    for state in JobState:
        stored = surface.hub.jobs[running["name"]]
        surface.hub.jobs[stored.id] = stored.model_copy(update={"state": state})
        surface.hub.finish_jobs = False
        properties = (await surface.body(running["id"]))["properties"]
        assert properties["state"] == state.value
        assert properties["stateDescription"] == special.get(state.value, state.value)
