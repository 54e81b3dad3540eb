"""Insists on operators' signatures where this server was told to, whatever the hub says (ADR 0004).

A server that has the vault's ChannelIntegrityKey insists; the key is put and taken by local
commands alone. Its folder goes with the identity when that is forgotten.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Final

import structlog

from certs.channel_integrity import KeyUnfitError, checked_key
from provider_agent.domain.operator_orders import (
    Copy,
    NotOrderedError,
    checked_order,
    copy_of,
    needs_order,
    stops_without_order,
)
from provider_agent.fabric.driver import FabricDriver
from provider_agent.journal import Journal
from provider_agent.journal_orders import claim_order
from provider_agent.outcomes import ErrorCode, own_error
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret, write_secret
from wire_contract.events import Assignment
from wire_contract.reports import Authority, ProviderError
from wire_contract.vocabulary import CLOUD_VERBS, SERVER_VERBS, Verb

KEY_FILE_BYTES_MAX: Final = 4096

# Named as all that belongs to the identity: forgotten together with it.
_FOLDER: Final = "identity.operator-signature"
_KEY: Final = "channel-integrity.key"

log = structlog.get_logger(__name__)


def read_key_file(path: Path) -> str:
    """Return the ChannelIntegrityKey in a file of mode 0600; ProgramError says what is wrong."""
    try:
        return checked_key(read_secret(path, KEY_FILE_BYTES_MAX).decode(errors="replace"))
    except KeyUnfitError as error:
        raise ProgramError(
            f"{path} holds no channel integrity key: {error}; copy the file that"
            " 'site-recovery vault registration-key --channel-integrity-key-file' made"
        ) from error


def insist(data_directory: Path, key: str) -> None:
    """Keep the key (0600): from now on commands want an operator's signature."""
    write_secret(data_directory / _FOLDER / _KEY, checked_key(key).encode())


def insist_no_more(data_directory: Path) -> None:
    """Forget the key: commands are carried out on the hub's signature alone."""
    folder = data_directory / _FOLDER
    if folder.exists():
        shutil.rmtree(folder)


def insisted_key(data_directory: Path) -> str | None:
    """Return the key of a server that insists, null of one that does not."""
    if not (data_directory / _FOLDER).exists():
        return None
    return read_key_file(data_directory / _FOLDER / _KEY)


class OperatorOrders:
    """Judges commands and the hub's word on copies; reads the key each time it is needed."""

    def __init__(
        self, data_directory: Path, journal: Journal, driver: FabricDriver, clock: Clock
    ) -> None:
        self._data_directory = data_directory
        self._journal = journal
        self._driver = driver
        self._clock = clock

    async def refusal(self, assignment: Assignment) -> ProviderError | None:
        """Return why a command must not be carried out, or null; asks the fabric, changes nothing.

        A signature that is used is bound to its job, durably.
        """
        try:
            key = await self._insisted()
            if key is not None:
                await self._check(assignment, key)
        except (NotOrderedError, ProgramError) as error:
            log.warning(
                "command_not_ordered",
                command_id=assignment.command_id,
                verb=assignment.verb,
                cause=str(error),
            )
            return own_error(
                ErrorCode.NOT_ORDERED,
                f"this server insists on an operator's signature, and {error}",
                "the operation was not asked for by a holder of the vault's channel integrity"
                " key, or the hub withheld or changed what it sent",
                "repeat the operation with the channel integrity key (docs/operating.md,"
                " operators' signatures); if nobody asked for it, look at the hub",
            )
        return None

    async def obeys(self, authority: Authority) -> bool:
        """Return whether the hub's word on a copy may be passed on to the fabric."""
        try:
            if await self._insisted() is None:
                return True
        except ProgramError as error:
            log.warning("channel_integrity_key_unusable", cause=str(error))
        view = await self._driver.machine(authority.machine_id)
        return not stops_without_order(authority, view)

    async def _insisted(self) -> str | None:
        # Whether the folder is there is one look for each command: a thread would cost ten of it.
        if not (self._data_directory / _FOLDER).exists():
            return None
        return await asyncio.to_thread(insisted_key, self._data_directory)

    async def _check(self, assignment: Assignment, key: str) -> None:
        is_script = Verb(assignment.verb) is Verb.RUN_SCRIPT
        copy = None if is_script else await self._copy(assignment)
        if not needs_order(assignment, copy):
            return
        now = self._clock.now()
        signature = checked_order(assignment.operator_signature, key, assignment, copy, now)
        if not await claim_order(
            self._journal, signature.request_id, assignment.job, signature.not_after, now
        ):
            raise NotOrderedError("the operator signature was used for another job before")

    async def _copy(self, assignment: Assignment) -> Copy | None:
        if Verb(assignment.verb) in CLOUD_VERBS | SERVER_VERBS:
            return None
        view = await self._driver.machine(assignment.target)
        if view is None:
            return None
        tested = None
        if view.test_machine_of is not None:
            tested = await self._driver.machine(view.test_machine_of)
        return copy_of(view, tested)
