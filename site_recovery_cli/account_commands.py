"""`site-recovery account ...`: service accounts, for owners."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from service_shell.secret_files import write_secret
from site_recovery_cli.connection import Connection, connected
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.options import OutputFormat, ProfileName, Yes, confirm
from site_recovery_cli.output import Format, Row, say, show_list, show_one

COLUMNS: Final = {
    "client_id": "Client id",
    "name": "Name",
    "roles": "Roles",
    "secret_ends_at": "Secret ends",
    "created_by": "Created by",
}
DAYS: Final = 365

commands = typer.Typer(help="Service accounts: programs that log in.", no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(help="The account's name, or its client id.")]
Days = Annotated[int, typer.Option("--days", min=1, help="How long the secret holds.")]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file", help="Write the secret to this new file, 0600; else it is shown."
    ),
]


@commands.command("create")
def create(
    *,
    name: Annotated[str, typer.Argument(help="A name for people, in the audit log too.")],
    grant: Annotated[
        list[str],
        typer.Option("--grant", help="A role, ROLE or ROLE@VAULT for one vault; several times."),
    ],
    days: Days = DAYS,
    secret_file: SecretFile = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Make a service account; its secret is told now and never again."""
    _check_new(secret_file)

    async def work(connection: Connection) -> Mapping[str, Any]:
        known = await connection.routes.vaults()
        grants = [_grant(each, known) for each in grant]
        return await connection.routes.make_account(name, grants, days)

    _tell_secret(connected(profile, work), secret_file, output)


@commands.command("list")
def list_all(*, profile: ProfileName = None, output: OutputFormat = Format.TABLE) -> None:
    """List the service accounts with their roles; secrets are known to nobody."""

    async def work(connection: Connection) -> list[Row]:
        vaults = await connection.routes.vaults()
        return [_row(each, vaults) for each in await connection.routes.accounts()]

    show_list(connected(profile, work), COLUMNS, output)


@commands.command("rotate")
def rotate(
    *,
    account: AccountArgument,
    overlap_hours: Annotated[
        int, typer.Option("--overlap-hours", min=0, help="How long the former secret holds on.")
    ] = 0,
    days: Days = DAYS,
    secret_file: SecretFile = None,
    profile: ProfileName = None,
    output: OutputFormat = Format.TABLE,
) -> None:
    """Give an account a new secret; the former one ends, at once by default."""
    _check_new(secret_file)

    async def work(connection: Connection) -> Mapping[str, Any]:
        client_id = await _client_id(connection, account)
        return await connection.routes.rotate_account(client_id, days, overlap_hours)

    _tell_secret(connected(profile, work), secret_file, output)


@commands.command("revoke")
def revoke(*, account: AccountArgument, yes: Yes = False, profile: ProfileName = None) -> None:
    """Remove an account: its secret and its tokens are no good from that moment."""
    confirm(f"Remove the service account {account}?", yes=yes)

    async def work(connection: Connection) -> None:
        await connection.routes.remove_account(await _client_id(connection, account))

    connected(profile, work)
    say(f"The service account {account} is removed; its tokens have ended.")


@commands.command("revoke-token")
def revoke_token(
    *,
    token_id: Annotated[str, typer.Argument(help="The token's claim 'jti'.")],
    profile: ProfileName = None,
) -> None:
    """End one token, of anybody; its account stays."""

    async def work(connection: Connection) -> None:
        await connection.routes.revoke_token(token_id)

    connected(profile, work)
    say(f"The token {token_id} has ended.")


def _grant(named: str, vaults: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    role, _, vault = named.partition("@")
    if not vault:
        return {"role": role}
    found = [str(each["vault_id"]) for each in vaults if each["name"].lower() == vault.lower()]
    if len(found) != 1:
        raise CommandError(
            f"{len(found) or 'no'} vaults are named {vault}; see: site-recovery vault list",
            ExitCode.USAGE if found else ExitCode.NOT_FOUND,
        )
    return {"role": role, "vault_id": found[0]}


async def _client_id(connection: Connection, named: str) -> str:
    for each in await connection.routes.accounts():
        if named.lower() in {str(each["name"]).lower(), str(each["client_id"]).lower()}:
            return str(each["client_id"])
    raise CommandError(
        f"there is no service account {named}; see: site-recovery account list", ExitCode.NOT_FOUND
    )


def _check_new(file: Path | None) -> None:
    if file is not None and file.exists():
        raise CommandError(f"{file} exists; name a new file for the secret", ExitCode.USAGE)


def _tell_secret(made: Mapping[str, Any], file: Path | None, output: Format) -> None:
    told = {"client_id": made["client_id"], "name": made["name"]}
    if file is None:
        show_one({**told, "client_secret": made["client_secret"]}, output)
        say("Keep the secret now: it is not shown again.")
        return
    write_secret(file, f"{made['client_secret']}\n".encode())
    show_one({**told, "secret_file": str(file)}, output)
    say(f"Log in: site-recovery login --client-id {made['client_id']} --client-secret-file {file}")


def _row(account: Mapping[str, Any], vaults: Sequence[Mapping[str, Any]]) -> Row:
    names = {each["vault_id"]: each["name"] for each in vaults}
    roles = [
        each["role"]
        if each["vault_id"] is None
        else f"{each['role']}@{names.get(each['vault_id'], each['vault_id'])}"
        for each in account["grants"]
    ]
    ends = max((str(each["expires_at"]) for each in account["secrets"]), default=None)
    return {**account, "roles": ", ".join(roles), "secret_ends_at": ends}
