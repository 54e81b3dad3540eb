"""A hub as a profile names it: the SDK's clients and the hub's own routes, over one trust."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from azure.mgmt.recoveryservices.aio import RecoveryServicesClient
from azure.mgmt.recoveryservicessiterecovery.aio import SiteRecoveryManagementClient

from service_shell.clock import SystemClock
from site_recovery_cli.client_tokens import fresh
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.hub_routes import HubRoutes
from site_recovery_cli.operator_signature import OperatorSignaturePolicy, read_key
from site_recovery_cli.profiles import DEFAULT_PROFILE, Profile, ProfileFolder, default_folder
from site_recovery_cli.sdk_clients import BearerCredential, open_clients

REQUEST_SECONDS_MAX: Final = 30.0
SDK_RETRIES: Final = 2
TOKEN_CHECK_INTERVAL: Final = timedelta(hours=1)
"""The SDK asks for a token again after this; when it really ends, the hub says 401."""

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Connection:
    """A profile at work."""

    profile: Profile
    vaults: RecoveryServicesClient
    recovery: SiteRecoveryManagementClient
    routes: HubRoutes
    signing: OperatorSignaturePolicy | None = None

    @property
    def hub(self) -> str:
        """The hub's address, for messages."""
        return self.profile.hub

    def vault(self, named: str | None) -> str:
        """Return the vault that is meant; CommandError when neither option nor profile name it."""
        vault = named or self.profile.vault
        if not vault:
            raise CommandError(
                "no vault is named; add --vault NAME, or log in with --vault NAME",
                ExitCode.USAGE,
            )
        return vault

    def scope(self, vault: str | None) -> tuple[str, str]:
        """Return resource group and vault, the first two arguments of the SDK's calls."""
        return self.profile.resource_group, self.vault(vault)

    async def vault_id(self, vault: str | None) -> str:
        """Return the hub's own id of the vault, which its routes are addressed with."""
        profile = self.profile
        return await self.routes.vault_id(
            profile.subscription_id, profile.resource_group, self.vault(vault)
        )


def connected(profile: str | None, work: Callable[[Connection], Awaitable[ResultT]]) -> ResultT:
    """Run a command's work with the hub of a profile, to its end."""

    async def run() -> ResultT:
        async with connect(profile) as connection:
            return await work(connection)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def connect(name: str | None) -> AsyncIterator[Connection]:
    """Open the hub of a profile; it trusts the profile's root and nothing else."""
    folder = ProfileFolder(default_folder())
    name = name or DEFAULT_PROFILE
    now = SystemClock().now()
    profile = await fresh(folder, name, folder.load(name), now)
    credential = BearerCredential(profile.token, now + TOKEN_CHECK_INTERVAL)
    options: dict[str, Any] = {
        "connection_timeout": REQUEST_SECONDS_MAX,
        "read_timeout": REQUEST_SECONDS_MAX,
        "retry_total": SDK_RETRIES,
    }
    signing = None
    if profile.channel_integrity_key_file is not None:
        key = read_key(Path(profile.channel_integrity_key_file))
        signing = OperatorSignaturePolicy(key, SystemClock())
        options["per_call_policies"] = [signing]
    trust = folder.trust_file(name, profile)
    async with (
        open_clients(profile.hub, profile.subscription_id, credential, trust, **options) as sdk,
        open_routes(profile.hub, profile.root_pem, profile.token) as routes,
    ):
        yield Connection(profile, sdk.vaults, sdk.recovery, routes, signing)


@contextlib.asynccontextmanager
async def open_routes(hub: str, root_pem: str, token: str) -> AsyncIterator[HubRoutes]:
    """Open the hub's own routes."""
    context = ssl.create_default_context(cadata=root_pem)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
        trust_env=True,
    ) as session:
        yield HubRoutes(hub, session)
