"""First copies by a medium, and over the network at a time: stories of their own.

Enabling, both completions and what the hosts do between them are one story, as for the copy that
begins at once; its tasks are those of that one.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ReplicationPolicy
from tests.support.hub_world import HubWorld
from tests.support.kill_programs import clock_of
from tests.support.kill_stories import Story, asking, no_job_runs, pair, rests_in
from tests.support.kill_world import KillWorld
from tests.support.simulator_estate import SHARE

BY_MEDIUM: Final = "enabled by a medium"
AT_A_TIME: Final = "enabled to begin at a time"
_GROUND: Final = "paired for copies by a medium"
POLICY: Final[dict[str, Any]] = {
    "provider_type": "HyperVReplica2012R2",
    "replication_frequency_seconds": 30,
}
MEDIUM: Final[dict[str, Any]] = {
    "initial_replication_method": "Offline",
    "offline_export_path": f"{SHARE}\\out",
    "offline_import_path": f"{SHARE}\\out",
}
"""What a policy says of copies that travel; the medium is carried in no time: one share."""

_BEGINS_AFTER: Final = timedelta(seconds=40)


async def _paired_for_a_medium(world: KillWorld) -> None:
    """Make the policy of copies that travel, and pair the two clouds under it."""
    identity = world.identity()
    settings = POLICY | MEDIUM
    await world.call(lambda hub: hub.policies.create(hub.vault, "p", settings, identity))
    await world.settled(no_job_runs)
    await pair(world)


async def _enabled_at_a_time(world: KillWorld) -> None:
    """Have first copies begin a little later than now, and enable the machine."""
    at = clock_of("first copies").now() + _BEGINS_AFTER
    identity = world.identity()
    settings = {"online_start_time": f"{at:%H:%M:%S}"}
    job: Job = await world.call(lambda hub: hub.policies.change(hub.vault, "p", settings, identity))

    async def is_changed() -> bool:
        changed: Job = await world.call(lambda hub: hub.job(job.id))
        return changed.finished

    await world.until(is_changed, "the policy is changed")
    await asking(Operation.ENABLE)(world)


async def _at_rest(hub: HubWorld) -> bool:
    """Whether the copy has begun when its policy says, and all is in step."""
    (policy,) = await hub.store.find(ReplicationPolicy)
    assert policy.record.online_start_time
    return await _IN_STEP(hub)


_IN_STEP: Final = rests_in(ProtectionState.PROTECTED)


def first_copy_stories() -> Iterator[Story]:
    """Return the stories; what one builds on stands before it."""
    nothing = frozenset[str]()
    yield Story(_GROUND, None, nothing, _paired_for_a_medium, no_job_runs, is_ground=True)
    covered = frozenset({"enable", "complete_primary", "complete_recovery"})
    enable = asking(Operation.ENABLE)
    yield Story(BY_MEDIUM, _GROUND, covered, enable, _IN_STEP, is_repeat=True)
    yield Story(AT_A_TIME, "pair_clouds", covered, _enabled_at_a_time, _at_rest, is_repeat=True)
