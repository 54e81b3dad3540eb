"""Cuts of changes, of one machine or of several at one moment (behaviour 1.7; design: replication).

All disks of a machine are always cut together. Machines of one consistency group are cut together
too, also on several hosts: nothing else has its turn between the first and the last of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from service_shell.clock import Clock
from vmm_simulator.hyperv.backend import BackendStateError, ChangeSet, Consistency, CutKind
from vmm_simulator.hyperv.host import Host
from vmm_simulator.vmm.records import MachineRecord
from wire_contract.vocabulary import RunState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """A machine to cut; `number` is that of its next change set."""

    machine: MachineRecord
    host: Host
    number: int

    @property
    def machine_id(self) -> str:
        """Its id."""
        return self.machine.machine_id

    @property
    def runs(self) -> bool:
        """Whether it has a guest that could hold what its disks do not, paused or not."""
        return self.host.guests.run_state(self.machine) is not RunState.OFF


async def cut_together(
    members: Sequence[Member], now: datetime, consistency: Consistency
) -> Mapping[str, ChangeSet]:
    """Cut all of them at one moment, or none; their disks are attached."""
    hosts = {member.host.fqdn: member.host for member in members}
    made: dict[str, ChangeSet] = {}
    try:
        for fqdn, host in hosts.items():
            numbers = {each.machine_id: each.number for each in members if each.host.fqdn == fqdn}
            made |= await host.backend.cut_group(
                list(numbers), CutKind.DELTA, numbers, now, consistency
            )
    except BaseException:
        await give_back(members, made)
        raise
    return made


async def cut_application_consistent(
    members: Sequence[Member], clock: Clock
) -> Mapping[str, ChangeSet] | None:
    """Cut while all guests hold still; None when one did not, or not for long enough.

    A machine that is off writes nothing: its disks are as its applications left them.
    """
    running = [member for member in members if member.runs]
    frozen = await asyncio.gather(*(each.host.guests.freeze(each.machine_id) for each in running))
    made: Mapping[str, ChangeSet] = {}
    held: list[bool] = []
    try:
        if all(frozen):
            made = await cut_together(members, clock.now(), Consistency.APPLICATION)
    except BackendStateError as error:
        log.warning("application_consistent_cut_failed", cause=str(error))
    finally:
        held = await asyncio.gather(*(each.host.guests.thaw(each.machine_id) for each in running))
    if made and all(held):
        return made
    # What was cut is what a sudden stop leaves: it must not pass for more.
    await give_back(members, made)
    return None


async def give_back(members: Sequence[Member], made: Mapping[str, ChangeSet]) -> None:
    """Let what was cut be contained in the next cuts."""
    for member in members:
        change_set = made.get(member.machine_id)
        if change_set is not None:
            await member.host.backend.release(change_set, acknowledged=False)
