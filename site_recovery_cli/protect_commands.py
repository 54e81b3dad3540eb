"""`site-recovery protect ...`: machines under replication, their recovery points, on and off."""

from functools import partial
from typing import Annotated, Any, Final

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.carried_out import carry_out
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.fabric_parts import find_cloud, list_clouds
from site_recovery_cli.failover_requests import PROVIDER
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.named_resources import Named, choose, listed
from site_recovery_cli.options import (
    OutputFormat,
    ProfileName,
    VaultName,
)
from site_recovery_cli.output import Format, Row, show_list, show_one
from site_recovery_cli.protected_targets import (
    find_item,
    find_machine,
    job_of_item,
    list_items,
    properties_of_item,
)

COLUMNS: Final = {
    "machine": "Machine",
    "cloud": "Cloud",
    "state": "State",
    "active": "Runs at",
    "health": "Health",
    "test": "Test",
    "policy": "Policy",
    "job": "Job",
}
POINT_COLUMNS: Final = {"point": "Recovery point", "taken_at": "Taken", "kind": "Kind"}

commands = typer.Typer(help="Machines under replication.", no_args_is_help=True)

MachineArgument = Annotated[str, typer.Argument(help="The machine's name, CLOUD/NAME or id.")]


@commands.command("list")
def list_all(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List the protected machines with their state, and where they run."""

    async def work(connection: Connection) -> list[Row]:
        return [_row(each) for each in await list_items(connection, vault)]

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("show")
def show(
    *,
    machine: MachineArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one protected machine: both sites, what is wrong with it, what it allows now."""

    async def work(connection: Connection) -> Row:
        found = await find_item(connection, vault, machine)
        properties = properties_of_item(found.resource)
        return {
            **_row(found),
            "description": properties.protection_state_description,
            "primary": _place(
                properties.primary_fabric_friendly_name,
                properties.primary_protection_container_friendly_name,
            ),
            "recovery": _place(
                properties.recovery_fabric_friendly_name,
                properties.recovery_protection_container_friendly_name,
            ),
            "allowed": list(properties.allowed_operations or []),
            "errors": [_error(each) for each in properties.health_errors or []],
            "id": found.resource.id,
        }

    show_one(connected(profile, work), output)


@commands.command("points")
def points(
    *,
    machine: MachineArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """List the recovery points of a machine, the newest first, for `--recovery-point`."""

    async def work(connection: Connection) -> list[Row]:
        found = await find_item(connection, vault, machine)
        group = connection.recovery.recovery_points
        path = (*connection.scope(vault), *found.path)
        with explained(f"recovery points of {found.name}", connection.hub):
            return [
                _point(each)
                for each in await listed(group.list_by_replication_protected_items(*path))
            ]

    show_list(connected(profile, work), POINT_COLUMNS, output)


@commands.command("enable")
@with_job_options
def enable(
    *,
    machine: Annotated[str, typer.Argument(help="The machine's name, CLOUD/NAME or id.")],
    cloud: Annotated[
        str | None,
        typer.Option("--cloud", help="The cloud that it lies in; by default any paired one."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="By default the policy of the cloud's pairing.")
    ] = None,
    given: JobOptions,
) -> None:
    """Protect a machine of a paired cloud; the initial copy goes on after the job."""

    async def work(connection: Connection) -> None:
        found = await _machine_to_protect(connection, given.vault, machine, cloud)
        what = f"enable protection of {found.name}"
        if found.resource.properties.replication_protected_item_id:
            raise CommandError(
                f"{what}: it is protected already; see: site-recovery protect show {found.name}",
                ExitCode.REFUSED,
            )
        fabric, container, item = found.path
        content = models.EnableProtectionInput(
            properties=models.EnableProtectionInputProperties(
                policy_id=await _policy_id(connection, given.vault, (fabric, container), policy),
                protectable_item_id=found.resource.id,
                provider_specific_details=models.EnableProtectionProviderSpecificInput(
                    instance_type=PROVIDER
                ),
            )
        )
        group = connection.recovery.replication_protected_items
        path = (*connection.scope(given.vault), fabric, container, item)
        begin = partial(group.begin_create, *path, content)
        await carry_out(connection, given.vault, what, begin, given.wait_seconds)

    connected(given.profile, work)


@commands.command("disable")
@asking_with_job_options
def disable(
    *,
    machine: MachineArgument,
    force: Annotated[
        bool,
        typer.Option("--force", help="Forget it although a server is gone; it tidies up later."),
    ] = False,
    given: JobOptions,
) -> None:
    """End a machine's protection; the policy says whether its replica is deleted."""

    async def work(connection: Connection) -> None:
        target = await find_machine(connection, given.vault, machine)
        what = f"disable protection of {target.name}"
        if not force:
            target.require("DisableProtection", what)
        given.confirm(f"End the protection of {target.name}?")
        group = connection.recovery.replication_protected_items
        content = models.DisableProtectionInput(
            properties=models.DisableProtectionInputProperties(
                disable_protection_reason="NotSpecified"
            )
        )
        begin = (
            partial(group.begin_purge, *target.path)
            if force
            else partial(group.begin_delete, *target.path, content)
        )
        await carry_out(connection, given.vault, what, begin, given.wait_seconds)

    connected(given.profile, work)


async def list_machines(
    connection: Connection, vault: str | None, clouds: list[Named]
) -> list[Named]:
    """Return the machines of these clouds, protected or not."""
    group = connection.recovery.replication_protectable_items
    found: list[Named] = []
    for cloud in clouds:
        listing = group.list_by_replication_protection_containers(
            *connection.scope(vault), *cloud.path
        )
        with explained(f"list machines of {cloud.full_name}", connection.hub):
            found += [
                Named(each, str(each.properties.friendly_name), cloud.name)
                for each in await listed(listing)
                if each.properties is not None
            ]
    return found


async def _machine_to_protect(
    connection: Connection, vault: str | None, wanted: str, cloud: str | None
) -> Named:
    clouds = (
        [each for each in await list_clouds(connection, vault) if _is_paired(each)]
        if cloud is None
        else [await find_cloud(connection, vault, cloud)]
    )
    machines = await list_machines(connection, vault, clouds)
    return choose("machine", wanted, machines, "cloud machines CLOUD")


def _is_paired(cloud: Named) -> bool:
    properties = cloud.resource.properties
    return properties is not None and properties.pairing_status == "Paired"


async def _policy_id(
    connection: Connection, vault: str | None, place: tuple[str, str], wanted: str | None
) -> str:
    scope = connection.scope(vault)
    if wanted is not None:
        with explained(f"policy {wanted}", connection.hub):
            return str((await connection.recovery.replication_policies.get(*scope, wanted)).id)
    group = connection.recovery.replication_protection_container_mappings
    pairings = group.list_by_replication_protection_containers(*scope, *place)
    with explained("pairings of the cloud", connection.hub):
        policies = {str(each.properties.policy_id) for each in await listed(pairings)}
    if len(policies) != 1:
        raise CommandError(
            f"the machine's cloud has {len(policies) or 'no'} pairings with a policy;"
            " pair it, or choose one of them with --policy",
            ExitCode.USAGE,
        )
    return policies.pop()


def _row(item: Named) -> dict[str, Any]:
    properties = properties_of_item(item.resource)
    return {
        "machine": item.name,
        "cloud": item.place,
        "state": properties.protection_state,
        "active": properties.active_location,
        "health": properties.replication_health,
        "test": properties.test_failover_state,
        "policy": properties.policy_friendly_name,
        "job": job_of_item(item.resource),
    }


def _place(server: str | None, cloud: str | None) -> str:
    return f"{server or ''}/{cloud or ''}"


def _error(error: models.HealthError) -> str:
    words = (error.error_code, error.error_message, error.recommended_action)
    return " ".join(str(each) for each in words if each)


def _point(point: models.RecoveryPoint) -> Row:
    properties = point.properties or models.RecoveryPointProperties()
    taken = properties.recovery_point_time
    return {
        "point": point.name,
        "taken_at": taken.isoformat() if taken else None,
        "kind": properties.recovery_point_type,
    }
