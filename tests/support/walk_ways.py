"""How a walk over an estate asks for an operation.

An operation is asked of a machine, of several in a recovery plan, or injected: the path behind is
the same, and so is what must hold afterwards.
"""

from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from service_hub.domain.injections import InjectionKind
from service_hub.domain.jobs import Job
from service_hub.domain.plans import PlanGroup, PlanRequest
from service_hub.domain.protection import Operation, ProtectionState, expected_direction
from service_hub.domain.records import ProtectedItem
from service_hub.injection_ports import InjectionRequest, Injector
from tests.support.hub_world import HubWorld
from tests.support.injecting import ROOT, begun, injecting
from tests.support.kill_world import KillWorld
from tests.support.ring_estate import OWN, cloud_of
from wire_contract.vocabulary import Side

PLANNED: Final = frozenset(
    {
        Operation.PLANNED_FAILOVER,
        Operation.UNPLANNED_FAILOVER,
        Operation.TEST_FAILOVER,
        Operation.TEST_FAILOVER_CLEANUP,
        Operation.COMMIT,
        Operation.CANCEL_FAILOVER,
        Operation.REVERSE_REPLICATE,
    }
)
"""What a recovery plan does."""

INJECTED: Final = {
    Operation.TEST_FAILOVER: InjectionKind.TEST_FAILOVER,
    Operation.TEST_FAILOVER_CLEANUP: InjectionKind.TEST_FAILOVER_CLEANUP,
    Operation.PLANNED_FAILOVER: InjectionKind.PLANNED_FAILOVER,
    Operation.UNPLANNED_FAILOVER: InjectionKind.UNPLANNED_FAILOVER,
    Operation.COMMIT: InjectionKind.COMMIT,
    Operation.CANCEL_FAILOVER: InjectionKind.CANCEL_FAILOVER,
    Operation.REVERSE_REPLICATE: InjectionKind.REVERSE_REPLICATE,
}


def arguments_for(operation: Operation, active: Side) -> dict[str, JsonValue]:
    """Return what an operation on a machine that runs there is asked with."""
    return {
        "failover_direction": expected_direction(operation, active),
        "source_operations_required": True,
        "source_changes": "Discard",
    }


def alike(items: Sequence[ProtectedItem], state: ProtectionState, active: Side) -> tuple[str, ...]:
    """Return the machines that one plan can lead on: they rest in one state at one end."""
    return tuple(
        each.id
        for each in items
        if each.state is state
        and each.active_location is active
        and each.current is None
        and each.plan is None
    )


async def planned(
    world: KillWorld, operation: Operation, members: tuple[str, ...], active: Side
) -> Job:
    """Ask for an operation on several machines side by side; return the plan's job."""
    identity = world.identity()
    arguments = arguments_for(operation, active)
    group = PlanGroup("Group 1", members)
    request = PlanRequest(f"plan-{world.requests}", "Payroll", operation, (group,), arguments)
    job: Job = await world.call(lambda hub: hub.plans.start_plan(hub.vault, request, identity))
    return job


async def injected(
    world: KillWorld, operation: Operation, machine: str, site: str, active: Side
) -> Job:
    """Inject an operation on a machine; return the job that came of it."""
    identity = world.identity()
    assert identity.client_request_id is not None
    who = Injector("operator", "Injector", identity.client_request_id)
    target = (
        f"{ROOT}/replicationFabrics/{site}-fabric/replicationProtectionContainers/"
        f"{cloud_of(site, OWN)}/replicationProtectedItems/{machine}"
    )
    body = _body(operation, active)
    request = InjectionRequest(event=INJECTED[operation], target=target, arguments=body)

    async def inject(hub: HubWorld) -> str | None:
        injections = injecting(hub)
        made = await injections.inject(hub.vault, request, who)
        # The hub may have been killed before it had begun.
        return (await begun(injections, hub.vault, made)).job_id

    job_id = await world.call(inject)
    assert job_id is not None, f"nothing came of the injected {operation.value}"
    job: Job = await world.call(lambda hub: hub.job(job_id))
    return job


def _body(operation: Operation, active: Side) -> dict[str, JsonValue]:
    direction = expected_direction(operation, active).value
    match operation:
        case Operation.TEST_FAILOVER:
            return {"failoverDirection": direction, "networkType": "NoNetworkAttachAsInput"}
        case Operation.TEST_FAILOVER_CLEANUP:
            return {"comments": "walked"}
        case Operation.PLANNED_FAILOVER:
            return {"failoverDirection": direction}
        case Operation.UNPLANNED_FAILOVER:
            return {"failoverDirection": direction, "sourceSiteOperations": "Required"}
        case Operation.REVERSE_REPLICATE:
            return {"failoverDirection": direction, "sourceChanges": "Discard"}
        case _:
            return {}
