"""What cancelling, restarting or resuming a job would do, told without doing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from service_hub.domain.errors import (
    JobRequestRefusedError,
    NotFoundError,
    SignatureRequiredError,
)
from service_hub.domain.job_requests import check_action
from service_hub.domain.jobs import (
    Action,
    CancelRequested,
    Event,
    Job,
    JobError,
    JobState,
    RestartRequested,
    Resumed,
)
from service_hub.domain.operator_signatures import JobRequest, signature_for
from service_hub.domain.plans import NAMED_MAX, STAYS_AS_IT_IS, members_of
from service_hub.domain.preview import Course, SeenCopy
from service_hub.domain.protection import allowed_operations
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.looker_ports import Preview
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.services.job_restarts import Restarts
from service_hub.services.preview_plans import PlanPreviews, with_members
from service_hub.services.preview_telling import Named, PreviewTelling
from wire_contract.vocabulary import Side

ACTIONS: Final[Mapping[str, Action]] = {
    "cancel": "Cancel",
    "restart": "Restart",
    "resume": "Resume",
}
"""What may be asked of a job."""

_SIGNED: Final[Mapping[Action, JobRequest]] = {"Cancel": "cancel", "Restart": "restart"}
_NOBODY: Final = "preview"


@dataclass(frozen=True, slots=True)
class RequestPreviews:
    """Previews of what is asked of jobs."""

    reader: Reader
    clock: Clock
    restarts: Restarts
    telling: PreviewTelling
    plans: PlanPreviews

    async def of_request(self, vault: Vault, action: Action, job_id: str) -> Preview:
        """Return what the request would do to a job now; NotFoundError."""
        found = await self.reader.get(Job, job_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(job_id)
        job, now = found.record, self.clock.now()
        named = Named(action, job.id, _title(job), await self.telling.servers(job.providers))
        copies = await self._copies(job)
        try:
            check_action(job, action)
            asked = await self._event(job, action, now)
        except JobRequestRefusedError as refusal:
            error = JobError(code=refusal.code, message=str(refusal), created_at=now)
            told = await self.telling.told(named, _as_it_is(job), copies, signed=False)
            return replace(told, refusal=error, effects=())
        signed = self._is_to_be_signed(vault, job, action, now)
        told = await self.telling.told(named, job, copies, signed=signed, asked=asked)
        return await self._with_members(vault, job, action, told) if members_of(job) else told

    async def _event(self, job: Job, action: Action, now: datetime) -> Event:
        if action == "Cancel":
            return CancelRequested(now, _NOBODY)
        if action == "Resume":
            return Resumed(now, _NOBODY)
        event, _ = await self.restarts.plan(job, _NOBODY)
        return event

    def _is_to_be_signed(self, vault: Vault, job: Job, action: Action, now: datetime) -> bool:
        """Whether the request wants a signature that the job does not have."""
        request = _SIGNED.get(action)
        if request is None:
            return False
        try:
            signature_for(vault, job, request, None, now)
        except SignatureRequiredError:
            return True
        return False

    async def _copies(self, job: Job) -> Mapping[Side, SeenCopy]:
        item = None
        if job.item_id is not None:
            item = await self.reader.get(ProtectedItem, job.item_id)
        return {} if item is None else await self.telling.seen(item.record)

    # ----------------------------------------------------------------------------------- plans

    async def _with_members(self, vault: Vault, job: Job, action: Action, told: Preview) -> Preview:
        found = await self.reader.find(Job, parent_id=job.id)
        children = [each.record for each in found if each.record.vault_id == vault.id]
        if action == "Cancel":
            running = [each for each in children if not each.finished]
            groups = [[await self._child(each, "Cancel") for each in running]]
            notes = (STAYS_AS_IT_IS, *await self._left(children))
            return with_members(told, groups, notes)
        groups = [
            await self._group(vault, job, each.task.task_id, children)
            for each in told.tasks
            if each.task.course is Course.GROUP
        ]
        return with_members(told, groups, (STAYS_AS_IT_IS,))

    async def _group(
        self, vault: Vault, job: Job, task_id: str, children: Sequence[Job]
    ) -> list[Preview]:
        """Return what a group does to those of its machines that it is not done with."""
        group = job.spec(task_id).group
        assert group is not None, "only groups have members"
        mine = {each.item_id: each for each in children if each.parent_task == task_id}
        found = []
        for member in group.members:
            child = mine.get(member)
            if child is None:
                item = (await self.plans.plans.item(vault, member)).record
                found.append(await self.plans.member(item, group, job.id))
            elif child.state is not JobState.SUCCEEDED and child.finished:
                found.append(await self._child(child, "Restart"))
        return found

    async def _child(self, child: Job, action: Action) -> Preview:
        servers = await self.telling.servers(child.providers)
        named = Named(action, child.id, child.target_object_name, servers)
        now = self.clock.now()
        asked: Event = CancelRequested(now, _NOBODY)
        if action == "Restart":
            asked = RestartRequested(now, _NOBODY)
        copies = await self._copies(child)
        return await self.telling.told(named, child, copies, signed=False, asked=asked)

    async def _left(self, children: Sequence[Job]) -> list[str]:
        """Return in words which machines the plan would leave as its ended jobs did."""
        done = [each for each in children if each.state is JobState.SUCCEEDED and each.item_id]
        words = []
        for child in done[:NAMED_MAX]:
            item = await self.reader.get(ProtectedItem, child.item_id or "")
            if item is not None:
                state = item.record.state
                ways = " or ".join(each.value for each in allowed_operations(state))
                words.append(f"{item.record.friendly_name} stays {state.value}: {ways} leads on")
        more = len(done) - NAMED_MAX
        return [*words, *([f"and {more} more stay as they are"] if more > 0 else [])]


def _as_it_is(job: Job) -> Job:
    """Return a job of which nothing more is foreseen."""
    return job if job.finished else job.model_copy(update={"state": JobState.FAILED})


def _title(job: Job) -> str:
    return f"{job.scenario.friendly_name} of {job.target_object_name}"
