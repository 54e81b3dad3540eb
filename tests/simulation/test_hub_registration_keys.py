"""Registration keys over the real store and a real trust chain, from the file to the enrolment."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509

from certs.chain import TrustChain
from certs.identity import certificate_request, common_name, new_private_key, thumbprint
from certs.vault_credentials import open_pfx, parse
from service_hub.domain.errors import InvalidRequestError, KeyRefusedError, NotFoundError
from service_hub.domain.jobs import Job
from service_hub.domain.records import FabricInventory, Provider, RegistrationKey
from service_hub.operator_ports import KeyState
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.provider_api.certificate_office import TrustOffice
from service_hub.provider_api.registration_office import RegistrationOffice
from service_hub.services.enrolment import EnrolmentService
from service_hub.services.registration_keys import RegistrationKeyService
from tests.support.hub_world import BEGIN, HubWorld, hub_world
from tests.support.site_views import inventory
from wire_contract.reports import Registration
from wire_contract.vmm_interface import ClusterView

URL = "https://hub.example:9443"
VMM_ID = str(UUID(int=77))


@dataclass
class KeyWorld:
    """A hub with keys and enrolment."""

    hub: HubWorld
    chain: TrustChain
    keys: RegistrationKeyService
    enrolment: EnrolmentService


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[KeyWorld]:
    chain = TrustChain.create(BEGIN, "Tests")
    async with hub_world(tmp_path) as hub:
        parts: dict[str, Any] = {
            "reader": hub.store,
            "committer": hub.committer,
            "clock": hub.clock,
        }
        keys = RegistrationKeyService(
            **parts,
            issuer=RegistrationOffice(chain, provider_url=URL),
            key_lifetime=timedelta(hours=120),
        )
        enrolment = EnrolmentService(
            **parts,
            office=TrustOffice(chain, new_private_key(), issuer="https://hub.example"),
            jobs=hub.servers,
            mqtt=("hub.example", 8883),
            heartbeat=timedelta(seconds=60),
        )
        yield KeyWorld(hub, chain, keys, enrolment)


async def enrolled(world: KeyWorld, key: RegistrationKey, vmm_id: str = VMM_ID) -> str:
    """Enrol a server and register it; return its provider id."""
    request = certificate_request(new_private_key(), vmm_id)
    issued = await world.enrolment.enrol(key, request, "192.0.2.1")
    provider = await world.enrolment.provider_of(issued.thumbprint)
    assert provider is not None
    await world.enrolment.register(
        provider,
        Registration(
            vmm_id=vmm_id,
            vmm_fqdn="vmm77.example",
            friendly_name="NAGOYA",
            provider_version="0.1.0",
            vmm_version="3.2.7510.0",
        ),
    )
    return provider.id


async def test_the_file_holds_what_a_server_needs_and_the_hub_keeps_the_public_half(
    world: KeyWorld,
) -> None:
    created = await world.keys.create(world.hub.vault, None)
    file = parse(created.credentials_file)
    contents = open_pfx(file.management_pfx)
    assert (file.vault_name, file.provider_url) == ("v", URL)
    assert file.service_principal_client_id == world.hub.vault.id
    assert common_name(contents.certificate) == world.hub.vault.id
    root = x509.load_pem_x509_certificate(world.chain.root_pem.encode())
    assert contents.extra == (root,)
    assert created.facts.key.id == thumbprint(contents.certificate)
    assert created.facts.key.expires_at - BEGIN == timedelta(hours=120)
    stored = await world.hub.store.get(RegistrationKey, created.facts.key.id)
    assert stored is not None
    text = stored.record.model_dump_json()
    assert "PRIVATE" not in text
    assert file.channel_integrity_key == "", "operators' own: the hub never knows it"
    assert created.file_name.endswith(".VaultCredentials")
    assert "PRIVATE" not in repr(created)


async def test_a_key_enrols_and_counts_its_servers(world: KeyWorld) -> None:
    first = (await world.keys.create(world.hub.vault, "first")).facts.key
    found = await world.enrolment.registration_key(first.id, world.hub.vault.id.upper())
    await enrolled(world, found)
    second = (await world.keys.create(world.hub.vault, "second")).facts.key
    listed = {each.key.name: each for each in await world.keys.list(world.hub.vault)}
    assert listed["first"].servers_enrolled == 1, "a new key does not disturb who is registered"
    assert listed["second"].servers_enrolled == 0
    assert {each.state for each in listed.values()} == {KeyState.VALID}
    assert second.id != first.id
    names = [
        each.fabric.provider.friendly_name for each in await world.hub.servers.list(world.hub.vault)
    ]
    assert sorted(names) == ["NAGOYA", "osaka", "tokyo"]


async def test_a_registration_shows_as_two_jobs_once(world: KeyWorld) -> None:
    key = (await world.keys.create(world.hub.vault, None)).facts.key
    await enrolled(world, key)
    while True:
        jobs = [found.record for found in await world.hub.store.find(Job)]
        if all(job.finished for job in jobs):
            break
        await world.hub.committer.until_next()
    assert sorted((job.scenario.name, job.state.value) for job in jobs) == [
        ("CreateSite", "Succeeded"),
        ("RegisterDra", "Succeeded"),
    ]
    assert {(job.target_object_id, job.target_object_name) for job in jobs} == {
        (VMM_ID, "vmm77.example")
    }


async def test_every_refusal_of_a_key_has_words_of_its_own(world: KeyWorld) -> None:
    vault = world.hub.vault
    key = (await world.keys.create(vault, "mine")).facts.key
    with pytest.raises(KeyRefusedError, match="belongs to the vault 'v', not to the one"):
        await world.enrolment.registration_key(key.id, "another-vault")
    with pytest.raises(KeyRefusedError, match="no registration key of this hub"):
        await world.enrolment.registration_key("00" * 32)
    world.hub.clock.time = BEGIN + timedelta(hours=120)
    with pytest.raises(KeyRefusedError, match="'mine' expired at 2026-01-06"):
        await world.enrolment.registration_key(key.id)
    assert [each.state for each in await world.keys.list(vault)] == [KeyState.EXPIRED]
    world.hub.clock.time = BEGIN
    revoked = await world.keys.revoke(vault, key.id.upper())
    assert revoked.state is KeyState.REVOKED
    assert await world.keys.revoke(vault, key.id) == revoked
    with pytest.raises(KeyRefusedError, match="'mine' was revoked at 2026-01-01"):
        await world.enrolment.registration_key(key.id)
    await world.hub.committer.commit(Change(deletes=(Delete(type(vault), vault.id),)))
    with pytest.raises(KeyRefusedError, match="its vault was deleted"):
        await world.enrolment.registration_key(key.id)


async def test_a_revoked_key_leaves_its_servers_alone(world: KeyWorld) -> None:
    key = (await world.keys.create(world.hub.vault, None)).facts.key
    provider_id = await enrolled(world, key)
    await world.keys.revoke(world.hub.vault, key.id)
    servers = await world.hub.servers.list(world.hub.vault)
    (facts,) = [each for each in servers if each.fabric.provider.id == provider_id]
    assert len(facts.thumbprints) == 1
    assert await world.enrolment.provider_of(facts.thumbprints[0]) is not None


async def test_foreign_and_unknown_keys_are_not_revoked(world: KeyWorld) -> None:
    key = (await world.keys.create(world.hub.vault, None)).facts.key
    other = world.hub.vault.model_copy(update={"id": "other", "vault_id": "other"})
    for vault, name in ((other, key.id), (world.hub.vault, "00" * 32)):
        with pytest.raises(NotFoundError):
            await world.keys.revoke(vault, name)


@pytest.mark.parametrize("name", [" \n", "a" * 129, "a;b", "<script>"])
async def test_a_name_that_could_not_be_shown_is_refused(world: KeyWorld, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        await world.keys.create(world.hub.vault, name)


@pytest.mark.parametrize(
    ("cluster", "named"),
    [
        (None, []),
        (ClusterView(name="c.osaka.example", addressing="DHCP"), ["c-broker.osaka.example"]),
        (ClusterView(name="c.osaka.example", addressing="Static"), []),
        (ClusterView(name="c", addressing="Static", broker="mine.example"), ["mine.example"]),
        (ClusterView(name="c", addressing="Static", broker="*.example"), []),
        (ClusterView(name="c", addressing="Static", broker="ä.example"), []),
    ],
)
async def test_a_nodes_certificate_names_the_replica_broker_of_its_cluster_too(
    world: KeyWorld, cluster: ClusterView | None, named: list[str]
) -> None:
    key = (await world.keys.create(world.hub.vault, "first")).facts.key
    identity = await enrolled(world, key)
    provider = await world.hub.store.get(Provider, identity)
    assert provider is not None
    plain = inventory("osaka")
    (host,) = plain.hosts
    if cluster is not None:
        host = host.model_copy(update={"cluster": cluster.name})
        plain = plain.model_copy(update={"hosts": (host,), "clusters": (cluster,)})
    known = FabricInventory(id=identity, vault_id="vault", observed_at=BEGIN, view=plain)
    await world.hub.committer.commit(Change(saves=(Save(known, NEW),)))
    request = certificate_request(new_private_key(), host.fqdn)
    issued = await world.enrolment.issue_host(provider.record, host.fqdn, request)
    leaf = x509.load_pem_x509_certificates(issued.chain_pem.encode())[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host.fqdn, *named]
    with pytest.raises(NotFoundError):
        await world.enrolment.issue_host(provider.record, "other.example", request)
