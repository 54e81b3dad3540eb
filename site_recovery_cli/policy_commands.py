"""`site-recovery policy ...`: how often machines are replicated, and what is kept."""

from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final

import typer
from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.carried_out import carry_out
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.failures import explained
from site_recovery_cli.job_options import JobOptions, asking_with_job_options, with_job_options
from site_recovery_cli.named_resources import listed
from site_recovery_cli.options import (
    OutputFormat,
    ProfileName,
    VaultName,
)
from site_recovery_cli.output import Format, Row, show_list, show_one
from wire_contract.vocabulary import CERTIFICATE_PORT

FREQUENCY_SECONDS: Final = 300
CERTIFICATES: Final = 2
"""HyperVReplicaBluePolicyInput.allowedAuthenticationType: certificates (1 is Kerberos)."""

COLUMNS: Final = {
    "policy": "Policy",
    "frequency_seconds": "Every (s)",
    "recovery_points": "Recovery points",
    "application_consistent_hours": "Application-consistent (h)",
    "replica_deletion": "Replica at the end",
}

commands = typer.Typer(help="Replication policies.", no_args_is_help=True)

PolicyArgument = Annotated[str, typer.Argument(help="The policy's name.")]


class ReplicaDeletion(StrEnum):
    """What becomes of the replica when protection ends."""

    KEEP = "keep"
    DELETE = "delete"


@commands.command("list")
def list_all(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List the replication policies."""

    async def work(connection: Connection) -> list[Row]:
        policies = connection.recovery.replication_policies
        with explained("list policies", connection.hub):
            return [_row(each) for each in await listed(policies.list(*connection.scope(vault)))]

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("show")
def show(
    *,
    policy: PolicyArgument,
    vault: VaultName = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Show one policy."""

    async def work(connection: Connection) -> Row:
        policies = connection.recovery.replication_policies
        with explained(f"policy {policy}", connection.hub):
            return _row(await policies.get(*connection.scope(vault), policy))

    show_one(connected(profile, work), output)


@commands.command("create")
@with_job_options
def create(
    *,
    policy: PolicyArgument,
    frequency: Annotated[
        int, typer.Option("--frequency", help="Seconds between changes sent: 30, 300 or 900.")
    ] = FREQUENCY_SECONDS,
    recovery_points: Annotated[
        int, typer.Option("--recovery-points", min=0, help="Hourly points kept beside the newest.")
    ] = 0,
    application_consistent_hours: Annotated[
        int,
        typer.Option(
            "--application-consistent-hours", min=0, help="Hours between such points; 0: none."
        ),
    ] = 0,
    port: Annotated[
        int, typer.Option("--port", min=1, max=65_535, help="Where replicas listen.")
    ] = CERTIFICATE_PORT,
    compression: Annotated[
        bool, typer.Option("--compression/--no-compression", help="Compress what crosses the WAN.")
    ] = False,
    replica: Annotated[
        ReplicaDeletion, typer.Option("--replica", help="What becomes of it at the end.")
    ] = ReplicaDeletion.KEEP,
    given: JobOptions,
) -> None:
    """Create a policy, with certificates between the hosts."""
    content = models.CreatePolicyInput(
        properties=models.CreatePolicyInputProperties(
            provider_specific_input=models.HyperVReplicaBluePolicyInput(
                replication_frequency_in_seconds=frequency,
                recovery_points=recovery_points,
                application_consistent_snapshot_frequency_in_hours=application_consistent_hours,
                compression="Enable" if compression else "Disable",
                initial_replication_method="OverNetwork",
                replication_port=port,
                allowed_authentication_type=CERTIFICATES,
                replica_deletion=(
                    "Required" if replica is ReplicaDeletion.DELETE else "NotRequired"
                ),
            )
        )
    )

    async def work(connection: Connection) -> None:
        group = connection.recovery.replication_policies
        begin = partial(group.begin_create, *connection.scope(given.vault), policy, content)
        what = f"create policy {policy}"
        await carry_out(connection, given.vault, what, begin, given.wait_seconds)

    connected(given.profile, work)


@commands.command("delete")
@asking_with_job_options
def delete(
    *,
    policy: PolicyArgument,
    given: JobOptions,
) -> None:
    """Delete a policy; refused while clouds are paired under it."""
    given.confirm(f"Delete policy {policy}?")

    async def work(connection: Connection) -> None:
        group = connection.recovery.replication_policies
        begin = partial(group.begin_delete, *connection.scope(given.vault), policy)
        what = f"delete policy {policy}"
        await carry_out(connection, given.vault, what, begin, given.wait_seconds)

    connected(given.profile, work)


def _row(policy: models.Policy) -> dict[str, Any]:
    # What 2012 hosts lack, their kind of policy has no field for.
    settings: Any = policy.properties.provider_specific_details if policy.properties else None
    fields = {
        "frequency_seconds": "replication_frequency_in_seconds",
        "recovery_points": "recovery_points",
        "application_consistent_hours": "application_consistent_snapshot_frequency_in_hours",
        "compression": "compression",
        "initial_replication": "initial_replication_method",
        "port": "replication_port",
        "replica_deletion": "replica_deletion_option",
    }
    return {
        "policy": policy.name,
        **{name: getattr(settings, field, None) for name, field in fields.items()},
        "id": policy.id,
    }
