"""Steps 3 to 6: policy, paired clouds, protected machines, deltas that flow."""

import asyncio
from typing import Any, Final

from azure.mgmt.recoveryservicessiterecovery import models

from lab.console import ReplicationBars
from lab.item_operations import ItemOperations, create_policy, pair_clouds
from lab.measure import ledger_of
from lab.situation import Situation
from lab.waiting import wait_for
from service_shell.errors import ProgramError
from wire_contract.vocabulary import ReplicationState

POLICY_NAME: Final = "lab-policy"
POLICY_SECONDS: Final = 30
"""The original's shortest frequency; the simulated hosts may be told a shorter one."""

PROTECTED_SECONDS_MAX: Final = 120.0
DELTA_SECONDS_MAX: Final = 60.0
WRITES_SECONDS_MAX: Final = 30.0
DELTAS_SEEN: Final = 2
BAR_SECONDS: Final = 0.2


async def make_policy(situation: Situation) -> None:
    """Step 3."""
    situation.policy_id = await create_policy(
        situation.operator, POLICY_NAME, POLICY_SECONDS, situation.console.tasks_of("policy")
    )
    interval = situation.builder.estate.replication_interval_seconds
    if interval != POLICY_SECONDS:
        situation.console.say(
            f"The policy says {POLICY_SECONDS} s; this lab's hosts replicate every {interval} s"
            " (replication_interval_seconds of the estate file)."
        )


async def pair(situation: Situation) -> None:
    """Step 4."""
    await pair_clouds(
        situation.operator,
        situation.place(situation.pairing.primary),
        situation.place(situation.pairing.recovery),
        situation.policy_id,
        situation.console.tasks_of("clouds"),
    )


async def protect(situation: Situation) -> None:
    """Step 5: enable protection of all machines together, until each is Protected."""
    names = situation.pairing.protect
    for name in names:
        # What was written before there was an epoch of the hub is authoritative too.
        await note_epochs(situation, situation.primary_site, name)
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(situation.item(name).enable(situation.policy_id))
    situation.console.wait("initial replication and finalisation of every machine")
    with situation.console.progress(names) as bars:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(_until_protected(situation.item(name), bars))


async def watch_deltas(situation: Situation) -> None:
    """Step 6: every replica takes further change sets while its guest writes."""
    situation.console.wait(f"{DELTAS_SEEN} further change sets on each replica")
    async with asyncio.TaskGroup() as group:
        for name in situation.pairing.protect:
            group.create_task(_until_deltas(situation, name))
            group.create_task(need_writing(situation, name))


async def wait_protected(item: ItemOperations, seconds: float = PROTECTED_SECONDS_MAX) -> None:
    """Return when the item is Protected; ProgramError says that it did not become so."""

    async def look() -> bool | None:
        return True if (await item.get()).protection_state == "Protected" else None

    await wait_for(f"{item.name} to be Protected", look, seconds)


async def replica_of(situation: Situation, site: str, name: str) -> dict[str, Any] | None:
    """Return the copy of a machine that is at a site, None when there is none."""
    inventory = await situation.management[site].inventory()
    wanted = situation.machine_id(name)
    for machine in inventory["machines"]:
        if machine["hyperv_id"] == wanted and not machine.get("test_machine_of"):
            return dict(machine)
    return None


async def need_copy(situation: Situation, site: str, name: str) -> dict[str, Any]:
    """Return the copy of a machine at a site, which must be there."""
    machine = await replica_of(situation, site, name)
    if machine is None:
        raise ProgramError(f"{site} has no copy of {name}; look at the log of its VMM server")
    return machine


async def need_writing(
    situation: Situation, name: str, seconds: float = WRITES_SECONDS_MAX
) -> None:
    """Return when one more record of the machine's guest was acknowledged; ProgramError if none.

    A guest that ended unnoticed would make every loss look like zero.
    """
    writer = situation.machine_id(name)
    before = len(await asyncio.to_thread(ledger_of, situation, writer))

    async def look() -> bool | None:
        entries = await asyncio.to_thread(ledger_of, situation, writer)
        return True if len(entries) > before else None

    await wait_for(f"the guest of {name} to write on", look, seconds)


async def note_epochs(situation: Situation, site: str, name: str) -> None:
    """Remember the epoch of the copy that is active now: its records are authoritative."""
    situation.epochs[name].add(int((await need_copy(situation, site, name))["epoch"]))


async def wait_replicating(situation: Situation, site: str, name: str) -> None:
    """Return when the primary copy at `site` sends deltas (state 3)."""

    async def look() -> bool | None:
        machine = await replica_of(situation, site, name)
        replication = machine["replication"] if machine else None
        if replication and replication["state"] == ReplicationState.REPLICATING:
            return True
        return None

    await wait_for(f"{name} at {site} to replicate", look, DELTA_SECONDS_MAX)


async def _until_protected(item: ItemOperations, bars: ReplicationBars) -> None:
    async def look() -> bool | None:
        properties = await item.get()
        percent = initial_replication_percent(properties)
        protected = properties.protection_state == "Protected"
        shown = 100.0 if protected else percent
        bars.show(item.name, shown, properties.protection_state_description or "")
        return True if protected else None

    await wait_for(
        f"{item.name} to be Protected", look, PROTECTED_SECONDS_MAX, poll_seconds=BAR_SECONDS
    )


async def _until_deltas(situation: Situation, name: str) -> None:
    first: list[int] = []

    async def look() -> dict[str, Any] | None:
        machine = await replica_of(situation, situation.recovery_site, name)
        replication = machine["replication"] if machine else None
        if not replication:
            return None
        first.append(replication["last_cut"])
        return dict(replication) if replication["last_cut"] >= first[0] + DELTAS_SEEN else None

    found = await wait_for(f"change sets of {name}", look, DELTA_SECONDS_MAX)
    situation.console.say(
        f"{name}: change set {found['last_cut']} applied, newest record {found['last_cut_record']}"
    )


def initial_replication_percent(properties: models.ReplicationProtectedItemProperties) -> float:
    """Return the progress that the item shows (a string on the ARM surface), 0 without one."""
    details = properties.provider_specific_details
    if not isinstance(details, models.HyperVReplicaBlueReplicationDetails):
        return 0.0
    shown = details.initial_replication_details
    text = (shown.initial_replication_progress_percentage if shown else None) or "0"
    try:
        return float(text)
    except ValueError:
        return 0.0
