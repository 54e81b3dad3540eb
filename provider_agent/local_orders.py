"""What an operator at the server has done without a job of the hub: its orders, and the way there.

Shared by the commands `cleanup`, `start-without-hub` and `unregister`.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from certs.tls import TlsMaterialError, client_context
from provider_agent.config import AgentSettings
from provider_agent.credentials import Identity, is_registered, load_identity
from provider_agent.hub_client import AccessToken, HubClient
from provider_agent.hub_https import HubError, HubHttps
from provider_agent.proxy import HubRoute, load_rules
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from wire_contract.vmm_interface import Command
from wire_contract.vocabulary import Verb

Tell = Callable[[str], None]
Ask = Callable[[str], bool]


def local_command(kind: str, verb: Verb, clock: Clock, seconds: float, epoch: int = 0) -> Command:
    """Return an order of this server's own operator, which no job of a hub stands behind."""
    return Command(
        id=f"{kind}-{clock.new_id()}/{verb.value}/1",
        fence=1,
        epoch=epoch,
        deadline=clock.now() + timedelta(seconds=seconds),
    )


@asynccontextmanager
async def hub_client(
    settings: AgentSettings, identity: Identity, clock: Clock
) -> AsyncIterator[HubClient]:
    """Open a client of the hub beside the running provider, for one question."""
    try:
        tls = client_context(
            identity.root_pem, chain_pem=identity.chain_pem, key_pem=identity.key_pem
        )
    except TlsMaterialError as error:
        raise ProgramError(
            f"the identity in {settings.data_directory} is damaged: {error}"
        ) from error
    route = HubRoute(load_rules(settings.proxy, settings.data_directory, os.environ))
    async with HubHttps.connect(identity.facts.provider_url, tls, route) as https:
        yield HubClient(https, AccessToken(https, identity.key, clock.now))


async def who_answers(
    settings: AgentSettings, tell: Tell, clock: Clock, *, otherwise: str
) -> Identity | None:
    """Return as whom the hub lets this server in now; None where it does not, which is told.

    `otherwise`: what it means that it does not, before the cause.
    """
    if not is_registered(settings.data_directory):
        return None
    try:
        identity = load_identity(settings.data_directory, clock.now())
    except ProgramError as error:
        # Damaged or expired: no hub would take it.
        tell(f"the registration is of no use any more: {error}")
        return None
    try:
        async with hub_client(settings, identity, clock) as hub:
            await hub.access_token()
    except HubError as error:
        tell(f"{otherwise}: {error}")
        return None
    return identity
