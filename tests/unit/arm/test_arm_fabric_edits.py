"""Servers and clouds come from the sites: what is there is answered, nothing makes another."""

import pytest

from tests.unit.arm.arm_estate import CLOUDS, FABRICS, PROVIDER_URL
from tests.unit.arm.conftest import Surface, error_of
from wire_contract.vocabulary import Side

SERVER = {"properties": {"customDetails": {"instanceType": "FabricSpecificCreationInput"}}}


def provider_path(surface: Surface) -> str:
    """Return the path of the primary server's provider."""
    vmm_id = surface.hub.fabric(Side.PRIMARY).provider.vmm_id
    return f"{surface.fabric}/replicationRecoveryServicesProviders/{vmm_id}"


async def test_what_is_there_is_answered(surface: Surface) -> None:
    for path in (surface.fabric, provider_path(surface), surface.container):
        answer = await surface.ask("PUT", path, json=SERVER)
        assert answer.status == 200
        assert await answer.json() == await surface.body(path)
    assert surface.hub.jobs == {}


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/replicationFabrics/new", "provider-agent register"),
        (
            f"/replicationFabrics/{FABRICS[Side.PRIMARY]}/replicationProtectionContainers/new",
            "create it in VMM",
        ),
    ],
)
async def test_nothing_makes_another_and_says_what_does(
    surface: Surface, path: str, remedy: str
) -> None:
    status, error = await error_of(surface, "PUT", surface.vault + path, json=SERVER)
    assert (status, error["code"]) == (400, "OperationNotSupported")
    assert remedy in error["message"]
    assert PROVIDER_URL not in error["message"]


async def test_a_cloud_is_deleted_in_vmm_alone(surface: Surface) -> None:
    status, error = await error_of(surface, "POST", f"{surface.container}/remove")
    assert (status, error["code"]) == (400, "OperationNotSupported")
    gone = surface.container.replace(CLOUDS[Side.PRIMARY], "gone")
    assert (await surface.ask("POST", f"{gone}/remove")).status == 204


async def test_consistency_and_discovery_ask_the_server_anew(surface: Surface) -> None:
    body = {"properties": {"friendlyName": "", "ipAddress": "", "osType": ""}}
    for path, sent in (
        (f"{surface.fabric}/checkConsistency", None),
        (f"{surface.container}/discoverProtectableItem", body),
    ):
        answer = await surface.ask("POST", path, json=sent)
        assert answer.status == 202, await answer.text()
        followed = answer.headers["Location"].split("://", 1)[1].partition("/")[2]
        ended = await surface.ask("GET", f"/{followed}")
        assert ended.status in {200, 202}
        resource = path.rpartition("/")[0]
        while ended.status == 202:
            ended = await surface.ask("GET", f"/{followed}")
        assert (await ended.json())["name"] == (await surface.body(resource))["name"]


async def test_an_identity_that_nobody_has_is_gone_already(surface: Surface) -> None:
    answer = await surface.ask("DELETE", f"{surface.vault}/registeredIdentities/nobody")
    assert answer.status == 204


async def test_a_disconnected_server_is_unregistered_by_any_of_its_names(surface: Surface) -> None:
    surface.hub.connected = False
    name = surface.hub.fabric(Side.PRIMARY).provider.vmm_fqdn.upper()
    answer = await surface.ask("DELETE", f"{surface.vault}/registeredIdentities/{name}")
    assert answer.status == 204, await answer.text()
    assert surface.hub.gone == {FABRICS[Side.PRIMARY]}
