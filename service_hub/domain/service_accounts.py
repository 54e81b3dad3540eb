"""Service accounts: who asks without a person, by a client id and a secret; pure.

A secret is made by the hub, 256 bits of chance, and shown once; kept is its SHA-256. (What slows
down guessing a person's password does nothing for a secret that nobody can guess.)
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final

from service_hub.domain.access import Grant, OperatorIdentity, Role
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.immutable import Immutable
from service_hub.domain.records import Record

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
DAYS_MAX: Final = 730
GRANTS_MAX: Final = 100
TOKEN_ID_CHARACTERS_MAX: Final = 128


class AccountGrant(Immutable):
    """A role, in one vault or (None) everywhere."""

    role: Role
    vault_id: str | None = None


class AccountSecret(Immutable):
    """What is kept of a secret."""

    digest: str
    created_at: datetime
    expires_at: datetime


class ServiceAccount(Record):
    """An account; `id` is its client id. It belongs to the hub: `vault_id` is empty."""

    kind: ClassVar[str] = "service_account"

    name: str
    grants: tuple[AccountGrant, ...]
    secrets: tuple[AccountSecret, ...]
    created_at: datetime
    created_by: str


class RevokedToken(Record):
    """A token of an operator that is no good any more; `id` is the token's own."""

    kind: ClassVar[str] = "revoked_token"

    revoked_at: datetime
    revoked_by: str


def checked_name(name: object) -> str:
    """Return a name that an account may have; InvalidRequestError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequestError(
            "The property 'name' must be 1 to 64 letters, digits, spaces and ._@-, beginning with"
            " a letter or digit.",
            "name",
        )
    return name


def checked_grants(grants: Sequence[AccountGrant]) -> tuple[AccountGrant, ...]:
    """Return what an account may be given; InvalidRequestError."""
    if not 0 < len(grants) <= GRANTS_MAX:
        raise InvalidRequestError(f"An account has 1 to {GRANTS_MAX} roles.", "grants")
    return tuple(grants)


def may_be_token_id(token_id: str) -> bool:
    """Whether a token can have this id: what is stored as one is short and printable."""
    fits = 0 < len(token_id) <= TOKEN_ID_CHARACTERS_MAX
    return fits and token_id.isascii() and token_id.isprintable()


def secret_of(secret: str, now: datetime, lifetime: timedelta) -> AccountSecret:
    """Return what is kept of a new secret."""
    return AccountSecret(digest=_digest(secret), created_at=now, expires_at=now + lifetime)


def rotated(
    account: ServiceAccount, new: AccountSecret, now: datetime, overlap: timedelta
) -> ServiceAccount:
    """Return the account with a new secret; the one before it ends after `overlap`."""
    ends = now + overlap
    kept = tuple(
        each.model_copy(update={"expires_at": min(each.expires_at, ends)})
        for each in account.secrets[-1:]
        if overlap > timedelta(0) and each.expires_at > now
    )
    return account.model_copy(update={"secrets": (*kept, new)})


def accepts(account: ServiceAccount, secret: str, now: datetime) -> bool:
    """Whether a secret is one of the account's and has not ended."""
    digest = _digest(secret)
    return any(
        hmac.compare_digest(each.digest, digest) and now < each.expires_at
        for each in account.secrets
    )


def identity_of(account: ServiceAccount) -> OperatorIdentity:
    """Return the account as who asks; what it may do is what it may do now."""
    grants = tuple(Grant(each.role, each.vault_id) for each in account.grants)
    return OperatorIdentity(account.name, grants, account=account.id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
