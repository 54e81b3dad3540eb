"""Registered servers as commands name them, and the long operations on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.carried_out import carry_out
from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_progress import Begin
from site_recovery_cli.output import Row

NAMING_FIELDS = ("server", "name", "fabric", "provider_id")


@dataclass(frozen=True, slots=True)
class Server:
    """A registered server, and how the SDK addresses it."""

    row: Row
    fabric: str
    name: str

    @property
    def title(self) -> str:
        """What operators call it."""
        return str(self.row["server"])

    @property
    def provider_id(self) -> str:
        """The GUID that the hub made."""
        return str(self.row["provider_id"])


async def list_servers(connection: Connection, vault: str | None) -> list[Server]:
    """Return all registered servers of a vault."""
    group = connection.recovery.replication_recovery_services_providers
    with explained("list servers", connection.hub):
        return [_read(provider) async for provider in group.list(*connection.scope(vault))]


async def find_server(connection: Connection, vault: str | None, named: str) -> Server:
    """Return the one server of that name or id; CommandError."""
    wanted = named.lower()
    found = [
        server
        for server in await list_servers(connection, vault)
        if wanted in {str(server.row[field]).lower() for field in NAMING_FIELDS}
    ]
    if not found:
        raise CommandError(
            f"there is no server {named} in this vault; see: site-recovery server list",
            ExitCode.NOT_FOUND,
        )
    if len(found) > 1:
        ids = ", ".join(server.provider_id for server in found)
        raise CommandError(
            f"{len(found)} servers are named {named}; name one by its id: {ids}", ExitCode.USAGE
        )
    return found[0]


@dataclass(frozen=True, slots=True)
class ServerOperation:
    """A long-running operation of the SDK on a server; `pick` chooses it from its group."""

    verb: str
    pick: Callable[[Any], Begin]

    async def run(
        self, connection: Connection, vault: str | None, named: str, wait_seconds: float | None
    ) -> None:
        """Begin it on the named server, and follow its job where `wait_seconds` are given."""
        server = await find_server(connection, vault, named)
        scope, what = connection.scope(vault), f"{self.verb} {server.title}"
        operation = self.pick(connection.recovery.replication_recovery_services_providers)

        async def begin(**options: Any) -> Any:
            return await operation(*scope, server.fabric, server.name, **options)

        await carry_out(connection, vault, what, begin, wait_seconds)


def _read(provider: models.RecoveryServicesProvider) -> Server:
    properties = provider.properties or models.RecoveryServicesProviderProperties()
    fabric = _segment_after(provider.id or "", "replicationfabrics")
    beat = properties.last_heart_beat
    row = {
        "server": properties.fabric_friendly_name or properties.friendly_name or provider.name,
        "connection": properties.connection_status,
        "last_heartbeat_at": beat.isoformat() if beat is not None else None,
        "provider_version": properties.provider_version,
        "vmm_version": properties.server_version,
        "protected_items": properties.protected_item_count,
        "health": [
            f"{error.error_message} {error.recommended_action or ''}".strip()
            for error in properties.health_error_details or []
        ],
        "name": provider.name,
        "fabric": fabric,
        "provider_id": properties.dra_identifier,
        "id": provider.id,
    }
    return Server(row, fabric, provider.name or "")


def _segment_after(resource_id: str, kind: str) -> str:
    parts = resource_id.split("/")
    for place, part in enumerate(parts[:-1]):
        if part.lower() == kind:
            return parts[place + 1]
    return ""
