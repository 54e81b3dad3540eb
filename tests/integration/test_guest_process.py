"""Guests as real processes on real, small ext4 images."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from lab.ledger import LedgerFile, serve_ledger
from lab.ledger_reading import read_ledger
from lab.verification import red_reasons, verify_machine
from tests.support.guest_disks import Storage, make_guest_disks
from vmm_simulator.guest import supervisor
from vmm_simulator.guest.frames import Kind, Write, encode_frame, encode_write
from vmm_simulator.guest.interface import GuestExit, GuestHandle, GuestSpec, GuestStartError
from vmm_simulator.guest.layout import GuestLayout, find_layout
from vmm_simulator.guest.supervisor import images_locked, start_guest

pytestmark = pytest.mark.needs("mke2fs", "debugfs", "tune2fs", "e2fsck")

BOUND_SECONDS = 30.0
RATE = 200.0


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Return the fresh disks of one machine, to be copied."""
    return make_guest_disks(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def disks(pristine: Sequence[Path], tmp_path: Path) -> Sequence[Path]:
    """Return the machine's disks for one test."""
    return [Path(shutil.copy(path, tmp_path / path.name)) for path in pristine]


@pytest.fixture
def spec(disks: Sequence[Path], tmp_path: Path) -> GuestSpec:
    """Return a guest that writes fast and has no ledger."""
    return GuestSpec("vm-1", "web", 1, disks, RATE, None, tmp_path / "guest.log")


@pytest.fixture
async def guests() -> AsyncIterator[list[GuestHandle]]:
    """Return a list of guests that are killed when the test is over."""
    started: list[GuestHandle] = []
    yield started
    for guest in started:
        await guest.kill()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def layout_of(paths: Sequence[Path]) -> GuestLayout:
    images = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        return find_layout(paths, images)
    finally:
        for image in images:
            os.close(image)


async def test_a_guest_writes_answers_and_stops_with_its_record_finished(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks)
    guests.append(guest := await start_guest(spec, storage))
    assert guest.running
    assert images_locked(spec.disks)
    await until(lambda: 5 in storage.records)
    first = await guest.challenge("ab" * 16, BOUND_SECONDS)
    second = await guest.challenge("cd" * 16, BOUND_SECONDS)
    assert first.verified
    assert second.verified
    assert (first.pid, first.epoch) == (guest.pid, 1)
    assert first.last_record >= 4
    assert first.proof != second.proof
    assert await guest.stop(BOUND_SECONDS)
    assert (guest.running, guest.exit_code) == (False, GuestExit.STOPPED)
    assert not images_locked(spec.disks)
    result = verify_machine(spec.disks, [], authoritative_epochs={1})
    assert red_reasons(result, loss_allowed=False) == []
    assert result.top_record == max(storage.records)
    assert await guest.wait() == 0
    assert await guest.stop(BOUND_SECONDS)


async def test_a_guest_that_is_killed_goes_on_from_its_disks(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks)
    for epoch in (1, 1, 2):
        guests.append(guest := await start_guest(replace(spec, epoch=epoch), storage))
        reached = max(storage.records, default=0) + 5
        await until(lambda reached=reached: reached in storage.records)  # type: ignore[misc]
        await guest.kill()
        assert guest.exit_code == -signal.SIGKILL
        assert not images_locked(spec.disks)
        assert [n for n in storage.records if n] == sorted(n for n in storage.records if n)
    result = verify_machine(spec.disks, [], authoritative_epochs={1, 2})
    assert red_reasons(result, loss_allowed=False) == []
    await guest.kill()


async def test_two_guests_of_one_image_are_impossible(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    guests.append(await start_guest(spec, Storage(spec.disks)))
    for disks in (spec.disks, spec.disks[1:]):
        with pytest.raises(GuestStartError, match="locked") as refused:
            await start_guest(replace(spec, disks=disks), Storage(spec.disks))
        assert refused.value.exit_code == GuestExit.LOCKED
    assert guests[0].running


async def test_a_killed_host_takes_its_guest_along(spec: GuestSpec, tmp_path: Path) -> None:
    program = tmp_path / "host.py"
    program.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from vmm_simulator.guest.interface import GuestSpec\n"
        "from vmm_simulator.guest.supervisor import start_guest\n"
        "class Storage:\n"
        "    def write(self, *rest): pass\n"
        "    async def flush(self): pass\n"
        "async def main():\n"
        "    disks = [Path(path) for path in sys.argv[1:]]\n"
        "    spec = GuestSpec('vm-1', 'web', 1, disks, 0.0, None, None)\n"
        "    guest = await start_guest(spec, Storage())\n"
        "    print('guest', guest.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    host = await asyncio.create_subprocess_exec(
        sys.executable, program, *spec.disks, stdout=subprocess.PIPE, env=environment
    )
    assert host.stdout is not None
    async with asyncio.timeout(BOUND_SECONDS):
        line = b""
        while not line.startswith(b"guest "):
            line = await host.stdout.readline()
            assert line, "the host ended"
    guest = int(line.split()[1])
    assert images_locked(spec.disks)
    # The guest is stopped: only the kernel can end it now, not its own loop.
    os.kill(guest, signal.SIGSTOP)
    host.kill()
    async with asyncio.timeout(BOUND_SECONDS):
        await host.wait()
    await until(lambda: not images_locked(spec.disks))
    await until(lambda: is_dead(guest))


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (PermissionError("the epoch has passed this copy by"), GuestExit.WRITE_REFUSED),
        (OSError(28, "No space left on device"), GuestExit.STORAGE_FAILED),
        (RuntimeError("the machine is detached"), GuestExit.STORAGE_FAILED),
    ],
)
@pytest.mark.parametrize("at", ["write", "flush"])
async def test_a_refused_write_ends_the_guest_by_its_own_exit_code(
    spec: GuestSpec, guests: list[GuestHandle], error: Exception, exit_code: int, at: str
) -> None:
    storage = Storage(spec.disks)
    guests.append(guest := await start_guest(spec, storage))
    await until(lambda: 2 in storage.records)
    setattr(storage, f"{at}_error", error)
    async with asyncio.timeout(BOUND_SECONDS):
        assert await guest.wait() == exit_code
    written = len(storage.records)
    assert not images_locked(spec.disks)
    with pytest.raises(TimeoutError, match="ended"):
        await guest.challenge("ab" * 16, BOUND_SECONDS)
    assert len(storage.records) == written


async def test_no_record_is_written_before_its_rewrite_is_durable(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks, flush_hold=asyncio.Event())
    guests.append(guest := await start_guest(spec, storage))
    await until(lambda: bool(storage.records))
    state = await guest.challenge("ab" * 16, BOUND_SECONDS)
    assert storage.records == [0]
    assert (state.last_record, state.verified) == (0, True)
    assert storage.flush_hold is not None
    storage.flush_hold.set()
    await until(lambda: 3 in storage.records)
    assert storage.records[:5] == [0, 1, 1, 2, 2]


async def test_an_answer_over_other_blocks_than_the_hosts_is_not_verified(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    storage = Storage(spec.disks)
    guests.append(guest := await start_guest(spec, storage))
    await until(lambda: 3 in storage.records)
    storage.flush_hold = asyncio.Event()
    before = await guest.challenge("ab" * 16, BOUND_SECONDS)
    assert before.verified
    place = layout_of(spec.disks).record_place(before.last_record)
    with spec.disks[place.disk_index].open("r+b") as image:
        os.pwrite(image.fileno(), b"\0" * 512, place.offset)
    after = await guest.challenge("ab" * 16, BOUND_SECONDS)
    assert after.proof != before.proof
    assert not after.verified


async def test_a_guest_that_does_not_answer_in_time_is_told(
    spec: GuestSpec, guests: list[GuestHandle]
) -> None:
    guests.append(guest := await start_guest(spec, Storage(spec.disks)))
    os.kill(guest.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await guest.challenge("ab" * 16, 0.2)
    assert not await guest.stop(0.2)
    assert guest.running
    await guest.kill()
    assert not guest.running


async def test_a_disk_of_the_user_is_left_alone(
    spec: GuestSpec, guests: list[GuestHandle], tmp_path: Path
) -> None:
    user = tmp_path / "user.raw"
    user.write_bytes(b"\x5a" * 8192)
    disks = [user, *spec.disks]
    storage = Storage(disks)
    guests.append(guest := await start_guest(replace(spec, disks=disks), storage))
    await until(lambda: 5 in storage.records)
    assert (await guest.challenge("ab" * 16, BOUND_SECONDS)).verified
    assert await guest.stop(BOUND_SECONDS)
    assert user.read_bytes() == b"\x5a" * 8192


async def test_what_cannot_be_worked_on_is_named(spec: GuestSpec, tmp_path: Path) -> None:
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(1 << 20))
    for disks, named in (
        ([empty], "nothing a guest can work on"),
        (spec.disks[:1], "2 disks were prepared together, 1 are here"),
        (list(spec.disks)[::-1], "in the place of"),
    ):
        with pytest.raises(GuestStartError, match=named) as refused:
            await start_guest(replace(spec, disks=disks), Storage(disks))
        assert refused.value.exit_code == GuestExit.UNREADABLE
    with pytest.raises(FileNotFoundError):
        await start_guest(replace(spec, disks=[tmp_path / "none"]), Storage([]))
    with pytest.raises(ValueError, match="records_per_second"):
        await start_guest(replace(spec, records_per_second=float("nan")), Storage([]))


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        encode_frame(Kind.STOP),
        encode_frame(Kind.READY, b"[" * 1000),
        encode_write(Write(9, 0, 1, b"outside")),
        encode_write(Write(0, 2**63, 1, b"outside")),
        encode_frame(Kind.ANSWER, b'{"nonce": 5}'),
    ],
)
async def test_a_hostile_guest_is_ended_and_writes_nothing(
    spec: GuestSpec, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def spawn(_spec: GuestSpec, descriptor: int) -> subprocess.Popen[bytes]:
        program = f"import os, time; os.write({descriptor}, {sent!r}); time.sleep(60)"
        started.append(subprocess.Popen([sys.executable, "-c", program], pass_fds=[descriptor]))
        return started[-1]

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    monkeypatch.setattr(supervisor, "START_SECONDS_MAX", 0.5)
    storage = Storage(spec.disks)
    with pytest.raises(GuestStartError):
        await start_guest(spec, storage)
    assert started[0].poll() == -signal.SIGKILL
    assert storage.records == []


async def test_a_record_counts_only_when_the_ledger_has_it(
    spec: GuestSpec, guests: list[GuestHandle], tmp_path: Path
) -> None:
    # Longer than a socket address may be: the lab lives wherever the user put it.
    folder = tmp_path / ("deep" * 25)
    folder.mkdir()
    path, ledger_path = folder / "ledger.socket", folder / "ledger"
    storage = Storage(spec.disks)
    guests.append(guest := await start_guest(replace(spec, ledger_socket=path), storage))
    await until(lambda: 1 in storage.records)
    # No ledger: the guest is there and answers, and begins no second record.
    state = await guest.challenge("ab" * 16, BOUND_SECONDS)
    assert state.verified
    assert max(storage.records) == 1
    for _ in range(2):
        reached = max(storage.records) + 5
        file = LedgerFile(ledger_path)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_ledger(path, file, stop))
            await until(lambda reached=reached: reached in storage.records)  # type: ignore[misc]
            stop.set()
        file.close()
        acknowledged = [entry.number for entry in read_ledger(ledger_path)["vm-1"]]
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        assert max(storage.records) - acknowledged[-1] <= 1
    assert await guest.stop(BOUND_SECONDS)
    result = verify_machine(spec.disks, read_ledger(ledger_path)["vm-1"], authoritative_epochs={1})
    assert red_reasons(result, loss_allowed=False) == []


def test_a_guest_is_served_on_uvloop_as_a_host_does(spec: GuestSpec) -> None:
    async def story() -> None:
        storage = Storage(spec.disks)
        guest = await start_guest(spec, storage)
        await until(lambda: 5 in storage.records)
        assert (await guest.challenge("ab" * 16, BOUND_SECONDS)).verified
        assert await guest.stop(BOUND_SECONDS)
        again = await start_guest(spec, storage)
        await again.kill()
        assert (guest.exit_code, again.exit_code) == (0, -signal.SIGKILL)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


async def test_a_cancelled_host_leaves_no_guest(spec: GuestSpec) -> None:
    class HostFailedError(Exception):
        pass

    async def host() -> None:
        await start_guest(spec, Storage(spec.disks))
        raise HostFailedError

    with pytest.raises(HostFailedError):
        await asyncio.to_thread(asyncio.run, host())
    assert not images_locked(spec.disks)
