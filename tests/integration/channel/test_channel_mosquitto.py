"""Delivery through a real mosquitto, as its own user on a free loopback port (Debian's package)."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
import pytest

from certs.profiles import Profile
from service_hub.channel.broker import BrokerAddress, BrokerDelivery, open_broker
from service_hub.channel.delivery import Publication
from service_hub.channel.mosquitto_files import (
    ACCESS,
    ACCESS_FILE,
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    CONFIGURATION_FILE,
    HUB_IDENTITY,
    KEY_FILE,
    REVOKED_FILE,
    mosquitto_configuration,
)
from service_hub.channel.wakeups import Wakeups
from tests.integration.agent_fakes.waiting import until
from tests.support.channel_world import OSAKA, TOKYO, PresenceLog, Trust
from wire_contract.events import Presence
from wire_contract.topics import HINT_TOPIC, event_topic, presence_topic

pytestmark = pytest.mark.needs("mosquitto")

PROGRAM = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
QUIET_SECONDS = 0.3
"""How long nothing must come where nothing may come: the allowed message is waited for first."""


@dataclass
class Broker:
    """A running mosquitto and the hub's delivery through it."""

    trust: Trust
    port: int
    delivery: BrokerDelivery
    presence: PresenceLog
    process: "subprocess.Popen[bytes]"

    def client(self, identity: str, *, client_id: str | None = None) -> aiomqtt.Client:
        """Return a client with the certificate of that common name."""
        tls = self.trust.holder(Profile.PROVIDER_MANAGEMENT, identity).tls(
            self.trust.chain.root_pem
        )
        return aiomqtt.Client(
            "127.0.0.1",
            self.port,
            identifier=client_id or identity,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=tls,
        )


def presence(state: str, session: int) -> bytes:
    return (
        Presence.model_validate({"state": state, "boot_id": "b", "session": session})
        .model_dump_json()
        .encode()
    )


@contextlib.contextmanager
def mosquitto(trust: Trust, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    root = os.geteuid() == 0
    account = pwd.getpwnam("mosquitto") if root else None
    with tempfile.TemporaryDirectory(prefix="mosquitto-test-") as name:
        folder, server = Path(name), trust.hub_server()
        chain = trust.chain
        files = {
            CONFIGURATION_FILE: mosquitto_configuration(folder, "127.0.0.1", port),
            ACCESS_FILE: ACCESS,
            AUTHORITY_FILE: chain.management_ca_pem + chain.root_pem,
            CERTIFICATE_FILE: server.chain_pem,
            KEY_FILE: server.key_pem.decode(),
            REVOKED_FILE: chain.revoked_pem({}, datetime.now(UTC)),
        }
        for file, text in files.items():
            (folder / file).write_text(text)
            (folder / file).chmod(0o600)
        if account is not None:
            for path in (folder, *(folder / file for file in files)):
                os.chown(path, account.pw_uid, account.pw_gid)
        process = subprocess.Popen(
            (PROGRAM, "-c", str(folder / CONFIGURATION_FILE)),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    trust, heard = Trust.create(), PresenceLog()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with mosquitto(trust, port) as process:
        await until(lambda: answers(port) or process.poll() is not None, "mosquitto listens")
        hub = trust.holder(Profile.PROVIDER_MANAGEMENT, HUB_IDENTITY)
        async with open_broker(
            address=BrokerAddress("127.0.0.1", port),
            tls=hub.tls(trust.chain.root_pem),
            presence=heard,
            wakeups=Wakeups(),
        ) as delivery:
            await until(delivery.connected_to_broker.is_set, "the hub is connected")
            yield Broker(trust, port, delivery, heard, process)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def first(client: aiomqtt.Client) -> tuple[str, object]:
    async with asyncio.timeout(10):
        async for message in client.messages:
            return message.topic.value, message.payload
    raise AssertionError("the connection ended")


async def nothing_comes(client: aiomqtt.Client) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            async for message in client.messages:
                raise AssertionError(f"{message.topic} came")


async def test_an_event_reaches_its_provider_and_nobody_else(broker: Broker) -> None:
    assert broker.delivery.publish(TOKYO, b"early") is Publication.ABSENT
    async with broker.client(TOKYO) as tokyo, broker.client(OSAKA) as osaka:
        for client in (tokyo, osaka):
            await client.subscribe(event_topic(TOKYO), qos=1)
        await tokyo.publish(presence_topic(TOKYO), presence("online", 1), qos=1, retain=True)
        await until(lambda: broker.delivery.connected(TOKYO), "tokyo is known to be there")
        assert broker.delivery.publish(TOKYO, b"event") is Publication.SENT
        assert await first(tokyo) == (event_topic(TOKYO), b"event")
        await nothing_comes(osaka)


async def test_a_hint_reaches_everybody(broker: Broker) -> None:
    async with broker.client(TOKYO) as tokyo, broker.client(OSAKA) as osaka:
        for client in (tokyo, osaka):
            await client.subscribe(HINT_TOPIC)
        assert not broker.delivery.hint(TOKYO)
        await tokyo.publish(presence_topic(TOKYO), presence("online", 1), qos=1)
        await until(lambda: broker.delivery.connected(TOKYO), "tokyo is known to be there")
        assert broker.delivery.hint(TOKYO)
        for client in (tokyo, osaka):
            topic, _ = await first(client)
            assert topic == HINT_TOPIC


async def test_presence_follows_the_newest_session_alone(broker: Broker) -> None:
    async with broker.client(TOKYO) as tokyo:
        topic = presence_topic(TOKYO)
        await tokyo.publish(topic, presence("online", 2), qos=1)
        await until(lambda: broker.delivery.connected(TOKYO), "tokyo is there")
        number = broker.delivery.connected(TOKYO)
        # The will of an earlier session, late; then what is no presence.
        await tokyo.publish(topic, presence("offline", 1), qos=1)
        await tokyo.publish(topic, b"nonsense", qos=1)
        await tokyo.publish(topic, presence("online", 3), qos=1)
        await until(lambda: broker.delivery.connected(TOKYO) not in {number, None}, "came anew")
        await tokyo.publish(topic, presence("offline", 3), qos=1)
        await until(lambda: broker.delivery.connected(TOKYO) is None, "tokyo has gone")
    assert broker.presence.heard == [(TOKYO, "online"), (TOKYO, "online"), (TOKYO, "offline")]


async def test_nobody_speaks_for_another_or_takes_his_place(broker: Broker) -> None:
    async with broker.client(TOKYO) as tokyo:
        await tokyo.subscribe(event_topic(TOKYO), qos=1)
        await tokyo.publish(presence_topic(TOKYO), presence("online", 1), qos=1)
        await until(lambda: broker.delivery.connected(TOKYO), "tokyo is there")
        # Its client id is the certificate's name, whatever it says: nobody is evicted.
        async with broker.client(OSAKA, client_id=TOKYO) as osaka:
            for topic in (presence_topic(TOKYO), event_topic(TOKYO), HINT_TOPIC):
                with contextlib.suppress(aiomqtt.MqttError):
                    await osaka.publish(topic, presence("offline", 9), qos=1)
            await osaka.publish(presence_topic(OSAKA), presence("online", 1), qos=1)
            await until(lambda: broker.delivery.connected(OSAKA), "osaka is there")
            assert broker.delivery.connected(TOKYO) is not None
            assert broker.delivery.publish(TOKYO, b"event") is Publication.SENT
            assert await first(tokyo) == (event_topic(TOKYO), b"event")


async def test_a_stranger_is_not_let_in(broker: Broker) -> None:
    foreign = Trust.create().holder(Profile.PROVIDER_MANAGEMENT, TOKYO)
    client = aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=TOKYO,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=foreign.tls(broker.trust.chain.root_pem),
        timeout=1,
    )
    with pytest.raises(aiomqtt.MqttError):
        async with client:
            await client.subscribe(HINT_TOPIC)


async def test_a_broker_that_is_gone_leaves_nobody_connected(broker: Broker) -> None:
    async with broker.client(TOKYO) as tokyo:
        await tokyo.publish(presence_topic(TOKYO), presence("online", 1), qos=1)
        await until(lambda: broker.delivery.connected(TOKYO), "tokyo is there")
        with contextlib.suppress(aiomqtt.MqttError):
            broker.process.kill()
            await until(lambda: broker.delivery.connected(TOKYO) is None, "nobody is there")
            assert broker.delivery.publish(TOKYO, b"event") is Publication.ABSENT
            async for _ in tokyo.messages:
                pass
