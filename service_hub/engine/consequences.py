"""What is stored with a decision: the job, the records it shows in, its log, events to providers.

Builds values alone; the decider commits them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar, cast

from pydantic import JsonValue

from service_hub.domain.arguments import arguments_of, target_of
from service_hub.domain.job_log import encode
from service_hub.domain.jobs import AskInventory, Command, Dispatch, Job, JobState, Withdraw
from service_hub.domain.pairs import reflect_on_mapping
from service_hub.domain.plan_orders import signature_of_task
from service_hub.domain.planning import (
    INJECTED_BY,
    former_of,
    provider_to_refresh,
    reflect_on_item,
)
from service_hub.domain.protection import Operation
from service_hub.domain.records import ContainerMapping, ProtectedItem, Record
from service_hub.domain.replication_events import events_of_job
from service_hub.domain.self_fence import SELF_FENCE_TASK
from service_hub.engine.held_jobs import Fed, HeldJob, Related
from service_hub.ports.changes import (
    NOTHING,
    Change,
    Delete,
    Guard,
    LogEntry,
    NewEvent,
    Save,
    Versioned,
)
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from wire_contract.events import Withdrawal, assignment_task
from wire_contract.vocabulary import EventType

REFRESH_LIFETIME: Final = timedelta(days=1)
"""How long a refresh is worth asking for; a provider that was away begins with a session anyway."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Step:
    """A decision that is about to be stored."""

    held: HeldJob
    fed: Fed
    before: Job
    after: Job
    commands: Sequence[Command]
    change: Change
    related: Related | None

    @property
    def changes_job(self) -> bool:
        """Whether the job itself is stored anew."""
        return self.after is not self.before


async def related_to(reader: Reader, job: Job) -> Related:
    """Return the records that a job's progress shows in."""
    item = None if job.item_id is None else await reader.get(ProtectedItem, job.item_id)
    mapping_id = job.context.get("mapping_id")
    if not isinstance(mapping_id, str):
        return Related(item)
    return Related(item, await reader.get(ContainerMapping, mapping_id))


class _Writing:
    """The saves of one change: the job, what is stored with the event, what the job shows in."""

    def __init__(self, job: Save, given: Change) -> None:
        self.saves = [*given.saves, job]
        self.deletes: list[Delete] = []
        self.is_uncertain = False

    def reflected(
        self, present: Versioned[R] | None, reflect: Callable[[R], R]
    ) -> Versioned[R] | None:
        """Note how a record is stored anew, and return it as it is then."""
        if present is None:
            return None
        given = next((each for each in self.saves if _is_of(each, present.record)), None)
        if given is None:
            after = reflect(present.record)
            if after is present.record or after == present.record:
                return present
            self.saves.append(Save(after, present.version))
            return Versioned(after, present.version + 1)
        # What is stored together with the event is this very record: the job shows in that.
        self.saves.remove(given)
        after = reflect(cast("R", given.record))
        self.saves.append(Save(after, given.expected_version))
        if given.expected_version is None:
            self.is_uncertain = True
            return None
        return Versioned(after, given.expected_version + 1)

    def without_unprotected(
        self, item: Versioned[ProtectedItem] | None, job: Job
    ) -> Versioned[ProtectedItem] | None:
        """Note that an item whose protection has ended goes, all but its epoch."""
        former = None if item is None else former_of(item.record, job)
        if item is None or former is None:
            return item
        self.saves = [each for each in self.saves if not _is_of(each, item.record)]
        self.saves.append(Save(former, None))
        self.deletes.append(Delete(ProtectedItem, item.record.id))
        return None


class Consequences:
    """Makes changes of decisions."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def of(
        self, held: HeldJob, fed: Fed, after: Job, commands: Sequence[Command], *, ends: bool
    ) -> Step:
        """Return what is stored when this event was decided on; `ends`: also the lease ends."""
        taken = () if fed.message_id is None else (fed.message_id,)
        before, now = held.job, self._clock.now()
        if after is before:
            kept = fed.change + Change(taken=taken) if taken else fed.change
            return Step(held, fed, before, after, (), kept, None)
        save = Save(after, held.version, held.document.of(after))
        related, saves, deletes = self._reflected(held, fed, save)
        if after.state is not before.state:
            saves = [*saves, *told_of_job(before.state, after, now)]
        events = self.events(after, commands, now) if commands else []
        if related is not held.related:
            events += self._refreshes(after, held.related, related, now)
        change = Change(
            saves=saves,
            deletes=deletes,
            events=events,
            log=(LogEntry(after.id, held.version, now, encode(fed.event)),),
            guards=(Guard(after.id, held.fence),),
            ends=(after.id,) if ends else (),
            taken=taken,
        )
        if fed.change is not NOTHING:
            change = replace(fed.change, saves=()) + change
        return Step(held, fed, before, after, commands, change, related)

    def _reflected(
        self, held: HeldJob, fed: Fed, save: Save
    ) -> tuple[Related | None, Sequence[Save], Sequence[Delete]]:
        """Return the records that the job shows in as they are then, what is saved, what goes."""
        related, after = held.related or Related(), cast("Job", save.record)
        if not fed.change.saves and related.mapping is None:
            item = related.item
            if item is None or reflect_on_item(item.record, after) is item.record:
                return related, (save,), ()
        writing = _Writing(save, fed.change)
        item = writing.reflected(related.item, lambda it: reflect_on_item(it, after))
        item = writing.without_unprotected(item, after)
        mapping = writing.reflected(related.mapping, lambda it: reflect_on_mapping(it, after))
        if writing.is_uncertain:
            return None, writing.saves, writing.deletes
        is_same = item is related.item and mapping is related.mapping
        seen = related if is_same else Related(item, mapping)
        return seen, writing.saves, writing.deletes

    def events(self, job: Job, commands: Sequence[Command], now: datetime) -> list[NewEvent]:
        """Return what providers are told of these commands."""
        events = []
        for command in commands:
            match command:
                case Dispatch():
                    events.append(self._assignment(job, command, now))
                case AskInventory(side=side, deadline=deadline):
                    events.append(self._refresh(job, job.providers[side], now, deadline - now))
                case Withdraw():
                    events.append(self._withdrawal(job, command, now))
                case _:
                    # Done by the hub itself.
                    continue
        return events

    def _refreshes(
        self, job: Job, before: Related | None, after: Related | None, now: datetime
    ) -> list[NewEvent]:
        """Return who is told that its copy got the authority back."""
        if before is None or after is None or before.item is None or after.item is None:
            return []
        was, now_is = before.item.record, after.item.record
        provider_id = provider_to_refresh(was, now_is)
        tells = job.run(SELF_FENCE_TASK) is not None or job.operation is Operation.OVERRIDE_FENCE
        if was.authority is not now_is.authority and tells:
            # Who still hears the hub does not stop by himself, or was declared lost: he is told.
            provider_id = was.provider_at(was.authority)
        if provider_id is None:
            return []
        return [self._refresh(job, provider_id, now, REFRESH_LIFETIME)]

    def _refresh(self, job: Job, provider_id: str, now: datetime, lifetime: timedelta) -> NewEvent:
        return NewEvent(
            event_id=self._clock.new_id(),
            vault_id=job.vault_id,
            provider_id=provider_id,
            type=EventType.REFRESH,
            issued_at=now,
            expires_at=now + lifetime,
            body={},
        )

    def _assignment(self, job: Job, dispatch: Dispatch, now: datetime) -> NewEvent:
        return NewEvent(
            event_id=self._clock.new_id(),
            vault_id=job.vault_id,
            provider_id=job.providers[dispatch.side],
            type=EventType.ASSIGNMENT,
            issued_at=now,
            expires_at=dispatch.deadline,
            body=assignment_body(job, dispatch),
        )

    def _withdrawal(self, job: Job, command: Withdraw, now: datetime) -> NewEvent:
        body = Withdrawal(
            job=job.id,
            task=assignment_task(command.task_id, command.side),
            attempt=command.attempt,
            fence=job.fence,
        )
        return NewEvent(
            event_id=self._clock.new_id(),
            vault_id=job.vault_id,
            provider_id=job.providers[command.side],
            type=EventType.WITHDRAWAL,
            issued_at=now,
            expires_at=command.deadline,
            body=body.model_dump(mode="json"),
        )


def told_of_job(before: JobState | None, job: Job, now: datetime) -> list[Save]:
    """Return the events that an operator sees of a job's new state, to be stored with it."""
    return [Save(each, None) for each in events_of_job(before, job, now)]


def assignment_body(job: Job, dispatch: Dispatch) -> dict[str, JsonValue]:
    """Return what an `Assignment` of this command would write of itself.

    Without one: checking what the hub itself has made took a tenth of a decision's time.
    """
    return {
        "job": job.id,
        "task": assignment_task(dispatch.task_id, dispatch.side),
        "attempt": dispatch.attempt,
        "fence": job.fence,
        "item": job.item_id,
        "target": target_of(job, dispatch),
        "epoch": job.epoch,
        "verb": dispatch.verb.value,
        "arguments": arguments_of(job, dispatch),
        "deadline": dispatch.deadline.isoformat().replace("+00:00", "Z"),
        "operator_signature": signature_of_task(job, dispatch),
        "injection": job.affected.get(INJECTED_BY),
    }


def related_in(given: Mapping[tuple[type[Record], str], Save], job: Job) -> Related | None:
    """Return the related records as these saves leave them; None where they do not say.

    Spares a new job's first decision from reading what was stored with it.
    """
    if "mapping_id" in job.context:
        return None
    if job.item_id is None:
        return Related()
    save = given.get((ProtectedItem, job.item_id))
    if save is None or save.expected_version is None:
        return None
    return Related(Versioned(cast("ProtectedItem", save.record), save.expected_version + 1))


def _is_of(save: Save, record: Record) -> bool:
    return save.record.id == record.id and type(save.record) is type(record)
