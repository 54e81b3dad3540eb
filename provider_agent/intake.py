"""Takes events in: verify, decide, journal; only then is anything done (design: channel)."""

from enum import Enum
from typing import Final

import structlog

from certs.signing import EventVerifier, UnverifiableError
from provider_agent.domain.inbox import (
    NewIds,
    NotAnEventError,
    Place,
    Verdict,
    VerifiedEvent,
    read_event,
)
from provider_agent.journal import Journal
from provider_agent.outcomes import withdrawn_outcome
from provider_agent.wake import Wake
from service_shell.clock import Clock
from service_shell.failpoints import NONE, FaultPoints
from wire_contract.reports import Report

log = structlog.get_logger(__name__)


class Intake(Enum):
    """What became of bytes that were said to be an event."""

    TAKEN = "taken"
    KNOWN = "known"
    GAP = "gap"
    OTHER_STREAM = "other_stream"


_BY_PLACE: Final = {
    Place.BEHIND: Intake.KNOWN,
    Place.AHEAD: Intake.GAP,
    Place.OTHER_STREAM: Intake.OTHER_STREAM,
}


class EventIntake:
    """The one way into the journal, for events from MQTT and from HTTPS alike."""

    def __init__(
        self,
        verifier: EventVerifier,
        provider_id: str,
        journal: Journal,
        clock: Clock,
        *,
        session_due: Wake,
        faults: FaultPoints = NONE,
    ) -> None:
        self._faults = faults
        self._verifier = verifier
        self._provider_id = provider_id
        self._journal = journal
        self._clock = clock
        self.work_due = Wake()
        self.reports_due = Wake()
        self.inventory_due = Wake()
        self._session_due = session_due

    def read(self, jws: str) -> VerifiedEvent:
        """Return the event; UnverifiableError or NotAnEventError when it proves nothing."""
        return read_event(self._verifier.verify(jws, self._clock.now()), self._provider_id)

    async def receive(self, event: VerifiedEvent) -> Intake:
        """Journal the event with its receipt if it is the next one, and wake who has work now."""
        await self._faults.reach("agent.event_received")
        now = self._clock.now()

        def outcome_of(verdict: Verdict, report_id: str) -> Report | None:
            return withdrawn_outcome(verdict, report_id, now)

        ids = NewIds(receipt=self._clock.new_id(), outcome=self._clock.new_id())
        await self._faults.reach("agent.before_journal")
        verdict = await self._journal.receive(event, now, ids, outcome_of)
        await self._faults.reach("agent.journalled")
        if isinstance(verdict, Place):
            return _BY_PLACE[verdict]
        log.info(
            "event_received",
            seq=event.envelope.seq,
            type=event.envelope.type.value,
            command_id=event.command_id,
            receipt=verdict.receipt.value,
            reason=verdict.reason and verdict.reason.value,
        )
        self.reports_due.set()
        if verdict.work is not None:
            self.work_due.set()
        if verdict.refresh:
            # All that the hub knows of this fabric, and all that it says of its copies, anew.
            self.inventory_due.set()
            self._session_due.set()
        return Intake.TAKEN

    async def receive_message(self, payload: bytes) -> Intake:
        """Take in what MQTT delivered; what cannot be used is a gap: the truth is pulled."""
        try:
            event = self.read(payload.decode("ascii"))
        except (UnicodeDecodeError, UnverifiableError, NotAnEventError) as error:
            log.warning("message_not_usable", cause=str(error), bytes=len(payload))
            return Intake.GAP
        return await self.receive(event)
