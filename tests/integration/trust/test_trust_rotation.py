"""A hub that runs for months changes its signer and its server certificate by itself."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem, thumbprint
from certs.profiles import Profile
from certs.signing import EventSigner, EventVerifier, UnverifiableError
from certs.tls import client_context, peer_certificate, server_context
from service_hub.channel.event_source import SignedEvents
from service_hub.channel.wakeups import Wakeups
from service_hub.rotation import Rotation
from tests.support.channel_world import TOKYO
from tests.support.memory_outbox import MemoryOutbox
from tests.support.trust_world import MovedClock, event_signer

NOW = datetime.now(UTC)


class Hub:
    """The rotating part of a hub, with a real listener's context."""

    def __init__(self) -> None:
        self.chain = TrustChain.create(NOW, "Tests")
        self.clock = MovedClock()
        self.outbox = MemoryOutbox()
        self.outbox.follow(TOKYO)
        signer = event_signer(self.chain, self.clock.now())
        self.source = SignedEvents(self.outbox, signer, Wakeups())
        chain_pem, key_pem = self.server(self.clock.now())
        self.context = server_context(chain_pem, key_pem)
        self.rotation = Rotation(
            clock=self.clock,
            source=self.source,
            signer=signer,
            make_signer=lambda now: event_signer(self.chain, now),
            server_chain_pem=chain_pem,
            make_server=self.server,
            contexts=(self.context,),
        )

    def server(self, now: datetime) -> tuple[str, bytes]:
        """Return a fresh server certificate, valid in the real time too."""
        del now
        key = new_private_key()
        issued = self.chain.issue(
            Profile.HUB_SERVER, key.public_key(), "h", NOW, ip_addresses=("127.0.0.1",)
        )
        return issued.chain_pem, private_key_pem(key)

    async def signed(self) -> str:
        """Return the newest event as providers get it."""
        _, events = await self.source.signed_after(TOKYO, 0, 100)
        return events[-1][1]

    async def seen(self) -> str:
        """Return the thumbprint of the certificate that a client sees."""
        server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=self.context
        )
        async with server:
            port = server.sockets[0].getsockname()[1]
            tls = client_context(self.chain.root_pem)
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            certificate = peer_certificate(writer)
            writer.close()
            await writer.wait_closed()
        assert certificate is not None
        return thumbprint(certificate)


@pytest.fixture
def hub() -> Hub:
    return Hub()


async def test_the_signer_changes_at_two_thirds_and_what_it_signed_holds(hub: Hub) -> None:
    hub.outbox.add(TOKYO)
    old = await hub.signed()
    hub.clock.ahead = timedelta(days=59)
    hub.rotation.look()
    assert await hub.signed() == old, "not before its time"
    hub.clock.ahead = timedelta(days=61)
    hub.rotation.look()
    new = await hub.signed()
    assert new != old
    verifier = EventVerifier(hub.chain.root_pem)
    now = hub.clock.now()
    assert verifier.verify(new, now)["id"] == verifier.verify(old, now)["id"]
    with pytest.raises(UnverifiableError, match="not trusted"):
        verifier.verify(old, NOW + timedelta(days=91))
    hub.rotation.look()
    assert await hub.signed() == new, "once is enough"


async def test_the_server_certificate_changes_on_the_live_listener(hub: Hub) -> None:
    before = await hub.seen()
    hub.rotation.look()
    assert await hub.seen() == before
    hub.clock.ahead = timedelta(days=61)
    hub.rotation.look()
    assert await hub.seen() != before


async def test_it_looks_for_ever_and_ends_with_its_owner(hub: Hub) -> None:
    old = hub.source
    hub.outbox.add(TOKYO)
    first = await hub.signed()
    hub.clock.ahead = timedelta(days=61)
    async with hub.rotation.running():
        async with asyncio.timeout(10):
            while await hub.signed() == first:
                await asyncio.sleep(0.01)
    assert hub.source is old


def test_a_verifier_can_trust_two_roots_and_drop_one() -> None:
    old, new = TrustChain.create(NOW, "old"), TrustChain.create(NOW, "new")
    signers: dict[str, EventSigner] = {
        "old": event_signer(old, NOW),
        "new": event_signer(new, NOW),
    }
    verifier = EventVerifier(old.root_pem)
    with pytest.raises(UnverifiableError):
        verifier.verify(signers["new"].sign({"a": 1}), NOW)
    verifier.trust(old.root_pem + new.root_pem)
    assert [verifier.verify(each.sign({"a": 1}), NOW) for each in signers.values()] == [
        {"a": 1}
    ] * 2
    verifier.trust(new.root_pem)
    with pytest.raises(UnverifiableError):
        verifier.verify(signers["old"].sign({"a": 1}), NOW)
    assert isinstance(client_context(old.root_pem + new.root_pem), ssl.SSLContext)
