"""Transfers that are overtaken: by another, a failover, an epoch, a full disk, a test copy."""

import asyncio
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.bytes_harness import (
    BLOCK,
    MACHINE,
    NOW,
    PRIMARY_FQDN,
    REPLICA_FQDN,
    Pair,
    client_tls,
    contents,
    on_uvloop,
    pair,
)
from tests.unit.hyperv_bytes.bytes_wire import (
    DELTA,
    FULL,
    put,
    replica,
    send_frames,
)
from tests.unit.hyperv_bytes.test_bytes_frames import PAGE, ended
from vmm_simulator.hyperv.backend import (
    CutKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.problems import Code


@on_uvloop
async def test_the_second_transfer_of_a_machine_ends_the_first(tmp_path: Path) -> None:
    good = ended((0, 0, PAGE))
    async with replica(tmp_path) as host:
        reader, writer = await asyncio.open_connection(
            host.address.address,
            host.address.port,
            ssl=client_tls(PRIMARY_FQDN),
            server_hostname=REPLICA_FQDN,
        )
        writer.write(put(DELTA, f"Expect: 100-continue\r\nContent-Length: {len(good)}\r\n"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(good[:-1])
        again = replace(DELTA, transfer_id="t-3")
        assert (await send_frames(host.address, again, good))[0] == 200
        assert (await reader.readline()).startswith(b"HTTP/1.1 409 ")
        writer.transport.abort()


@on_uvloop
async def test_an_epoch_that_ends_during_a_transfer_is_noticed_before_the_commit(
    tmp_path: Path,
) -> None:
    async with pair(tmp_path) as both:
        both.write(0, 0, b"a")
        change_set = await both.tokyo.cut(MACHINE, CutKind.FULL, 1, NOW)

        def fail_over(_done: int) -> None:
            both.osaka.answers.epoch = 2

        header = both.header(change_set)
        with pytest.raises(TransferRefusedError, match="epoch") as refused:
            await both.tokyo.send(change_set, both.osaka.address, header, fail_over)
        assert refused.value.code == Code.LOWER_EPOCH
        assert both.osaka.backend.applied_cut(MACHINE) is None


@on_uvloop
async def test_a_failover_during_a_transfer_drops_it(tmp_path: Path) -> None:
    async with pair(tmp_path, (64 * BLOCK, BLOCK)) as both:
        await both.replicate(CutKind.FULL, 1)
        both.write(0, 0, b"a" * 64 * BLOCK)
        started = asyncio.Event()

        async def never() -> None:
            await asyncio.Event().wait()

        async def block(_peer: str, _header: TransferHeader) -> str:
            # As a host that waits for its own lock, which the failover holds.
            if started.is_set():
                await never()
            started.set()
            return MACHINE

        both.osaka.listener._authorize_transfer = block
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(expect_refusal(both))
            await started.wait()
            while both.osaka.backend._machine(MACHINE).replica._incoming is None:
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await both.osaka.backend.attach(MACHINE, both.replica_disks)
                await both.osaka.backend.start_tracking(MACHINE)
            await sending
        assert (both.osaka.backend.applied_cut(MACHINE) or FULL).cut == 1
        assert contents(both.replica_disks) == [bytes(64 * BLOCK), bytes(BLOCK)]


async def expect_refusal(both: Pair) -> None:
    with pytest.raises((TransferRefusedError, ConnectionError)):
        await both.replicate(CutKind.DELTA, 2)


@on_uvloop
async def test_a_commit_that_was_not_applied_yet_is_applied_before_a_test_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as both:
        await both.replicate(CutKind.FULL, 1)

        async def never(_machine_id: str) -> None:
            return

        apply_committed = both.osaka.backend.apply_committed
        monkeypatch.setattr(both.osaka.backend, "apply_committed", never)
        both.write(0, 0, b"a" * BLOCK)
        await both.replicate(CutKind.DELTA, 2)
        assert not both.equal()
        copies, _ = await asyncio.gather(
            both.osaka.backend.copy_for_test(MACHINE, "test-1", tmp_path / "tests"),
            apply_committed(MACHINE),
        )
        assert contents(copies) == contents(both.replica_disks) == contents(both.primary_disks)


@on_uvloop
async def test_a_full_disk_is_said_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path) as both:
        await both.replicate(CutKind.FULL, 1)
        both.write(0, 0, b"a")

        def no_room(_descriptor: int, _data: bytes) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("vmm_simulator.hyperv.frame_log.append_fully", no_room)
            with pytest.raises(TransferRefusedError, match="No space left") as refused:
                await both.replicate(CutKind.DELTA, 2)
            assert refused.value.code == Code.FAILED
            assert "No space left" in both.osaka.answers.failures[0][1]
        await both.replicate(CutKind.DELTA, 2)
        assert both.equal()


@on_uvloop
async def test_memory_does_not_grow_with_the_disks(tmp_path: Path) -> None:
    async with pair(tmp_path, (1024 * BLOCK, BLOCK)) as both:
        for place in range(0, 1024, 16):
            both.write(0, place * BLOCK, b"m" * 16 * BLOCK)
        tracemalloc.start()
        await both.replicate(CutKind.FULL, 1)
        both.write(0, 0, b"n" * 1024 * BLOCK)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await both.replicate(CutKind.DELTA, 2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert both.equal()
        # Both ends are in this process: two buffers each, and what TLS holds.
        assert peak - before < 32 * 1024 * 1024
