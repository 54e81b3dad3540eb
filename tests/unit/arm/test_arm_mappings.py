"""Network and storage mappings on the surface, beside what was recorded (recorded.md, 10)."""

from typing import Any

import pytest

from service_hub.arm.render_jobs import job_body
from service_hub.domain.jobs import JobState, TaskState
from service_hub.domain.mapping_jobs import MAP_NETWORK, network_job
from service_hub.domain.mapping_records import NetworkMapping
from service_hub.domain.planning import JobIdentity
from service_hub.domain.scenarios import SCENARIOS
from tests.unit.arm.arm_estate import CLASSIFICATION, FABRICS, MACHINE, NETWORK, NOW
from tests.unit.arm.arm_mappings import ends
from tests.unit.arm.conftest import Surface
from wire_contract.vocabulary import Side

MAP = "corp96map"
TARGET = "3e820a25-2f19-429b-b9f9-cdeab5465187"
MAPPING = NetworkMapping(
    id="x",
    vault_id="v",
    name=MAP,
    primary_provider_id="provider-primary",
    primary_network_id=NETWORK,
    recovery_provider_id="provider-recovery",
    recovery_network_id=TARGET,
)


def network(surface: Surface, side: Side, network_id: str) -> str:
    return f"{surface.vault}/replicationFabrics/{FABRICS[side]}/replicationNetworks/{network_id}"


def wanted(surface: Surface, **changes: Any) -> dict[str, Any]:
    """Return the recorded body."""
    properties = {
        "recoveryFabricName": FABRICS[Side.RECOVERY],
        "recoveryNetworkId": network(surface, Side.RECOVERY, TARGET),
        "fabricSpecificDetails": {"instanceType": "VmmToVmm"},
        **changes,
    }
    return {"properties": properties}


def path_of(surface: Surface) -> str:
    return f"{network(surface, Side.PRIMARY, NETWORK)}/replicationNetworkMappings/{MAP}"


async def test_a_network_mapping_lives_as_recorded(surface: Surface) -> None:
    path = path_of(surface)
    made = await surface.ask("PUT", path, json=wanted(surface))
    assert made.status == 202
    assert "/operationresults/" in made.headers["Location"]
    body = await surface.body(path)
    assert body["id"].lower().endswith(path.lower().partition("/providers/")[2])
    assert body["properties"] | {"primaryNetworkFriendlyName": ""} == {
        "state": "Paired",
        "primaryNetworkFriendlyName": "",
        "primaryNetworkId": body["id"].rpartition("/replicationNetworkMappings")[0],
        "primaryFabricFriendlyName": "vmm.primary.example",
        "recoveryNetworkFriendlyName": body["properties"]["recoveryNetworkFriendlyName"],
        "recoveryNetworkId": body["properties"]["recoveryFabricArmId"]
        + f"/replicationNetworks/{TARGET}",
        "recoveryFabricArmId": body["properties"]["recoveryFabricArmId"],
        "recoveryFabricFriendlyName": "vmm.recovery.example",
        "fabricSpecificSettings": {"instanceType": "VmmToVmm"},
    }
    listed = [f"{surface.vault}/replicationNetworkMappings", path.rpartition("/")[0]]
    for each in listed:
        assert [row["name"] for row in (await surface.body(each))["value"]] == [MAP]
    changed = await surface.ask("PATCH", path, json={"properties": {}})
    assert changed.status == 202
    gone = await surface.ask("DELETE", path)
    assert gone.status == 202
    assert (await surface.ask("GET", path)).status == 404
    assert (await surface.ask("DELETE", path)).status == 404


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"fabricSpecificDetails": {"instanceType": "VmmToAzure"}}, "instanceType"),
        ({"recoveryNetworkId": "nowhere"}, "recoveryNetworkId"),
        ({"recoveryNetworkId": None}, "recoveryNetworkId"),
        ({"recoveryFabricName": "Microsoft Azure"}, "recoveryFabricName"),
    ],
)
async def test_what_is_no_mapping_between_two_servers_is_refused(
    surface: Surface, changes: dict[str, Any], target: str
) -> None:
    answer = await surface.ask("PUT", path_of(surface), json=wanted(surface, **changes))
    assert answer.status == 400
    assert target in (await answer.json())["error"]["target"]


async def test_a_storage_mapping_lives(surface: Surface) -> None:
    def classification(side: Side) -> str:
        kind = f"replicationStorageClassifications/{CLASSIFICATION}"
        return f"{surface.vault}/replicationFabrics/{FABRICS[side]}/{kind}"

    mappings = f"{classification(Side.PRIMARY)}/replicationStorageClassificationMappings"
    body = {"properties": {"targetStorageClassificationId": classification(Side.RECOVERY)}}
    assert (await surface.ask("PUT", f"{mappings}/fast", json=body)).status == 202
    shown = await surface.body(f"{mappings}/FAST")
    target = shown["properties"]["targetStorageClassificationId"]
    assert target.lower().endswith(classification(Side.RECOVERY).lower().partition("/vaults/")[2])
    everywhere = f"{surface.vault}/replicationStorageClassificationMappings"
    for each in (mappings, everywhere):
        assert [row["name"] for row in (await surface.body(each))["value"]] == ["fast"]
    assert (await surface.ask("DELETE", f"{mappings}/fast")).status == 202
    assert (await surface.body(mappings))["value"] == []


async def test_the_attaching_group_reads_as_recorded(surface: Surface) -> None:
    job = network_job(
        MAP_NETWORK,
        MAPPING,
        ends(surface.hub, MAPPING),
        {MACHINE: ("efc7d023-4792-46c9-b487-48a48c3c562f",)},
        JobIdentity("963306b1-e80d-41c1-8098-7fac7ffe7834", "a", NOW),
    )
    vault = next(iter(surface.hub.vaults.values()))
    before = job_body(vault, job, {})["properties"]
    assert (before["scenarioName"], before["friendlyName"]) == ("NetworkPairing", "Map Networks")
    assert before["targetInstanceType"] == "Network"
    assert before["customDetails"]["affectedObjectDetails"]["primaryNetworkId"] == NETWORK
    _, group = before["tasks"]
    assert (group["name"], group["friendlyName"]) == (
        "VMNetworksUpdateVMNicsTask",
        "Attach network (0)",
    )
    assert group["groupTaskCustomDetails"] == {
        "instanceType": "GroupTaskDetails",
        "childTasks": [],
    }
    first, second = job.tasks
    running = job.model_copy(
        update={"tasks": (first, second.model_copy(update={"state": TaskState.SUCCEEDED}))}
    )
    child = job.model_copy(
        update={
            "id": "c317dab5-c5e7-4686-bfa5-c91c838910ee",
            "scenario_key": "update_networks",
            "own_specs": (),
            "tasks": (),
            "state": JobState.SUCCEEDED,
            "parent_task": second.task_id,
            "item_id": MACHINE,
            "target_object_name": "VM1",
        }
    )
    assert child.scenario is SCENARIOS["update_networks"]
    _, group = job_body(vault, running, {}, (child,))["properties"]["tasks"]
    assert (group["taskType"], group["friendlyName"]) == ("GroupTaskDetails", "Attach network (1)")
    (adapter,) = group["groupTaskCustomDetails"]["childTasks"]
    assert (adapter["name"], adapter["friendlyName"]) == ("VmNicUpdateJob", "VM1")
    assert adapter["taskType"] == "VmNicUpdatesTaskDetails"
    assert adapter["customDetails"] == {
        "instanceType": "VmNicUpdatesTaskDetails",
        "vmId": MACHINE,
        "nicId": "efc7d023-4792-46c9-b487-48a48c3c562f",
        "name": "VM1",
    }
