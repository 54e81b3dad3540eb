"""`site-recovery login` and `logout`, and the list of profiles."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from site_recovery_cli.client_tokens import ends_at, fetch_token
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
    read_client_secret,
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
    "client_id": "Service account",
    "token_ends_at": "Token ends",
}


def login(
    *,
    hub: Annotated[
        str | None,
        typer.Option(help="The hub's address, https://HOST:PORT; by default the profile's."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="The hub's root certificate (PEM); by default the profile's."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with a bearer token, 0600.")
    ] = None,
    client_id: Annotated[
        str | None, typer.Option(help="A service account's id, in place of a token.")
    ] = None,
    client_secret_file: Annotated[
        Path | None,
        typer.Option(help="A file with its secret, 0600; without one it is asked for."),
    ] = None,
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
    """Check address, root and token against the hub, and keep them as a profile.

    With --client-id a token is fetched with the account's secret. It is never given on the command
    line: others could read it there. From a file, a token that ends is fetched anew by itself.
    """
    folder = ProfileFolder(default_folder())
    address, root_pem = _place(folder, profile, hub, ca_file)
    if channel_integrity_key_file is not None:
        read_key(channel_integrity_key_file)
    given = _Given(token_file, client_id, client_secret_file)
    try:
        token, vaults = asyncio.run(_logged_in(address, root_pem, given))
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
        token_ends_at=ends_at(token),
        client_id=client_id,
        client_secret_file=_kept_path(client_secret_file),
        subscription_id=subscription or _only(places, "subscription_id") or NO_SUBSCRIPTION,
        resource_group=resource_group or _only(places, "resource_group") or NO_RESOURCE_GROUP,
        vault=vault or _only(vaults, "name"),
        channel_integrity_key_file=_kept_path(channel_integrity_key_file),
    )
    path = folder.save(profile, checked)
    say(f"Logged in to {address}{_until(checked)}; the profile {profile} is in {path}.")


def logout(
    *,
    profile: Annotated[
        str, typer.Option("--profile", "-p", envvar=PROFILE_VARIABLE, help="The profile's name.")
    ] = DEFAULT_PROFILE,
) -> None:
    """Forget a profile with its token; the token itself holds until it ends or is revoked."""
    if ProfileFolder(default_folder()).remove(profile):
        say(f"The profile {profile} is removed.")
    else:
        say(f"There was no profile {profile}.")


@dataclass(frozen=True, slots=True)
class _Given:
    """How who logs in shows who it is."""

    token_file: Path | None
    client_id: str | None
    client_secret_file: Path | None

    def __post_init__(self) -> None:
        if (self.token_file is None) == (self.client_id is None):
            raise CommandError(
                "name either --token-file, or --client-id of a service account", ExitCode.USAGE
            )
        if self.client_secret_file is not None and self.client_id is None:
            raise CommandError("--client-secret-file needs --client-id", ExitCode.USAGE)

    async def token(self, hub: str, root_pem: str) -> str:
        """Return the token: read, or fetched."""
        if self.token_file is not None:
            return read_token(self.token_file)
        assert self.client_id is not None
        if self.client_secret_file is not None:
            secret = read_client_secret(self.client_secret_file)
        else:
            secret = typer.prompt("Client secret", hide_input=True, err=True).strip()
        return await fetch_token(hub, root_pem, self.client_id, secret)


async def _logged_in(hub: str, root_pem: str, given: _Given) -> tuple[str, list[dict[str, Any]]]:
    token = await given.token(hub, root_pem)
    async with open_routes(hub, root_pem, token) as routes:
        return token, await routes.vaults()


def _place(
    folder: ProfileFolder, profile: str, hub: str | None, ca_file: Path | None
) -> tuple[str, str]:
    """Return address and root, of the profile of that name where they are not given."""
    if hub is not None and ca_file is not None:
        return _address(hub), read_root(ca_file)
    if profile not in folder.names():
        raise CommandError(
            f"there is no profile {profile} yet; name --hub and --ca-file", ExitCode.USAGE
        )
    known = folder.load(profile)
    return (
        known.hub if hub is None else _address(hub),
        known.root_pem if ca_file is None else read_root(ca_file),
    )


def _until(profile: Profile) -> str:
    if profile.token_ends_at is None:
        return ""
    renews = ", and is renewed by itself" if profile.client_secret_file else ""
    return f", with a token until {profile.token_ends_at:%Y-%m-%dT%H:%M:%SZ}{renews}"


def _kept_path(file: Path | None) -> str | None:
    return None if file is None else str(file.resolve())


def list_profiles(*, output: OutputFormat = Format.TABLE) -> None:
    """List the profiles; tokens are not shown."""
    folder = ProfileFolder(default_folder())
    rows = []
    for name in folder.names():
        fields = folder.load(name).model_dump(mode="json", exclude={"token", "root_pem"})
        rows.append({"profile": name, **fields})
    show_list(rows, PROFILE_COLUMNS, output)


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
