"""Random stories of writes, cuts, failures, kills and failovers.

The replica is always one exact cut, every recovery point the cut that it was made of, and what a
failover did is taken back to the last byte.
"""

import tempfile
from pathlib import Path

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.hyperv_bytes.bytes_harness import (
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    SIZES,
    Pair,
    contents,
    kill,
    pair,
    reopened,
)
from vmm_simulator.hyperv.backend import AppliedCut, CutKind, PointKind, TransferRefusedError

WRITE = st.tuples(
    st.just("write"),
    st.integers(0, 1),
    st.integers(0, 40 * 65_536),
    st.sampled_from([1, 512, 4096, 65_536, 200_000]),
    st.sampled_from([b"\0", b"a", b"b", b"c"]),
)
EVENT = st.sampled_from(
    [
        ("send", CutKind.DELTA),
        ("send", CutKind.DELTA),
        ("send", CutKind.DIFFERENCES),
        ("send", CutKind.FULL),
        ("refused",),
        ("acknowledgement lost",),
        ("primary killed",),
        ("primary killed while a cut is out",),
        ("replica killed before it applies",),
        ("point",),
        ("point",),
        ("merge", 2),
        ("copy interrupted",),
    ]
)
FAILOVER = st.tuples(st.just("failover"), st.integers(0, 5), st.booleans())


class Story:
    """A pair of hosts, and what a reader of the rules expects of them."""

    def __init__(self, both: Pair, folder: Path) -> None:
        self.both = both
        self.folder = folder
        self.primary = [bytearray(size) for size in SIZES]
        self.held = [bytes(size) for size in SIZES]
        self.cut = 0
        self.records = 0
        self.states: dict[int, list[bytes]] = {}
        self.points: list[int] = []

    def write(self, disk: int, offset: int, length: int, fill: bytes) -> None:
        """Write, in both worlds."""
        offset %= SIZES[disk]
        data = fill * min(length, SIZES[disk] - offset)
        self.records += 1
        self.primary[disk][offset : offset + len(data)] = data
        self.both.write(disk, offset, data, self.records)

    async def send(self, kind: CutKind) -> None:
        """Cut and send; the guest writes on while the bytes are on their way."""
        tokyo = self.both.tokyo
        change_set = await tokyo.cut(MACHINE, kind, self.cut + 1, NOW)
        frozen = [bytes(disk) for disk in self.primary]
        assert change_set.last_record == self.records
        self.write(0, self.records * 70_001, 3000, b"w")

        def write_on(_done: int) -> None:
            self.write(1, self.records * 91_001, 3000, b"v")

        acknowledged = False
        header = self.both.header(change_set)
        try:
            await tokyo.send(change_set, self.both.osaka.address, header, write_on)
            acknowledged = True
            self.hold(change_set.cut, kind, frozen)
        except TransferRefusedError as refused:
            # As its host does: go on from what the replica says it holds.
            if refused.applied is None or refused.applied.cut != self.cut + 1:
                raise
            self.cut += 1
        finally:
            await tokyo.release(change_set, acknowledged=acknowledged)

    def hold(self, cut: int, kind: CutKind, frozen: list[bytes]) -> None:
        """Know what the replica holds now; what is not a delta has no past."""
        self.cut, self.held, self.states[cut] = cut, frozen, frozen
        if kind in (CutKind.FULL, CutKind.DIFFERENCES):
            self.points = []

    async def point(self) -> None:
        """Keep the newest state."""
        made = await self.both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
        if made.cut not in self.points:
            self.points.append(made.cut)

    async def merge(self, at_most: int) -> None:
        """Drop the oldest points."""
        await self.both.osaka.backend.merge_points(MACHINE, at_most)
        self.points = self.points[-at_most:]

    async def failover(self, which: int, *, killed: bool) -> None:
        """Fail over to any point, let a guest write there, and take it all back."""
        await self.settled()
        osaka = self.both.osaka
        newest = osaka.backend.applied_cut(MACHINE)
        assert newest is not None
        points = osaka.backend.recovery_points(MACHINE)
        assert [point.cut for point in points] == sorted({*self.points, newest.cut}, reverse=True)
        point = points[which % len(points)]
        assert await osaka.backend.promote(MACHINE, point.point_id) == point
        assert contents(self.both.replica_disks) == self.states[point.cut]
        await osaka.backend.attach(MACHINE, self.both.replica_disks)
        for number in range(4):
            offset = (which * 300_007 + number * 131_071) % (SIZES[number % 2] - 70_000)
            osaka.backend.write(MACHINE, number % 2, offset, b"guest" * 14_000, 10_000 + number)
        if killed:
            await self.reopen_osaka()
            assert osaka.backend.promoted_point(MACHINE) == point
        await osaka.backend.detach(MACHINE)
        assert await osaka.backend.revert(MACHINE)

    async def copy_interrupted(self) -> None:
        """A whole copy breaks off somewhere, the guest writes on, the next one goes on with it."""
        tokyo = self.both.tokyo
        held = self.both.osaka.backend.applied_cut(MACHINE)
        # An acknowledgement may have been lost before; the host would be told, and go on from it.
        self.cut = self.cut if held is None else held.cut
        change_set = await tokyo.cut(MACHINE, CutKind.FULL, self.cut + 1, NOW)

        def give_up(done: int) -> None:
            self.write(0, self.records * 70_001, 3000, b"i")
            if done > change_set.bytes_total // 2:
                raise ConnectionResetError("the network went away")

        try:
            await tokyo.send(
                change_set, self.both.osaka.address, self.both.header(change_set), give_up
            )
        except ConnectionResetError:
            await tokyo.release(change_set, acknowledged=False)
        else:
            raise AssertionError("a transfer went on without its sender")
        await self.send(CutKind.FULL)

    async def refused(self) -> None:
        """The replica's host knows a higher epoch: nothing may change."""
        self.both.osaka.answers.epoch = 2
        change_set = await self.both.tokyo.cut(MACHINE, CutKind.DELTA, self.cut + 1, NOW)
        try:
            await self.both.send(change_set)
        except TransferRefusedError:
            await self.both.tokyo.release(change_set, acknowledged=False)
        else:
            raise AssertionError("an epoch that is over was accepted")
        self.both.osaka.answers.epoch = 1

    async def acknowledgement_lost(self) -> None:
        """The replica commits, its host fails, the primary hears nothing."""
        change_set = await self.both.tokyo.cut(MACHINE, CutKind.DELTA, self.cut + 1, NOW)
        frozen = [bytes(disk) for disk in self.primary]
        answers = self.both.osaka.answers
        original = answers.note_applied

        async def fail(machine_id: str, applied: AppliedCut) -> None:
            raise OSError(f"the host failed to note {machine_id} {applied.cut}")

        self.both.osaka.listener._applied = fail
        try:
            await self.both.send(change_set)
        except OSError:
            await self.both.tokyo.release(change_set, acknowledged=False)
        else:
            raise AssertionError("an acknowledgement came that was never given")
        self.both.osaka.listener._applied = original
        self.held = self.states[self.cut + 1] = frozen

    async def primary_killed(self, *, cut_out: bool) -> None:
        """SIGKILL, then a start over what is left."""
        if cut_out:
            await self.both.tokyo.cut(MACHINE, CutKind.DELTA, self.cut + 1, NOW)
            self.write(0, 12_345, 3000, b"k")
        kill(self.both.tokyo)
        disks = self.both.primary_disks
        tokyo = await reopened(self.folder / "tokyo", {MACHINE: disks}, PRIMARY_FQDN)
        await tokyo.attach(MACHINE, disks)
        self.both.tokyo = tokyo

    async def replica_killed_before_it_applies(self) -> None:
        """SIGKILL between the rename and the apply: the commit counts."""
        osaka = self.both.osaka
        await self.settled()

        async def never(machine_id: str) -> None:
            assert machine_id == MACHINE

        osaka.backend.apply_committed = never  # type: ignore[method-assign]
        before = contents(self.both.replica_disks)
        held = self.held
        await self.send(CutKind.DELTA)
        if self.held is not held:
            assert contents(self.both.replica_disks) == before
        await self.reopen_osaka()
        await self.check()

    async def reopen_osaka(self) -> None:
        """SIGKILL, then a start over what is left."""
        osaka = self.both.osaka
        kill(osaka.backend)
        disks = {MACHINE: self.both.replica_disks}
        osaka.backend = await reopened(self.folder / "osaka", disks, REPLICA_FQDN)
        osaka.listener._backend = osaka.backend

    async def settled(self) -> None:
        """Wait for what is committed to be applied."""
        await self.both.osaka.backend.apply_committed(MACHINE)

    async def check(self) -> None:
        """The replica is the newest acknowledged cut, byte for byte, on both disks."""
        await self.settled()
        assert contents(self.both.replica_disks) == self.held
        assert contents(self.both.primary_disks) == [bytes(disk) for disk in self.primary]

    async def play(self, event: tuple[object, ...]) -> None:
        """Let one thing happen."""
        match event:
            case ("write", int(disk), int(offset), int(length), bytes(fill)):
                self.write(disk, offset, length, fill)
                return
            case ("send", CutKind() as kind):
                await self.send(kind)
            case ("refused",):
                await self.refused()
            case ("acknowledgement lost",):
                if self.both.osaka.backend.applied_cut(MACHINE) == AppliedCut(
                    self.cut, self.last_held_record, NOW
                ):
                    await self.acknowledgement_lost()
            case ("primary killed",):
                await self.primary_killed(cut_out=False)
            case ("primary killed while a cut is out",):
                await self.primary_killed(cut_out=True)
            case _:
                await self.play_at_the_replica(event)
        await self.check()

    async def play_at_the_replica(self, event: tuple[object, ...]) -> None:
        """Let one thing happen there."""
        match event:
            case ("replica killed before it applies",):
                await self.replica_killed_before_it_applies()
            case ("point",):
                await self.point()
            case ("merge", int(at_most)):
                await self.merge(at_most)
            case ("failover", int(which), bool(killed)):
                await self.failover(which, killed=killed)
            case ("copy interrupted",):
                await self.copy_interrupted()

    @property
    def last_held_record(self) -> int:
        """The newest record that the replica says it holds."""
        applied = self.both.osaka.backend.applied_cut(MACHINE)
        return 0 if applied is None else applied.last_record


async def tell(events: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with pair(folder) as both:
            story = Story(both, folder)
            story.write(0, 0, 200_000, b"s")
            await story.send(CutKind.FULL)
            for event in events:
                await story.play(event)
            # Whatever happened: two more cycles bring the replica up to the primary.
            await story.send(CutKind.DELTA)
            await story.send(CutKind.DELTA)
            await story.check()


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WRITE | WRITE | EVENT | EVENT | FAILOVER, min_size=1, max_size=16))
def test_the_replica_is_always_one_exact_cut(events: list[tuple[object, ...]]) -> None:
    uvloop.run(tell(events))


def test_every_event_by_itself() -> None:
    everything: list[tuple[object, ...]] = [
        ("write", 0, 5, 200_000, b"a"),
        ("acknowledgement lost",),
        ("write", 1, 70_000, 65_536, b"\0"),
        ("point",),
        ("send", CutKind.DELTA),
        ("failover", 1, True),
        ("point",),
        ("primary killed while a cut is out",),
        ("refused",),
        ("write", 0, 0, 200_000, b"\0"),
        ("replica killed before it applies",),
        ("failover", 2, False),
        ("merge", 1),
        ("failover", 1, False),
        ("send", CutKind.DIFFERENCES),
        ("primary killed",),
        ("failover", 0, True),
        ("copy interrupted",),
        ("send", CutKind.FULL),
    ]
    uvloop.run(tell(everything))
