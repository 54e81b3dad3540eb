"""Writes around the page cache, and threads that keep an order."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from vmm_simulator.hyperv.direct_io import DIRECT_BYTES_MIN, DirectWriter, receive_buffer
from vmm_simulator.hyperv.frames import HEADER_BYTES
from vmm_simulator.hyperv.threads import TURN_THINGS_MAX, InOrder

DATA = bytes(range(256)) * (DIRECT_BYTES_MIN // 256)


@pytest.mark.parametrize("shift", [0, 1])
def test_both_ways_write_the_same_bytes(tmp_path: Path, shift: int) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(2 * DIRECT_BYTES_MIN))
    buffer = receive_buffer(HEADER_BYTES + DIRECT_BYTES_MIN + 1)[HEADER_BYTES + shift :]
    buffer[:DIRECT_BYTES_MIN] = DATA
    direct = DirectWriter([disk])
    if direct.write(0, buffer[:DIRECT_BYTES_MIN], 4096):
        assert disk.read_bytes() == bytes(4096) + DATA + bytes(DIRECT_BYTES_MIN - 4096)
    assert not direct.write(0, buffer[:4096], 0)
    assert not direct.write(0, buffer[:DIRECT_BYTES_MIN], 512)
    direct.close()


def test_what_was_unpacked_is_written_though_nobody_may_change_it(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(DIRECT_BYTES_MIN))
    direct = DirectWriter([disk])
    if direct.write(0, memoryview(DATA), 0):
        assert disk.read_bytes() == DATA
    direct.close()


def test_where_it_cannot_be_done_the_other_way_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    direct = DirectWriter([disk])

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "not aligned enough")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert not direct.write(0, memoryview(bytearray(DATA)), 0)
    direct.close()


async def test_things_are_done_in_order_and_nothing_after_a_failure() -> None:
    done: list[int] = []
    go_on = threading.Event()

    def work(number: int) -> None:
        assert go_on.wait(10)
        if number == 3:
            raise OSError(errno.ENOSPC, "full")
        done.append(number)

    in_order = InOrder(work)
    for number in range(1, 6):
        in_order.add(number)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_order.at_most(4)
    go_on.set()
    with pytest.raises(OSError, match="full"):
        await in_order.at_most(0)
    in_order.add(6)
    await in_order.stop()
    assert done == [1, 2]


async def test_what_waits_is_not_begun_after_a_stop() -> None:
    done: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.set()
        assert go_on.wait(10)
        done.append(number)

    in_order = InOrder(work)
    in_order.add(1)
    in_order.add(2)
    assert await asyncio.to_thread(begun.wait, 10)
    stopping = asyncio.create_task(in_order.stop())
    # One turn: it has begun to wait for what is being done.
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert done == [1]


async def test_many_things_are_done_though_they_take_turns() -> None:
    done: list[int] = []
    in_order = InOrder(done.append)
    for number in range(5 * TURN_THINGS_MAX):
        in_order.add(number)
        await in_order.at_most(number % 3)
        assert len(done) >= number + 1 - number % 3
    await in_order.at_most(0)
    assert done == list(range(5 * TURN_THINGS_MAX))
