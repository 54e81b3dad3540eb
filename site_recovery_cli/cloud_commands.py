"""`site-recovery cloud ...`: clouds of VMM servers, their machines, and their pairings."""

from functools import partial
from typing import Annotated, Any, Final

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.carried_out import carry_out
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.fabric_parts import find_cloud, list_clouds
from site_recovery_cli.failover_requests import PROVIDER
from site_recovery_cli.failures import explained
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.named_resources import Named, choose, listed
from site_recovery_cli.options import (
    OutputFormat,
    ProfileName,
    VaultName,
)
from site_recovery_cli.output import Format, Row, show_list, show_one
from site_recovery_cli.protect_commands import list_machines

COLUMNS: Final = {
    "cloud": "Cloud",
    "server": "Server",
    "pairing": "Pairing",
    "role": "Role",
    "protected": "Protected",
}
MACHINE_COLUMNS: Final = {"machine": "Machine", "protection": "Protection", "id": "Id"}
PAIRING_COLUMNS: Final = {
    "pairing": "Pairing",
    "primary": "Primary",
    "recovery": "Recovery",
    "policy": "Policy",
    "state": "State",
}

commands = typer.Typer(help="Clouds, their machines and pairings.", no_args_is_help=True)

CloudArgument = Annotated[str, typer.Argument(help="The cloud's name, SERVER/NAME or id.")]


@commands.command("list")
def list_all(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List the clouds of all servers."""

    async def work(connection: Connection) -> list[Row]:
        return [_row(each) for each in await list_clouds(connection, vault)]

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("show")
def show(
    *,
    cloud: CloudArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one cloud."""

    async def work(connection: Connection) -> Row:
        found = await find_cloud(connection, vault, cloud)
        return {**_row(found), "id": found.resource.id}

    show_one(connected(profile, work), output)


@commands.command("machines")
def machines(
    *,
    cloud: CloudArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List the machines of a cloud, and whether they are protected."""

    async def work(connection: Connection) -> list[Row]:
        found = await find_cloud(connection, vault, cloud)
        return [
            {
                "machine": each.name,
                "protection": each.resource.properties.protection_status,
                "id": each.resource.name,
            }
            for each in await list_machines(connection, vault, [found])
        ]

    show_list(connected(profile, work), MACHINE_COLUMNS, output)


@commands.command("pairings")
def pairings(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List which clouds are paired, and under which policy."""

    async def work(connection: Connection) -> list[Row]:
        return [_pairing(each.resource) for each in await _pairings(connection, vault)]

    show_list(connected(profile, work), PAIRING_COLUMNS, output)


@commands.command("pair")
@with_job_options
def pair(
    *,
    primary: CloudArgument,
    recovery: CloudArgument,
    policy: Annotated[str, typer.Option("--policy", help="The replication policy's name.")],
    name: Annotated[
        str | None, typer.Option("--name", help="The pairing's; by default of both clouds' names.")
    ] = None,
    given: JobOptions,
) -> None:
    """Pair two clouds under a policy: machines of the first may be protected to the second."""

    async def work(connection: Connection) -> None:
        scope = connection.scope(given.vault)
        source = await find_cloud(connection, given.vault, primary)
        target = await find_cloud(connection, given.vault, recovery)
        with explained(f"policy {policy}", connection.hub):
            chosen = await connection.recovery.replication_policies.get(*scope, policy)
        content = models.CreateProtectionContainerMappingInput(
            properties=models.CreateProtectionContainerMappingInputProperties(
                target_protection_container_id=target.resource.id,
                policy_id=chosen.id,
                provider_specific_input=models.ReplicationProviderSpecificContainerMappingInput(
                    instance_type=PROVIDER
                ),
            )
        )
        group = connection.recovery.replication_protection_container_mappings
        called = name or f"{source.name}-{target.name}".replace(" ", "-")
        begin = partial(group.begin_create, *scope, *source.path, called, content)
        what = f"pair {source.full_name} with {target.full_name}"
        await carry_out(connection, given.vault, what, begin, given.wait_seconds)

    connected(given.profile, work)


@commands.command("unpair")
@asking_with_job_options
def unpair(
    *,
    pairing: Annotated[str, typer.Argument(help="The pairing's name, CLOUD/NAME or id.")],
    given: JobOptions,
) -> None:
    """End a pairing of clouds; refused while machines are protected under it."""

    async def work(connection: Connection) -> None:
        known = await _pairings(connection, given.vault)
        found = choose("pairing", pairing, known, "cloud pairings")
        given.confirm(f"End the pairing {found.full_name}?")
        content = models.RemoveProtectionContainerMappingInput(
            properties=models.RemoveProtectionContainerMappingInputProperties()
        )
        group = connection.recovery.replication_protection_container_mappings
        begin = partial(group.begin_delete, *connection.scope(given.vault), *found.path, content)
        what = f"end pairing {found.name}"
        await carry_out(connection, given.vault, what, begin, given.wait_seconds)

    connected(given.profile, work)


async def _pairings(connection: Connection, vault: str | None) -> list[Named]:
    group = connection.recovery.replication_protection_container_mappings
    with explained("list pairings", connection.hub):
        found = await listed(group.list(*connection.scope(vault)))
    return [
        Named(each, str(each.name), str(each.properties.source_protection_container_friendly_name))
        for each in found
    ]


def _row(cloud: Named) -> dict[str, Any]:
    properties = cloud.resource.properties or models.ProtectionContainerProperties()
    return {
        "cloud": cloud.name,
        "server": cloud.place,
        "pairing": properties.pairing_status,
        "role": properties.role,
        "protected": properties.protected_item_count,
    }


def _pairing(mapping: models.ProtectionContainerMapping) -> Row:
    properties = mapping.properties or models.ProtectionContainerMappingProperties()
    source = properties.source_protection_container_friendly_name
    target = properties.target_protection_container_friendly_name
    return {
        "pairing": mapping.name,
        "primary": f"{properties.source_fabric_friendly_name}/{source}",
        "recovery": f"{properties.target_fabric_friendly_name}/{target}",
        "policy": properties.policy_friendly_name,
        "state": properties.state,
        "health": properties.health,
        "id": mapping.id,
    }
