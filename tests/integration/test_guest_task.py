"""Guests as tasks of their host: what a guest process shows, on the same images and ledger."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.ledger import LedgerFile, serve_ledger
from lab.ledger_reading import read_ledger
from lab.verification import red_reasons, verify_machine
from service_shell.clock import SystemClock
from tests.support.guest_disks import Storage, make_guest_disks
from tests.support.simulator_estate import MACHINE, make_estate
from vmm_simulator.guest import task
from vmm_simulator.guest.interface import GuestExit, GuestHandle, GuestSpec, GuestStartError
from vmm_simulator.guest.locks import images_locked
from vmm_simulator.guest.supervisor import start_guest
from vmm_simulator.guest.task import start_task_guest
from vmm_simulator.site import guest_programs
from wire_contract.vocabulary import Verb

pytestmark = pytest.mark.needs("mke2fs", "debugfs", "tune2fs", "e2fsck")

BOUND_SECONDS = 30.0
RATE = 200.0
NONCE = "ab" * 16


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    return make_guest_disks(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def disks(pristine: Sequence[Path], tmp_path: Path) -> Sequence[Path]:
    return [Path(shutil.copy(path, tmp_path / path.name)) for path in pristine]


@pytest.fixture
def spec(disks: Sequence[Path]) -> GuestSpec:
    return GuestSpec("vm-1", "web", 1, disks, RATE, None, None)


@pytest.fixture
async def guests() -> AsyncIterator[list[GuestHandle]]:
    started: list[GuestHandle] = []
    yield started
    for guest in started:
        await guest.kill()


async def start(
    spec: GuestSpec, storage: Storage, guests: list[GuestHandle] | None = None
) -> GuestHandle:
    guest = await start_task_guest(spec, storage, SystemClock())
    if guests is not None:
        guests.append(guest)
    return guest


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def more_written(storage: Storage) -> None:
    wanted = max(storage.records, default=0) + 5
    await until(lambda: wanted in storage.records)


async def test_a_task_writes_answers_and_stops_with_its_record_finished(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks)
    guest = await start(spec, storage, guests)
    assert (guest.running, guest.exit_code, guest.pid) == (True, None, os.getpid())
    assert images_locked(spec.disks)
    await more_written(storage)
    first = await guest.challenge(NONCE, BOUND_SECONDS)
    second = await guest.challenge("cd" * 16, BOUND_SECONDS)
    assert (first.verified, second.verified, first.epoch) == (True, True, 1)
    assert first.last_record >= 4
    assert first.proof != second.proof
    assert await guest.stop(BOUND_SECONDS)
    assert (guest.running, guest.exit_code) == (False, GuestExit.STOPPED)
    assert not images_locked(spec.disks)
    result = verify_machine(spec.disks, [], authoritative_epochs={1})
    assert red_reasons(result, loss_allowed=False) == []
    assert result.top_record == max(storage.records)
    assert await guest.wait() == GuestExit.STOPPED
    with pytest.raises(TimeoutError, match="ended"):
        await guest.challenge(NONCE, BOUND_SECONDS)


@pytest.mark.parametrize("as_task", [True, False])
async def test_a_paused_guest_stands_still_and_goes_on_from_there(
    spec: GuestSpec, guests: list[GuestHandle], tmp_path: Path, as_task: bool
) -> None:
    storage = Storage(spec.disks)
    as_process = replace(spec, log_file=tmp_path / "guest.log")
    guests.append(
        guest := await (start(spec, storage) if as_task else start_guest(as_process, storage))
    )
    for _ in range(2):
        await more_written(storage)
        await guest.pause()
        await guest.pause()
        count, before = len(storage.records), [path.read_bytes() for path in spec.disks]
        assert (guest.running, guest.paused) == (True, True)
        with pytest.raises(TimeoutError):
            await guest.challenge(NONCE, 0.1)
        await asyncio.sleep(20 / RATE)
        assert len(storage.records) == count, "no write comes while it is paused"
        assert [path.read_bytes() for path in spec.disks] == before
        guest.resume()
    await more_written(storage)
    assert (guest.running, guest.paused) == (True, False)
    assert await guest.stop(BOUND_SECONDS)
    result = verify_machine(spec.disks, [], authoritative_epochs={1})
    assert red_reasons(result, loss_allowed=False) == []
    with pytest.raises(TimeoutError, match="ended"):
        await guest.pause()


@pytest.mark.parametrize("as_task", [True, False])
async def test_a_paused_guest_can_be_killed_and_does_not_stop(
    spec: GuestSpec, guests: list[GuestHandle], tmp_path: Path, as_task: bool
) -> None:
    storage = Storage(spec.disks)
    as_process = replace(spec, log_file=tmp_path / "guest.log")
    guests.append(
        guest := await (start(spec, storage) if as_task else start_guest(as_process, storage))
    )
    await guest.pause()
    assert not await guest.stop(0.1)
    assert guest.paused
    await guest.kill()
    assert (guest.running, guest.paused) == (False, False)
    assert not images_locked(spec.disks)


async def test_task_and_process_go_on_from_each_others_disks(
    spec: GuestSpec, guests: list[GuestHandle], tmp_path: Path
) -> None:
    storage = Storage(spec.disks)
    as_process = replace(spec, log_file=tmp_path / "guest.log")
    for as_task in (True, False, True):
        starting = start(spec, storage) if as_task else start_guest(as_process, storage)
        guests.append(guest := await starting)
        await more_written(storage)
        await guest.kill()
        assert not guest.running
        assert not images_locked(spec.disks)
        count = len(storage.records)
        await asyncio.sleep(3 / RATE)
        assert len(storage.records) == count, "no write comes after the end"
    result = verify_machine(spec.disks, [], authoritative_epochs={1})
    assert red_reasons(result, loss_allowed=False) == []
    assert await guest.wait() == GuestExit.HOST_GONE


async def test_one_image_has_one_guest_whatever_it_is(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks)
    guests.append(await start_guest(spec, storage))
    with pytest.raises(GuestStartError, match="is locked") as refused:
        await start(spec, storage)
    assert refused.value.exit_code == GuestExit.LOCKED
    await guests[0].kill()
    await start(spec, storage, guests)
    with pytest.raises(GuestStartError, match="is locked"):
        await start_guest(spec, storage)


async def test_images_that_are_none_are_named(spec: GuestSpec, tmp_path: Path) -> None:
    bare = tmp_path / "bare.raw"
    bare.write_bytes(bytes(1 << 20))
    for paths in ([tmp_path / "missing.raw"], [bare]):
        with pytest.raises(GuestStartError) as refused:
            await start(replace(spec, disks=paths), Storage(paths))
        assert refused.value.exit_code == GuestExit.UNREADABLE
    assert not images_locked([bare])


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ({"write_error": PermissionError("the epoch")}, GuestExit.WRITE_REFUSED),
        ({"write_error": OSError("the disk")}, GuestExit.STORAGE_FAILED),
        ({"flush_error": OSError("the disk")}, GuestExit.STORAGE_FAILED),
    ],
)
async def test_a_refused_or_failed_write_ends_the_task_by_its_own_exit_code(
    spec: GuestSpec, guests: list[GuestHandle], errors: dict[str, Any], code: GuestExit
) -> None:
    storage = Storage(spec.disks)
    guest = await start(spec, storage, guests)
    await more_written(storage)
    for name, error in errors.items():
        setattr(storage, name, error)
    async with asyncio.timeout(BOUND_SECONDS):
        assert await guest.wait() == code
    assert not images_locked(spec.disks)


async def test_no_record_is_written_before_its_rewrite_is_durable(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks)
    storage.flush_hold = asyncio.Event()
    guest = await start(spec, storage, guests)
    await until(lambda: bool(storage.records))
    assert storage.records == [0]
    assert not await guest.stop(0.1)
    storage.flush_hold.set()
    await until(lambda: 1 in storage.records)
    assert await guest.stop(BOUND_SECONDS)


async def test_a_frozen_task_writes_nothing_and_goes_on(
    spec: GuestSpec, guests: list[GuestHandle], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(spec.disks)
    guest = await start(spec, storage, guests)
    for _ in range(2):
        await more_written(storage)
        await guest.freeze(BOUND_SECONDS)
        count = len(storage.records)
        await asyncio.sleep(5 / RATE)
        assert len(storage.records) == count
        assert await guest.thaw(BOUND_SECONDS)
    assert not await guest.thaw(BOUND_SECONDS), "it was not frozen"
    monkeypatch.setattr(task, "FREEZE_SECONDS_MAX", 0.05)
    await guest.freeze(BOUND_SECONDS)
    await more_written(storage)
    assert not await guest.thaw(BOUND_SECONDS), "it went on by itself"
    storage.flush_hold = asyncio.Event()
    with pytest.raises(TimeoutError):
        await guest.freeze(0.05)
    storage.flush_hold.set()
    await more_written(storage)
    monkeypatch.undo()
    await guest.freeze(BOUND_SECONDS)
    assert await guest.stop(BOUND_SECONDS), "a frozen guest can be stopped"
    with pytest.raises(TimeoutError, match="ended"):
        await guest.freeze(BOUND_SECONDS)


async def test_an_idle_task_freezes_and_stops(spec: GuestSpec, guests: list[GuestHandle]) -> None:
    storage = Storage(spec.disks)
    guest = await start(replace(spec, records_per_second=0.0), storage, guests)
    await guest.freeze(BOUND_SECONDS)
    assert await guest.thaw(BOUND_SECONDS)
    assert await guest.stop(BOUND_SECONDS)
    assert storage.records == []


async def test_a_record_counts_only_when_the_ledger_has_it(
    spec: GuestSpec, guests: list[GuestHandle], tmp_path: Path
) -> None:
    # Longer than a socket address may be: the lab lies wherever the user put it.
    folder = tmp_path / ("deep" * 25)
    folder.mkdir()
    socket, file = folder / "ledger.socket", folder / "ledger"
    storage = Storage(spec.disks)
    guest = await start(replace(spec, ledger_socket=socket), storage, guests)
    await until(lambda: 1 in storage.records)
    await asyncio.sleep(5 / RATE)
    assert max(storage.records) == 1, "there is no ledger yet"
    for _ in range(2):
        ledger = LedgerFile(file)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_ledger(socket, ledger, stop))
            await more_written(storage)
            stop.set()
        ledger.close()
        acknowledged = [entry.number for entry in read_ledger(file)["vm-1"]]
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        assert max(storage.records) - acknowledged[-1] <= 1
    assert await guest.stop(BOUND_SECONDS)
    result = verify_machine(spec.disks, read_ledger(file)["vm-1"], authoritative_epochs={1})
    assert red_reasons(result, loss_allowed=False) == []


async def test_a_site_whose_guests_are_tasks_runs_its_machines(
    disks: Sequence[Path], tmp_path: Path
) -> None:
    estate = make_estate(tmp_path, records_per_second=RATE)
    for image, made in zip(estate.images, disks, strict=True):
        shutil.copy(made, image)
    settings = estate.settings("tokyo", guests="task")
    programs = guest_programs(settings.guests, SystemClock())
    async with estate.running("tokyo", programs=programs, guests="task") as tokyo:
        view = await tokyo.machine(MACHINE, nonce=NONCE)
        assert view["run_state"] == "Running"
        assert view["guest"]["verified"] is True
        first = view["guest"]["last_record"]
        async with asyncio.timeout(BOUND_SECONDS):
            while (await tokyo.machine(MACHINE, nonce=NONCE))["guest"]["last_record"] <= first:
                await asyncio.sleep(0.01)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30}, epoch=0)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Off"
