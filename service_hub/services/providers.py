"""What registered providers say: sessions, heartbeats, inventories, reports.

Over 400 lines because each thing that a provider says renews its lease and is taken in here.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from service_hub.domain.copy_events import lost_event_id, provider_returned
from service_hub.domain.errors import ConflictError, StaleVersionError
from service_hub.domain.jobs import Event, Job, PartFailed, PartProgressed
from service_hub.domain.policies import heartbeat_for
from service_hub.domain.protection import ENDING_STATES
from service_hub.domain.records import (
    Alert,
    ProtectedItem,
    Provider,
    ProviderContact,
    ProviderStream,
    ReplicationPolicy,
)
from service_hub.domain.replication_events import ReplicationEvent
from service_hub.domain.report_lanes import is_plain, lanes_of
from service_hub.domain.reported_results import ending_of
from service_hub.ports.changes import Change, EventReceipt, NewEvent, Save
from service_hub.ports.channel import Resigner
from service_hub.ports.running import JobRunner, ObservationFollower
from service_hub.ports.stores import Committer, WideReader
from service_hub.ports.surroundings import Clock
from service_hub.services.event_faults import EventFaults, task_of
from service_hub.services.observing import Observing
from service_hub.services.reconnection import Reconnection
from service_hub.services.rollups import RollUpService
from service_hub.services.server_jobs import end_refreshes
from wire_contract.events import Presence
from wire_contract.reports import (
    Authority,
    EchoAnswer,
    Heartbeat,
    HeartbeatAnswer,
    MachineObserved,
    Receipt,
    Report,
    ReportAnswer,
    ReportBatch,
    SessionAnswer,
    SessionRequest,
    StreamPosition,
    TaskOutcome,
    TaskProgress,
    Unverifiable,
)
from wire_contract.vmm_interface import InventoryView
from wire_contract.vocabulary import EventType, ReceiptKind, Side

ECHO_LIFETIME: Final = timedelta(minutes=10)
ECHO_WAITING_MAX: Final = 64
"""A provider that takes nothing is not given ever more to take: one page of the pull."""

log = structlog.get_logger(__name__)


class FabricFollower(Protocol):
    """Told when a server's inventory has come in."""

    async def fabric_observed(self, provider: Provider) -> None:
        """Look whether anything follows."""


class RootStatement(Protocol):
    """What the hub's roots say of themselves, and the number of that statement."""

    @property
    def statement(self) -> str | None:
        """The statement; None while the root was never replaced."""
        ...

    @property
    def serial(self) -> int:
        """Its number; 0 where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class NeverReplaced:
    """The statement of a hub with its first root: none."""

    statement: str | None = None
    serial: int = 0


class ProviderService:
    """The ProviderUseCases and the PresenceSink of the hub's ports."""

    def __init__(
        self,
        *,
        reader: WideReader,
        committer: Committer,
        clock: Clock,
        runner: JobRunner,
        observers: ObservationFollower,
        resigner: Resigner,
        heartbeat: timedelta,
        roots: RootStatement | None = None,
        offered_version: str | None = None,
        fabrics_seen: FabricFollower | None = None,
    ) -> None:
        self._fabrics_seen = fabrics_seen
        self._offered_version = offered_version
        self._roots: RootStatement = roots or NeverReplaced()
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._runner = runner
        self._observers = observers
        self._faults = EventFaults(
            reader=reader, committer=committer, clock=clock, runner=runner, resigner=resigner
        )
        self._reconnection = Reconnection(
            reader=reader, committer=committer, clock=clock, runner=runner
        )
        self._observing = Observing(reader=reader, clock=clock)
        self._figures = RollUpService(reader=reader, committer=committer, clock=clock)
        self._heartbeat = heartbeat

    async def session(self, provider: Provider, request: SessionRequest) -> SessionAnswer:
        """Begin a session: the stream to follow, and which copies may run.

        A provider that has no place in the stream begins after what was acknowledged: the outbox
        holds the rest.
        """
        stream = await self._reconnection.begin(provider, request)
        log.info("session_begun", provider_id=provider.id, journal_id=request.journal_id)
        await self._contact(provider, request.boot_id)
        await self._note_versions(provider, request)
        position = StreamPosition(stream=stream.stream, seq=stream.acknowledged_seq)
        if request.last is not None and request.last.stream == stream.stream:
            seq = max(request.last.seq, stream.acknowledged_seq)
            position = StreamPosition(stream=stream.stream, seq=min(seq, stream.next_seq - 1))
        return SessionAnswer(
            position=position,
            heartbeat_seconds=await self._heartbeat_seconds(provider),
            authorities=await self._authorities(provider),
            roots_jws=self._roots.statement,
            offered_version=self._offered_version,
        )

    async def _heartbeat_seconds(self, provider: Provider) -> int:
        found = await self._reader.find(ReplicationPolicy, vault_id=provider.vault_id)
        beat = heartbeat_for((each.record for each in found), self._heartbeat)
        return int(beat.total_seconds())

    async def heartbeat(self, provider: Provider, beat: Heartbeat) -> HeartbeatAnswer:
        """Renew the lease; the answer says whether the provider is behind."""
        await self._watch_for_two(provider, beat.boot_id)
        await self._contact(provider, beat.boot_id, fabric_reachable=beat.fabric_reachable)
        stream = await self.stream(provider)
        return HeartbeatAnswer(
            highest=StreamPosition(stream=stream.stream, seq=stream.next_seq - 1),
            server_time=self._clock.now(),
            roots_serial=self._roots.serial,
        )

    async def echo(self, provider: Provider) -> EchoAnswer:
        """Put a refresh into the provider's stream, so that it can watch it arrive."""
        stream = await self.stream(provider)
        waiting = stream.next_seq - 1 - stream.acknowledged_seq
        if waiting >= ECHO_WAITING_MAX:
            raise ConflictError(f"{waiting} events wait for this provider; let it take them first")
        now = self._clock.now()
        event = NewEvent(
            event_id=self._clock.new_id(),
            vault_id=provider.vault_id,
            provider_id=provider.id,
            type=EventType.REFRESH,
            issued_at=now,
            expires_at=now + ECHO_LIFETIME,
            body={},
        )
        await self._committer.commit(Change(events=[event]))
        after = StreamPosition(stream=stream.stream, seq=stream.next_seq - 1)
        return EchoAnswer(event_id=event.event_id, after=after)

    async def inventory(self, provider: Provider, view: InventoryView) -> None:
        """Replace what is known of a fabric."""
        now = self._clock.now()
        saves = await self._observing.inventory(provider, view, now)
        await self._committer.commit(Change(saves=saves))
        await self._figures.observed(provider, view.machines, now, "inventory")
        await end_refreshes(self._reader, self._runner, provider, now)
        await self._observers.all_observed(provider.id, view.machines)
        if self._fabrics_seen is not None:
            await self._fabrics_seen.fabric_observed(provider)
        await self._reconnection.observed(provider)

    async def reports(self, provider: Provider, batch: ReportBatch) -> ReportAnswer:
        """Take reports in; durable when it returns, and a repeated one changes nothing."""
        plain = [each for each in batch.reports if is_plain(each)]
        rest = [each for each in batch.reports if not is_plain(each)]
        receipts = tuple(_receipt(provider, each) for each in plain if isinstance(each, Receipt))
        if receipts:
            await self._committer.commit(Change(receipts=receipts))
        lanes = (self._take_all(provider, lane) for lane in lanes_of(rest))
        # All come to their end before one's failure has the provider send the batch again.
        for failure in await asyncio.gather(*lanes, return_exceptions=True):
            if failure is not None:
                raise failure
        # Its last report may have been what the hub needed to forget the server.
        found = await self._reader.get(ProviderStream, provider.id)
        acknowledged = None
        if found is not None:
            stream = found.record
            acknowledged = StreamPosition(stream=stream.stream, seq=stream.acknowledged_seq)
        return ReportAnswer(
            accepted=tuple(report.report_id for report in batch.reports),
            acknowledged=acknowledged,
        )

    async def stream(self, provider: Provider) -> ProviderStream:
        """Return the present numbering."""
        found = await self._reader.get(ProviderStream, provider.id)
        if found is None:
            raise StaleVersionError(f"the server {provider.id} was deleted meanwhile")
        return found.record

    async def presence(self, provider_id: str, presence: Presence) -> None:
        """Note what a broker says; a suspicion only, leases are renewed by proven contact."""
        log.info(
            "presence_heard",
            provider_id=provider_id,
            state=presence.state,
            boot_id=presence.boot_id,
            session=presence.session,
        )

    # ---------------------------------------------------------------------------------- reports

    async def _take_all(self, provider: Provider, lane: Sequence[Report]) -> None:
        for report in lane:
            await self._take(provider, report)

    async def _take(self, provider: Provider, report: Report) -> None:
        match report:
            case Receipt():
                await self._take_receipt(provider, report)
            case TaskOutcome() | TaskProgress():
                await self._take_task(provider, report)
            case MachineObserved():
                seen, at = report.machine, report.observed_at
                saves = await self._observing.machine(provider, seen, at)
                await self._committer.commit(Change(saves=saves))
                await self._figures.observed(provider, (seen,), at, "report")
                await self._observers.observed(provider.id, report.machine.machine_id)
            case Unverifiable():
                await self._faults.unverifiable(provider, report)

    async def _take_receipt(self, provider: Provider, report: Receipt) -> None:
        if report.receipt is ReceiptKind.REFUSED:
            await self._faults.refused(provider, report)
        elif report.command_id is None:
            await self._faults.without_command(provider, report)
        await self._committer.commit(Change(receipts=(_receipt(provider, report),)))

    async def _take_task(self, provider: Provider, report: TaskOutcome | TaskProgress) -> None:
        found = await task_of(self._reader, provider, report.job, report.task)
        if found is None:
            log.warning(
                "report_of_foreign_task",
                provider_id=provider.id,
                job_id=report.job,
                task=report.task,
            )
            return
        job, task_id, side = found
        if isinstance(report, TaskOutcome):
            await self._keep_read_back(provider, report, found)
            event: Event = ending_of(job, report, task_id, side, self._clock.now())
            if report.succeeded and isinstance(event, PartFailed):
                log.error(
                    "success_without_facts",
                    provider_id=provider.id,
                    job_id=job.id,
                    task=report.task,
                    reason=event.error.possible_causes,
                )
        else:
            event = await self._progressed(provider, report, task_id, side)
        await self._runner.feed(job.id, event)

    async def _keep_read_back(
        self, provider: Provider, report: TaskOutcome, found: tuple[Job, str, Side]
    ) -> None:
        """Keep what a task read back, before anything is decided on it."""
        saves = await self._observing.read_back(provider, report, found)
        if not saves:
            return
        try:
            await self._committer.commit(Change(saves=saves))
        except StaleVersionError:
            # The same report came twice at one moment: the other one has kept it.
            log.info("read_back_kept_already", job_id=report.job, task=report.task)

    async def _progressed(
        self, provider: Provider, report: TaskProgress, task_id: str, side: Side
    ) -> PartProgressed:
        """Return how far a task is, with whose word that is: of when we heard it, as all views."""
        boot_id, now = await self._observing.boot(provider), self._clock.now()
        return PartProgressed(task_id, side, report.attempt, report.percent, now, boot_id)

    # --------------------------------------------------------------------------------- noticing

    async def _contact(
        self, provider: Provider, boot_id: str, *, fabric_reachable: bool = True
    ) -> None:
        contact = ProviderContact(
            id=provider.id,
            vault_id=provider.vault_id,
            last_contact_at=self._clock.now(),
            boot_id=boot_id,
            fabric_reachable=fabric_reachable,
        )
        told = await self._returned(provider, contact.last_contact_at)
        await self._committer.commit(Change(saves=(Save(contact, None), *told)))

    async def _returned(self, provider: Provider, now: datetime) -> list[Save]:
        """Return the event that a server is back, where its absence was told."""
        before = await self._reader.get(ProviderContact, provider.id)
        if before is None or now - before.record.last_contact_at <= self._heartbeat:
            return []
        last = before.record.last_contact_at
        lost = await self._reader.get(ReplicationEvent, lost_event_id(provider.id, last))
        return [] if lost is None else [Save(provider_returned(provider, last, now), None)]

    async def _watch_for_two(self, provider: Provider, boot_id: str) -> None:
        """Raise an alert when a heartbeat is not of the boot that was heard last.

        Every boot begins with a session: whoever beats after another's session is a second server
        with the same identity (design: channel, trust). One alert for two boots.
        """
        contact = await self._reader.get(ProviderContact, provider.id)
        if contact is None or contact.record.boot_id in {"", boot_id}:
            return
        boots = sorted((contact.record.boot_id, boot_id))
        alert_id = f"two-sessions/{provider.id}/{boots[0]}/{boots[1]}"
        if await self._reader.get(Alert, alert_id) is not None:
            return
        alert = Alert(
            id=alert_id,
            vault_id=provider.vault_id,
            provider_id=provider.id,
            code="TwoSessions",
            message=f"{provider.friendly_name} speaks from two servers at the same time, boots "
            f"{boots[0][:64]} and {boots[1][:64]}: one of them is a copy; revoke the server if "
            "you do not know both",
            raised_at=self._clock.now(),
        )
        await self._committer.commit(Change(saves=(Save(alert, None),)))
        log.error("provider_in_two_sessions", provider_id=provider.id, boots=boots)

    async def _note_versions(self, provider: Provider, request: SessionRequest) -> None:
        present = await self._reader.get(Provider, provider.id)
        versions = {
            "provider_version": request.provider_version,
            "vmm_version": request.vmm_version,
            "auto_update": request.auto_update,
            "available_version": request.available_version,
            "trusted_roots": request.trusted_roots,
        }
        if present is None:
            return
        noted = present.record.model_copy(update=versions)
        if noted != present.record:
            await self._committer.commit(Change(saves=(Save(noted, present.version),)))

    async def _authorities(self, provider: Provider) -> tuple[Authority, ...]:
        """Say of each local copy of a protected machine whether it may run, under which epoch.

        Where protection is ending nobody is told that a copy may not: without its relationship it
        is a machine like any other, which must not be fenced.
        """
        result: list[Authority] = []
        for side, column in (
            (Side.PRIMARY, "primary_provider_id"),
            (Side.RECOVERY, "recovery_provider_id"),
        ):
            for found in await self._reader.find(ProtectedItem, **{column: provider.id}):
                item = found.record
                ending = item.state in ENDING_STATES and item.authority is not side
                if item.authority_questioned_at is not None or ending:
                    continue
                result.append(
                    Authority(
                        machine_id=item.machine_at(side),
                        item=item.id,
                        epoch=item.epoch,
                        authoritative=item.authority is side,
                    )
                )
        return tuple(result)


def _receipt(provider: Provider, report: Receipt) -> EventReceipt:
    return EventReceipt(provider.id, report.stream, report.seq, report.receipt.value)
