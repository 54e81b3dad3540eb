"""What there is to be killed in the middle of: every operation of the tables, from its start state.

The walk follows the protection table, so that a later operation enters by itself; jobs that touch
no item stand in a list below, and a test finds the scenario that is in neither.

Over 400 lines because it is one list with a story for each operation.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from pydantic import JsonValue

from service_hub.domain.injections import InjectionKind
from service_hub.domain.item_life import TAKEN_BACK_LATER
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import (
    TRANSITIONS,
    UNDO_FAILED_STATES,
    Arc,
    Operation,
    ProtectionState,
    expected_direction,
)
from service_hub.domain.records import (
    ContainerMapping,
    MachineObservation,
    ProtectedItem,
    Provider,
    ProviderStream,
)
from service_hub.domain.scenarios import scenario_key
from service_hub.injection_ports import InjectionRequest, Injector
from service_hub.ports.changes import NEW, Change, Save
from tests.support.hub_world import HubWorld
from tests.support.injecting import FABRIC, begun, injecting
from tests.support.kill_programs import RunningHub
from tests.support.kill_saved_plans import plan_deleted, plan_saved
from tests.support.kill_world import KillWorld
from tests.support.simulator_estate import CLOUD, MACHINE
from wire_contract.faults import Fault
from wire_contract.reports import Registration
from wire_contract.vmm_interface import Command, VerbRequest
from wire_contract.vocabulary import FaultKind, ReplicationState, Verb

FOLLOWED = frozenset({Operation.COMPLETE_PRIMARY, Operation.COMPLETE_RECOVERY})
"""What the hub begins by itself once an item is in the state for it."""

NOT_WALKED = FOLLOWED | {Operation.PURGE, Operation.REPAIR}
"""Refused as long as nothing is wrong: a purge needs a site that is gone, a repair its cause; they
have stories of their own below."""

REFUSED_CODE = 32768
LONG = timedelta(hours=2)
"""Who has not been heard of for so long is gone."""

UNPLANNED_STATES = {
    ProtectionState.UNPLANNED_FAILED_OVER,
    ProtectionState.UNPLANNED_COMMITTED,
    ProtectionState.UNPLANNED_COMMIT_FAILED,
}
SELF_FENCE_SECONDS = 180
QUICK_WATCH_SECONDS = 0.03
WATCH_SECONDS = 2.0
"""How often agents look at their fabrics, in time that is played."""


@dataclass(frozen=True)
class Story:
    """An operation: what its end state is built on, how it is asked for, when it is over.

    `further` machines are there beside the first, all along the way; what `is_ground` is told so
    that others can be built on it, and nobody is killed in it. What `is_repeat` goes through tasks
    of another story, from another state or for more machines. The providers of `absent` sites do
    not run, and it begins `later` than the story ended that it is built on.
    """

    name: str
    after: str | None
    covers: frozenset[str]
    ask: Callable[[KillWorld], Awaitable[None]]
    over: Callable[[HubWorld], Awaitable[bool]]
    further: tuple[str, ...] = ()
    is_ground: bool = False
    is_repeat: bool = False
    absent: tuple[str, ...] = ()
    later: timedelta = timedelta(0)


async def no_job_runs(world: HubWorld) -> bool:
    """Whether every job has ended, and none of them failed."""
    return await all_ended(world, {JobState.SUCCEEDED})


async def all_ended(world: HubWorld, ends: set[JobState]) -> bool:
    """Whether every job has ended, in one of these ways."""
    jobs = [each.record for each in await world.store.find(Job)]
    others = [job for job in jobs if job.finished and job.state not in ends]
    assert not others, f"{others[0].scenario_key} {others[0].state}: {others[0].errors}"
    return bool(jobs) and all(job.finished for job in jobs)


async def hosts_added(world: HubWorld) -> bool:
    """Whether added hosts were prepared, and no job runs."""
    jobs = [each.record.scenario_key for each in await world.store.find(Job)]
    return "configure_hosts" in jobs and await no_job_runs(world)


def rests_in(
    state: ProtectionState, end: JobState = JobState.SUCCEEDED
) -> Callable[[HubWorld], Awaitable[bool]]:
    """Return whether all items rest in a state, and all jobs have succeeded or ended like this."""

    async def holds(world: HubWorld) -> bool:
        if not await all_ended(world, {JobState.SUCCEEDED, end}):
            return False
        items = [each.record for each in await world.store.find(ProtectedItem)]
        if state is ProtectionState.UNPROTECTED:
            return not items
        rest = [each.state is state and each.current is None for each in items]
        return bool(rest) and all(rest) and not any(each.plan for each in items)

    return holds


# ----------------------------------------------------------------------------- jobs without an item


async def create_policy(world: KillWorld) -> None:
    """Make the policy that pairs take."""
    identity = world.identity()
    settings = {"provider_type": "HyperVReplica2012R2", "replication_frequency_seconds": 30}
    await world.call(lambda hub: hub.policies.create(hub.vault, "p", settings, identity))


async def pair(world: KillWorld) -> None:
    """Pair the two clouds."""
    identity = world.identity()
    await world.call(
        lambda hub: hub.pairing.pair(
            hub.vault,
            name="m",
            primary=("tokyo-fabric", CLOUD["tokyo"]),
            recovery=("osaka-fabric", CLOUD["osaka"]),
            policy_name="p",
            identity=identity,
        )
    )


async def _refresh(world: KillWorld) -> None:
    identity = world.identity()
    await world.call(lambda hub: hub.servers.refresh(hub.vault, "tokyo-fabric", identity))


async def _unregister(world: KillWorld) -> None:
    identity = world.identity()
    await world.call(lambda hub: hub.servers.remove(hub.vault, "tokyo-fabric", identity))


async def _register(world: KillWorld) -> None:
    """Register a third server, as its provider does that repeats it until it is answered."""
    provider = Provider(
        id="nagoya-provider",
        vault_id="vault",
        vmm_id="nagoya-vmm",
        fabric_name="nagoya-fabric",
        enrolled_at=world.begun_at,
    )
    stream = ProviderStream(id=provider.id, vault_id="vault", stream="nagoya-stream")
    registration = Registration(
        vmm_id=provider.vmm_id,
        vmm_fqdn="nagoya.example",
        friendly_name="nagoya",
        provider_version="0.1.0",
        vmm_version="3.2.7510.0",
    )

    async def register(running: RunningHub) -> None:
        if await running.world.store.get(Provider, provider.id) is None:
            enrolled = Change(saves=(Save(provider, NEW), Save(stream, NEW)))
            await running.world.committer.commit(enrolled)
        await running.enrolment.register(provider, registration)

    await world.ask(register)


async def _inject(world: KillWorld) -> None:
    """Inject an outage; what a kill left of it is begun by the next look at what is due."""
    request = InjectionRequest(event=InjectionKind.SITE_OUTAGE, target=FABRIC, arguments={})
    who = Injector("operator", "Injector", world.begun)

    async def inject(hub: HubWorld) -> None:
        injections = injecting(hub)
        await begun(injections, hub.vault, await injections.inject(hub.vault, request, who))

    await world.call(inject)


async def _unpair(world: KillWorld) -> None:
    identity, cloud = world.identity(), ("tokyo-fabric", CLOUD["tokyo"])
    await world.call(lambda hub: hub.pairing.remove(hub.vault, cloud, "m", identity))


async def _delete_policy(world: KillWorld) -> None:
    identity = world.identity()
    await world.call(lambda hub: hub.policies.delete(hub.vault, "p", identity))


async def _change_policy(world: KillWorld) -> None:
    identity = world.identity()
    settings = {"replication_frequency_seconds": 300, "recovery_points": 2, "compression": True}
    await world.call(lambda hub: hub.policies.change(hub.vault, "p", settings, identity))


async def _let_sources_stop(world: KillWorld) -> None:
    """Have sources stop by themselves that hear from nobody."""
    identity = world.identity()
    settings = {"self_fence_seconds": SELF_FENCE_SECONDS}
    await world.call(lambda hub: hub.policies.change(hub.vault, "p", settings, identity))


async def _gone_past(world: KillWorld) -> None:
    """Fail over without asking the source, which is told besides, and waited for."""
    identity, operation = world.identity(), Operation.UNPLANNED_FAILOVER.value
    await world.call(
        lambda hub: hub.protection.request(
            hub.vault, MACHINE, operation, {"source_operations_required": False}, identity
        )
    )


async def _add_host(world: KillWorld) -> None:
    """Let a pair be one that was prepared before a host came, and its inventory come again."""

    async def observed(hub: HubWorld) -> None:
        (found,) = await hub.store.find(ContainerMapping)
        jobs = [each.record.scenario_key for each in await hub.store.find(Job)]
        if "configure_hosts" in jobs:
            return
        first, *_ = found.record.configured_hosts or ()
        before = found.record.model_copy(update={"configured_hosts": (first,)})
        await hub.committer.commit(Change(saves=(Save(before, found.version),)))
        provider = await hub.store.get(Provider, found.record.primary_provider_id)
        assert provider is not None
        await hub.added.fabric_observed(provider.record)

    await world.call(observed)


BESIDE_ITEMS = (
    Story("create_policy", None, frozenset({"create_policy"}), create_policy, no_job_runs),
    Story("pair_clouds", "create_policy", frozenset({"pair_clouds"}), pair, no_job_runs),
    Story("unpair_clouds", "pair_clouds", frozenset({"unpair_clouds"}), _unpair, no_job_runs),
    Story("configure_hosts", "pair_clouds", frozenset({"configure_hosts"}), _add_host, hosts_added),
    Story(
        "delete_policy", "create_policy", frozenset({"delete_policy"}), _delete_policy, no_job_runs
    ),
    Story("create_plan", None, frozenset({"create_plan"}), plan_saved, no_job_runs),
    Story("update_plan", "create_plan", frozenset({"update_plan"}), plan_saved, no_job_runs),
    Story("delete_plan", "update_plan", frozenset({"delete_plan"}), plan_deleted, no_job_runs),
    Story("refresh_server", None, frozenset({"refresh_server"}), _refresh, no_job_runs),
    Story(
        "register_provider",
        None,
        frozenset({"create_site", "register_provider"}),
        _register,
        no_job_runs,
    ),
    Story("inject_event", None, frozenset({"inject_event"}), _inject, no_job_runs),
    Story("unregister_server", None, frozenset({"unregister_server"}), _unregister, no_job_runs),
)


# --------------------------------------------------------------------------------- the item's life


def rest_of(arc: Arc) -> tuple[ProtectionState, list[Operation]]:
    """Return where an item comes to rest on an arc, and what the hub does by itself until then."""
    state, followed = arc.done, list[Operation]()
    while following := FOLLOWED & TRANSITIONS.get(state, {}).keys():
        (operation,) = following
        followed.append(operation)
        state = TRANSITIONS[state][operation].done
    return state, followed


def _key(operation: Operation, state: ProtectionState) -> str:
    return scenario_key(
        operation,
        unplanned=state in UNPLANNED_STATES,
        committed=state not in TAKEN_BACK_LATER,
    )


def asking(operation: Operation, machine: str = MACHINE) -> Callable[[KillWorld], Awaitable[None]]:
    """Return how an operation on a machine is asked for."""

    async def ask(world: KillWorld) -> None:
        if operation is Operation.ENABLE:
            await world.known(machine)  # a pairing may end before its inventory is there
        identity = world.identity()

        async def request(hub: HubWorld) -> Job:
            if operation is Operation.ENABLE:
                return await hub.protection.enable(
                    hub.vault,
                    container=("tokyo-fabric", CLOUD["tokyo"]),
                    item_name=machine,
                    machine_id=machine,
                    policy_name="p",
                    identity=identity,
                )
            found = await hub.store.get(ProtectedItem, machine)
            assert found is not None
            arguments: dict[str, str | bool] = {
                "failover_direction": expected_direction(operation, found.record.active_location),
                "source_operations_required": True,
                # Kills may have kept the source from sending what it had.
                "source_changes": "Discard",
                "comments": "the former source is needed",
            }
            return await hub.protection.request(
                hub.vault, machine, operation.value, arguments, identity
            )

        await world.call(request)

    return ask


def item_stories() -> Iterator[Story]:
    """Walk the protection table from an unprotected machine, along success."""
    reached = {ProtectionState.UNPROTECTED: "pair_clouds"}
    told = set[str]()
    waiting = [ProtectionState.UNPROTECTED]
    while waiting:
        state = waiting.pop(0)
        for operation, arc in TRANSITIONS.get(state, {}).items():
            if operation in NOT_WALKED:
                continue
            rest, followed = rest_of(arc)
            keys = {_key(operation, state), *(_key(each, rest) for each in followed)}
            name = f"{operation.value} of {state.value}"
            yield Story(
                name,
                reached[state],
                frozenset(keys),
                asking(operation),
                rests_in(rest),
                is_repeat=keys <= told,
            )
            told |= keys
            # What is not fully taken back has stories of its own (kill_undo).
            if rest not in reached and rest not in UNDO_FAILED_STATES:
                reached[rest] = name
                waiting.append(rest)


# ------------------------------------------------------------------- failed, restarted, cancelled


async def _refused(world: KillWorld) -> None:
    """Ask for a planned failover that the recovery site refuses: it is taken back."""
    refusal = Fault(verb=Verb.FAIL_OVER, kind=FaultKind.REFUSE, code=REFUSED_CODE)
    world.sites["osaka"].faults.replace((refusal,))
    await asking(Operation.PLANNED_FAILOVER)(world)


async def _restarted(world: KillWorld) -> None:
    """Restart the job that failed; the recovery site has come to its senses."""
    identity = world.identity()

    async def restart(hub: HubWorld) -> Job:
        (job,) = [
            each.record
            for each in await hub.store.find(Job)
            if each.record.scenario_key == "planned_failover"
        ]
        return await hub.jobs.restart(hub.vault, job.id, identity)

    await world.call(restart)


async def cancelled_while_held(
    world: KillWorld, site: str, operation: Operation, held: Verb, *left: Fault
) -> None:
    """Ask for an operation and cancel its job while a site holds that verb.

    What is `left` of faults holds from before until after the cancellation.
    """
    faults = world.sites[site].faults
    faults.replace((Fault(verb=held, kind=FaultKind.HOLD, times=1), *left))
    await asking(operation)(world)
    identity = world.identity()

    async def is_held() -> bool:
        return any(each.waiting for each in faults.view())

    async def current(hub: HubWorld) -> str:
        found = await hub.store.get(ProtectedItem, MACHINE)
        assert found is not None
        assert found.record.current is not None
        return found.record.current.job_id

    await world.until(is_held, f"{site} is about to {held.value}")
    job_id = await world.call(current)
    await world.call(lambda hub: hub.jobs.cancel(hub.vault, job_id, identity))
    faults.replace(left)


async def _cancelled(world: KillWorld) -> None:
    """Cancel a planned failover while the source prepares it."""
    operation = Operation.PLANNED_FAILOVER
    await cancelled_while_held(world, "tokyo", operation, Verb.PREPARE_FAILOVER)


DRILL: dict[str, JsonValue] = {
    "logical_network_id": "logical-test",
    "networks": [
        {
            "name": "network",
            "like": "WindowsNetworkVirtualization",
            "dynamic_addresses": False,
            "subnets": [{"name": "web", "address_list": ["10.9.0.0/24"]}],
        }
    ],
    "nics": [0],
}
"""What a test asks for whose machine is connected to one virtual network."""


async def _tested_with_networks(world: KillWorld) -> None:
    """Test a failover in a network that is made for it."""
    identity = world.identity()
    arguments = {"failover_direction": "PrimaryToRecovery", "network_id": None, "drill": DRILL}
    operation = Operation.TEST_FAILOVER.value
    await world.call(
        lambda hub: hub.protection.request(hub.vault, MACHINE, operation, arguments, identity)
    )


async def _reversed_keeping(world: KillWorld) -> None:
    """Reverse after an unplanned failover, and set the former source's disks aside."""
    identity = world.identity()

    async def request(hub: HubWorld) -> Job:
        found = await hub.store.get(ProtectedItem, MACHINE)
        assert found is not None
        operation = Operation.REVERSE_REPLICATE
        direction = expected_direction(operation, found.record.active_location)
        arguments = {"failover_direction": direction, "source_changes": "Keep"}
        return await hub.protection.request(
            hub.vault, MACHINE, operation.value, arguments, identity
        )

    await world.call(request)


# --------------------------------------------------------------------------------------- mappings


async def _map_network(world: KillWorld) -> None:
    """Map the network of the protected machine: its replica's adapter follows."""
    identity, ends = world.identity(), (("tokyo-fabric", "network"), ("osaka-fabric", "network"))
    await world.call(
        lambda hub: hub.networks.map(
            hub.vault, name="map", primary=ends[0], recovery=ends[1], identity=identity
        )
    )


async def _unmap_network(world: KillWorld) -> None:
    identity, network = world.identity(), ("tokyo-fabric", "network")
    await world.call(
        lambda hub: hub.networks.unmap(hub.vault, name="map", primary=network, identity=identity)
    )


async def _map_storage(world: KillWorld) -> None:
    identity, ends = world.identity(), (("tokyo-fabric", "gold"), ("osaka-fabric", "gold"))
    await world.call(
        lambda hub: hub.storage.map(
            hub.vault, name="gold", primary=ends[0], recovery=ends[1], identity=identity
        )
    )


async def _unmap_storage(world: KillWorld) -> None:
    identity, gold = world.identity(), ("tokyo-fabric", "gold")
    await world.call(
        lambda hub: hub.storage.unmap(hub.vault, name="gold", primary=gold, identity=identity)
    )


async def _paused(world: KillWorld) -> None:
    """Pause replication at the source, as its administrator does; return once the hub knows."""
    site = world.sites["tokyo"]
    command = Command(
        id="pause",
        fence=1,
        epoch=site.fabric.store.machines[MACHINE].epoch,
        deadline=world.begun_at + LONG,
    )
    order = VerbRequest(command=command, arguments={})
    await site.commands.run(Verb.PAUSE_REPLICATION, MACHINE, order)

    async def is_known() -> bool:
        found = await world.call(lambda hub: hub.store.find(MachineObservation))
        return any(
            each.record.machine.replication is not None
            and each.record.machine.replication.state is ReplicationState.SUSPENDED
            for each in found
        )

    await world.until(is_known, "the hub knows that replication is paused")


PROTECTED = "EnableProtection of Unprotected"
IN_STEP = rests_in(ProtectionState.PROTECTED)
MAPPINGS = (
    Story(
        "map_network",
        PROTECTED,
        frozenset({"map_network", "update_networks"}),
        _map_network,
        IN_STEP,
    ),
    Story("unmap_network", "map_network", frozenset({"unmap_network"}), _unmap_network, IN_STEP),
    Story("map_storage", "pair_clouds", frozenset({"map_storage"}), _map_storage, no_job_runs),
    Story(
        "unmap_storage", "map_storage", frozenset({"unmap_storage"}), _unmap_storage, no_job_runs
    ),
)

AFTERWARDS = (
    Story(
        "tested with networks",
        "EnableProtection of Unprotected",
        frozenset({"test_failover_with_networks"}),
        _tested_with_networks,
        rests_in(ProtectionState.TEST_OPEN),
    ),
    Story(
        "cleaned up with networks",
        "tested with networks",
        frozenset({"test_failover_cleanup_with_networks"}),
        asking(Operation.TEST_FAILOVER_CLEANUP),
        rests_in(ProtectionState.PROTECTED),
    ),
    Story(
        "reversed keeping",
        "UnplannedFailover of Protected",
        frozenset({"reverse_keeping"}),
        _reversed_keeping,
        rests_in(ProtectionState.PROTECTED),
    ),
    Story(
        "purge",
        PROTECTED,
        frozenset({"purge"}),
        asking(Operation.PURGE),
        rests_in(ProtectionState.UNPROTECTED),
        absent=("tokyo",),
        later=LONG,
    ),
    Story(
        "replication paused",
        PROTECTED,
        frozenset(),
        _paused,
        rests_in(ProtectionState.PROTECTED),
        is_ground=True,
    ),
    Story(
        "repair",
        "replication paused",
        frozenset({"repair"}),
        asking(Operation.REPAIR),
        rests_in(ProtectionState.PROTECTED),
    ),
    Story(
        "update_policy",
        "EnableProtection of Unprotected",
        frozenset({"update_policy"}),
        _change_policy,
        no_job_runs,
    ),
    Story(
        "sources stop by themselves",
        PROTECTED,
        frozenset(),
        _let_sources_stop,
        no_job_runs,
        is_ground=True,
    ),
    Story(
        "unplanned_failover past a source that stops",
        "sources stop by themselves",
        frozenset({"unplanned_failover"}),
        _gone_past,
        rests_in(ProtectionState.UNPLANNED_FAILED_OVER),
    ),
    Story(
        "refused planned_failover",
        "EnableProtection of Unprotected",
        frozenset({"planned_failover"}),
        _refused,
        rests_in(ProtectionState.PROTECTED, JobState.FAILED),
    ),
    Story(
        "restarted planned_failover",
        "refused planned_failover",
        frozenset({"planned_failover"}),
        _restarted,
        rests_in(ProtectionState.PLANNED_FAILED_OVER),
    ),
    Story(
        "cancelled planned_failover",
        "EnableProtection of Unprotected",
        frozenset({"planned_failover"}),
        _cancelled,
        rests_in(ProtectionState.PROTECTED, JobState.CANCELLED),
    ),
)


def stories() -> dict[str, Story]:
    """Return the story of each operation by its name; what one builds on stands before it."""
    return {story.name: story for story in (*BESIDE_ITEMS, *item_stories(), *MAPPINGS, *AFTERWARDS)}
