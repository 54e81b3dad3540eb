"""Alert settings of vaults, and the letters that follow from them: written, sent, forgotten.

Letters are sent by a chore of their own: a mail server that is slow or gone holds up nothing else.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog

from service_hub.domain.alert_mails import (
    AlertMail,
    AlertSettings,
    checked_settings,
    letter,
    tried,
    trying,
)
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import Vault
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.ports.changes import NEW, Change, Delete, Save, Versioned
from service_hub.ports.stores import Committer, EventLists, Reader
from service_hub.ports.surroundings import Clock

OVERLAP: Final = timedelta(minutes=2)
"""How far back it is looked once more: clocks of hubs differ, and what was decided is stored later.

An event is found twice then, and has one letter all the same.
"""

NOTED_EVERY: Final = timedelta(minutes=1)
"""How often it is noted how far was looked, where nothing happened."""

EVENTS_AT_ONCE: Final = 500
LETTERS_AT_ONCE: Final = 20
"""Of one turn: with a mail server that does not answer, a turn is over in minutes."""

KEPT: Final = timedelta(days=7)
"""How long a letter that was sent or given up is known; far longer than events are found twice."""

TRIES_MAX: Final = 20

log = structlog.get_logger(__name__)


class MailError(Exception):
    """The mail server did not take a letter; the words say why, and hold no secret."""


class Mailer(Protocol):
    """Hands letters to a mail server."""

    async def send(self, mail: AlertMail) -> None:
        """Return when the server has taken the letter for everybody; MailError."""


class AlertSettingsService:
    """The AlertUseCases of the hub's ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        owners: Sequence[str],
        has_server: bool,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._owners = owners
        self._has_server = has_server

    async def find(self, vault: Vault) -> AlertSettings:
        """Return the setting of a vault; before the first change nobody is written to."""
        found = await self._reader.get(AlertSettings, vault.id)
        return self._none(vault) if found is None else found.record

    async def change(
        self, vault: Vault, *, send_to_owners: str, addresses: Sequence[str], locale: str
    ) -> AlertSettings:
        """Replace the setting; InvalidRequestError where it could not be carried out."""
        for _ in range(TRIES_MAX):
            found = await self._reader.get(AlertSettings, vault.id)
            before = self._none(vault) if found is None else found.record
            update: dict[str, object] = {
                "send_to_owners": send_to_owners,
                "addresses": tuple(addresses),
                "locale": locale or before.locale,
            }
            if not before.recipients(self._owners):
                update["since"] = self._clock.now()
            wanted = checked_settings(
                before.model_copy(update=update), self._owners, has_server=self._has_server
            )
            version = NEW if found is None else found.version
            try:
                await self._committer.commit(Change(saves=(Save(wanted, version),)))
            except StaleVersionError:
                continue
            return wanted
        raise StaleVersionError(f"the alert setting of {vault.name} found no quiet moment")

    def _none(self, vault: Vault) -> AlertSettings:
        now = self._clock.now()
        return AlertSettings(id=vault.id, vault_id=vault.id, since=now, read_to=now)


class AlertMails:
    """Writes a letter for each event that somebody wants to know of, and sends them."""

    def __init__(
        self,
        *,
        reader: Reader,
        events: EventLists,
        committer: Committer,
        clock: Clock,
        mailer: Mailer,
        owners: Sequence[str],
    ) -> None:
        self._reader = reader
        self._events = events
        self._committer = committer
        self._clock = clock
        self._mailer = mailer
        self._owners = owners

    async def turn(self) -> int:
        """Write letters, send those that are due; return how many were sent."""
        await self._write()
        return await self._send()

    async def _write(self) -> None:
        settings = {each.record.id: each for each in await self._reader.find(AlertSettings)}
        if not settings:
            return
        now = self._clock.now()
        begin = min(each.record.read_to for each in settings.values()) - OVERLAP
        place = (begin, "")
        complete = False
        while not complete:
            found = await self._events.events_behind(*place, EVENTS_AT_ONCE)
            for event in found:
                if event.vault_id in settings:
                    await self._keep(event, settings[event.vault_id].record)
            complete = len(found) < EVENTS_AT_ONCE
            if found:
                place = (found[-1].occurred_at, found[-1].id)
        for each in settings.values():
            if now - each.record.read_to >= NOTED_EVERY:
                await self._store(each, each.record.model_copy(update={"read_to": now}))

    async def _keep(self, event: ReplicationEvent, settings: AlertSettings) -> None:
        mail = letter(event, settings, self._owners, self._clock.now())
        if mail is None or await self._reader.get(AlertMail, mail.id) is not None:
            return
        try:
            await self._committer.commit(Change(saves=(Save(mail, NEW),)))
        except StaleVersionError:
            # Another hub wrote it in this moment.
            return
        log.info("alert_mail_written", event_id=mail.id, recipients=len(mail.recipients))

    async def _send(self) -> int:
        now, count = self._clock.now(), 0
        waiting = await self._reader.find(AlertMail, state="Waiting")
        due = sorted(
            (each for each in waiting if each.record.due_at <= now),
            key=lambda each: each.record.due_at,
        )
        for each in due[:LETTERS_AT_ONCE]:
            count += await self._try(each)
        return count

    async def _try(self, present: Versioned[AlertMail]) -> int:
        begun = trying(present.record, self._clock.now())
        if not await self._store(present, begun):
            return 0
        error = None
        try:
            await self._mailer.send(begun)
        except MailError as failure:
            error = str(failure)
            log.warning("alert_mail_refused", event_id=begun.id, tries=begun.tries, cause=error)
        held = await self._reader.get(AlertMail, begun.id)
        if held is not None:
            await self._store(held, tried(held.record, error, self._clock.now()))
        return 1 if error is None else 0

    async def _store(
        self, present: Versioned[AlertMail] | Versioned[AlertSettings], record: object
    ) -> bool:
        """Store one record as it is now; False where somebody else changed it first."""
        assert isinstance(record, AlertMail | AlertSettings)
        try:
            await self._committer.commit(Change(saves=(Save(record, present.version),)))
        except StaleVersionError:
            return False
        return True

    async def prune(self) -> int:
        """Forget letters that are over and old; return how many."""
        before = self._clock.now() - KEPT
        deletes = [
            Delete(AlertMail, each.record.id)
            for state in ("Sent", "GivenUp")
            for each in await self._reader.find(AlertMail, state=state)
            if each.record.made_at < before
        ]
        if deletes:
            await self._committer.commit(Change(deletes=deletes))
        return len(deletes)
