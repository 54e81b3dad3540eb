"""The provider's own registration and renewal against the hub's real enrolment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certs.identity import private_key_pem, thumbprint
from certs.signing import EventVerifier
from certs.tls import client_context
from certs.vault_credentials import VaultCredentials, make_pfx, render
from provider_agent.credentials import (
    Identity,
    IdentityFacts,
    forget_identity,
    is_registered,
    load_identity,
)
from provider_agent.hub_client import AccessToken, HubClient
from provider_agent.hub_https import HubHttps
from provider_agent.pinned_roots import PinnedRoots
from provider_agent.registration import register
from provider_agent.renewal import Renewal
from service_hub.domain.records import ManagementCertificate
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.support.trust_world import VAULT_ID, VMM_ID, TrustWorld, trust_world
from wire_contract.reports import Heartbeat, SessionRequest
from wire_contract.vmm_interface import InventoryView, VmmView


class QuietVmm:
    """A VMM server that only says who it is."""

    async def inventory(self) -> InventoryView:
        """Return an estate without machines."""
        return InventoryView(
            vmm=VmmView(vmm_id=VMM_ID, fqdn="vmm.test", version="3.2"),
            clouds=(),
            hosts=(),
            networks=(),
            classifications=(),
            machines=(),
        )


class AheadClock(SystemClock):
    """The real time, some days ahead."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the moved time."""
        return datetime.now(UTC) + self.ahead


class ChangedSubscriber:
    """Notes that the certificate of MQTT changed, and sets the moved clock back at once.

    The new certificate is young in the real time: with the clock still ahead it would be renewed
    again, and how often would depend on the machine's speed.
    """

    def __init__(self, clock: AheadClock) -> None:
        self.changed = asyncio.Event()
        self._clock = clock

    def change(self, tls: object) -> None:
        """Note it."""
        assert tls is not None
        self._clock.ahead = timedelta(0)
        self.changed.set()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[TrustWorld]:
    async with trust_world(tmp_path) as opened:
        yield opened


async def credentials_file(world: TrustWorld, folder: Path, vault_id: str = VAULT_ID) -> Path:
    key = await world.registration_key()
    chain = x509.load_pem_x509_certificates(key.chain_pem.encode())
    root = x509.load_pem_x509_certificate(world.chain.root_pem.encode())
    path = folder / "vault.VaultCredentials"
    path.write_bytes(
        render(
            VaultCredentials(
                subscription_id="s",
                resource_group="g",
                vault_name="vault",
                resource_id=1,
                location="l",
                management_pfx=make_pfx(key.key, chain[0], (chain[1], root)),
                aad_authority="",
                aad_tenant_id="",
                service_principal_client_id=vault_id,
                vault_audience="",
                provider_url=world.url,
                channel_integrity_key="",
            )
        )
    )
    return path


async def registered(
    world: TrustWorld, folder: Path, vault_id: str = VAULT_ID, **how: Any
) -> IdentityFacts:
    file = await credentials_file(world, folder, vault_id)
    vmm: Any = QuietVmm()
    return await register(folder / "agent", file, "Tokyo", vmm, SystemClock(), **how)


async def test_a_key_of_another_vault_than_the_file_names_is_refused(
    world: TrustWorld, tmp_path: Path
) -> None:
    with pytest.raises(ProgramError, match="belongs to the vault 'vault', not to the one that"):
        await registered(world, tmp_path, "another-vault")
    assert not is_registered(tmp_path / "agent")
    # A file that names no vault, or nothing that may stand in a header, is taken as before.
    assert (await registered(world, tmp_path, "no\nheader")).vault_id == VAULT_ID


async def test_a_reinstalled_server_is_itself_again_once_an_operator_agrees(
    world: TrustWorld, tmp_path: Path
) -> None:
    first = await registered(world, tmp_path)
    forget_identity(tmp_path / "agent")  # the disk of the server was replaced
    told: list[str] = []
    async with asyncio.TaskGroup() as group:

        def tell(words: str) -> None:
            told.append(words)
            group.create_task(approve(world))

        second = await registered(world, tmp_path, tell=tell)
    assert second.provider_id == first.provider_id
    assert len(told) == 1
    assert "waits for an operator: site-recovery server approve" in told[0]


async def approve(world: TrustWorld) -> None:
    (waiting,) = await world.approvals.list(VAULT_ID)
    await world.approvals.approve(VAULT_ID, waiting.id, "olga")


async def test_without_a_decision_the_same_command_goes_on_later(
    world: TrustWorld, tmp_path: Path
) -> None:
    first = await registered(world, tmp_path)
    forget_identity(tmp_path / "agent")
    with pytest.raises(ProgramError, match="give the same command again"):
        await registered(world, tmp_path, approval_seconds_max=0.5)
    await approve(world)
    assert (await registered(world, tmp_path)).provider_id == first.provider_id
    assert len(await world.approvals.list(VAULT_ID)) == 1, "one key asks once"


async def test_a_renewal_keeps_the_session_and_uses_the_new_certificate(
    world: TrustWorld, tmp_path: Path
) -> None:
    facts = await registered(world, tmp_path)
    folder = tmp_path / "agent"
    identity = load_identity(folder, datetime.now(UTC))
    clock = AheadClock()
    subscriber = ChangedSubscriber(clock)
    listener: Any = subscriber
    async with AsyncExitStack() as stack:
        https = await stack.enter_async_context(HubHttps.connect(world.url, context(identity)))
        hub = HubClient(https, AccessToken(https, identity.key, SystemClock().now))
        renewal = Renewal(
            hub,
            listener,
            identity,
            clock,
            data_directory=folder,
            connect=lambda tls: HubHttps.connect(world.url, tls),
            roots=PinnedRoots(identity, EventVerifier(identity.root_pem), clock, folder),
        )
        session = await hub.session(first_session())
        clock.ahead = timedelta(days=21)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(renewal.run())
            async with asyncio.timeout(20):
                await subscriber.changed.wait()
            answer = await hub.heartbeat(Heartbeat(boot_id="boot-1", last=None))
            task.cancel()
    assert answer.highest.stream == session.position.stream
    renewed = load_identity(folder, datetime.now(UTC))
    assert renewed.facts == facts
    kept = await world.store.find(ManagementCertificate, provider_id=facts.provider_id)
    used = {each.record.id for each in kept if each.record.used_at is not None}
    assert used == {leaf_of(identity), leaf_of(renewed)}
    assert await world.certificates.alerts(VAULT_ID) == []


def context(identity: Identity) -> Any:
    return client_context(
        identity.root_pem,
        chain_pem=identity.chain_pem,
        key_pem=private_key_pem(identity.key),
    )


def leaf_of(identity: Identity) -> str:
    return thumbprint(x509.load_pem_x509_certificates(identity.chain_pem.encode())[0])


def first_session() -> SessionRequest:
    return SessionRequest(
        boot_id="boot-1",
        session=1,
        journal_id="j",
        provider_version="1",
        vmm_version="1",
        last=None,
        fences={},
        epochs={},
    )
