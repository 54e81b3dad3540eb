"""Bad days of the bytes: full disks, many disks, very large ones, logs that do not belong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.small_disk import SmallDisk, small_disk
from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Pair,
    contents,
    kill,
    make_disks,
    on_uvloop,
    pair,
    reopened,
)
from tests.unit.hyperv_bytes.replica_story import (
    SIZES as STORY_SIZES,
)
from tests.unit.hyperv_bytes.replica_story import (
    STATES,
    changes_of,
    header,
    new_backend,
    transfer,
)
from tests.unit.hyperv_bytes.test_bytes_frames import ended
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    CutKind,
    PeerAddress,
    PointKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.redo_log import RedoWriter, committed_logs

KIBI = 1024
MEBI = KIBI * KIBI
TEBI = MEBI * MEBI
MANY_LOGS = 10_000
UNDONE_LOGS = 300
MEMORY_BYTES_MAX = 100 * MEBI


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", 8 * KIBI) as disk:
        yield disk


def lay_on(small: SmallDisk, folder: Path, *names: str) -> None:
    """Have these folders lie on the small disk."""
    for name in names:
        (small.folder / name).mkdir()
        (folder / name).symlink_to(small.folder / name)


@on_uvloop
async def test_a_full_disk_at_the_replica_loses_nothing(tmp_path: Path, small: SmallDisk) -> None:
    lay_on(small, tmp_path, "osaka", "osaka-disks")
    async with pair(tmp_path) as both:
        backend = both.osaka.backend
        both.write(0, 0, b"a" * 5 * BLOCK, 1)
        await both.replicate(CutKind.FULL, 1)
        first = contents(both.replica_disks)
        point = await backend.make_point(MACHINE, PointKind.STANDARD)
        small.fill()
        both.write(0, 0, b"b" * 3 * BLOCK, 2)
        with pytest.raises(TransferRefusedError, match="could not take it"):
            await both.replicate(CutKind.DELTA, 2)
        small.make_room()
        await both.replicate(CutKind.DELTA, 2)
        assert both.equal()
        # Full between the commit and the apply: what was acknowledged waits in its log.
        both.write(0, BLOCK, b"c" * 3 * BLOCK, 3)
        commit = backend.commit_transfer

        async def commit_and_fill(machine_id: str, incoming: object) -> AppliedCut:
            applied = await commit(machine_id, incoming)  # type: ignore[arg-type]
            small.fill()
            return applied

        backend.commit_transfer = commit_and_fill  # type: ignore[method-assign]
        change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 3, NOW)
        assert (await both.send(change_set)).cut == 3
        await both.tokyo.release(change_set, acknowledged=True)
        with pytest.raises(OSError, match="No space"):
            await backend.apply_committed(MACHINE)
        small.make_room()
        await backend.apply_committed(MACHINE)
        assert both.equal()
        await backend.promote(MACHINE, point.point_id)
        assert contents(both.replica_disks) == first


@on_uvloop
async def test_a_full_disk_at_the_source_loses_the_cut_and_nothing_else(
    tmp_path: Path, small: SmallDisk
) -> None:
    lay_on(small, tmp_path, "tokyo", "tokyo-disks")
    async with pair(tmp_path) as both:
        both.write(0, 0, b"a" * 20 * BLOCK)
        await both.replicate(CutKind.FULL, 1)
        both.write(0, 0, b"b" * 10 * BLOCK)
        change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 2, NOW)
        small.fill()
        both.write(0, 0, b"c" * 10 * BLOCK)  # its old bytes cannot be kept: the guest goes on
        with pytest.raises(OSError, match="cut again"):
            await both.send(change_set)
        await both.tokyo.release(change_set, acknowledged=False)
        small.fill()
        with pytest.raises(OSError, match="No space"):
            await both.replicate(CutKind.DELTA, 2)
        both.write(0, 5 * BLOCK, b"d" * BLOCK)
        small.make_room()
        await both.replicate(CutKind.DELTA, 2)
        assert both.equal()


@on_uvloop
async def test_sixteen_disks_some_of_them_empty(tmp_path: Path) -> None:
    sizes = tuple(0 if index % 5 == 4 else (index + 1) * BLOCK + 512 for index in range(16))
    async with pair(tmp_path, sizes) as both:
        for index, size in enumerate(sizes):
            if size and index % 3:
                both.write(index, size - 100, bytes([index]) * 100, index)
        await both.replicate(CutKind.FULL, 1)
        assert both.equal()
        before = contents(both.replica_disks)
        point = await both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
        for cut in (2, 3):
            for index, size in enumerate(sizes):
                if size:
                    both.write(index, cut * 1000, bytes([cut]) * 300, 100 * cut + index)
            await both.replicate(CutKind.DELTA, cut)
            assert both.equal()
        await both.osaka.backend.promote(MACHINE, point.point_id)
        assert contents(both.replica_disks) == before


@on_uvloop
async def test_what_could_not_be_sent_is_one_change_set_when_the_network_is_back(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as both:
        await both.replicate(CutKind.FULL, 1)
        nobody = PeerAddress(REPLICA_FQDN, "127.0.0.1", 1)
        for number in range(1, 30):
            both.write(number % 2, (number % 20) * BLOCK, bytes([number]) * 500, number)
            change_set = await both.tokyo.cut(MACHINE, CutKind.DELTA, 2, NOW)
            described = both.header(change_set)
            with pytest.raises(OSError, match=r".*"):
                await both.tokyo.send(change_set, nobody, described, lambda _: None)
            await both.tokyo.release(change_set, acknowledged=False)
        assert both.tokyo.tracked_bytes(MACHINE) == 20 * BLOCK
        assert (await both.replicate(CutKind.DELTA, 2)).last_record == 29
        assert both.equal()


def put_log(folder: Path, described: TransferHeader, frames: bytes) -> None:
    """Lay a committed log into a replica's folder, without waiting for any disk."""
    writer = RedoWriter(folder, described, STORY_SIZES)
    writer.append(frames)
    writer._unfinished.rename(writer.path)
    writer.close()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not about power cuts waits for no disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_waiting")
@on_uvloop
async def test_ten_thousand_logs_are_applied_and_undone(tmp_path: Path) -> None:
    disks = make_disks(tmp_path / "disks", "r", STORY_SIZES)
    backend = new_backend(tmp_path)
    await backend.create_replica_disks(MACHINE, disks)
    await transfer(backend, 1)
    folder = tmp_path / "state" / MACHINE
    state = [bytearray(disk) for disk in STATES[1]]
    kept: list[bytes] = []
    for end in (MANY_LOGS - UNDONE_LOGS, MANY_LOGS):
        held = backend.applied_cut(MACHINE)
        assert held is not None
        for cut in range(held.cut + 1, end + 2):
            offset, data = cut % 96 * 4096, cut.to_bytes(4, "big") * KIBI
            state[0][offset : offset + len(data)] = data
            described = replace(header(2), cut=cut, transfer_id=f"t-{cut}")
            put_log(folder, described, ended((0, offset, data)))
        kill(backend)
        backend = new_backend(tmp_path)
        await backend.recover({MACHINE: disks})
        assert contents(disks) == state
        assert committed_logs(folder) == []
        if not kept:
            kept = contents(disks)
            point = await backend.make_point(MACHINE, PointKind.STANDARD)
    assert len(list(folder.glob("*.undo"))) == UNDONE_LOGS
    await backend.promote(MACHINE, point.point_id)
    assert contents(disks) == kept
    assert await backend.revert(MACHINE)
    assert contents(disks) == state
    await backend.drop_points(MACHINE)
    assert len(list(folder.iterdir())) < 5


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("what", ["foreign", "applied", "gap", "damaged"])
@on_uvloop
async def test_logs_that_do_not_belong_are_not_applied(tmp_path: Path, what: str) -> None:
    disks = make_disks(tmp_path / "disks", "r", STORY_SIZES)
    backend = new_backend(tmp_path)
    await backend.create_replica_disks(MACHINE, disks)
    for cut in (1, 2, 3):
        await transfer(backend, cut)
    await backend.apply_committed(MACHINE)
    folder = tmp_path / "state" / MACHINE
    kill(backend)
    bad = ended((0, 0, b"bad" * 4096 * 4))
    expected = 5
    match what:
        case "foreign":
            put_log(folder, replace(header(2), relationship_id="another", cut=3), bad)
        case "applied":
            put_log(folder, replace(header(2), transfer_id="a-copy"), bad)
        case "gap":
            put_log(folder, header(7), bad)
        case "damaged":
            expected = 3
            put_log(folder, header(4), bad[:-1])
    if what != "damaged":
        put_log(folder, header(4), ended(*changes_of(4)))
    put_log(folder, header(5), ended(*changes_of(5)))
    backend = new_backend(tmp_path)
    await backend.recover({MACHINE: disks})
    assert contents(disks) == STATES[expected]
    applied = backend.applied_cut(MACHINE)
    assert applied is not None
    assert applied.cut == expected
    assert committed_logs(folder) == []
    await transfer(backend, expected + 1)
    await backend.apply_committed(MACHINE)
    assert contents(disks) == STATES[expected + 1]


async def replicate_a_tebibyte(folder: Path) -> None:
    """Bring a disk of 1 TiB, nearly empty, through all that is done with one."""
    places = [0, 123_456_789_012, TEBI // 2 + 5, TEBI - 100]
    async with pair(folder, (TEBI,)) as both:
        for number, place in enumerate(places):
            both.write(0, place, b"first", number)
        await both.replicate(CutKind.FULL, 1)
        point = await both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
        both.write(0, places[1], b"again", 10)
        await both.replicate(CutKind.DELTA, 2)
        with both.replica_disks[0].path.open("r+b") as file:
            file.seek(TEBI // 3)
            file.write(b"altered")
        await both.replicate(CutKind.DIFFERENCES, 3)
        await both.osaka.backend.make_point(MACHINE, PointKind.STANDARD)
        both.write(0, places[2], b"third", 11)
        await both.replicate(CutKind.DELTA, 4)
        assert read(both, places[:4]) == [b"first", b"again", b"third", b"first"]
        assert read(both, [TEBI // 3]) == [bytes(5)]
        older = both.osaka.backend.recovery_points(MACHINE)[-1]
        assert older.cut == 3 != point.cut
        await both.osaka.backend.promote(MACHINE, older.point_id)
        assert read(both, places[:4]) == [b"first", b"again", b"first", b"first"]
        assert await both.osaka.backend.revert(MACHINE)
        assert read(both, places[:4]) == [b"first", b"again", b"third", b"first"]
        copies = await both.osaka.backend.copy_for_test(
            MACHINE, "test-1", folder / "tests", older.point_id
        )
        assert copies[0].path.stat().st_blocks * 512 < MEBI
        kill(both.tokyo)
        disks = {MACHINE: both.primary_disks}
        both.tokyo = await reopened(folder / "tokyo", disks, PRIMARY_FQDN)
        await both.tokyo.attach(MACHINE, both.primary_disks)
        both.write(0, 7, b"fourth", 12)
        await both.replicate(CutKind.FINAL, 5)
        assert read(both, [7]) == [b"fourt"]
    sys.stdout.write(f"{most_memory_used()}\n")


def most_memory_used() -> int:
    """Return the most bytes that this process had; what getrusage says includes its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * KIBI


def read(both: Pair, places: list[int]) -> list[bytes]:
    """Return what the replica has in these places."""
    with both.replica_disks[0].path.open("rb", buffering=0) as file:
        return [os.pread(file.fileno(), 5, place) for place in places]


def test_a_sparse_disk_of_a_tebibyte_takes_neither_time_nor_memory(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys, pathlib\n"
        "from tests.integration.test_bytes_bad_days import replicate_a_tebibyte\n"
        "asyncio.run(replicate_a_tebibyte(pathlib.Path(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    used = int(done.stdout.splitlines()[-1])
    # Both ends run in this process, and what tests are made of.
    assert used < 2 * MEMORY_BYTES_MAX, f"{used} bytes"
