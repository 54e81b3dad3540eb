"""RunAs accounts of the VMM server: passwords go in, and are in force after a restart."""

import asyncio
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret
from vmm_simulator.problems import Code, RefusedError, unknown
from wire_contract.vmm_service import ACCOUNTS_MAX, RunAsAccountView, RunAsCredential

FILE_BYTES_MAX: Final = 1_048_576


class _Account(BaseModel):
    """What was last set, and what is in force since the service last started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wanted: RunAsCredential
    in_force: RunAsCredential | None = None


class _AccountsFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    accounts: dict[str, _Account] = {}


class RunAsStore:
    """The accounts, kept in one file that its owner alone may read (0600)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_by_one = asyncio.Lock()
        self._accounts: dict[str, _Account] = {}
        if path.exists():
            try:
                content = _AccountsFile.model_validate_json(read_secret(path, FILE_BYTES_MAX))
            except ValidationError as error:
                raise ProgramError(
                    f"the RunAs accounts in {path} are damaged; restore the file from a copy, or"
                    " remove it and set the accounts again"
                ) from error
            self._accounts = dict(content.accounts)

    def views(self) -> tuple[RunAsAccountView, ...]:
        """Return the accounts without their passwords."""
        return tuple(
            RunAsAccountView(
                name=name,
                user_name=account.wanted.user_name,
                restart_needed=account.wanted != account.in_force,
            )
            for name, account in sorted(self._accounts.items())
        )

    def in_force(self, name: str) -> RunAsCredential:
        """Return what the service uses since it last started, or refuse."""
        account = self._accounts.get(name)
        if account is None:
            raise unknown("RunAs account", name)
        if account.in_force is None:
            raise RefusedError(
                Code.NOT_AVAILABLE,
                f"RunAs account {name} is not in force yet",
                "restart the VMM service",
            )
        return account.in_force

    async def put(self, name: str, credential: RunAsCredential) -> None:
        """Create an account, or change it; what is in force stays until the service restarts.

        A new account is in force at once: there is no former value that it could replace.
        """
        async with self._one_by_one:
            former = self._accounts.get(name)
            if former is None and len(self._accounts) >= ACCOUNTS_MAX:
                raise RefusedError(
                    Code.IN_USE, f"there are {ACCOUNTS_MAX} RunAs accounts", "delete one"
                )
            account = _Account(
                wanted=credential, in_force=credential if former is None else former.in_force
            )
            await self._save({**self._accounts, name: account})

    async def delete(self, name: str) -> None:
        """Forget an account; one that is unknown is no error."""
        async with self._one_by_one:
            kept = {key: value for key, value in self._accounts.items() if key != name}
            if kept != self._accounts:
                await self._save(kept)

    async def service_started(self) -> None:
        """Bring into force what was last set."""
        async with self._one_by_one:
            fresh = {
                name: _Account(wanted=account.wanted, in_force=account.wanted)
                for name, account in self._accounts.items()
            }
            if fresh != self._accounts:
                await self._save(fresh)

    async def _save(self, accounts: dict[str, _Account]) -> None:
        data = _AccountsFile(accounts=accounts).model_dump_json().encode()
        await asyncio.to_thread(write_secret, self._path, data)
        self._accounts = accounts
