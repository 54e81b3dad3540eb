"""`site-recovery vault ...`: vaults and their registration keys."""

from pathlib import Path
from typing import Annotated, Any

import typer
from azure.mgmt.recoveryservices import models

from service_shell.secret_files import write_secret
from site_recovery_cli.connection import Connection, connect
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_progress import begin_job
from site_recovery_cli.operator_signature import read_or_make_key, with_key
from site_recovery_cli.options import (
    OutputFormat,
    ProfileName,
    VaultName,
    Yes,
    confirm,
    run,
)
from site_recovery_cli.output import Format, Row, say, show_list, show_one

COLUMNS = {
    "name": "Name",
    "resource_group": "Resource group",
    "location": "Region",
    "state": "State",
}
KEY_COLUMNS = {
    "key_id": "Key",
    "name": "Name",
    "state": "State",
    "created_at": "Created",
    "expires_at": "Expires",
}

commands = typer.Typer(help="Vaults and registration keys.", no_args_is_help=True)

VaultArgument = Annotated[str, typer.Argument(help="The vault's name.")]


@commands.command("create")
def create(
    *,
    name: VaultArgument,
    region: Annotated[str, typer.Option("--region", "-r", help="The hub's region, or a label.")],
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Create a vault; one that exists in that region is left as it is."""

    async def work() -> Row:
        async with connect(profile) as connection:
            wanted = models.Vault(
                location=region,
                sku=models.Sku(name="Standard"),
                properties=models.VaultProperties(),
            )
            with explained(f"create vault {name}", connection.hub):
                poller = await connection.vaults.vaults.begin_create_or_update(
                    connection.profile.resource_group, name, wanted
                )
                return _row(await poller.result())

    show_one(run(work()), output)


@commands.command("list")
def list_vaults(*, profile: ProfileName = None, output: OutputFormat = Format.TABLE) -> None:
    """List the vaults of the profile's subscription."""

    async def work() -> list[Row]:
        async with connect(profile) as connection:
            with explained("list vaults", connection.hub):
                found = connection.vaults.vaults.list_by_subscription_id()
                return [_row(vault) async for vault in found]

    show_list(run(work()), COLUMNS, output)


@commands.command("show")
def show(
    *, name: VaultArgument, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """Show one vault."""

    async def work() -> Row:
        async with connect(profile) as connection:
            with explained(f"vault {name}", connection.hub):
                group = connection.profile.resource_group
                row = _row(await connection.vaults.vaults.get(group, name))
            found = [own for own in await connection.routes.vaults() if _is(own, row)]
            return {**row, **_own_settings(found[0])} if found else row

    show_one(run(work()), output)


@commands.command("set")
def set_vault(
    *,
    name: VaultArgument,
    require_operator_signature: Annotated[
        bool,
        typer.Option(
            "--require-operator-signature/--no-require-operator-signature",
            help="Whether failovers and the like must be signed by an operator.",
        ),
    ],
    profile: ProfileName = None,
) -> None:
    """Change a vault's own settings."""

    async def work() -> None:
        async with connect(profile) as connection:
            vault_id = await _vault_id(connection, name)
            await connection.routes.require_signatures(
                vault_id, required=require_operator_signature
            )

    run(work())
    if require_operator_signature:
        say(
            f"The vault {name} takes signed operations alone. A server insists by itself once it"
            " has the channel integrity key: provider-agent operator-signature require"
        )
    else:
        say(f"The vault {name} asks for no signature; servers that insist go on insisting.")


@commands.command("delete")
def delete(*, name: VaultArgument, yes: Yes = False, profile: ProfileName = None) -> None:
    """Delete a vault; refused while servers are registered in it."""
    confirm(f"Delete the vault {name} with its policies and history?", yes=yes)

    async def work() -> None:
        async with connect(profile) as connection:
            what, vaults = f"delete vault {name}", connection.vaults.vaults

            async def begin(**options: Any) -> Any:
                group = connection.profile.resource_group
                return await vaults.begin_delete(group, name, **options)

            await begin_job(connection, what, begin)

    run(work())
    say(f"The vault {name} is deleted.")


@commands.command("registration-key")
def registration_key(
    *,
    file: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, help="Where the credentials file goes."),
    ],
    channel_integrity_key_file: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Put the key in this file (made where missing) into the credentials file.",
        ),
    ] = None,
    vault: VaultName = None,
    profile: ProfileName = None,
) -> None:
    """Make a registration key: a vault credentials file, valid for five days, 0600.

    With a channel integrity key, which the hub never sees, the server will insist on operators'
    signatures.
    """
    if file.exists():
        raise CommandError(
            f"{file} exists; name another file, so that no key is lost", ExitCode.USAGE
        )

    key_file = channel_integrity_key_file
    key = None if key_file is None else read_or_make_key(key_file)

    async def work() -> bytes:
        async with connect(profile) as connection:
            vault_id = await _vault_id(connection, vault)
            return await connection.routes.make_registration_key(vault_id)

    made = run(work())
    write_secret(file, made if key is None else with_key(made, key))
    if key is not None:
        say(
            f"{key_file}: the channel integrity key; operators sign with it. Keep a copy that"
            " neither hub nor site holds."
        )
    say(
        f"{file}: who has this file may register a new server for 120 hours; carry it to the VMM"
        " server in a safe way and delete it afterwards."
    )


@commands.command("keys")
def keys(
    *, vault: VaultName = None, profile: ProfileName = None, output: OutputFormat = Format.TABLE
) -> None:
    """List a vault's registration keys: nothing secret is shown, the hub does not keep it."""

    async def work() -> list[Row]:
        async with connect(profile) as connection:
            vault_id = await _vault_id(connection, vault)
            return [*await connection.routes.registration_keys(vault_id)]

    show_list(run(work()), KEY_COLUMNS, output)


@commands.command("revoke-key")
def revoke_key(
    *,
    key: Annotated[str, typer.Argument(help="The key, as `vault keys` shows it.")],
    vault: VaultName = None,
    yes: Yes = False,
    profile: ProfileName = None,
) -> None:
    """Revoke a registration key; servers that registered with it stay registered."""
    confirm(f"Revoke the registration key {key}?", yes=yes)

    async def work() -> None:
        async with connect(profile) as connection:
            vault_id = await _vault_id(connection, vault)
            await connection.routes.revoke_registration_key(vault_id, key)

    run(work())
    say(f"The registration key {key} is revoked.")


def _own_settings(own: Row) -> Row:
    """Return what the ARM surface does not show of a vault."""
    return {"operator_signature_required": own.get("operator_signature_required")}


def _is(own: Row, row: Row) -> bool:
    """Return whether the hub's own entry is of the vault that the SDK has shown."""
    names = ("name", "resource_group")
    return all(str(own[each]).lower() == str(row[each]).lower() for each in names)


async def _vault_id(connection: Connection, vault: str | None) -> str:
    profile = connection.profile
    return await connection.routes.vault_id(
        profile.subscription_id, profile.resource_group, connection.vault(vault)
    )


def _row(vault: models.Vault) -> Row:
    state = vault.properties.provisioning_state if vault.properties is not None else None
    parts = (vault.id or "").split("/")
    return {
        "name": vault.name,
        "resource_group": parts[4] if len(parts) > 4 else None,  # noqa: PLR2004 -- ARM ids: /subscriptions/S/resourceGroups/G/...
        "location": vault.location,
        # The original's portal says Active of a vault that is provisioned (seed, step 1).
        "state": "Active" if state == "Succeeded" else state,
        "tags": dict(vault.tags or {}),
        "id": vault.id,
    }
