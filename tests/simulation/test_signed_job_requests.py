"""A job goes on, or is taken back, under an operator's signature that still holds."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certs.channel_integrity import new_key
from service_hub.arm.errors import error_answer
from service_hub.domain.errors import (
    InvalidRequestError,
    SignatureEndedError,
    SignatureRequiredError,
)
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.operator_signatures import order_of, signature_for
from service_hub.domain.plans import PlanGroup, PlannedAction, PlanRequest
from service_hub.domain.protection import Operation
from service_hub.ports.use_cases import RequestIdentity
from site_recovery_cli.operator_signature import OperatorSignaturePolicy
from tests.support.hub_world import HubWorld, hub_world
from tests.support.many_items import Sites, an_item, furnish, item_id
from wire_contract.events import Assignment
from wire_contract.operator_signature import Order, SignedOperation
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Direction

KEY = new_key()
FORWARD = {"failover_direction": "PrimaryToRecovery"}
ORDER = Order(SignedOperation.PLANNED_FAILOVER, item_id(1), Direction.PRIMARY_TO_RECOVERY)
LONGER_THAN_A_SIGNATURE = timedelta(hours=7)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path, timedelta(hours=100)) as world:
        await furnish(world, an_item(1))
        world.vault = world.vault.model_copy(update={"requires_operator_signature": True})
        yield world


def signed(world: HubWorld, order: Order = ORDER) -> RequestIdentity:
    """Return who asks, with a signature made now."""
    clock: Any = world.clock
    header = OperatorSignaturePolicy(KEY, clock).header(order)
    return replace(world.identity(), operator_signature=header)


def refusing(assignment: Assignment) -> ProviderError | None:
    """Fail at the last command of a planned failover."""
    return ProviderError(code=32768, message="no") if assignment.verb == "start" else None


async def test_a_plan_is_signed_for_machine_by_machine(world: HubWorld) -> None:
    await furnish(world, an_item(2))
    members = tuple(item_id(number) for number in (1, 2))
    plan = PlanRequest(
        "plan", "Payroll", Operation.PLANNED_FAILOVER, (PlanGroup("Group 1", members),), FORWARD
    )
    clock: Any = world.clock
    policy = OperatorSignaturePolicy(KEY, clock)
    texts = {each: policy.header(replace(ORDER, item=each)) for each in members}
    for wrong in (
        {},
        {members[0]: texts[members[0]]},
        {members[0]: texts[members[0]], members[1]: texts[members[0]]},
    ):
        who = replace(world.identity(), member_signatures=wrong)
        with pytest.raises((SignatureRequiredError, InvalidRequestError)):
            await world.plans.start_plan(world.vault, plan, who)
    who = replace(world.identity(), member_signatures=texts)
    job = await world.plans.start_plan(world.vault, plan, who)
    done = await Sites(world).ended(job.id)
    assert done.state is JobState.SUCCEEDED
    sent = [each for site in ("tokyo", "osaka") for each in await world.assignments(site)]
    assert {each.item for each in sent} == set(members)
    # Each machine's orders carry its own signature, and nothing else.
    assert all(each.operator_signature == texts[str(each.item)] for each in sent)


def plan_signed(world: HubWorld, *numbers: int) -> RequestIdentity:
    """Return who asks, with a signature made now for each of these machines of a plan."""
    clock: Any = world.clock
    policy = OperatorSignaturePolicy(KEY, clock)
    texts = {item_id(each): policy.header(replace(ORDER, item=item_id(each))) for each in numbers}
    return replace(world.identity(), member_signatures=texts)


async def plan_begun(world: HubWorld, *groups: PlanGroup) -> Job:
    """Begin a signed planned failover of the machines 1 and 2."""
    await furnish(world, an_item(2))
    plan = PlanRequest("plan", "Payroll", Operation.PLANNED_FAILOVER, groups, FORWARD)
    return await world.plans.start_plan(world.vault, plan, plan_signed(world, 1, 2))


async def test_a_plan_that_waited_for_a_person_is_signed_anew_when_it_is_resumed(
    world: HubWorld,
) -> None:
    sites, door = Sites(world), PlannedAction("Look", manual="Look at the door.")
    first = PlanGroup("Group 1", (item_id(1),), after=(door,))
    job = await plan_begun(world, first, PlanGroup("Group 2", (item_id(2),)))
    await sites.until(job.id, lambda each: each.state is JobState.SUSPENDED)
    world.clock.time += LONGER_THAN_A_SIGNATURE
    # Of the machine whose turn has been nothing is wanted.
    for who in (world.identity(), plan_signed(world, 1)):
        with pytest.raises(SignatureEndedError, match="Sign the resume of the job anew"):
            await world.jobs.resume(world.vault, job.id, "closed", who)
    assert (await world.job(job.id)).state is JobState.SUSPENDED
    before, renewed = set(await carried(world)), plan_signed(world, 2)
    await world.jobs.resume(world.vault, job.id, "closed", renewed)
    assert (await sites.ended(job.id)).state is JobState.SUCCEEDED
    assert set(await carried(world)) - before == set(renewed.member_signatures.values())


async def test_a_plan_is_cancelled_under_new_signatures_for_what_is_under_way(
    world: HubWorld,
) -> None:
    sites = Sites(world)
    job = await plan_begun(world, PlanGroup("Group 1", (item_id(1), item_id(2))))

    def second_fails(assignment: Assignment) -> ProviderError | None:
        # The second machine has ended, and nothing of it is to be taken back.
        if assignment.item == item_id(2):
            return ProviderError(code=32768, message="no")
        return None

    await sites.until(job.id, lambda _: "osaka fail_over 1" in sites.done, second_fails)
    world.clock.time += LONGER_THAN_A_SIGNATURE
    for who in (world.identity(), plan_signed(world, 2)):
        with pytest.raises(SignatureEndedError, match="the cancel of the job"):
            await world.jobs.cancel(world.vault, job.id, who)
    assert (await world.job(job.id)).cancel is None
    before, renewed = set(await carried(world)), plan_signed(world, 1)
    await world.jobs.cancel(world.vault, job.id, renewed)
    assert (await sites.ended(job.id)).state is JobState.CANCELLED
    assert set(await carried(world)) - before == set(renewed.member_signatures.values())


async def failed(world: HubWorld, sites: Sites, *, by: RequestIdentity | None = None) -> Job:
    """Let a signed planned failover fail."""
    asked = Operation.PLANNED_FAILOVER.value
    job = await world.protection.request(
        world.vault, item_id(1), asked, FORWARD, by or signed(world)
    )
    return await sites.ended(job.id, refusing)


async def carried(world: HubWorld) -> list[str | None]:
    """Return the signatures of all that both sites were sent."""
    return [
        each.operator_signature
        for site in ("tokyo", "osaka")
        for each in await world.assignments(site)
    ]


async def test_a_restart_after_six_hours_asks_for_a_new_signature_before_it_sends(
    world: HubWorld,
) -> None:
    sites = Sites(world)
    job = await failed(world, sites)
    before = await carried(world)
    world.clock.time += LONGER_THAN_A_SIGNATURE
    with pytest.raises(SignatureEndedError, match="ended at 2026-01-01T06:00:00Z") as refused:
        await world.jobs.restart(world.vault, job.id, world.identity())
    assert error_answer(refused.value, world.identity()).status == 403
    assert await carried(world) == before
    assert (await world.job(job.id)).state is JobState.FAILED
    renewed = signed(world)
    await world.jobs.restart(world.vault, job.id, renewed)
    assert (await sites.ended(job.id)).state is JobState.SUCCEEDED
    sent = set(await carried(world)) - set(before)
    assert sent == {renewed.operator_signature}


async def test_a_restart_in_time_goes_on_under_the_signature_that_it_has(world: HubWorld) -> None:
    sites = Sites(world)
    job = await failed(world, sites)
    await world.jobs.restart(world.vault, job.id, world.identity())
    assert (await sites.ended(job.id)).state is JobState.SUCCEEDED
    assert len(set(await carried(world))) == 1


async def test_a_cancellation_that_takes_back_is_signed_anew_too(world: HubWorld) -> None:
    sites, asked = Sites(world), Operation.PLANNED_FAILOVER.value
    job = await world.protection.request(world.vault, item_id(1), asked, FORWARD, signed(world))
    await sites.until(job.id, lambda each: each.tasks[2].attempt > 0)
    world.clock.time += LONGER_THAN_A_SIGNATURE
    with pytest.raises(SignatureEndedError, match="the cancel of the job"):
        await world.jobs.cancel(world.vault, job.id, world.identity())
    assert (await world.job(job.id)).cancel is None
    renewed = signed(world)
    await world.jobs.cancel(world.vault, job.id, renewed)
    ended = await sites.ended(job.id)
    assert (ended.state, ended.undo_incomplete) == (JobState.CANCELLED, False)
    undone = [
        each
        for site in ("tokyo", "osaka")
        for each in await world.assignments(site)
        if "!undo" in each.task
    ]
    assert undone
    assert {each.operator_signature for each in undone} == {renewed.operator_signature}


async def test_nothing_is_signed_to_cancel_what_did_nothing(world: HubWorld) -> None:
    job = await failed(world, Sites(world))
    begun = await world.job(job.id)
    nothing = begun.model_copy(update={"tasks": begun.tasks[:1], "state": JobState.IN_PROGRESS})
    assert order_of(nothing) == ORDER
    later = world.clock.now() + LONGER_THAN_A_SIGNATURE
    assert signature_for(world.vault, nothing, "cancel", None, later) is None
    with pytest.raises(SignatureEndedError):
        signature_for(world.vault, begun, "cancel", None, later)


async def test_a_signature_for_something_else_is_refused_and_where_none_is_wanted_left_out(
    world: HubWorld,
) -> None:
    sites = Sites(world)
    job = await failed(world, sites)
    other = replace(ORDER, item=item_id(2))
    with pytest.raises(InvalidRequestError, match="not for this operation on this item"):
        await world.jobs.restart(world.vault, job.id, signed(world, other))
    world.vault = world.vault.model_copy(update={"requires_operator_signature": False})
    world.clock.time += LONGER_THAN_A_SIGNATURE
    before = set(await carried(world))
    await world.jobs.restart(world.vault, job.id, signed(world, other))
    assert (await sites.ended(job.id)).state is JobState.SUCCEEDED
    assert set(await carried(world)) == before


async def test_a_job_from_before_the_vault_wanted_signatures_is_signed_when_it_goes_on(
    world: HubWorld,
) -> None:
    insisting = world.vault
    world.vault = insisting.model_copy(update={"requires_operator_signature": False})
    sites = Sites(world)
    job = await failed(world, sites, by=world.identity())
    world.vault = insisting
    with pytest.raises(SignatureRequiredError, match="90017"):
        await world.jobs.restart(world.vault, job.id, world.identity())
    await world.jobs.restart(world.vault, job.id, signed(world))
    assert (await sites.ended(job.id)).state is JobState.SUCCEEDED
