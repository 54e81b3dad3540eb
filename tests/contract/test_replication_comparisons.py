"""Comparisons of every back end: gone on with where they were broken off, and never believed."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Pair,
    contents,
    kill,
    pair,
    reopened,
)
from vmm_simulator.hyperv import comparison, sender
from vmm_simulator.hyperv.backend import (
    ChangeSet,
    CutKind,
    PeerAddress,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.host_client import HostClient, Upload

BACKENDS = {"embedded": pair}
SIZES = (320 * BLOCK, 0, 170 * BLOCK + 4096)
RANGE_BLOCKS = 16
WAIT_SECONDS = 30
DIFFERING = (5, 20, 21, 60, 100, 130, 170, 220, 250, 300)
"""Blocks of the first disk that changed while nobody noted it."""


@pytest.fixture(params=BACKENDS)
async def both(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    monkeypatch.setattr(sender, "RANGE_BLOCKS_MAX", RANGE_BLOCKS)
    monkeypatch.setattr(comparison, "CHECKPOINT_BYTES", 100 * BLOCK)
    async with BACKENDS[request.param](tmp_path, SIZES) as made:
        for disk, blocks in ((0, 310), (2, 160)):
            for block in range(blocks):
                made.write(disk, block * BLOCK, bytes([block % 250 + 1]) * 4096, block)
        await made.replicate(CutKind.FULL, 1)
        await made.tokyo.stop_tracking(MACHINE)
        for block in DIFFERING:
            made.write(0, block * BLOCK, b"unnoted" * 100)
        await made.tokyo.start_tracking(MACHINE)
        yield made


class Compared:
    """Of how many blocks digests were asked for, and how many bytes crossed the network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks = self.bytes = self.end = 0
        self.break_after: int | None = None
        self.before_break: Callable[[], Awaitable[None]] | None = None
        digests, write = HostClient.digests, Upload.write

        async def asked(
            client: HostClient, peer: PeerAddress, header: TransferHeader, *place: int
        ) -> bytes:
            if self.break_after is not None and self.blocks >= self.break_after:
                if self.before_break is not None:
                    await self.before_break()
                raise ConnectionResetError("the network went away")
            self.blocks += place[-1]
            self.end = (place[-2] + place[-1]) * BLOCK
            return await digests(client, peer, header, *place)

        async def written(upload: Upload, frames: bytes | memoryview) -> None:
            self.bytes += len(frames)
            await write(upload, frames)

        monkeypatch.setattr(HostClient, "digests", asked)
        monkeypatch.setattr(Upload, "write", written)

    def begin(self, break_after: int | None = None) -> None:
        """Count anew; break off after so many blocks."""
        self.blocks, self.bytes, self.break_after = 0, 0, break_after


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    return Compared(monkeypatch)


async def broken_off(both: Pair, compared: Compared, after_blocks: int) -> ChangeSet:
    """Compare until the network goes away, when what was sent has arrived."""
    replica = both.osaka.backend._machine(MACHINE).replica

    async def arrived() -> None:
        incoming = replica._incoming
        assert incoming is not None
        destination = incoming.destination
        assert isinstance(destination, comparison.ComparedCopy)
        async with asyncio.timeout(WAIT_SECONDS):
            while destination._comparison.offset < compared.end:
                await asyncio.sleep(0.01)

    compared.before_break = arrived
    compared.begin(after_blocks)
    change_set = await both.tokyo.cut(MACHINE, CutKind.DIFFERENCES, 2, NOW)
    with pytest.raises(ConnectionResetError):
        await both.send(change_set)
    await both.tokyo.release(change_set, acknowledged=False)
    compared.begin()
    return change_set


async def settled(both: Pair) -> None:
    """A connection that was broken is noticed by its listener in its own time."""
    await both.osaka.backend._machine(MACHINE).replica.settle()


async def reopen(both: Pair, tmp_path: Path, killed: str) -> None:
    if killed in ("tokyo", "both"):
        kill(both.tokyo)
        disks = {MACHINE: both.primary_disks}
        both.tokyo = await reopened(tmp_path / "tokyo", disks, PRIMARY_FQDN)
        await both.tokyo.attach(MACHINE, both.primary_disks)
    if killed in ("osaka", "both"):
        await settled(both)
        kill(both.osaka.backend)
        disks = {MACHINE: both.replica_disks}
        both.osaka.backend = await reopened(tmp_path / "osaka", disks, REPLICA_FQDN)
        both.osaka.listener._backend = both.osaka.backend


@pytest.mark.parametrize("killed", ["nobody", "tokyo", "osaka", "both"])
async def test_a_comparison_goes_on_where_it_was(
    both: Pair, tmp_path: Path, compared: Compared, killed: str
) -> None:
    before = contents(both.replica_disks)
    await broken_off(both, compared, 240)
    if killed == "osaka":
        noted = json.loads((tmp_path / "osaka" / MACHINE / comparison.COMPARISON_FILE).read_bytes())
        assert (noted["disk"], noted["offset"] // BLOCK >= 200) == (0, True)
    both.write(0, 20 * BLOCK, bytes([21]) * 4096)  # was sent; equals the replica's again
    both.write(0, 100 * BLOCK, bytes(BLOCK))  # was sent, is zero now
    both.write(0, 50 * BLOCK, b"new" * 1000)  # was found equal
    both.write(0, 250 * BLOCK, b"late" * 1000)  # was not looked at yet
    both.write(2, 165 * BLOCK, b"new" * 1000)
    await reopen(both, tmp_path, killed)
    assert contents(both.replica_disks) == before
    done: list[int] = []
    change_set = await both.tokyo.cut(MACHINE, CutKind.DIFFERENCES, 2, NOW)
    await both.tokyo.send(change_set, both.osaka.address, both.header(change_set), done.append)
    await both.tokyo.release(change_set, acknowledged=True)
    await both.osaka.backend.apply_committed(MACHINE)
    assert both.equal()
    # 240 of 491 blocks were compared; what changed since was sent without a question.
    assert compared.blocks == 491 - 240
    assert compared.bytes < 12 * BLOCK
    assert done == sorted(done)
    assert change_set.bytes_total * 4 // 10 < done[0] <= done[-1] == change_set.bytes_total
    compared.begin()
    await both.replicate(CutKind.DELTA, 3)
    assert compared.bytes < BLOCK
    assert both.equal()
    assert not list((tmp_path / "osaka" / MACHINE).glob("comparison.*"))


async def test_it_may_be_broken_off_again_and_again(both: Pair, compared: Compared) -> None:
    for number, after in enumerate((64, 32, 0, 96)):
        await broken_off(both, compared, after)
        # The same block again and again, by turns as the replica has it and not.
        both.write(0, 5 * BLOCK, bytes([6]) * 4096 if number % 2 else b"other" * 100)
        both.write(0, (22 + number) * BLOCK, b"more" * 10)
    await both.replicate(CutKind.DIFFERENCES, 2)
    assert both.equal()
    assert compared.blocks == 480 - 192


async def test_one_whose_end_was_not_heard_of_compares_nothing_again(
    both: Pair, compared: Compared
) -> None:
    change_set = await both.tokyo.cut(MACHINE, CutKind.DIFFERENCES, 2, NOW)
    await both.send(change_set)
    await both.tokyo.release(change_set, acknowledged=False)  # the answer was lost
    both.write(0, 7 * BLOCK, b"since" * 10)
    compared.begin()
    with pytest.raises(TransferRefusedError) as refusal:
        await both.replicate(CutKind.DIFFERENCES, 2)
    assert refusal.value.applied is not None
    assert refusal.value.applied.cut == 2
    await both.replicate(CutKind.DIFFERENCES, 3)
    assert both.equal()
    assert (compared.blocks, compared.bytes // BLOCK) == (0, 1)


@pytest.mark.parametrize("what", ["altered", "failed over", "spool lost", "notes damaged", "anew"])
async def test_what_was_found_counts_with_the_same_disks_alone(
    both: Pair, tmp_path: Path, compared: Compared, what: str
) -> None:
    await broken_off(both, compared, 240)
    await settled(both)
    backend, folder = both.osaka.backend, tmp_path / "osaka" / MACHINE
    match what:
        case "altered":
            with both.replica_disks[0].path.open("r+b") as file:
                file.seek(30 * BLOCK)
                file.write(b"altered")
        case "failed over":
            await backend.promote(MACHINE, None)
            await backend.attach(MACHINE, both.replica_disks)
            backend.write(MACHINE, 0, 30 * BLOCK, b"ran here" * 10, 1)
            await backend.detach(MACHINE)
            assert await backend.revert(MACHINE)
        case "spool lost":
            (folder / comparison.SPOOL_FILE).unlink()
        case "notes damaged":
            (folder / comparison.COMPARISON_FILE).write_bytes(b"{")
        case _:
            # A cancelled comparison begins anew: nothing is noted meanwhile (behaviour 1.2).
            await both.tokyo.stop_tracking(MACHINE)
            both.write(0, 30 * BLOCK, b"unnoted")
            await both.tokyo.start_tracking(MACHINE)
    await both.replicate(CutKind.DIFFERENCES, 2)
    assert both.equal()
    assert compared.blocks > 450


async def test_a_whole_copy_takes_the_place_of_a_comparison_and_the_other_way_round(
    both: Pair, tmp_path: Path, compared: Compared
) -> None:
    await broken_off(both, compared, 240)
    await both.replicate(CutKind.FULL, 2)
    assert both.equal()
    assert not list((tmp_path / "osaka" / MACHINE).glob("comparison.*"))
    change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 3, NOW)

    def give_up(_: int) -> None:
        raise ConnectionResetError("the network went away")

    with pytest.raises(ConnectionResetError):
        await both.tokyo.send(change_set, both.osaka.address, both.header(change_set), give_up)
    await both.tokyo.release(change_set, acknowledged=False)
    both.write(0, 7 * BLOCK, b"since" * 10)
    await both.replicate(CutKind.DIFFERENCES, 3)
    assert both.equal()
