"""`site-recovery login` and the list of profiles."""

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from site_recovery_cli.connection import open_routes
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError
from site_recovery_cli.operator_signature import read_key
from site_recovery_cli.options import PROFILE_VARIABLE, OutputFormat
from site_recovery_cli.output import Format, say, show_list
from site_recovery_cli.profiles import (
    DEFAULT_PROFILE,
    Profile,
    ProfileFolder,
    default_folder,
    read_root,
    read_token,
)

NO_SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
"""A hub has no subscriptions of its own; any GUID does, this one where none is in use yet."""

NO_RESOURCE_GROUP: Final = "site-recovery"
PROFILE_COLUMNS: Final = {
    "profile": "Profile",
    "hub": "Hub",
    "resource_group": "Resource group",
    "vault": "Vault",
}


def login(
    *,
    hub: Annotated[str, typer.Option(help="The hub's address, https://HOST:PORT.")],
    ca_file: Annotated[Path, typer.Option(help="The hub's root certificate (PEM).")],
    token_file: Annotated[Path, typer.Option(help="A file with the bearer token, 0600.")],
    profile: Annotated[
        str, typer.Option("--profile", "-p", envvar=PROFILE_VARIABLE, help="The profile's name.")
    ] = DEFAULT_PROFILE,
    subscription: Annotated[
        str | None, typer.Option(help="Subscription id; by default that of the hub's vaults.")
    ] = None,
    resource_group: Annotated[
        str | None, typer.Option(help="Resource group; by default that of the hub's vaults.")
    ] = None,
    vault: Annotated[
        str | None, typer.Option("--vault", "-v", help="The vault that commands mean by default.")
    ] = None,
    channel_integrity_key_file: Annotated[
        Path | None, typer.Option(help="Sign operations with the vault's key in this file, 0600.")
    ] = None,
) -> None:
    """Check address, root and token against the hub, and keep them as a profile."""
    address = _address(hub)
    root_pem, token = read_root(ca_file), read_token(token_file)
    if channel_integrity_key_file is not None:
        read_key(channel_integrity_key_file)
    try:
        vaults = asyncio.run(_vaults(address, root_pem, token))
    except ssl.SSLError as error:
        raise CommandError(
            f"{ca_file} cannot be used ({error.reason}); name the hub's trust/root.pem",
            ExitCode.USAGE,
        ) from error
    _check_vault(vaults, vault)
    places = [each for each in vaults if vault in (None, each["name"])]
    checked = Profile(
        hub=address,
        root_pem=root_pem,
        token=token,
        subscription_id=subscription or _only(places, "subscription_id") or NO_SUBSCRIPTION,
        resource_group=resource_group or _only(places, "resource_group") or NO_RESOURCE_GROUP,
        vault=vault or _only(vaults, "name"),
        channel_integrity_key_file=(
            str(channel_integrity_key_file.resolve()) if channel_integrity_key_file else None
        ),
    )
    path = ProfileFolder(default_folder()).save(profile, checked)
    say(f"Logged in to {address}; the profile {profile} is in {path}.")


def list_profiles(*, output: OutputFormat = Format.TABLE) -> None:
    """List the profiles; tokens are not shown."""
    folder = ProfileFolder(default_folder())
    rows = []
    for name in folder.names():
        fields = folder.load(name).model_dump(exclude={"token", "root_pem"})
        rows.append({"profile": name, **fields})
    show_list(rows, PROFILE_COLUMNS, output)


async def _vaults(hub: str, root_pem: str, token: str) -> list[dict[str, Any]]:
    async with open_routes(hub, root_pem, token) as routes:
        return await routes.vaults()


def _address(hub: str) -> str:
    try:
        parts = urlsplit(hub)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username:
        raise CommandError(
            f"{hub!r} is no hub's address; it must be https://HOST:PORT", ExitCode.USAGE
        )
    return hub.rstrip("/")


def _check_vault(vaults: Sequence[dict[str, Any]], vault: str | None) -> None:
    if vault is None or any(each["name"].lower() == vault.lower() for each in vaults):
        return
    known = ", ".join(sorted(each["name"] for each in vaults)) or "none yet"
    raise CommandError(
        f"the hub has no vault {vault} (it has: {known}); log in without --vault"
        " and create it: site-recovery vault create",
        ExitCode.NOT_FOUND,
    )


def _only(vaults: Sequence[dict[str, Any]], field: str) -> str | None:
    found = {str(each[field]) for each in vaults}
    return found.pop() if len(found) == 1 else None
