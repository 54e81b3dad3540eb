"""One long story of a replica, told again and again up to a kill or a power cut."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest.mock import patch

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    REPLICA_FQDN,
    client_tls,
    contents,
    kill,
    make_disks,
)
from tests.unit.hyperv_bytes.recorded_files import KilledError, RecordedFiles, Step
from tests.unit.hyperv_bytes.test_bytes_frames import ended
from vmm_simulator.hyperv import change_map, promotion
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    CutKind,
    PointKind,
    TransferHeader,
)
from vmm_simulator.hyperv.embedded import EmbeddedBackend
from vmm_simulator.hyperv.host_client import HostClient
from vmm_simulator.hyperv.incoming import Incoming

SIZES = (6 * BLOCK, 2 * BLOCK + 4096)
Changes = Sequence[tuple[int, int, bytes | int]]
States = list[bytes]


def changes_of(cut: int) -> Changes:
    """Return what change set `cut` changes: bytes, zeros, both disks, the short end."""
    fill = bytes([cut])
    if cut == 1:
        return [(0, 0, fill * 5 * BLOCK), (1, 0, fill * (2 * BLOCK + 4096))]
    return [
        (0, (cut % 5) * BLOCK, fill * BLOCK),
        (0, 5 * BLOCK, BLOCK if cut % 2 else fill * 4096),
        (1, 0, BLOCK if cut % 3 == 0 else fill * BLOCK),
        (1, 2 * BLOCK, fill * 4096),
    ]


def changed(state: States, changes: Changes) -> States:
    """Return the disks after the changes."""
    made = [bytearray(disk) for disk in state]
    for disk, offset, what in changes:
        data = bytes(what) if isinstance(what, int) else what
        made[disk][offset : offset + len(data)] = data
    return [bytes(disk) for disk in made]


def states() -> list[States]:
    """Return what the disks are after each change set; the first is nothing."""
    found = [[bytes(size) for size in SIZES]]
    for cut in range(1, 12):
        found.append(changed(found[-1], changes_of(cut)))
    return found


STATES = states()
GUEST = [(0, BLOCK - 5, b"guest" * 30_000), (1, 3, b"guest"), (0, 5 * BLOCK + 1, b"end")]


class Body:
    """A request's body."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read_into(self, view: memoryview) -> int:
        """Fill the view."""
        piece, self._data = self._data[: len(view)], self._data[len(view) :]
        view[: len(piece)] = piece
        return len(piece)

    async def read_piece(self, view: memoryview) -> int:
        """Fill the view."""
        return await self.read_into(view)


def header(cut: int) -> TransferHeader:
    """Return the header of change set `cut`."""
    kind = CutKind.FULL if cut == 1 else CutKind.DELTA
    return TransferHeader("relationship-1", f"transfer-{cut}", 1, cut, kind, NOW, cut, sizes=SIZES)


async def transfer(backend: EmbeddedBackend, cut: int) -> AppliedCut:
    """Bring a change set, up to its acknowledgement."""
    incoming = await backend.open_transfer(MACHINE, header(cut))
    if isinstance(incoming, AppliedCut):
        return incoming
    assert isinstance(incoming, Incoming)
    try:
        await incoming.receive(Body(ended(*changes_of(cut))))
        return await backend.commit_transfer(MACHINE, incoming)
    finally:
        await backend.end_transfer(MACHINE, incoming)


def new_backend(folder: Path) -> EmbeddedBackend:
    """Return a back end that keeps its state below the folder."""
    return EmbeddedBackend(folder / "state", HostClient(lambda: client_tls(REPLICA_FQDN)))


@dataclass
class Facts:
    """What was answered: that must hold after whatever happens."""

    made: bool = False
    acknowledged: int = 0
    points: tuple[int, ...] = ()
    # Points that are about to go, or that may have been made without an answer.
    doubtful: tuple[int, ...] = ()
    promoting: int | None = None
    promoted: bool = False
    guest: int = 0
    flushed: int = 0
    ending: str = ""
    ended: bool = False


@dataclass
class Story:
    """Tells the story; `told` has the facts by the number of steps after which they held."""

    folder: Path
    backend: EmbeddedBackend
    facts: Facts = field(default_factory=Facts)

    @classmethod
    def begin(cls, folder: Path) -> "Story":
        """Return a story over an empty folder."""
        return cls(folder, new_backend(folder))

    def note(self, **facts: object) -> None:
        """Say what holds from now on."""
        self.facts = Facts(**{**vars(self.facts), **facts})

    async def replicate(self, cut: int) -> None:
        """Bring and apply a change set."""
        await transfer(self.backend, cut)
        self.note(acknowledged=cut)
        await self.backend.apply_committed(MACHINE)

    async def keep_point(self, cut: int) -> None:
        """Keep the newest state."""
        self.note(doubtful=(cut,))
        await self.backend.make_point(MACHINE, PointKind.STANDARD)
        self.note(points=(*self.facts.points, cut), doubtful=())

    async def fail_over(self, cut: int) -> None:
        """Promote to a point and let a guest write."""
        self.note(promoting=cut, promoted=False, guest=0, flushed=0, ending="", ended=False)
        await self.backend.promote(MACHINE, f"transfer-{cut}")
        self.note(promoted=True)
        disks = make_disks(self.folder / "disks", "r", SIZES)
        await self.backend.attach(MACHINE, disks)
        for number, (disk, offset, data) in enumerate(GUEST, start=1):
            self.note(guest=number)
            self.backend.write(MACHINE, disk, offset, data, 100 + number)
            if number == 2:
                await self.backend.flush(MACHINE)
                self.note(flushed=number)
        await self.backend.detach(MACHINE)
        self.note(flushed=len(GUEST))

    async def tell(self) -> None:
        """Tell it all."""
        disks = make_disks(self.folder / "disks", "r", SIZES)
        await self.backend.create_replica_disks(MACHINE, disks)
        self.note(made=True)
        await self.replicate(1)
        await self.replicate(2)
        await self.keep_point(2)
        await self.replicate(3)
        await self.replicate(4)
        await self.keep_point(4)
        await self.replicate(5)
        await self.fail_over(2)
        self.note(ending="revert")
        assert await self.backend.revert(MACHINE)
        self.note(promoting=None, promoted=False, ending="", guest=0)
        await self.replicate(6)
        self.note(points=(4,), doubtful=(2,))
        await self.backend.merge_points(MACHINE, 1)
        self.note(doubtful=())
        await self.replicate(7)
        await self.fail_over(4)
        self.note(ending="commit", points=(), doubtful=(4,))
        await self.backend.commit(MACHINE)
        self.note(ended=True, doubtful=())


Told = tuple[RecordedFiles, list[Facts]]


def tell(folder: Path, kill_at: int | None = None) -> Told:
    """Tell the story; returns the steps, and the facts that held after each number of them."""
    files = RecordedFiles(folder, kill_at)
    story = Story.begin(folder)
    facts: list[Facts] = []
    note = files._note

    def noted(step: Step) -> None:
        note(step)
        facts.append(story.facts)

    files._note = noted  # type: ignore[method-assign]
    with files.watched():
        try:
            asyncio.run(story.tell())
        except KilledError:
            kill(story.backend)
    return files, [*facts, story.facts]


def kill_and_verify(folder: Path, kill_at: int) -> None:
    """End the process after so many steps; what it answered must hold."""
    folder.mkdir()
    files, facts = tell(folder, kill_at)
    assert len(files.steps) == kill_at
    try:
        with RecordedFiles(folder).watched():
            asyncio.run(verify(folder, facts[-1], power_cut=False))
    except BaseException as error:
        error.add_note(f"killed after {kill_at} steps: {files.steps[-1:]}, {facts[-1]}")
        raise


def cut_power_and_verify(whole: Told, folder: Path, steps: int, seed: int) -> None:
    """Leave of the files what a power cut after so many steps may; what was answered must hold."""
    files, facts = whole
    folder.mkdir()
    files.after_power_cut(steps, Random(seed), folder)  # noqa: S311 -- no secret
    try:
        with (
            patch.object(change_map, "boot_id", lambda: "after"),
            patch.object(promotion, "boot_id", lambda: "after"),
            RecordedFiles(folder).watched(),
        ):
            asyncio.run(verify(folder, facts[steps], power_cut=True))
    except BaseException as error:
        last = files.steps[max(0, steps - 1) : steps]
        error.add_note(f"power cut after {steps} steps: {last}, seed {seed}, {facts[steps]}")
        raise


def guest_states(cut: int, first: int, last: int) -> list[States]:
    """Return the disks of a point after each number of guest writes from `first` to `last`."""
    found = [STATES[cut]]
    for write in GUEST[:last]:
        found.append(changed(found[-1], [write]))
    return found[first:]


async def verify(folder: Path, facts: Facts, *, power_cut: bool) -> None:
    """Start over what is left and hold it to what was answered."""
    disks = make_disks(folder / "disks", "r", SIZES)
    if not facts.made:
        backend = new_backend(folder)
        await backend.create_replica_disks(MACHINE, disks)
        await transfer(backend, 1)
        await backend.aclose()
        assert contents(disks) == STATES[1]
        return
    backend = new_backend(folder)
    await backend.recover({MACHINE: disks})
    try:
        await _verify(backend, folder, facts, power_cut=power_cut)
    finally:
        await backend.aclose()


async def _verify(backend: EmbeddedBackend, folder: Path, facts: Facts, *, power_cut: bool) -> None:
    disks = make_disks(folder / "disks", "r", SIZES)
    if facts.ending == "commit" and backend._machine(MACHINE).replica.record.points == ():
        assert contents(disks) == guest_states(4, len(GUEST), len(GUEST))[0]
        assert not list((folder / "state" / MACHINE).glob("*.undo"))
        return
    assert not facts.ended
    promoted = backend.promoted_point(MACHINE)
    if facts.promoted and facts.ending != "revert":
        assert promoted is not None
    if promoted is None and facts.promoting is not None and not facts.promoted:
        # Nothing, or all, of it is there; asked again it is done.
        promoted = await backend.promote(MACHINE, f"transfer-{facts.promoting}")
    if promoted is not None:
        assert promoted.cut == facts.promoting
        if not power_cut:
            assert contents(disks) in guest_states(promoted.cut, facts.guest - 1, facts.guest)[:2]
        elif facts.guest == facts.flushed:
            assert contents(disks) == guest_states(promoted.cut, facts.guest, facts.guest)[0]
        if not await backend.revert(MACHINE):
            # The order of a guest's writes on the medium is not known: a comparison, no guess.
            assert power_cut
            assert backend.resynchronization_reason(MACHINE)
            return
    held = backend.applied_cut(MACHINE)
    cut = 0 if held is None else held.cut
    assert facts.acknowledged <= cut <= facts.acknowledged + 1
    if held is not None:
        assert contents(disks) == STATES[cut]
        await _verify_points(backend, folder, facts)
    for following in (cut + 1, cut + 2):
        await transfer(backend, following)
        await backend.apply_committed(MACHINE)
        assert contents(disks) == STATES[following]
    await _verify_points(backend, folder, facts)


async def _verify_points(backend: EmbeddedBackend, folder: Path, facts: Facts) -> None:
    found = {point.cut: point for point in backend.recovery_points(MACHINE)[1:]}
    newest = backend.recovery_points(MACHINE)[0].cut
    assert set(facts.points) - {newest} <= set(found)
    assert set(found) <= {*facts.points, *facts.doubtful}
    for cut, point in found.items():
        copies = await backend.copy_for_test(
            MACHINE, f"test-{newest}-{cut}", folder / "tests", point.point_id
        )
        assert contents(copies) == STATES[cut]
