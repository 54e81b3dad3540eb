"""Part of the composition root: what stands on the trust chains while the hub runs."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from certs.signing import EventSigner
from certs.tls import provider_listener_context, server_context
from service_hub.channel.event_source import SignedEvents
from service_hub.config import HubSettings
from service_hub.domain.records import RegistrationKey
from service_hub.ports.channel import Connections
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.provider_api.certificate_office import TrustOffice
from service_hub.root_watch import RootWatch
from service_hub.rotation import Rotation
from service_hub.trust import HubTrust, event_signer, load, server_credentials


@dataclass(frozen=True, slots=True)
class Tls:
    """The contexts of the three listeners, all with the same fresh server certificate."""

    operator: ssl.SSLContext
    provider: ssl.SSLContext
    mqtt: ssl.SSLContext
    chain_pem: str


async def listener_contexts(
    settings: HubSettings, trust: HubTrust, reader: Reader, clock: Clock
) -> Tls:
    """Return the contexts of the listeners; they know uploaded certificates that are valid."""
    now = clock.now()
    chain_pem, key_pem = server_credentials(trust, settings, now)
    chains = trust.chains
    keys = [found.record for found in await reader.find(RegistrationKey)]
    uploaded = [key.certificate_pem for key in keys if key.expires_at > now]
    return Tls(
        operator=server_context(chain_pem, key_pem),
        provider=provider_listener_context(
            chain_pem, key_pem, chains.management_cas_pem, chains.registration_cas_pem, uploaded
        ),
        mqtt=server_context(
            chain_pem, key_pem, client_ca_pems=(chains.management_cas_pem,), require_client=True
        ),
        chain_pem=chain_pem,
    )


def trust_office(settings: HubSettings, trust: HubTrust) -> TrustOffice:
    """Return what issues certificates and tokens of servers."""
    return TrustOffice(
        trust.chains,
        trust.token_key,
        issuer=settings.public_url,
        management_lifetime=timedelta(days=settings.management_certificate_days),
    )


@asynccontextmanager
async def keeping_trust_fresh(
    settings: HubSettings,
    trust: HubTrust,
    clock: Clock,
    *,
    tls: Tls,
    signer: EventSigner,
    source: SignedEvents,
    reader: Reader,
    committer: Committer,
    connections: Connections,
) -> AsyncIterator[None]:
    """Replace certificates in time and follow a change of the root while the block runs."""
    rotation = Rotation(
        clock=clock,
        source=source,
        signer=signer,
        make_signer=lambda now: event_signer(trust, now),
        server_chain_pem=tls.chain_pem,
        make_server=lambda now: server_credentials(trust, settings, now),
        contexts=(tls.operator, tls.provider, tls.mqtt),
    )
    watch = RootWatch(
        trust.chains,
        clock,
        directory=settings.trust_directory,
        reload=lambda now: load(settings, now).chains,
        rotation=rotation,
        provider_context=tls.provider,
        mqtt_context=tls.mqtt,
        reader=reader,
        committer=committer,
        connections=connections,
    )
    await watch.end_former()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(rotation.running())
        await stack.enter_async_context(watch.running())
        yield
