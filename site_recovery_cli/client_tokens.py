"""Tokens of service accounts: fetched with id and secret, and fetched anew before they end."""

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, answer_error, unreachable
from site_recovery_cli.profiles import Profile, ProfileFolder, read_client_secret

TOKEN_PATH: Final = "/hub/oauth2/v2.0/token"  # noqa: S105 -- a path; the tenant may be any word
REQUEST_SECONDS_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 65_536
EARLY: Final = timedelta(minutes=2)
"""A token that ends so soon is fetched anew: a command may take a while."""

_OUT: Final = "the hub's answer is no token; check the address with which you log in"


def ends_at(token: str) -> datetime | None:
    """Return when a token says that it ends; None where it does not. Nothing of it is verified."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None


async def fetch_token(hub: str, root_pem: str, client_id: str, secret: str) -> str:
    """Return a token of a service account (RFC 6749, 4.4); CommandError."""
    what = f"log in as {client_id}"
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "scope": f"{hub}/.default",
    }
    tls = ssl.create_default_context(cadata=root_pem)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout, trust_env=True
            ) as session,
            session.post(f"{hub}{TOKEN_PATH}", data=form, allow_redirects=False) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise CommandError(f"{what}: {_OUT}", ExitCode.NOT_REACHABLE)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unreachable(what, hub, error) from error
    return token_in(what, response.status, bytes(body))


def token_in(what: str, status: int, body: bytes) -> str:
    """Return the token of an answer; CommandError for a refusal (RFC 6749, 5.2), or nonsense."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    told = answer if isinstance(answer, dict) else {}
    if status == HTTPStatus.UNAUTHORIZED:
        raise CommandError(
            f"{what}: the hub knows no such id and secret, or the secret has ended; an owner makes"
            " a new one: site-recovery account rotate CLIENT_ID",
            ExitCode.NOT_LOGGED_IN,
        )
    if status != HTTPStatus.OK:
        raise answer_error(what, status, str(told.get("error_description", "no reason was given")))
    token = told.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise CommandError(f"{what}: {_OUT}", ExitCode.NOT_REACHABLE)
    return token


async def fresh(folder: ProfileFolder, name: str, profile: Profile, now: datetime) -> Profile:
    """Return the profile with a token that has not ended; a new one is kept in its file.

    Only for service accounts: who has no secret in a file is told to log in again.
    """
    ends = profile.token_ends_at
    if profile.client_id is None or ends is None or now + EARLY < ends:
        return profile
    if profile.client_secret_file is None:
        if now < ends:
            return profile
        raise CommandError(
            f"the token of {profile.client_id} ended at {ends:%Y-%m-%dT%H:%M:%SZ}; log in again:"
            f" site-recovery login --profile {name} --client-id {profile.client_id}"
            " (with --client-secret-file it is fetched anew by itself)",
            ExitCode.NOT_LOGGED_IN,
        )
    secret = read_client_secret(Path(profile.client_secret_file))
    token = await fetch_token(profile.hub, profile.root_pem, profile.client_id, secret)
    renewed = profile.model_copy(update={"token": token, "token_ends_at": ends_at(token)})
    folder.save(name, renewed)
    return renewed
