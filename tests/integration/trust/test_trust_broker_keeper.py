"""A real mosquitto whose certificate, clients' authorities and revoked list the hub keeps fresh."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import structlog
from cryptography import x509

from certs.chain import IssuedCertificate, TrustChain
from certs.identity import new_private_key, private_key_pem, thumbprint
from certs.profiles import Profile
from certs.tls import client_context, peer_certificate
from certs.trusted_chains import TrustedChains
from service_hub.broker_keeper import BrokerKeeper, write_certificates, write_file, write_revoked
from service_hub.channel.broker import BrokerAddress, open_broker
from service_hub.channel.mosquitto_files import (
    ACCESS,
    ACCESS_FILE,
    CERTIFICATE_FILE,
    CONFIGURATION_FILE,
    REVOKED_FILE,
    mosquitto_configuration,
)
from service_hub.channel.wakeups import Wakeups
from service_hub.config import BrokerSettings
from service_hub.domain.records import ManagementCertificate
from service_hub.ports.changes import Versioned
from service_hub.trust import HubTrust
from tests.integration.agent_fakes.waiting import until
from tests.support.channel_world import OSAKA, TOKYO, PresenceLog
from tests.support.trust_world import MovedClock
from wire_contract.topics import event_topic

pytestmark = pytest.mark.needs("mosquitto")

PROGRAM = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
NOW = datetime.now(UTC)


@dataclass
class Known:
    """The certificates that the hub has issued."""

    records: list[ManagementCertificate] = field(default_factory=list)

    async def find(self, kind: type, **columns: str) -> list[Versioned[ManagementCertificate]]:
        """Return them all."""
        assert (kind, columns) == (ManagementCertificate, {})
        return [Versioned(each, 1) for each in self.records]

    def issued(self, provider_id: str, issued: IssuedCertificate) -> None:
        """Keep one."""
        leaf = issued.certificate
        record = ManagementCertificate(
            id=thumbprint(leaf),
            vault_id="v",
            provider_id=provider_id,
            issued_at=NOW,
            expires_at=leaf.not_valid_after_utc,
            serial=f"{leaf.serial_number:x}",
        )
        self.records.append(record)

    def revoke(self, provider_id: str) -> None:
        """Revoke what a server has."""
        self.records = [
            each.model_copy(update={"revoked_at": NOW}) if each.provider_id == provider_id else each
            for each in self.records
        ]


@dataclass
class World:
    """A mosquitto that reloads when it is told."""

    folder: Path
    settings: BrokerSettings
    trust: HubTrust
    known: Known
    clock: MovedClock
    keeper: BrokerKeeper

    def tls(self, name: str, chain: TrustChain | None = None) -> Any:
        """Return a server's context, with a certificate that the hub knows."""
        key = new_private_key()
        issuing = chain or self.trust.chain
        issued = issuing.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), name, NOW)
        self.known.issued(name, issued)
        roots = self.trust.chains.roots_pem
        return client_context(roots, chain_pem=issued.chain_pem, key_pem=private_key_pem(key))

    def client(self, name: str, tls: Any) -> aiomqtt.Client:
        """Return a client of that name."""
        return aiomqtt.Client(
            "127.0.0.1",
            self.settings.port,
            identifier=name,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=tls,
            timeout=1,
        )

    async def is_let_in(self, name: str, tls: Any) -> bool:
        """Return whether the broker takes this client."""
        try:
            async with self.client(name, tls) as client:
                await client.subscribe(event_topic(name), qos=1)
        except aiomqtt.MqttError:
            return False
        return True

    async def shown(self) -> str:
        """Return the thumbprint of the broker's certificate as a server sees it."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.settings.port, ssl=self.tls(OSAKA)
        )
        certificate = peer_certificate(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        assert certificate is not None
        return thumbprint(certificate)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
async def world(free_port: Callable[[], int]) -> AsyncIterator[World]:
    account = pwd.getpwnam("mosquitto") if os.geteuid() == 0 else None
    chains = TrustedChains(TrustChain.create(NOW, "Tests"))
    trust, known, clock = HubTrust(chains, new_private_key()), Known(), MovedClock()
    with tempfile.TemporaryDirectory(prefix="mosquitto-test-") as name:
        folder = Path(name)
        if account is not None:
            os.chown(folder, 0, account.pw_gid)
            # As the README says: the folder passes the group of the broker's user on.
            os.chmod(folder, 0o2750)  # noqa: PTH101, S103 -- a fixture may block; no others
        port, pid_file = free_port(), folder / "pid"
        reload = ("sh", "-c", f"kill -HUP $(cat {pid_file})")
        settings = BrokerSettings.model_validate(
            {"kind": "mqtt", "host": "127.0.0.1", "port": port, "folder": folder}
            | {"reload_command": reload}
        )
        write_file(folder, CONFIGURATION_FILE, mosquitto_configuration(folder, "127.0.0.1", port))
        write_file(folder, ACCESS_FILE, ACCESS)
        write_certificates(folder, settings, trust, NOW)
        reader: Any = known
        await write_revoked(folder, trust, reader, NOW)
        process = subprocess.Popen(  # noqa: ASYNC220 -- it only begins here
            (PROGRAM, "-c", str(folder / CONFIGURATION_FILE)),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
        )
        pid_file.write_text(str(process.pid))
        try:
            await until(lambda: answers(port) or process.poll() is not None, "mosquitto listens")
            keeper = BrokerKeeper(settings, trust, reader, clock)
            yield World(folder, settings, trust, known, clock, keeper)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


async def test_a_revoked_server_is_put_out_and_stays_out(world: World) -> None:
    tokyo, osaka = world.tls(TOKYO), world.tls(OSAKA)
    async with world.keeper.running(), world.client(TOKYO, tokyo) as connected:
        await connected.subscribe(event_topic(TOKYO), qos=1)
        world.known.revoke(TOKYO)
        async with open_broker(
            address=BrokerAddress("127.0.0.1", world.settings.port),
            tls=world.keeper.tls,
            presence=PresenceLog(),
            wakeups=Wakeups(),
            kicked=world.keeper.kick,
        ) as delivery:
            await until(delivery.connected_to_broker.is_set, "the hub is connected")
            delivery.kick(TOKYO)
            with pytest.raises(aiomqtt.MqttError):  # noqa: PT012 -- it ends while it listens
                async with asyncio.timeout(10):
                    async for _ in connected.messages:
                        pass
            await until_refused(world, tokyo)
            assert delivery.connected_to_broker.is_set(), "the others go on"
        assert await world.is_let_in(OSAKA, osaka)


async def until_refused(world: World, tls: Any) -> None:
    async with asyncio.timeout(10):
        while await world.is_let_in(TOKYO, tls):
            await asyncio.sleep(0.05)


async def test_the_brokers_certificate_and_the_hubs_are_replaced_in_time(world: World) -> None:
    # Two thirds of 90 days ago: what mosquitto shows is due, and valid for a month yet.
    write_certificates(world.folder, world.settings, world.trust, NOW - timedelta(days=61))
    before, file = await world.shown(), world.folder / CERTIFICATE_FILE
    old = file.read_text()
    with structlog.testing.capture_logs() as told:
        assert await world.keeper.look()
        assert file.read_text() != old
        assert not await world.keeper.look(), "then nothing is due"
        assert "broker_identity_replaced" not in {line["event"] for line in told}
        world.clock.ahead = timedelta(days=21)
        await world.keeper.look()
    assert "broker_identity_replaced" in {line["event"] for line in told}
    world.clock.ahead = timedelta(0)
    file.unlink()
    async with world.keeper.running():
        async with asyncio.timeout(10):
            while await world.shown() == before:
                await asyncio.sleep(0.05)


async def test_the_list_is_written_long_before_it_ends(world: World) -> None:
    await world.keeper.look()
    first = x509.load_pem_x509_crl((world.folder / REVOKED_FILE).read_bytes())
    assert first.next_update_utc is not None
    assert first.next_update_utc - NOW > timedelta(days=29)
    world.clock.ahead = timedelta(days=1, seconds=1)
    assert await world.keeper.look()
    second = x509.load_pem_x509_crl((world.folder / REVOKED_FILE).read_bytes())
    assert second.next_update_utc is not None
    assert second.next_update_utc > first.next_update_utc


async def test_both_chains_are_let_in_while_the_root_is_replaced(world: World) -> None:
    successor = TrustChain.create(NOW, "Tests", 2)
    chains = world.trust.chains
    early = world.tls(TOKYO, successor)
    assert not await world.is_let_in(TOKYO, early)
    chains.become(TrustedChains(chains.present, successor, serial=1))
    async with world.keeper.running():
        async with asyncio.timeout(10):
            while not await world.is_let_in(TOKYO, world.tls(TOKYO, successor)):
                await asyncio.sleep(0.05)
    assert await world.is_let_in(OSAKA, world.tls(OSAKA, chains.present))
