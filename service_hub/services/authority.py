"""Machines whose authority is in question after a restore: shown with both sites, then decided."""

from datetime import datetime

import structlog

from service_hub.domain.authority import decided, refusal_of, warnings_of
from service_hub.domain.errors import ConflictError, NotFoundError
from service_hub.domain.liveness import Stamp
from service_hub.domain.records import Alert, MachineObservation, ProtectedItem, Provider
from service_hub.domain.servers import title_of
from service_hub.operator_ports import AuthorityQuestion, ShownCopy
from service_hub.ports.changes import NEW, Change, NewEvent, Save, Versioned
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from wire_contract.vocabulary import EventType, Side

log = structlog.get_logger(__name__)


class AuthorityService:
    """The AuthorityUseCases of the operator ports."""

    def __init__(self, *, reader: Reader, committer: Committer, clock: Clock) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock

    async def list(self, vault_id: str) -> list[AuthorityQuestion]:
        """Return all questions of a vault."""
        found = await self._reader.find(ProtectedItem, vault_id=vault_id)
        return [
            await self._question(each.record)
            for each in found
            if each.record.authority_questioned_at is not None
        ]

    async def decide(
        self, vault_id: str, item_id: str, side: Side, principal: str
    ) -> AuthorityQuestion:
        """Make the copy at one end the authoritative one, under a new epoch.

        One transaction holds the item, what tells both sites, and an alert with the decision.
        """
        found = await self._item(vault_id, item_id)
        question = await self._question(found.record)
        views = {end: copy.machine for end, copy in question.copies.items()}
        refusal = refusal_of(found.record, side, views)
        if refusal is not None:
            raise ConflictError(f"{found.record.friendly_name}: {refusal}")
        now = self._clock.now()
        item = decided(found.record, side, views, now)
        alert = Alert(
            id=self._clock.new_id(),
            vault_id=vault_id,
            provider_id=item.provider_at(side),
            code="AuthorityDecided",
            message=f"{item.friendly_name}: {principal} decided that the copy at {side.value}"
            f" ({question.copies[side].server}) is authoritative, epoch {item.epoch}",
            raised_at=now,
            principal=principal,
        )
        # A refresh begins a session, whose answer tells each end who may run.
        events = tuple(
            refresh_event(self._clock, vault_id, item.provider_at(end), now) for end in Side
        )
        saves = (Save(item, found.version), Save(alert, NEW))
        await self._committer.commit(Change(saves=saves, events=events))
        log.warning(
            "authority_decided",
            item=item.id,
            authority=side.value,
            hub_said=found.record.authority.value,
            epoch=item.epoch,
            state=item.state.value,
            principal=principal,
        )
        return AuthorityQuestion(item, question.copies, {})

    async def _item(self, vault_id: str, item_id: str) -> Versioned[ProtectedItem]:
        for found in await self._reader.find(ProtectedItem, vault_id=vault_id):
            if found.record.id.lower() == item_id.lower():
                return found
        raise NotFoundError(item_id)

    async def _question(self, item: ProtectedItem) -> AuthorityQuestion:
        copies = {side: await self._copy(item, side) for side in Side}
        views = {side: copy.machine for side, copy in copies.items()}
        return AuthorityQuestion(
            item, copies, {side: warnings_of(item, side, views) for side in Side}
        )

    async def _copy(self, item: ProtectedItem, side: Side) -> ShownCopy:
        provider_id = item.provider_at(side)
        provider = await self._reader.get(Provider, provider_id)
        name = provider_id if provider is None else title_of(provider.record)
        seen = await self._reader.get(MachineObservation, f"{provider_id}/{item.machine_at(side)}")
        asked = item.authority_questioned_at
        # What was seen before the question is of before the restore: it proves nothing.
        if seen is None or (asked is not None and seen.record.observed_at < asked):
            return ShownCopy(name, None, None)
        at = seen.record.observed_at
        stamp = Stamp(at, provider_id, seen.record.boot_id)
        return ShownCopy(name, seen.record.machine, at, stamp)


def refresh_event(clock: Clock, vault_id: str, provider_id: str, now: datetime) -> NewEvent:
    """Return what has a provider begin a session and send its inventory."""
    return NewEvent(
        event_id=clock.new_id(),
        vault_id=vault_id,
        provider_id=provider_id,
        type=EventType.REFRESH,
        issued_at=now,
        expires_at=now,
        body={},
    )
