"""The machines of a host whose bytes are kept here, and what a ReplicaListener brings to them."""

import re
from pathlib import Path
from typing import Final

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    BackendStateError,
    CutKind,
    TransferHeader,
)
from vmm_simulator.hyperv.incoming import Incoming
from vmm_simulator.hyperv.machine import HostedMachine
from vmm_simulator.hyperv.replica_listener import ReplicaBytes
from vmm_simulator.hyperv.threads import run_to_end

_MACHINE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ReceivedBytes(ReplicaBytes):
    """Keeps what is known of a machine in `folder`/machine id, beside nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._machines: dict[str, HostedMachine] = {}
        self._moved_away: set[str] = set()

    def _machine(self, machine_id: str) -> HostedMachine:
        machine = self._machines.get(machine_id)
        if machine is None:
            if machine_id in self._moved_away:
                # Nothing may be begun in a folder that another host has: it would be lost.
                raise BackendStateError(f"{machine_id} was moved to another host: ask that one")
            if _MACHINE_ID.fullmatch(machine_id) is None:
                raise BackendStateError(f"{machine_id!r} cannot be the id of a machine")
            machine = HostedMachine(machine_id, self._folder / machine_id)
            self._machines[machine_id] = machine
        return machine

    def receiving(self, machine_id: str) -> CutKind | None:
        """Return what kind of change set is arriving now, None where none is."""
        return self._machine(machine_id).replica.receiving

    async def open_transfer(self, machine_id: str, header: TransferHeader) -> Incoming | AppliedCut:
        """Begin to take a change set, or acknowledge again the one that is held."""
        return await self._machine(machine_id).replica.open(header)

    async def commit_transfer(self, machine_id: str, incoming: Incoming) -> AppliedCut:
        """Make a received change set durable."""
        return await self._machine(machine_id).replica.commit(incoming)

    async def end_transfer(self, machine_id: str, incoming: Incoming) -> None:
        """Close a transfer, committed or not."""
        await self._machine(machine_id).replica.end(incoming)

    async def apply_committed(self, machine_id: str) -> None:
        """Bring committed change sets onto the disks."""
        await self._machine(machine_id).replica.apply()

    async def allocated(
        self, machine_id: str, disk_index: int, first: int
    ) -> list[tuple[int, int]]:
        """Return runs of blocks of a replica that are no holes, from a block on."""
        return await self._machine(machine_id).replica.allocated(disk_index, first)

    async def copied(self, machine_id: str, header: TransferHeader) -> tuple[int, int] | None:
        """Return disk and offset up to which an interrupted whole copy is durably here."""
        return await self._machine(machine_id).replica.copied(header)

    async def digests(self, machine_id: str, disk_index: int, first: int, count: int) -> bytes:
        """Return the digests of a range of a replica's blocks."""
        return await self._machine(machine_id).replica.digests(disk_index, first, count)

    # A machine that moves to another host.

    def take_in(self, machine_id: str) -> None:
        """Serve a machine whose folder was moved here, or stayed here after all."""
        self._moved_away.discard(machine_id)

    async def let_go(self, machine_id: str) -> Path:
        """Make everything of a machine durable, close and forget it; its folder may then be moved.

        Marks, what a replica holds and its points go along with the folder. Nothing is served of
        the machine any more, until it is taken in again.
        """
        machine = self._machine(machine_id)
        await machine.replica.close("the machine moves to another host")
        await run_to_end(machine.close)
        self._machines.pop(machine_id, None)
        self._moved_away.add(machine_id)
        return machine.folder

    async def aclose(self) -> None:
        """Stop with flush: everything is durable and closed, marks and replicas stay."""
        for machine_id in list(self._machines):
            machine = self._machines.pop(machine_id)
            await machine.replica.close("the host stops")
            await run_to_end(machine.close)
