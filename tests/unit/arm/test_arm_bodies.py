"""What requests may say: bodies, their properties, arguments of operations."""

import asyncio
import gzip
from typing import Any

import pytest

from service_hub.arm import edge
from tests.unit.arm.arm_estate import (
    CLOUDS,
    FABRICS,
    MACHINE,
    MAPPING,
    NETWORK,
    POINT,
    POLICY,
    VAULT,
)
from tests.unit.arm.conftest import ROOT, SERVERS, Surface, error_of
from wire_contract.vocabulary import Side

# ------------------------------------------------------------------------------------------ bodies


async def test_a_body_above_one_mebibyte_is_413(surface: Surface) -> None:
    status, error = await error_of(
        surface, "PUT", surface.vault, data=b'{"location": "' + b"x" * 1_048_576 + b'"}'
    )
    assert (status, error["code"]) == (413, "RequestEntityTooLarge")


async def test_a_plan_may_name_five_thousand_machines_by_their_ids(surface: Surface) -> None:
    path = f"{surface.vault}/replicationRecoveryPlans/large"
    for length, expected in ((4_000_000, 400), (4 * 1_048_576, 413)):
        data = b'{"properties": {"comment": "' + b"x" * length + b'"}}'
        status, _ = await error_of(surface, "PUT", path, data=data)
        assert status == expected


async def test_a_compressed_body_counts_unpacked(surface: Surface) -> None:
    data = gzip.compress(b" " * 50_000_000)
    response = await surface.ask(
        "PUT", surface.vault, data=data, headers={"Content-Encoding": "gzip"}
    )
    assert response.status in {400, 413}


async def test_a_body_that_never_ends_is_400_after_a_bound(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "BODY_SECONDS_MAX", 0.05)
    server = surface.client.server
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        head = f"PUT {surface.vault} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer good\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        answer = await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
    assert b" 400 " in answer


async def test_a_body_in_a_broken_encoding_is_400(surface: Surface) -> None:
    response = await surface.ask(
        "PUT", surface.vault, data=b"no gzip at all", headers={"Content-Encoding": "gzip"}
    )
    assert response.status == 400


@pytest.mark.parametrize(
    ("wrong", "target"),
    [
        ({}, "properties"),
        ({"properties": None}, "properties"),
        ({"properties": []}, "properties"),
        ({"properties": {}}, "properties.failoverDirection"),
        ({"properties": {"failoverDirection": 1}}, "properties.failoverDirection"),
        ({"properties": {"failoverDirection": "Sideways"}}, "properties.failoverDirection"),
        (
            {
                "properties": {
                    "failoverDirection": "PrimaryToRecovery",
                    "providerSpecificDetails": "text",
                }
            },
            "properties.providerSpecificDetails",
        ),
        (
            {
                "properties": {
                    "failoverDirection": "PrimaryToRecovery",
                    "providerSpecificDetails": {"instanceType": "HyperVReplicaAzure"},
                }
            },
            "properties.providerSpecificDetails.instanceType",
        ),
    ],
)
async def test_a_wrong_property_is_refused_by_name(
    surface: Surface, wrong: Any, target: str
) -> None:
    status, error = await error_of(surface, "POST", f"{surface.item}/plannedFailover", json=wrong)
    assert (status, error["code"], error["target"]) == (400, "InvalidRequest", target)
    assert surface.hub.jobs == {}


@pytest.mark.parametrize(
    "details",
    [
        None,
        {},
        {"instanceType": None},
        {"instanceType": "ProviderSpecificFailoverInput"},
        {"instanceType": "HyperVReplica2012"},
        {"instanceType": "HyperVReplica2012R2"},
        {"InstanceType": "hypervreplica2012r2", "unknown": [1]},
    ],
)
async def test_site_to_site_is_recognised_in_all_its_forms(surface: Surface, details: Any) -> None:
    wanted = {
        "PROPERTIES": {
            "FailoverDirection": "PrimaryToRecovery",
            "providerSpecificDetails": details,
            "skipTestFailoverCleanup": "True",
        }
    }
    response = await surface.ask("POST", f"{surface.item}/plannedFailover", json=wanted)
    assert response.status == 202


@pytest.mark.parametrize("other", ["HyperVReplicaAzure", "A2A", "InMage", "InMageRcm", "VMwareCbt"])
async def test_other_kinds_of_replication_are_refused_everywhere(
    surface: Surface, other: str
) -> None:
    details = {"instanceType": other}
    root = surface.vault
    target = f"{surface.fabric}/replicationProtectionContainers/{CLOUDS[Side.RECOVERY]}"
    policy = f"{root}/replicationPolicies/{POLICY}"
    machine = f"{surface.container}/replicationProtectableItems/{MACHINE}"
    failover = {"failoverDirection": "PrimaryToRecovery", "providerSpecificDetails": details}
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", policy, {"providerSpecificInput": details}),
        (
            "PUT",
            f"{surface.container}/replicationProtectionContainerMappings/m",
            {
                "targetProtectionContainerId": target,
                "policyId": policy,
                "providerSpecificInput": details,
            },
        ),
        (
            "PUT",
            surface.item,
            {
                "policyId": policy,
                "protectableItemId": machine,
                "providerSpecificDetails": details,
            },
        ),
        *(
            ("POST", f"{surface.item}/{verb}", failover)
            for verb in ("plannedFailover", "unplannedFailover", "testFailover", "reProtect")
        ),
    ]
    for method, path, properties in cases:
        status, error = await error_of(surface, method, path, json={"properties": properties})
        assert (status, error["code"]) == (400, "InvalidRequest"), path
        assert error["target"].endswith("instanceType")


async def test_property_names_are_compared_without_case(surface: Surface) -> None:
    wanted = {
        "properties": {
            "targetProtectionContainerId": (
                f"{surface.vault}/replicationFabrics/{FABRICS[Side.RECOVERY].upper()}"
                f"/replicationProtectionContainers/{CLOUDS[Side.RECOVERY]}"
            ),
            "PolicyId": f"{surface.vault}/replicationPolicies/{POLICY}",
            "providerSpecificInput": {},
        }
    }
    path = f"{surface.container}/replicationProtectionContainerMappings/{MAPPING}"
    response = await surface.ask("PUT", path, json=wanted)
    assert response.status == 202


@pytest.mark.parametrize(
    "target",
    [
        "",
        "no id",
        ROOT.replace(VAULT, "other") + "/replicationFabrics/f/replicationProtectionContainers/c",
        f"{ROOT}/replicationFabrics/f",
        f"{ROOT}/replicationFabrics/f/replicationProtectionContainers/c/d",
        f"{ROOT}/replicationFabrics/f/replicationProtectionContainers/",
        f"{ROOT}/replicationFabrics/f/replicationNetworks/c",
    ],
)
async def test_an_id_of_another_kind_or_vault_is_refused(surface: Surface, target: str) -> None:
    wanted = {
        "properties": {
            "targetProtectionContainerId": target,
            "policyId": f"{surface.vault}/replicationPolicies/{POLICY}",
        }
    }
    path = f"{surface.container}/replicationProtectionContainerMappings/{MAPPING}"
    status, error = await error_of(surface, "PUT", path, json=wanted)
    assert status == 400
    assert error["target"] == "properties.targetProtectionContainerId"


# -------------------------------------------------------------------------------------- arguments


async def test_operations_reach_the_use_case_with_their_arguments(surface: Surface) -> None:
    network = f"{surface.vault}/replicationFabrics/{FABRICS[Side.RECOVERY]}/replicationNetworks"
    direction = {"failoverDirection": "PrimaryToRecovery"}
    steps: list[tuple[str, Any, dict[str, Any]]] = [
        (
            "testFailover",
            {**direction, "networkType": "VmNetworkAsInput", "networkId": f"{network}/{NETWORK}"},
            {"failover_direction": "PrimaryToRecovery", "network_id": NETWORK},
        ),
        ("testFailoverCleanup", {"comments": "well"}, {"comments": "well"}),
        (
            "unplannedFailover",
            {**direction, "sourceSiteOperations": "Required"},
            {"failover_direction": "PrimaryToRecovery", "source_operations_required": True},
        ),
        ("applyRecoveryPoint", {"providerSpecificDetails": {}}, {}),
        (
            "applyRecoveryPoint",
            {"recoveryPointId": POINT, "providerSpecificDetails": {}},
            {"recovery_point": POINT},
        ),
        ("failoverCommit", None, {}),
        (
            "reProtect",
            {"failoverDirection": "RecoveryToPrimary"},
            {"failover_direction": "RecoveryToPrimary"},
        ),
    ]
    for verb, properties, expected in steps:
        body = None if properties is None else {"properties": properties}
        response = await surface.ask("POST", f"{surface.item}/{verb}", json=body)
        assert response.status == 202, await response.text()
        assert surface.hub.arguments[-1] == expected
        surface.hub.end(list(surface.hub.jobs.values())[-1])


async def test_a_recovery_point_is_one_that_the_replica_lists(surface: Surface) -> None:
    details = {"failoverDirection": "PrimaryToRecovery"}
    for chosen, target in (
        ({"recoveryPointId": "no-point"}, "recoveryPointId"),
        ({"recoveryPointId": f"{surface.item}/recoveryPoints/no-point"}, "recoveryPointId"),
        ({"recoveryPointType": "LatestApplicationConsistent"}, "recoveryPointType"),
    ):
        body = {"properties": {**details, "providerSpecificDetails": chosen}}
        path = f"{surface.item}/unplannedFailover"
        status, error = await error_of(surface, "POST", path, json=body)
        assert (status, error["target"]) == (400, f"properties.providerSpecificDetails.{target}")
    chosen = {"recoveryPointId": f"{surface.item}/recoveryPoints/{POINT.upper()}"}
    body = {"properties": {**details, "providerSpecificDetails": chosen}}
    response = await surface.ask("POST", f"{surface.item}/unplannedFailover", json=body)
    assert response.status == 202, await response.text()
    assert surface.hub.arguments[-1]["recovery_point"] == POINT


@pytest.mark.parametrize(
    ("properties", "target"),
    [
        ({"networkType": "VmNetworkAsInput"}, "properties.networkId"),
        ({"networkType": "LogicalNetworkAsInput"}, "properties.networkId"),
        (
            {"networkId": f"{SERVERS}/{FABRICS[Side.PRIMARY]}/replicationNetworks/n"},
            "properties.networkId",
        ),
        (
            {"networkId": f"{SERVERS}/{FABRICS[Side.RECOVERY]}/replicationNetworks/n"},
            "properties.networkId",
        ),
    ],
)
async def test_a_test_network_must_be_one_of_the_recovery_side(
    surface: Surface, properties: dict[str, Any], target: str
) -> None:
    body = {"properties": {"failoverDirection": "PrimaryToRecovery", **properties}}
    status, error = await error_of(surface, "POST", f"{surface.item}/testFailover", json=body)
    assert (status, error["target"]) == (400, target)


async def test_enable_takes_a_machine_of_the_cloud_of_the_path_only(surface: Surface) -> None:
    elsewhere = surface.container.replace(CLOUDS[Side.PRIMARY], CLOUDS[Side.RECOVERY])
    body = {
        "properties": {
            "policyId": f"{surface.vault}/replicationPolicies/{POLICY}",
            "protectableItemId": f"{elsewhere}/replicationProtectableItems/{MACHINE}",
        }
    }
    status, error = await error_of(surface, "PUT", surface.item, json=body)
    assert (status, error["target"]) == (400, "properties.protectableItemId")


# ------------------------------------------------------------------------------------------ vaults


async def test_a_vault_is_made_once_and_does_not_move(surface: Surface) -> None:
    path = surface.vault.replace(VAULT, "second")
    first = await surface.ask("PUT", path, json={"location": "Japan East", "sku": None})
    assert first.status == 201
    again = await surface.ask("PUT", path, json={"location": "japaneast", "tags": {"a": "b"}})
    assert again.status == 200
    assert (await again.json())["tags"] == {"a": "b"}
    status, error = await error_of(surface, "PUT", path, json={"location": "westus"})
    assert (status, error["code"]) == (409, "Conflict")


@pytest.mark.parametrize("name", ["v", "1vault", "under_score", "x" * 51])
async def test_a_vault_name_follows_the_rules(surface: Surface, name: str) -> None:
    path = surface.vault.replace(VAULT, name)
    status, error = await error_of(surface, "PUT", path, json={"location": "japaneast"})
    assert (status, error["target"]) == (400, "vault")


@pytest.mark.parametrize("certificate", ["", "!!!", "AAAA", 5])
async def test_an_unfit_certificate_is_refused_by_name(surface: Surface, certificate: Any) -> None:
    status, error = await error_of(
        surface,
        "PUT",
        f"{surface.vault}/certificates/c",
        json={"properties": {"certificate": certificate}},
    )
    assert (status, error["target"]) == (400, "properties.certificate")
