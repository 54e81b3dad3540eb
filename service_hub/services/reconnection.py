"""What a provider remembers and the hub does not: after a restore, or with a new journal.

Before anything is sent, the hub raises its fences and epochs above what the provider reports. A
new journal gets a stream that begins now; open tasks are asked again under the same command ids, so
that the effect stays one and what is read back tells how they stand (design: channel, restore).
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from service_hub.domain.errors import StaleVersionError
from service_hub.domain.jobs import EpochRaised, Job, TakenUp
from service_hub.domain.records import (
    Alert,
    MachineObservation,
    OutboxEvent,
    ProtectedItem,
    Provider,
    ProviderStream,
)
from service_hub.domain.restore import agrees
from service_hub.ports.changes import Change, Delete, NewEvent, Save, Versioned
from service_hub.ports.running import JobRunner
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.authority import refresh_event
from wire_contract.reports import SessionRequest
from wire_contract.vocabulary import Side

RETRIES_MAX: Final = 20
EVENTS_MAX: Final = 1_000_000

DECIDED_SECONDS_MAX: Final = 10.0
"""Longest a session waits for another hub to raise a job's figures; its provider tries again."""

LOOK_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class Reconnection:
    """Brings hub and provider to the same figures when a session begins."""

    def __init__(
        self, *, reader: Reader, committer: Committer, clock: Clock, runner: JobRunner
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._runner = runner

    async def begin(self, provider: Provider, request: SessionRequest) -> ProviderStream:
        """Return the stream to follow; what the provider knows better is taken over by then."""
        for item in await self._items(provider):
            if request.epochs.get(item.record.id, 0) > item.record.epoch:
                await self._raise_epoch(provider, item, request.epochs[item.record.id])
        for job_id, fence in request.fences.items():
            await self._raise_fence(provider, job_id, fence)
        for _ in range(RETRIES_MAX):
            stream = await self._follow(provider, request)
            if stream is not None:
                return stream
        raise StaleVersionError(f"the stream of {provider.id} found no quiet moment")

    async def observed(self, provider: Provider) -> None:
        """Look whether an authority that was in question is proven by what both ends show."""
        for found in await self._items(provider):
            if found.record.authority_questioned_at is not None:
                await self._settle(found)

    # ---------------------------------------------------------------------------------- numbering

    async def _follow(self, provider: Provider, request: SessionRequest) -> ProviderStream | None:
        """Return the stream, begun anew where the journal is; None: it changed meanwhile."""
        present = await self._reader.get(ProviderStream, provider.id)
        if present is None:
            raise StaleVersionError(f"the server {provider.id} was deleted meanwhile")
        stream = present.record
        lost = stream.journal_id not in {"", request.journal_id}
        if stream.journal_id == request.journal_id and not stream.asks_again:
            return stream
        update = {"journal_id": request.journal_id, "asks_again": False}
        forgotten: Sequence[OutboxEvent] = ()
        work: Sequence[NewEvent] = ()
        if lost:
            update |= {"stream": self._clock.new_id(), "next_seq": 1, "acknowledged_seq": 0}
            forgotten = await self._reader.events_after(provider.id, 0, EVENTS_MAX)
        if lost or stream.asks_again:
            work = await self._runner.open_work(provider.id)
            log.warning(
                "stream_begins_now",
                provider_id=provider.id,
                journal_lost=lost,
                asked_again=len(work),
                forgotten=len(forgotten),
            )
        change = Change(
            saves=(Save(stream.model_copy(update=update), present.version),),
            deletes=tuple(Delete(OutboxEvent, event.id) for event in forgotten),
            events=tuple(work),
        )
        try:
            await self._committer.commit(change)
        except StaleVersionError:
            return None
        begun = await self._reader.get(ProviderStream, provider.id)
        return None if begun is None else begun.record

    # ------------------------------------------------------------------------------------ figures

    async def _items(self, provider: Provider) -> list[Versioned[ProtectedItem]]:
        primary = await self._reader.find(ProtectedItem, primary_provider_id=provider.id)
        recovery = await self._reader.find(ProtectedItem, recovery_provider_id=provider.id)
        return list({found.record.id: found for found in (*primary, *recovery)}.values())

    async def _raise_epoch(
        self, provider: Provider, found: Versioned[ProtectedItem], reported: int
    ) -> None:
        item, now = found.record, self._clock.now()
        raised = item.model_copy(update={"epoch": reported + 1, "authority_questioned_at": now})
        words = (
            f"{item.friendly_name}: {provider.friendly_name} knows epoch {reported}, the hub"
            f" {item.epoch}; failovers are missing here. The hub says: {item.state.value}, active"
            f" at {item.active_location.value}. Which copy may run is told to nobody until both"
            " sites show that this is so, or an operator decides: site-recovery authority list"
        )
        alert = self._alert(provider, f"epoch/{item.id}", words, now)
        change = Change(saves=(Save(raised, found.version), alert))
        if item.current is None:
            await self._committer.commit(change)
        else:
            # The job decides on it, so that memory and log of who holds it know of it too.
            job_id = item.current.job_id
            await self._runner.feed(job_id, EpochRaised(reported + 1), change)
            await self._until(job_id, lambda job: job.epoch > reported)
        log.error(
            "restore_difference",
            provider_id=provider.id,
            item=item.id,
            reported_epoch=reported,
            known_epoch=item.epoch,
        )

    async def _raise_fence(self, provider: Provider, job_id: str, reported: int) -> None:
        found = await self._reader.get(Job, job_id)
        if found is None or found.record.finished or found.record.fence >= reported:
            return
        if provider.id not in found.record.providers.values():
            return
        await self._runner.feed(job_id, TakenUp(reported + 1))
        await self._until(job_id, lambda job: job.fence > reported)
        log.warning("fence_raised", provider_id=provider.id, job_id=job_id, fence=reported + 1)

    async def _until(self, job_id: str, holds: Callable[[Job], bool]) -> None:
        """Return once it holds of the stored job: another hub may have to decide on it first."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + DECIDED_SECONDS_MAX
        while True:
            found = await self._reader.get(Job, job_id)
            if found is None or found.record.finished or holds(found.record):
                return
            if loop.time() > ends:
                msg = f"the job {job_id} was not brought to what its provider knows; begin again"
                raise StaleVersionError(msg)
            await asyncio.sleep(LOOK_SECONDS)

    async def _settle(self, found: Versioned[ProtectedItem]) -> None:
        item = found.record
        questioned_at = item.authority_questioned_at
        assert questioned_at is not None, "asked for such items alone"
        views: dict[Side, MachineObservation] = {}
        for side in Side:
            seen = await self._reader.get(
                MachineObservation, f"{item.provider_at(side)}/{item.machine_at(side)}"
            )
            if seen is None or seen.record.observed_at < questioned_at:
                return
            views[side] = seen.record
        if not agrees(item.authority, {side: seen.machine for side, seen in views.items()}):
            log.error(
                "authority_in_question",
                item=item.id,
                hub_says=item.authority.value,
                remedy=f"look and decide: site-recovery authority decide {item.id}",
            )
            return
        settled = item.model_copy(update={"authority_questioned_at": None})
        now = self._clock.now()
        # The refresh begins a session, whose answer tells both ends who may run.
        events = tuple(
            refresh_event(self._clock, item.vault_id, item.provider_at(side), now) for side in Side
        )
        await self._committer.commit(Change(saves=(Save(settled, found.version),), events=events))
        log.info("authority_settled", item=item.id, authority=item.authority.value)

    def _alert(self, provider: Provider, subject: str, words: str, now: datetime) -> Save:
        alert = Alert(
            id=f"restore/{provider.id}/{subject}",
            vault_id=provider.vault_id,
            provider_id=provider.id,
            code="RestoreDifference",
            message=words,
            raised_at=now,
        )
        return Save(alert, None)
