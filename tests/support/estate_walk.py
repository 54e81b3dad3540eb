"""Random operations with random faults over a whole estate, and what must hold all the while.

Hub, providers and simulated servers are the real ones, in one process on played time
(kill_world.py): nothing of a walk but its seed decides what happens. Operations are asked of a
machine, of several in a plan, and injected. Guests write between and during operations; providers
and hub are cut off, hosts from each other; fabrics refuse, are slow, stop half-way, lie, and break
the connection before and after they have done what they were asked.

    PYTHONHASHSEED=0 python -m tests.support.estate_walk SEED OPERATIONS SITE...     walks once

Over 400 lines because what is asked, what is disturbed and what must hold are one walk.
"""

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from service_hub.domain.errors import DomainError
from service_hub.domain.item_life import key_of
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import (
    TRANSITIONS,
    Operation,
    ProtectionState,
    allowed_operations,
)
from service_hub.domain.records import ProtectedItem
from service_hub.domain.scenarios import SCENARIOS
from tests.support.hub_world import HubWorld
from tests.support.kill_matrix import matrix_folder, quiet_logs
from tests.support.kill_stories import FOLLOWED
from tests.support.kill_world import CYCLE_SECONDS, HUB, Boundary, KillWorld, estate_world
from tests.support.played_network import NetworkLoop, played_network
from tests.support.ring_estate import (
    DISK_BYTES,
    OWN,
    RingEstate,
    cloud_of,
    machine_of,
    paired_ring,
)
from tests.support.walk_ways import INJECTED, PLANNED, alike, arguments_for, injected, planned
from vmm_simulator.site import Site
from vmm_simulator.vmm.records import MachineRecord, disk_folder
from wire_contract.faults import Fault
from wire_contract.vocabulary import (
    FaultKind,
    ReplicationMode,
    ReplicationState,
    RunState,
    Side,
    Verb,
)

WATCH_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 5.0
REST_SECONDS_MAX: Final = 20_000.0
BLOCK: Final = 4096
REFUSED: Final = 32768
BUSY: Final = 32774
TRIES_MAX: Final = 12
PAUSE_SECONDS: Final = 60.0
HOME_STEPS_MAX: Final = 6
TOLD_MAX: Final = 24
SAID_MAX: Final = 6000
SETTLING_SECONDS: Final = 4 * CYCLE_SECONDS

FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"kind": FaultKind.REFUSE, "code": REFUSED},
    {"kind": FaultKind.REFUSE, "code": BUSY},
    {"kind": FaultKind.PARTIAL, "code": REFUSED},
    {"kind": FaultKind.SLOW, "seconds": 3.0},
    {"kind": FaultKind.LIE},
    {"kind": FaultKind.VANISH_BEFORE},
    {"kind": FaultKind.VANISH_AFTER},
)
LINK_SECONDS: Final = (20.0, 120.0, 600.0)
"""For how long hosts do not reach each other: less and more than a cycle."""

LOSING: Final = frozenset(
    {Operation.UNPLANNED_FAILOVER, Operation.CHANGE_RECOVERY_POINT, Operation.CANCEL_FAILOVER}
)
"""What may give up writes; every other operation, whatever becomes of it, loses none."""

AT_REST: Final = frozenset({ProtectionState.PROTECTED, ProtectionState.UNPROTECTED})


@dataclass
class Tally:
    """What a walk consisted of."""

    operations: int = 0
    faults: int = 0
    cuts: int = 0
    links: int = 0
    repairs: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {name}" for name, count in sorted(self.ends.items()))
        return (
            f"{self.operations} operations ({ends}; {self.ways['plan']} in plans,"
            f" {self.ways['injected']} injected), {self.faults} faults, {self.cuts} programs and"
            f" {self.links} times all links cut, {self.repairs} repairs,"
            f" {self.looks} looks at which copies run"
        )


@dataclass
class Walk:
    """One sequence; an AssertionError names what did not hold, and after which operations."""

    world: KillWorld
    sites: Sequence[str]
    chance: Random
    tally: Tally = field(default_factory=Tally)
    told: list[str] = field(default_factory=list)
    written: dict[str, dict[int, bytes]] = field(default_factory=dict)
    records: int = 0
    cut_in: int = 0
    cuts: tuple[str, ...] = ()
    healing: asyncio.TimerHandle | None = None

    async def goes(self, operations: int) -> None:
        """Do so many operations, then lead everything home, and compare all books."""
        self.world.switch.arm(self._reached)
        before = {name: site.fabric.store.fabric for name, site in self.world.sites.items()}
        for _ in range(operations):
            try:
                await self._step()
            except (AssertionError, TimeoutError) as error:
                lines = [*self.told[-TOLD_MAX:], str(error), *await self._open_jobs()]
                raise AssertionError("\n".join(lines)) from error
        for site in self.sites:
            await self._home(machine_of(site))
        await asyncio.sleep(SETTLING_SECONDS)  # what was written last is sent
        await self._at_rest()
        await self._books_agree()
        after = {name: site.fabric.store.fabric for name, site in self.world.sites.items()}
        assert after == before, "networks, pools or stores are not as they were"
        self._nothing_left()

    def _nothing_left(self) -> None:
        """On no host is there a folder of a machine that is no more."""
        for site in self.world.sites.values():
            store = site.fabric.store
            for host in site.fabric.hosts:
                folder = Path(disk_folder(store.host(host), "any")).parent
                left = {each.name for each in folder.glob("*")} - store.machines.keys()
                assert not left, f"on {host} is left of machines that are gone: {sorted(left)}"

    async def _open_jobs(self) -> list[str]:
        """Say of each job that has not ended what it waits for."""
        found = [each.record for each in await self.world.call(lambda hub: hub.store.find(Job))]
        return [
            f"{job.scenario_key} of {job.target_object_name} ({job.state.value}):"
            f" {job.waiting_for}; {[(each.task_id, each.state.value) for each in job.tasks]}"
            for job in found
            if not job.finished
        ]

    # ------------------------------------------------------------------------- while it goes on

    def _reached(self, boundary: Boundary) -> tuple[str, ...]:
        """Look at all copies; cut off whose turn it is."""
        del boundary
        self._one_copy_at_most()
        if self.cut_in == 0:
            return ()
        self.cut_in -= 1
        if self.cut_in:
            return ()
        self.tally.cuts += len(self.cuts)
        self.told.append(f"    cut off: {', '.join(self.cuts)}")
        return self.cuts

    def _one_copy_at_most(self) -> None:
        self.tally.looks += 1
        for site in self.sites:
            machine = machine_of(site)
            copies = self._copies(machine)
            newest = max(record.epoch for _, record in copies)
            holders = [
                f"{name} at epoch {newest}"
                for name, record in copies
                if record.epoch == newest and _runs(self.world.sites[name], record)
            ]
            assert len(holders) <= 1, f"two copies of {machine} hold the epoch: {holders}"

    def _copies(self, machine: str) -> list[tuple[str, MachineRecord]]:
        return [
            (name, record)
            for name, site in self.world.sites.items()
            for record in site.fabric.store.machines.values()
            if record.hyperv_id == machine
            and record.test_machine_of is None
            and record.kept_of is None
        ]

    # ------------------------------------------------------------------------------- operations

    async def _step(self) -> None:
        machine = machine_of(self.chance.choice(self.sites))
        item = await self._item(machine)
        if item is None:
            await self._remove_what_is_left(machine)
        operation = self._chosen(item)
        await self._write(machine, item)
        disturbed = self._disturb(_verbs_of(operation, item))
        state = "Unprotected" if item is None else item.state.value
        members, job = await self._begun(operation, machine, item, disturbed)
        if self.chance.random() < 0.15:
            await asyncio.sleep(self.chance.choice((0.0, 0.3, 1.0)))
            await self._write(machine, item)
            disturbed += await self._cancelled(job.id)
        job = await self._ended(job.id)
        if self.healing is not None and self.chance.random() < 0.5:
            # The links stay cut for as long as they were to be, the sources try in vain.
            await asyncio.sleep(max(0.0, self.healing.when() - _loop().time()))
        self._calm()
        if disturbed and "Restart" in job.allowed_actions and self.chance.random() < 0.4:
            job = await self._restarted(job)
        await self._at_rest()
        self._tell(operation, job)
        self.tally.operations += 1
        for member in members:
            if operation in LOSING:
                self.written.pop(member, None)
            if not disturbed:
                await self._has_succeeded(member, operation, job, state)
            await self._nothing_lost(member)

    async def _begun(
        self, operation: Operation, machine: str, item: ProtectedItem | None, disturbed: str
    ) -> tuple[tuple[str, ...], Job]:
        """Ask for it in one of the ways; return the machines that it is about, and its job."""
        roll = self.chance.random()
        way = "asked"
        members: tuple[str, ...] = (machine,)
        if item is not None and operation in PLANNED and roll < 0.25:
            items = [
                each for each in [await self._item(machine_of(on)) for on in self.sites] if each
            ]
            way, members = "plan", alike(items, item.state, item.active_location)
        elif item is not None and operation in INJECTED and roll < 0.45:
            way = "injected"
        self.tally.ways[way] += 1
        state = "Unprotected" if item is None else item.state.value
        how = "" if way == "asked" else f" ({way})"
        self.told.append(
            f"{', '.join(members)}: {operation.value}{how} of {state}, {disturbed or 'undisturbed'}"
        )
        if item is None or way == "asked":
            return members, await self._asked(machine, operation)
        if way == "plan":
            return members, await planned(self.world, operation, members, item.active_location)
        site = machine.removeprefix("vm-")
        return members, await injected(self.world, operation, machine, site, item.active_location)

    async def _remove_what_is_left(self, machine: str) -> None:
        """Remove a copy that protection has left, as the person does whom the next one tells."""
        home = machine.removeprefix("vm-")
        for name, record in self._copies(machine):
            if name != home:
                await self.world.sites[name].control.remove(record.machine_id)
                self.told.append(f"{machine}: the copy that was left at {name} is removed")

    def _chosen(self, item: ProtectedItem | None) -> Operation:
        if item is None:
            return Operation.ENABLE
        offered = [each for each in allowed_operations(item.state) if self._fits(item, each)]
        assert offered, f"{item.state.value} leads nowhere"
        return self.chance.choice(offered)

    def _fits(self, item: ProtectedItem, operation: Operation) -> bool:
        """Whether the walk asks for it: protection ends from rest at home, and not each time."""
        if operation is not Operation.DISABLE:
            return True
        home = item.active_location is Side.PRIMARY and item.state in AT_REST
        stuck = not set(allowed_operations(item.state)) - {Operation.DISABLE}
        return stuck or (home and self.chance.random() < 0.3)

    def _disturb(self, verbs: Sequence[Verb]) -> str:
        """Plan what goes wrong during the next operation; in words, nothing at all."""
        kind = self.chance.random()
        if kind < 0.4:
            return ""
        words = []
        if kind < 0.8 and verbs:
            verb, fault = self.chance.choice(verbs), self.chance.choice(FAULTS)
            for site in self.world.sites.values():
                site.faults.replace((Fault(verb=verb, times=1, **fault),))
            words.append(f"{fault['kind'].value} {verb.value}")
        if kind > 0.65:
            everybody = (HUB, *self.sites)
            count = self.chance.choice((1, 1, 1, len(everybody)))
            self.cuts = tuple(self.chance.sample(everybody, count))
            self.cut_in = self.chance.randrange(1, 60)
            words.append(f"{'+'.join(self.cuts)} cut off at boundary {self.cut_in}")
        if self.chance.random() < 0.2:
            seconds = self.chance.choice(LINK_SECONDS)
            _loop().cut()
            self.healing = _loop().call_later(seconds, _loop().heal)
            self.tally.links += 1
            words.append(f"links cut for {seconds:.0f} s")
        return ", ".join(words)

    def _calm(self) -> None:
        """Let nothing more go wrong."""
        self.cut_in = 0
        if self.healing is not None:
            self.healing.cancel()
            self.healing = None
        _loop().heal()
        self.world.switch.struck = False
        for site in self.world.sites.values():
            self.tally.faults += sum(each.hits for each in site.faults.view())
            site.faults.replace(())

    async def _asked(self, machine: str, operation: Operation) -> Job:
        site, identity = machine.removeprefix("vm-"), self.world.identity()

        async def ask(hub: HubWorld) -> Job:
            if operation is Operation.ENABLE:
                return await hub.protection.enable(
                    hub.vault,
                    container=(f"{site}-fabric", cloud_of(site, OWN)),
                    item_name=machine,
                    machine_id=machine,
                    policy_name="p",
                    identity=identity,
                )
            found = await hub.store.get(ProtectedItem, machine)
            assert found is not None
            arguments = arguments_for(operation, found.record.active_location)
            return await hub.protection.request(
                hub.vault, machine, operation.value, arguments, identity
            )

        job: Job = await self.world.call(ask)
        return job

    async def _cancelled(self, job_id: str) -> str:
        identity = self.world.identity()
        try:
            await self.world.call(lambda hub: hub.jobs.cancel(hub.vault, job_id, identity))
        except DomainError:
            return ""  # it had ended
        self.told.append("    and cancelled")
        return " cancelled"

    async def _restarted(self, job: Job) -> Job:
        identity = self.world.identity()
        await self._at_rest()
        try:
            await self.world.call(lambda hub: hub.jobs.restart(hub.vault, job.id, identity))
        except DomainError:
            return job  # what the hub has begun since has changed the item
        self.told.append("    and restarted")
        return await self._ended(job.id)

    def _tell(self, operation: Operation, job: Job) -> None:
        self.tally.ends[job.state.value] += 1
        errors = "; ".join(f"{each.code} {each.possible_causes}" for each in job.errors)
        self.told.append(f"    {operation.value} {job.state.value} {errors}")

    # --------------------------------------------------------------------------------- at rest

    async def _item(self, machine: str) -> ProtectedItem | None:
        found = await self.world.call(lambda hub: hub.store.get(ProtectedItem, machine))
        return None if found is None else found.record

    async def _ended(self, job_id: str) -> Job:
        async def holds() -> bool:
            await _loop().quiet()
            job: Job = await self.world.call(lambda hub: hub.job(job_id))
            return job.finished

        await self.world.until(holds, "the job has ended", LOOK_SECONDS, REST_SECONDS_MAX)
        job: Job = await self.world.call(lambda hub: hub.job(job_id))
        return job

    async def _at_rest(self) -> None:
        """Return once no item is held and nothing follows any more, and replication is in step.

        What has stopped for an administrator is resynchronized, as its offered operation does.
        """
        for _ in range(TRIES_MAX):
            await self._rests()
            stopped = [each for each in await self._items() if self._is_stopped(each)]
            if not stopped:
                break
            for item in stopped:
                self.tally.repairs += 1
                job = await self._ended((await self._asked(item.id, Operation.REPAIR)).id)
                self._tell(Operation.REPAIR, job)
                await asyncio.sleep(PAUSE_SECONDS)  # the hub may not have seen yet that it stopped
        assert not any(self._is_stopped(each) for each in await self._items()), "it stays stopped"
        self._one_copy_at_most()

    async def _items(self) -> list[ProtectedItem]:
        found = await self.world.call(lambda hub: hub.store.find(ProtectedItem))
        return [each.record for each in found]

    def _is_stopped(self, item: ProtectedItem) -> bool:
        """Whether the copy that should send stands still until somebody has looked."""
        return item.state is ProtectionState.PROTECTED and any(
            record.mode is ReplicationMode.PRIMARY and record.state is ReplicationState.CRITICAL
            for _, record in self._copies(item.id)
        )

    async def _rests(self) -> None:
        async def holds() -> bool:
            await _loop().quiet()
            items = await self._items()
            return (
                not any(each.current or each.plan for each in items)
                and not any(FOLLOWED & TRANSITIONS[each.state].keys() for each in items)
                and all(self._is_in_step(each) or self._is_stopped(each) for each in items)
                and await self.world.is_idle()
            )

        await self.world.until(holds, "everything rests", LOOK_SECONDS, REST_SECONDS_MAX)

    def _is_in_step(self, item: ProtectedItem) -> bool:
        """Whether a protected item's two copies replicate as they should."""
        if item.state is not ProtectionState.PROTECTED:
            return True
        states = {record.state for _, record in self._copies(item.id)}
        return states == {ReplicationState.REPLICATING}

    async def _has_succeeded(
        self, machine: str, operation: Operation, job: Job, state: str
    ) -> None:
        """What was offered and not disturbed leads where it says, at once or after a while.

        Of a plan that failed, each machine by itself: others of it may have been led on.
        """
        if job.item_id is None and job.state is not JobState.SUCCEEDED:
            item = await self._item(machine)
            if item is None or item.state.value != state:
                return
        for _ in range(TRIES_MAX):
            if job.state is JobState.SUCCEEDED:
                return
            await asyncio.sleep(PAUSE_SECONDS)
            item = await self._item(machine)
            offered = () if item is None else allowed_operations(item.state)
            if operation is not Operation.ENABLE and operation not in offered:
                break
            job = await self._ended((await self._asked(machine, operation)).id)
            await self._at_rest()
        assert job.state is JobState.SUCCEEDED, (
            f"{operation.value} was offered and not disturbed: {job.state.value} {job.errors}"
        )

    # ---------------------------------------------------------------------------- what was written

    async def _write(self, machine: str, item: ProtectedItem | None) -> None:
        """Have the machine write something where it runs."""
        guest = self._guest(machine, item)
        if guest is None:
            return
        for _ in range(self.chance.randrange(3)):
            self.records += 1
            data = self.chance.randbytes(BLOCK)
            offset = self.chance.randrange(DISK_BYTES // BLOCK) * BLOCK
            try:
                await guest.write(0, offset, data, self.records)
            except PermissionError:
                return  # this copy may not write any more
            self.written.setdefault(machine, {})[offset] = data

    def _guest(self, machine: str, item: ProtectedItem | None) -> Any:
        site = self._active_site(machine, item)
        for name, record in self._copies(machine):
            guest = self.world.guests.get((name, record.machine_id))
            if name == site and guest is not None and guest.running:
                return guest
        return None

    def _active_site(self, machine: str, item: ProtectedItem | None) -> str:
        if item is None:
            return machine.removeprefix("vm-")
        return item.provider_at(item.active_location).removesuffix("-provider")

    async def _nothing_lost(self, machine: str) -> None:
        """The copy that is the authoritative one holds every write."""
        item = await self._item(machine)
        site = self._active_site(machine, item)
        (record,) = [each for name, each in self._copies(machine) if name == site]
        content = _content(record)
        for offset, data in self.written.get(machine, {}).items():
            assert content[offset : offset + BLOCK] == data, f"a write of {machine} is lost"

    # --------------------------------------------------------------------------------- the end

    async def _home(self, machine: str) -> None:
        """From wherever it is, what is offered leads back to a machine that is protected."""
        for _ in range(HOME_STEPS_MAX):
            item = await self._item(machine)
            state = ProtectionState.UNPROTECTED if item is None else item.state
            if item is None:
                await self._remove_what_is_left(machine)
            if state is ProtectionState.PROTECTED:
                return
            operation = _first_of_shortest(state)
            self.told.append(f"{machine}: home by {operation.value} of {state.value}")
            job = await self._ended((await self._asked(machine, operation)).id)
            await self._at_rest()
            self._tell(operation, job)
            await self._has_succeeded(machine, operation, job, state.value)
        raise AssertionError(f"{machine} does not come home: {self.told[-TOLD_MAX:]}")

    async def _books_agree(self) -> None:
        """Hub and both fabrics say the same of each machine, and nothing else is left."""
        jobs = [each.record for each in await self.world.call(lambda hub: hub.store.find(Job))]
        assert all(job.finished for job in jobs), "a job was left running"
        for site in self.sites:
            machine = machine_of(site)
            item = await self._item(machine)
            assert item is not None
            active = self._active_site(machine, item)
            copies = dict(self._copies(machine))
            assert len(copies) == 2, f"{machine} has {len(copies)} copies"
            for name, record in copies.items():
                here = name == active
                runs = _runs(self.world.sites[name], record)
                mode = ReplicationMode.PRIMARY if here else ReplicationMode.REPLICA
                assert (record.mode, runs, record.epoch, record.fenced) == (
                    mode,
                    here,
                    item.epoch,
                    False,
                ), f"{machine} at {name}: {record}"
            disks = {_content(record) for record in copies.values()}
            assert len(disks) == 1, f"the copies of {machine} differ"
        left = [
            record.name
            for site in self.world.sites.values()
            for record in site.fabric.store.machines.values()
            if record.test_machine_of is not None
        ]
        assert not left, f"test machines are left: {left}"


def _content(record: MachineRecord) -> bytes:
    return Path(record.disks[0].path).read_bytes()


def _runs(site: Site, record: MachineRecord) -> bool:
    return site.fabric.host_of(record).guests.run_state(record) is not RunState.OFF


def _verbs_of(operation: Operation, item: ProtectedItem | None) -> list[Verb]:
    """Return what the ends are asked for in an operation."""
    key = "enable" if item is None else key_of(item, operation, {})
    return [spec.verb for spec in SCENARIOS[key].tasks if spec.verb is not None]


def _loop() -> NetworkLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, NetworkLoop), "a walk is played over a played network"
    return loop


def _first_of_shortest(state: ProtectionState) -> Operation:
    """Return what leads from a state to a protected machine in the fewest operations."""
    ways: list[tuple[ProtectionState, Operation | None]] = [(state, None)]
    seen = {state}
    while ways:
        at, first = ways.pop(0)
        for operation, arc in TRANSITIONS.get(at, {}).items():
            if operation in {Operation.PURGE, Operation.REPAIR}:
                continue
            if arc.done is ProtectionState.PROTECTED:
                return first or operation
            if arc.done not in seen:
                seen.add(arc.done)
                ways.append((arc.done, first or operation))
    raise AssertionError(f"nothing leads from {state.value} to a protected machine")


def walked(seed: int, operations: int, sites: Sequence[str], folder: Path) -> Tally:
    """Walk once; what is written of it lies in a folder."""
    world = Path("world")

    async def walk() -> Tally:
        (world / "estate").mkdir(parents=True)
        estate = RingEstate(world / "estate", sites=tuple(sites))
        async with estate_world(world, estate, sites, watch_seconds=WATCH_SECONDS) as running:
            await paired_ring(running, sites)
            going = Walk(running, sites, Random(seed))  # noqa: S311 -- to be repeated
            await going.goes(operations)
            return going.tally

    begin = datetime.now(UTC)
    with chdir(folder), asyncio.Runner(loop_factory=lambda: NetworkLoop(begin, str(seed))) as run:
        return run.run(walk())


Walks = Mapping[tuple[int, tuple[str, ...]], int]
"""How many operations each walk has, by its seed and its sites."""


def walked_apart(walks: Walks, seconds_max: float) -> dict[tuple[int, tuple[str, ...]], str]:
    """Walk side by side, each in a process whose order of sets is always the same; what each said.

    An AssertionError shows the end of what one said that failed, and how to repeat it.
    """
    with ExitStack() as stack:
        said = {}
        for (seed, sites), operations in walks.items():
            command = [sys.executable, "-m", __name__, str(seed), str(operations), *sites]
            output = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                command,
                cwd=Path(__file__).resolve().parents[2],
                env={**os.environ, "PYTHONHASHSEED": "0"},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(_end, process)
            said[seed, sites] = (process, output)
        found = {}
        for (seed, sites), (process, output) in said.items():
            code = process.wait(seconds_max)
            output.seek(0)
            text = output.read()
            again = f"PYTHONHASHSEED=0 python -m {__name__} {seed} {walks[seed, sites]}"
            assert code == 0, f"{text[-SAID_MAX:]}\nrepeat it: {again} {' '.join(sites)}"
            found[seed, sites] = text.strip()
        return found


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


if __name__ == "__main__":
    with matrix_folder() as place, quiet_logs(logging.CRITICAL), played_network():
        sys.stdout.write(f"{walked(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:], place)}\n")
