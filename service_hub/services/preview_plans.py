"""What a plan would do to all its machines, told without doing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from service_hub.domain.durations import in_words
from service_hub.domain.jobs import Job
from service_hub.domain.liveness import Freshness, Stamp
from service_hub.domain.operator_signatures import needs_signature
from service_hub.domain.planning import JobIdentity, refused, stopped_at_prerequisites
from service_hub.domain.plans import (
    STAYS_AS_IT_IS,
    PlanRequest,
    members_of,
    plan_job,
    refusal_of_states,
    refusal_when_any_busy,
)
from service_hub.domain.preview import Course, ExpectedLoss, ForeseenEffect
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem, Vault
from service_hub.domain.scenarios import GroupSpec
from service_hub.looker_ports import ExpectedDuration, Preview
from service_hub.ports.surroundings import Clock
from service_hub.services.item_plans import ItemPlans
from service_hub.services.preview_telling import (
    NOT_MADE,
    Named,
    PreviewTelling,
    item_job,
    providers_of,
)

Groups = Sequence[Sequence[Preview]]


@dataclass(frozen=True, slots=True)
class PlanPreviews:
    """Previews of plans."""

    clock: Clock
    plans: ItemPlans
    telling: PreviewTelling

    async def of_plan(self, vault: Vault, request: PlanRequest) -> Preview:
        """Return what a plan would do now; InvalidRequestError, NotFoundError as when it starts."""
        now = self.clock.now()
        job = plan_job(vault.id, request, JobIdentity(NOT_MADE, "", now))
        items = {each: (await self.plans.item(vault, each)).record for each in members_of(job)}
        busy = refusal_when_any_busy([*items.values()], now)
        if busy is not None:
            job = refused(job, busy, now)
        else:
            against = refusal_of_states(request, [*items.values()], now)
            job = job if against is None else stopped_at_prerequisites(job, against, now)
        signed = needs_signature(vault, request.operation)
        named = Named(request.operation.value, request.plan_id, request.name, {})
        told = await self.telling.told(named, job, {}, signed=signed)
        groups = [
            [await self.member(items[each], spec.group) for each in spec.group.members]
            for spec in job.own_specs
            if spec.group is not None
        ]
        return with_members(told, groups, (STAYS_AS_IT_IS,))

    async def member(
        self, item: ProtectedItem, group: GroupSpec, for_plan: str | None = None
    ) -> Preview:
        """Return what a group would do to one machine."""
        job = await self._job(item, group.operation, group.arguments, for_plan)
        servers = await self.telling.servers(providers_of(item))
        named = Named(group.operation.value, item.id, item.friendly_name, servers)
        copies = await self.telling.seen(item)
        return await self.telling.told(named, job, copies, signed=False)

    async def _job(
        self,
        item: ProtectedItem,
        operation: Operation,
        arguments: Mapping[str, Any],
        for_plan: str | None,
    ) -> Job:
        plan, now = await self.plans.plan(item, None), self.clock.now()
        return item_job(plan, operation, arguments, now, for_plan=for_plan)


def with_members(told: Preview, groups: Groups, notes: Sequence[str]) -> Preview:
    """Return the preview of a plan with what becomes of its machines, group by group."""
    members = [each for group in groups for each in group]
    found = [] if told.refusal is not None else members
    effects = [_named(each.target_name, effect) for each in found for effect in each.effects]
    loss = worst_loss([each.loss for each in found])
    return replace(
        told,
        servers={side: name for each in members for side, name in each.servers.items()},
        effects=effects,
        loss=loss,
        loss_freshness=_freshness_of(found, loss.stamp),
        duration=_duration(told, [] if told.refusal is not None else groups),
        members=members,
        notes=notes,
    )


def worst_loss(losses: Sequence[ExpectedLoss]) -> ExpectedLoss:
    """Return the loss of the machine that loses most; unknown where it is of one of them."""
    some = [each for each in losses if each.seconds != 0]
    if not some:
        return ExpectedLoss(0.0, 0, None, "nothing")
    unknown = [each for each in some if each.seconds is None]
    worst = unknown[0] if unknown else max(some, key=lambda each: each.seconds or 0.0)
    backlogs = [each.pending_bytes for each in some]
    known = [each for each in backlogs if each is not None]
    pending = sum(known) if len(known) == len(backlogs) else None
    words = f"of the machine that loses most: {worst.words}"
    return ExpectedLoss(worst.seconds, pending, worst.stamp, words)


def _named(name: str, effect: ForeseenEffect) -> ForeseenEffect:
    return replace(effect, words=f"{name}: {effect.words}")


def _freshness_of(members: Sequence[Preview], stamp: Stamp | None) -> Freshness | None:
    found = (each.loss_freshness for each in members if each.loss.stamp == stamp)
    return None if stamp is None else next(found, None)


_PEOPLE: Final = "; and as long as people take for what they have to do"


def _duration(told: Preview, groups: Groups) -> ExpectedDuration:
    """Return the sum over groups of what each one's slowest machine usually takes."""
    if not groups:
        return told.duration
    unknown = tuple(
        sorted({task for group in groups for each in group for task in each.duration.unknown})
    )
    people = any(each.task.course is Course.PERSON for each in told.tasks)
    more = _PEOPLE if people else ""
    figures = [[(e.duration.median_seconds, e.duration.p90_seconds) for e in g] for g in groups]
    if unknown or any(median is None for group in figures for median, _ in group):
        return ExpectedDuration(None, None, unknown, f"unknown{more}")
    median = sum(max((each[0] or 0.0 for each in group), default=0.0) for group in figures)
    p90 = sum(max((each[1] or 0.0 for each in group), default=0.0) for group in figures)
    words = f"usually {in_words(median)}, at times {in_words(p90)}{more}"
    return ExpectedDuration(median, p90, (), words)
