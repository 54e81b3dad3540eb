"""The official SDK over TLS against the real engine: a hub without network, and its client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from azure.mgmt.recoveryservicessiterecovery.aio import SiteRecoveryManagementClient

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import server_context
from service_hub.arm.api import ArmApi
from service_hub.arm.routes import arm_routes
from service_shell.listener import open_listener
from tests.integration.arm_server import AsyncCredential, drop_connections
from tests.support.hub_world import HubWorld, hub_world
from tests.support.injecting import OneVault
from tests.support.many_items import Sites, an_item, furnish
from tests.unit.arm.arm_estate import KnownTokens

HOST = "127.0.0.1"
VAULT_NAME = ("rg", "v")


@dataclass
class Desk:
    """A hub with its providers, and an operator's client of it."""

    world: HubWorld
    sites: Sites
    client: SiteRecoveryManagementClient


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    """Serve a hub without network over TLS."""
    now, key = datetime.now(UTC), new_private_key()
    trust = TrustChain.create(now, "Contoso")
    issued = trust.issue(Profile.HUB_SERVER, key.public_key(), HOST, now, ip_addresses=[HOST])
    (folder / "root.pem").write_text(trust.root_pem, encoding="ascii")
    async with hub_world(folder) as world:
        await furnish(world, an_item(1), an_item(2))
        listener = open_listener(HOST, 0)
        url = f"https://{HOST}:{listener.getsockname()[1]}"
        vaults: Any = OneVault(world.vault)
        api = ArmApi(
            vaults=vaults,
            fabrics=world.fabrics,
            policies=world.policies,
            pairing=world.pairing,
            protection=world.protection,
            networks=world.networks,
            storage=world.storage,
            jobs=world.jobs,
            events=world.events,
            alerts=world.alerts,
            servers=world.servers,
            plans=world.recovery_plans,
            tokens=KnownTokens(),
            clock=world.clock,
            public_url=url,
            retry_after_seconds=0,
        )
        application = web.Application()
        application.add_routes(arm_routes(api))
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            tls = server_context(issued.chain_pem, private_key_pem(key))
            await web.SockSite(runner, listener, ssl_context=tls).start()
            async with SiteRecoveryManagementClient(
                AsyncCredential("good"),
                "s",
                base_url=url,
                credential_scopes=[f"{url}/.default"],
                connection_verify=str(folder / "root.pem"),
                polling_interval=0,
            ) as client:
                yield Desk(world, Sites(world), client)
            await drop_connections(runner)
        finally:
            await runner.cleanup()
