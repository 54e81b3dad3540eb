"""Pulls events over HTTPS: the truth, of which MQTT delivers copies (design: channel, pull)."""

import asyncio
from typing import Final

import structlog

from certs.signing import UnverifiableError
from provider_agent.domain.inbox import NotAnEventError, VerifiedEvent
from provider_agent.domain.retries import RECONNECT, wait_seconds
from provider_agent.hub_client import HubClient
from provider_agent.hub_https import HubError, HubUnreachableError
from provider_agent.intake import EventIntake, Intake
from provider_agent.journal import Journal
from provider_agent.session import Session
from provider_agent.subscriber import Subscriber
from service_shell.clock import Clock
from wire_contract.events import EventPage, SignedEvent
from wire_contract.reports import Unverifiable

LONG_POLL_SECONDS: Final = 25
"""How long the hub may wait for the first event while MQTT is down."""

LOOK_SECONDS_MAX: Final = 60.0
"""How long MQTT is believed that there is nothing new; then the hub is asked once."""

DETAIL_CHARACTERS_MAX: Final = 300

log = structlog.get_logger(__name__)


class EventPuller:
    """Keeps the journal level with the hub, whatever MQTT does."""

    def __init__(
        self,
        hub: HubClient,
        intake: EventIntake,
        journal: Journal,
        *,
        session: Session,
        subscriber: Subscriber,
        clock: Clock,
    ) -> None:
        self._hub = hub
        self._intake = intake
        self._journal = journal
        self._session = session
        self._subscriber = subscriber
        self._clock = clock
        self._reported: tuple[str, int, str] | None = None

    async def run(self) -> None:
        """Pull for ever: when told to, and as a long poll while MQTT is down."""
        failures = 0
        while True:
            await self._session.connected.wait()
            wait = LONG_POLL_SECONDS
            if self._subscriber.connected.is_set():
                await self._session.events_due.wait(LOOK_SECONDS_MAX)
                wait = 0
            else:
                self._session.events_due.clear()
            try:
                level = await self._pull_until_level(wait)
            except HubError as error:
                failures += 1
                await self._wait_after(error, failures)
                continue
            failures = 0 if level else failures + 1
            if not level:
                # An event that cannot be used: the hub signs it anew or voids it, meanwhile wait.
                await self._session.events_due.wait(
                    self._clock.jitter(0, RECONNECT.bound_seconds(failures))
                )
                self._session.events_due.set()

    async def _wait_after(self, error: HubError, failures: int) -> None:
        retry_after = None
        if isinstance(error, HubUnreachableError):
            retry_after = error.retry_after
            self._session.hub_lost(error)
        else:
            log.error("pull_refused", cause=str(error))
        chance = self._clock.jitter(0, RECONNECT.bound_seconds(failures))
        await asyncio.sleep(wait_seconds(chance, retry_after))
        self._session.events_due.set()

    async def _pull_until_level(self, wait: int) -> bool:
        """Pull pages until nothing is missing; false when an event stands in the way."""
        while True:
            position = await self._journal.position()
            if position is None:
                return False
            page = await self._hub.events(position.stream, position.seq, wait)
            if page.stream != position.stream:
                self._session.renew()
                return False
            await self._take(page)
            reached = await self._journal.position()
            if reached is None or reached.stream != page.stream or reached.seq >= page.highest_seq:
                return True
            if reached.seq == position.seq:
                return False
            wait = 0

    async def _take(self, page: EventPage) -> None:
        for signed in page.events:
            event = self._read(signed)
            if isinstance(event, str):
                event = await self._read_again(signed)
            if isinstance(event, str):
                await self._report_unverifiable(signed, event)
                return
            if await self._intake.receive(event) in {Intake.GAP, Intake.OTHER_STREAM}:
                return

    def _read(self, signed: SignedEvent) -> VerifiedEvent | str:
        """Return the event, or why it proves nothing."""
        try:
            event = self._intake.read(signed.jws)
        except UnverifiableError as error:
            return error.reason
        except NotAnEventError as error:
            return str(error)
        if (event.envelope.stream, event.envelope.seq) != (signed.stream, signed.seq):
            return "the signed number is not the one it was sent under"
        return event

    async def _read_again(self, signed: SignedEvent) -> VerifiedEvent | str:
        page = await self._hub.events(signed.stream, signed.seq - 1, 0)
        for again in page.events:
            if (again.stream, again.seq) == (signed.stream, signed.seq):
                return self._read(again)
        return "the hub does not send it again"

    async def _report_unverifiable(self, signed: SignedEvent, detail: str) -> None:
        # Once per signature: the hub has been told, a second report would say nothing new.
        identity = (signed.stream, signed.seq, signed.jws)
        if identity == self._reported:
            return
        self._reported = identity
        log.error("event_unverifiable", seq=signed.seq, cause=detail)
        report = Unverifiable(
            report_id=self._clock.new_id(),
            stream=signed.stream,
            seq=signed.seq,
            detail=detail[:DETAIL_CHARACTERS_MAX],
        )
        await self._journal.put((report, f"unverifiable/{signed.stream}/{signed.seq}"))
        self._intake.reports_due.set()
