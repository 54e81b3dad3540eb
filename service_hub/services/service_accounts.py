"""Service accounts: made, listed, given new secrets, removed; tokens that are revoked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from service_hub.domain.errors import ConflictError, NotFoundError, UnauthenticatedError
from service_hub.domain.records import Vault
from service_hub.domain.service_accounts import (
    AccountGrant,
    RevokedToken,
    ServiceAccount,
    accepts,
    checked_grants,
    checked_name,
    rotated,
    secret_of,
)
from service_hub.ports.changes import NEW, Change, Delete, Save
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock

ACCOUNTS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An account and its new secret, which is never seen again."""

    account: ServiceAccount
    secret: str


class ServiceAccounts:
    """What an owner does with accounts and tokens; each change is at once true for every hub."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        new_secret: Callable[[], str],
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._new_secret = new_secret

    async def create(
        self, name: object, grants: Sequence[AccountGrant], lifetime: timedelta, by: str
    ) -> NewSecret:
        """Make an account; InvalidRequestError, NotFoundError for a vault, ConflictError."""
        wanted, given = checked_name(name), checked_grants(grants)
        present = await self.list()
        if any(each.name.lower() == wanted.lower() for each in present):
            raise ConflictError(f"There is a service account '{wanted}': choose another name.")
        if len(present) >= ACCOUNTS_MAX:
            raise ConflictError(f"The hub has {ACCOUNTS_MAX} service accounts: remove one.")
        for each in given:
            if each.vault_id and await self._reader.get(Vault, each.vault_id) is None:
                raise NotFoundError(each.vault_id)
        now, secret = self._clock.now(), self._new_secret()
        account = ServiceAccount(
            id=self._clock.new_id(),
            vault_id="",
            name=wanted,
            grants=given,
            secrets=(secret_of(secret, now, lifetime),),
            created_at=now,
            created_by=by,
        )
        await self._committer.commit(Change(saves=(Save(account, NEW),)))
        return NewSecret(account, secret)

    async def list(self) -> list[ServiceAccount]:
        """Return all accounts, oldest first."""
        return [found.record for found in await self._reader.find(ServiceAccount)]

    async def rotate(self, client_id: str, lifetime: timedelta, overlap: timedelta) -> NewSecret:
        """Give an account a new secret; NotFoundError."""
        found = await self._reader.get(ServiceAccount, client_id)
        if found is None:
            raise NotFoundError(client_id)
        now, secret = self._clock.now(), self._new_secret()
        changed = rotated(found.record, secret_of(secret, now, lifetime), now, overlap)
        await self._committer.commit(Change(saves=(Save(changed, found.version),)))
        return NewSecret(changed, secret)

    async def remove(self, client_id: str) -> None:
        """Remove an account: its tokens are no good from then on; NotFoundError."""
        if await self._reader.get(ServiceAccount, client_id) is None:
            raise NotFoundError(client_id)
        await self._committer.commit(Change(deletes=(Delete(ServiceAccount, client_id),)))

    async def revoke_token(self, token_id: str, by: str) -> None:
        """Have a token be no good any more; again is the same."""
        revoked = RevokedToken(
            id=token_id, vault_id="", revoked_at=self._clock.now(), revoked_by=by
        )
        await self._committer.commit(Change(saves=(Save(revoked, None),)))

    async def authenticated(self, client_id: str, secret: str) -> ServiceAccount:
        """Return the account of this id and secret; UnauthenticatedError, the same for both."""
        found = await self._reader.get(ServiceAccount, client_id)
        if found is None or not accepts(found.record, secret, self._clock.now()):
            raise UnauthenticatedError("No service account has this client id and secret.")
        return found.record
