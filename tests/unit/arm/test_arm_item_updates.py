"""Changing the networks of an item, and resolving its health errors, at the surface."""

from typing import Any

import pytest

from service_hub.arm.item_health import resolvable
from service_hub.domain.protection import Operation
from tests.unit.arm.arm_estate import FABRICS, MACHINE, machine
from tests.unit.arm.conftest import Surface, error_of
from wire_contract.vocabulary import Side

NIC = machine(Side.PRIMARY, replicated=True).nics[0].nic_id
USER = "SelectedByUser"


def recovery_network(surface: Surface) -> str:
    """Return the id of the recovery server's network, as this surface gives it."""
    inventory = surface.hub.fabric(Side.RECOVERY).inventory
    assert inventory is not None
    network = inventory.view.networks[0].network_id
    return (
        f"{surface.vault}/replicationFabrics/{FABRICS[Side.RECOVERY]}/replicationNetworks/{network}"
    )


def body(network: str | None, **nic: Any) -> dict[str, Any]:
    """Return a PATCH of one adapter."""
    named = {"nicId": NIC.upper(), **nic}
    selected = {} if network is None else {"selectedRecoveryAzureNetworkId": network}
    return {"properties": {"VMNics": [named], **selected}}


async def test_a_network_is_chosen_for_an_adapter(surface: Surface) -> None:
    addresses = [{"recoveryStaticIPAddress": "10.2.0.9", "unknown": 1}]
    sent = body(recovery_network(surface), selectionType=USER, ipConfigs=addresses)
    response = await surface.ask("PATCH", surface.item, json=sent)
    assert response.status == 202, await response.text()
    assert "/operationresults/" in response.headers["Location"]
    (asked,) = surface.hub.arguments
    network = recovery_network(surface).rpartition("/")[2]
    assert asked["mapped"] == []
    (chosen,) = list(asked["chosen"])  # type: ignore[arg-type]
    assert isinstance(chosen, dict)
    assert chosen["nic_id"] == NIC
    assert (chosen["network_id"], chosen["address"]) == (network, "10.2.0.9")
    (job,) = surface.hub.jobs.values()
    assert job.operation is Operation.UPDATE_NETWORKS
    surface.hub.end(job)
    shown = await surface.body(surface.item)
    (nic,) = shown["properties"]["providerSpecificDetails"]["vmNics"]
    assert nic["selectionType"] == USER


async def test_a_change_of_nothing_answers_with_the_item(surface: Surface) -> None:
    response = await surface.ask("PATCH", surface.item, json={"properties": {"vmNics": []}})
    assert response.status == 200
    assert (await response.json())["name"] == MACHINE


@pytest.mark.parametrize(
    ("sent", "target"),
    [
        (body(None, selectionType=USER), "properties.selectedRecoveryAzureNetworkId"),
        (body("/nowhere", selectionType=USER), "properties.selectedRecoveryAzureNetworkId"),
        ({"properties": {"vmNics": [{"nicId": "none"}]}}, "properties.vmNics.0.nicId"),
        ({"properties": {"recoveryAzureVMName": "x"}}, "properties.recoveryAzureVMName"),
        ({"properties": {"licenseType": "WindowsServer"}}, "properties.licenseType"),
        (
            {"properties": {"providerSpecificDetails": {"instanceType": "HyperVReplicaAzure"}}},
            "properties.providerSpecificDetails.instanceType",
        ),
        ({"properties": {"vmNics": [{"nicId": 7}]}}, "properties.vmNics.0.nicId"),
    ],
)
async def test_what_cannot_be_chosen_is_refused_with_its_property(
    surface: Surface, sent: dict[str, Any], target: str
) -> None:
    status, error = await error_of(surface, "PATCH", surface.item, json=sent)
    assert (status, error["target"]) == (400, target)
    assert surface.hub.jobs == {}


async def test_a_subnet_and_an_address_must_be_ones(surface: Surface) -> None:
    network = recovery_network(surface)
    for part, value in (("recoverySubnetName", "none"), ("recoveryStaticIPAddress", "10.1")):
        sent = body(network, selectionType=USER, ipConfigs=[{part: value}])
        status, error = await error_of(surface, "PATCH", surface.item, json=sent)
        assert (status, error["target"]) == (400, f"properties.vmNics.0.ipConfigs.0.{part}")


async def test_an_unknown_health_error_is_refused(surface: Surface) -> None:
    sent = {"properties": {"healthErrors": [{"healthErrorId": "3:8020"}]}}
    path = f"{surface.item}/resolveHealthErrors"
    status, error = await error_of(surface, "POST", path, json=sent)
    assert (status, error["target"]) == (400, "properties.healthErrors.0.healthErrorId")


def test_an_error_is_resolvable_where_comparing_the_copies_ends_it() -> None:
    paused = {"errorCode": "67502", "errorSource": "OnPrimary"}
    assert resolvable(paused, repair=True)["customerResolvability"] == "Allowed"
    assert resolvable(paused, repair=False)["customerResolvability"] == "NotAllowed"
    never = {"errorCode": "161011", "errorSource": "OnPrimary"}
    assert resolvable(never, repair=True)["customerResolvability"] == "NotAllowed"
    assert resolvable(paused, repair=True)["errorId"] == "67502:OnPrimary"


async def test_a_paused_replication_is_resolved_by_a_repair(surface: Surface) -> None:
    surface.hub.paused = True
    errors = (await surface.body(surface.item))["properties"]["healthErrors"]
    (paused,) = [each for each in errors if each["errorCode"] == "67502"]
    assert paused["customerResolvability"] == "Allowed"
    sent = {"properties": {"healthErrors": [{"healthErrorId": paused["errorId"]}]}}
    response = await surface.ask("POST", f"{surface.item}/resolveHealthErrors", json=sent)
    assert response.status == 202, await response.text()
    (job,) = surface.hub.jobs.values()
    assert job.operation is Operation.REPAIR
