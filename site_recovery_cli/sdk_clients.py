"""The official SDK's clients, pointed at a hub: one trust, one bearer token."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.mgmt.recoveryservices.aio import RecoveryServicesClient
from azure.mgmt.recoveryservicessiterecovery.aio import SiteRecoveryManagementClient

POLLING_SECONDS = 1


@dataclass(slots=True)
class BearerCredential:
    """A bearer token as the SDK wants to be asked for it."""

    token: str
    expires_at: datetime

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return the token."""
        return AccessToken(self.token, int(self.expires_at.timestamp()))

    async def close(self) -> None:
        """Nothing is held open."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_problem: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class SdkClients:
    """Both clients, for vaults and for what is in them."""

    vaults: RecoveryServicesClient
    recovery: SiteRecoveryManagementClient


@contextlib.asynccontextmanager
async def open_clients(
    hub: str,
    subscription_id: str,
    credential: BearerCredential,
    ca_file: str | Path,
    **options: Any,
) -> AsyncIterator[SdkClients]:
    """Open both; they verify the hub with `ca_file` alone. `options` go to the SDK as they are."""
    settings: dict[str, Any] = {
        "base_url": hub,
        "credential_scopes": [f"{hub}/.default"],
        "connection_verify": str(ca_file),
        "polling_interval": POLLING_SECONDS,
        **options,
    }
    async with (
        RecoveryServicesClient(credential, subscription_id, **settings) as vaults,
        SiteRecoveryManagementClient(credential, subscription_id, **settings) as recovery,
    ):
        yield SdkClients(vaults, recovery)
