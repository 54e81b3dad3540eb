"""The host's side of a guest: start the process, serve its writes, question it, stop it."""

import asyncio
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from vmm_simulator.guest.frames import (
    Frame,
    FrameDecoder,
    FrameError,
    Kind,
    encode_frame,
    encode_object,
    parse_number,
    parse_object,
    parse_write,
)
from vmm_simulator.guest.freezing import Freezing
from vmm_simulator.guest.host_check import HostCheck
from vmm_simulator.guest.interface import (
    GuestExit,
    GuestHandle,
    GuestSpec,
    GuestStartError,
    GuestState,
    GuestStorage,
)
from vmm_simulator.guest.locks import images_locked
from vmm_simulator.guest.stopping import is_stopped, wait_stopped

__all__ = ["GuestProcess", "images_locked", "start_guest"]

START_SECONDS_MAX: Final = 30.0
# From a closed socket to the end of the process.
END_SECONDS_MAX: Final = 10.0
READ_BYTES: Final = 1 << 16
_PROJECT_ROOT: Final = Path(__file__).resolve().parents[2]

_EXIT_NAMES: Final[Mapping[int | None, str]] = {code.value: code.name for code in GuestExit}

log = structlog.get_logger(__name__)


async def start_guest(spec: GuestSpec, storage: GuestStorage) -> GuestHandle:
    """Return a guest that runs, has locked its images and found its last record in them.

    GuestStartError carries what the guest found otherwise (locked images, no file system, ...).
    Call it in the thread that lives as long as the host: the guest dies with that thread.
    """
    if not math.isfinite(spec.records_per_second) or spec.records_per_second < 0:
        raise ValueError(f"records_per_second cannot be {spec.records_per_second}")
    sizes = [path.stat().st_size for path in spec.disks]
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with other:
        process = _spawn(spec, other.fileno())
    guest = GuestProcess(spec, storage, process, sizes)
    await guest.begin(own)
    return guest


def _spawn(spec: GuestSpec, descriptor: int) -> subprocess.Popen[bytes]:
    """Start the program in a session of its own: Ctrl-C is for the host, which ends its guests."""
    search = [str(_PROJECT_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    arguments = [sys.executable, "-P", "-m", "vmm_simulator.guest.process"]
    arguments += ["--socket", str(descriptor), "--parent", str(os.getpid())]
    arguments += ["--machine", spec.name]
    log_file = Path(os.devnull) if spec.log_file is None else spec.log_file
    with log_file.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 -- our own interpreter and program
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=[descriptor],
            start_new_session=True,
        )


class GuestProcess:
    """A guest as its host holds it; one task of its own serves it from its start to its end."""

    def __init__(
        self,
        spec: GuestSpec,
        storage: GuestStorage,
        process: subprocess.Popen[bytes],
        disk_sizes: list[int],
    ) -> None:
        self._spec = spec
        self._storage = storage
        self._process = process
        self._disk_sizes = disk_sizes
        self._answers: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._ready: asyncio.Future[Mapping[str, Any]]
        self._serving: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter
        self._exited = asyncio.Event()
        self._flush_asked = asyncio.Event()
        self._flush_token = 0
        self._freezing = Freezing(self._send)
        self._refused = False
        self._reason = ""
        self._host_check = HostCheck(spec)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive, asked of the kernel now."""
        return self._process.poll() is None

    @property
    def paused(self) -> bool:
        """Whether the process is stopped, asked of the kernel now."""
        return self.running and is_stopped(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """How it ended (see GuestExit), None while it runs."""
        return self._process.poll()

    async def begin(self, connection: socket.socket) -> None:
        """Tell the guest what it is and return when it is ready; start_guest alone calls this."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        watch = os.pidfd_open(self._process.pid)
        loop.add_reader(watch, self._on_exit, watch)
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=connection)
            # The handle owns this task: stop, kill and wait end with it, and nothing else does.
            self._serving = loop.create_task(self._serve(reader), name=f"guest {self._spec.name}")
            self._writer.write(encode_object(Kind.SPEC, self._spec.fields()))
            async with asyncio.timeout(START_SECONDS_MAX):
                facts = await self._ready
        except TimeoutError:
            await self.kill()
            raise GuestStartError(
                f"{self._spec.name}: the guest was not ready within {START_SECONDS_MAX:.0f} s; "
                "see its log",
                self.exit_code,
            ) from None
        except BaseException:
            await self.kill()
            raise
        log.info("guest_started", machine_id=self._spec.machine_id, pid=self.pid, **facts)

    async def challenge(self, nonce: str, seconds: float) -> GuestState:
        """Return the guest's answer, checked against the host's own reading of the images."""
        if not self.running or self._exited.is_set():
            raise TimeoutError(f"the guest has ended with exit code {self.exit_code}")
        answered = self._answers.setdefault(nonce, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(encode_object(Kind.CHALLENGE, {"nonce": nonce}))
                answer = await asyncio.shield(answered)
                verified = await asyncio.to_thread(self._check, nonce, answer)
        finally:
            self._answers.pop(nonce, None)
        return GuestState(
            pid=int(answer["pid"]),
            nonce=nonce,
            proof=str(answer["proof"]),
            verified=verified,
            file_system_uuid=answer["file_system_uuid"],
            last_record=int(answer["last_record"]),
            epoch=int(answer["epoch"]),
        )

    async def pause(self) -> None:
        """Stop the process; what it had sent is served before the return, nothing comes after."""
        if not self.running or self._exited.is_set():
            raise TimeoutError(f"the guest has ended with exit code {self.exit_code}")
        self._process.send_signal(signal.SIGSTOP)
        await wait_stopped(self._process.pid, self._writer.get_extra_info("socket").fileno())

    def resume(self) -> None:
        """Have the process go on; one that was not stopped is left as it is."""
        self._process.send_signal(signal.SIGCONT)

    async def freeze(self, seconds: float) -> None:
        """Return when the guest has finished its record, flushed, and writes nothing."""
        if not self.running or self._exited.is_set():
            raise TimeoutError(f"the guest has ended with exit code {self.exit_code}")
        await self._freezing.freeze(seconds)

    async def thaw(self, seconds: float) -> bool:
        """Let the guest go on; whether it had held still until now."""
        return await self._freezing.thaw(seconds)

    async def stop(self, seconds: float) -> bool:
        """Ask the guest to finish its record, flush and end; False when it did not in time."""
        if not self._writer.is_closing():
            self._writer.write(encode_frame(Kind.STOP))
        try:
            async with asyncio.timeout(seconds):
                await self._served()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        """End the guest now; returns when it is gone and its last write has been served."""
        if self.running:
            self._process.kill()
        await self._exited.wait()
        await self._served()

    async def wait(self) -> int:
        """Return the exit code once the guest has ended, by whatever cause."""
        await self._served()
        code = self.exit_code
        assert code is not None, "serving ends after the process"
        return code

    async def _served(self) -> None:
        """Return when serving has ended; what broke it is raised here, a bug of the storage."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        """Serve until the process has ended and all it had sent is served."""
        try:
            async with asyncio.TaskGroup() as group:
                flushing = group.create_task(self._flush_when_asked())
                await self._read(reader)
                await self._await_exit()
                flushing.cancel()
        finally:
            if self.running:
                self._process.kill()
            await self._exited.wait()
            self._writer.close()
            self._give_up_waiters()
        log.info(
            "guest_ended",
            machine_id=self._spec.machine_id,
            pid=self.pid,
            exit_code=self.exit_code,
            reason=self._reason or None,
        )

    async def _await_exit(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                await self._exited.wait()
        except TimeoutError:
            self._reason = "the guest closed its socket and did not end"
            self._process.kill()
            await self._exited.wait()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = FrameDecoder()
        while data := await _read_some(reader):
            try:
                for frame in decoder.feed(data):
                    self._take(frame)
            except FrameError as error:
                self._reason = f"the guest broke the protocol: {error}"
                self._process.kill()
                return

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.WRITE:
                self._write(frame.body)
            case Kind.FLUSH:
                self._flush_token = max(self._flush_token, parse_number(frame.body))
                self._flush_asked.set()
            case Kind.READY:
                if not self._ready.done():
                    self._ready.set_result(parse_object(frame.body))
            case Kind.ANSWER:
                answer = parse_object(frame.body)
                waiting = self._answers.get(str(answer.get("nonce")))
                if waiting is not None and not waiting.done():
                    waiting.set_result(_checked_answer(answer))
            case Kind.FROZEN | Kind.THAWED:
                self._freezing.take(frame)
            case Kind.FAILED:
                self._reason = str(parse_object(frame.body).get("reason", ""))
            case _:
                raise FrameError(f"a host gets no frame of kind {frame.kind.name}")

    def _write(self, body: bytes) -> None:
        if self._refused:
            return  # The guest has been told, or will read it; nothing of it is taken any more.
        write = parse_write(body)
        inside = write.disk_index < len(self._disk_sizes) and (
            write.offset + len(write.data) <= self._disk_sizes[write.disk_index]
        )
        if not inside:
            raise FrameError(
                f"a write outside the disks: disk {write.disk_index}, offset {write.offset}"
            )
        try:
            self._storage.write(write.disk_index, write.offset, write.data, write.record)
        except Exception as error:  # noqa: BLE001 -- told to the guest, which ends, and logged
            self._refuse(error)

    async def _flush_when_asked(self) -> None:
        """Answer all flushes asked for so far with one flush of the storage."""
        while True:
            await self._flush_asked.wait()
            self._flush_asked.clear()
            token = self._flush_token
            try:
                await self._storage.flush()
            except Exception as error:  # noqa: BLE001 -- told to the guest, which ends, and logged
                self._refuse(error)
            if not self._refused:
                self._send(encode_frame(Kind.FLUSHED, token.to_bytes(8, "big")))

    def _refuse(self, error: Exception) -> None:
        """Take nothing more of this guest and let it end: refused, or the storage is broken."""
        self._refused = True
        kind = Kind.REFUSED if isinstance(error, PermissionError) else Kind.BROKEN
        log.warning(
            "guest_write_refused",
            machine_id=self._spec.machine_id,
            kind=kind.name,
            cause=str(error),
            exc_info=None if isinstance(error, OSError) else error,
        )
        self._send(encode_frame(kind, str(error).encode()[:1000]))

    def _send(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def _check(self, nonce: str, answer: Mapping[str, Any]) -> bool:
        return self._host_check.holds(nonce, answer, self.pid)

    def _on_exit(self, watch: int) -> None:
        """Called by the loop when the process descriptor says that the process has ended."""
        if self._process.poll() is None:
            return
        asyncio.get_running_loop().remove_reader(watch)
        os.close(watch)
        self._exited.set()

    def _give_up_waiters(self) -> None:
        code = self.exit_code
        name = _EXIT_NAMES.get(code, f"exit code {code}")
        cause = f"{self._spec.name}: the guest ended ({name})"
        if self._reason:
            cause += f": {self._reason}"
        if not self._ready.done():
            self._ready.set_exception(GuestStartError(cause, code))
        for waiting in (*self._answers.values(), *self._freezing.waiting()):
            if not waiting.done():
                waiting.set_exception(TimeoutError(cause))


async def _read_some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(READ_BYTES)
    except ConnectionError:
        return b""  # A killed guest's socket may end with a reset instead of an end of file.


def _checked_answer(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {
        "pid": int,
        "nonce": str,
        "proof": str,
        "file_system_uuid": str,
        "last_record": int,
        "epoch": int,
    }
    for name, kind in kinds.items():
        if type(answer.get(name)) is not kind:
            raise FrameError(f"an answer's {name} is not a {kind.__name__}")
    if not 0 <= answer["last_record"] <= 2**62:
        raise FrameError("an answer's last_record is out of range")
    return answer
