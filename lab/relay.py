"""The relay in front of the hub: each site's only way to it, which can be cut and healed.

`python -m lab.relay --config FILE`. Providers take it for their proxy (CONNECT), so that programs
are as in production and TLS goes from end to end under the hub's own name. It leads to the hub's
two ports and nowhere else. What is cut is on disk before it is acted on: a relay that is killed
and started again goes on as it was.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import Field

from lab.line_orders import (
    CONTROL_BYTES_MAX,
    HEAD_BYTES_MAX,
    Carried,
    Cuts,
    LineAnswer,
    LineError,
    changed,
    read_cuts,
    read_order,
    read_way,
)
from lab.owned_socket import listening_for_owner
from service_shell.atomic_files import write_atomically
from service_shell.configuration import LogSettings, Settings, load_configuration
from service_shell.errors import ProgramError
from service_shell.logs import configure_logging
from service_shell.program import run_program
from service_shell.readiness import ready

CHUNK_BYTES: Final = 65_536
HEAD_SECONDS_MAX: Final = 10.0
CONNECT_SECONDS_MAX: Final = 10.0
CONNECTIONS_MAX: Final = 4_096
SITES_MAX: Final = 32

OPENED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
NOT_UNDERSTOOD: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
NOT_LED_TO: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
NOT_REACHED: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"

_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


class RelaySettings(Settings):
    """Where the relay listens for each site, and which ports of the hub it leads to."""

    host: str
    sites: dict[str, int] = Field(min_length=1, max_length=SITES_MAX)
    hub: dict[Carried, int]
    control_socket: Path
    cuts_file: Path
    ready_file: Path
    log: LogSettings = LogSettings()


@dataclass(eq=False, slots=True)
class _Passage:
    """One connection that passes: whose, of what, and its two ends."""

    site: str
    carried: Carried
    ends: list[asyncio.StreamWriter] = field(default_factory=list)

    def abort(self) -> None:
        """Break it off; both ends learn of it as of a broken connection."""
        for end in self.ends:
            end.transport.abort()


class Relay:
    """Passes connections on, unless what they carry is cut at their site."""

    def __init__(self, settings: RelaySettings, cuts: Cuts) -> None:
        self._settings = settings
        self._cuts = cuts
        self._passages: set[_Passage] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_order = asyncio.Lock()

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve every site, and who may cut and heal, until told to end."""
        async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
            for site, port in self._settings.sites.items():
                listener = await asyncio.start_server(
                    self._owned(group, partial(self._provider, site)),
                    self._settings.host,
                    port,
                    limit=HEAD_BYTES_MAX,
                )
                stack.callback(listener.close)
            control = stack.enter_context(
                listening_for_owner(self._settings.control_socket, "relay")
            )
            listener = await asyncio.start_unix_server(
                self._owned(group, self._control), sock=control, limit=CONTROL_BYTES_MAX
            )
            stack.callback(listener.close)
            with ready(self._settings.ready_file, {"sites": self._settings.sites}):
                await stop.wait()
            for task in self._tasks:
                task.cancel()

    def _owned(
        self, group: asyncio.TaskGroup, serve: _Serve
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        """Return what serves a connection in a task of the group."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = group.create_task(serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return connected

    # ---------------------------------------------------------------------------------- control

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS_MAX):
                line = await reader.readline()
                async with self._one_order:
                    answer = await asyncio.to_thread(self._decided, line)
                    self._break_off()
                writer.write(f"{answer.model_dump_json()}\n".encode())
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:
            log.warning("relay_control_lost", cause=str(error) or type(error).__name__)
        finally:
            writer.close()

    def _decided(self, line: bytes) -> LineAnswer:
        """Store what is cut from now on; then it is so."""
        try:
            after = changed(self._cuts, read_order(line), frozenset(self._settings.sites))
        except LineError as error:
            return LineAnswer(refused=str(error))
        answer = LineAnswer(cut=dict(after))
        write_atomically(self._settings.cuts_file, answer.model_dump_json().encode(), mode=0o600)
        log.warning("lines_changed", cut=json.loads(answer.model_dump_json())["cut"])
        self._cuts = after
        return answer

    def _break_off(self) -> None:
        for each in list(self._passages):
            if self._is_cut(each):
                each.abort()

    def _is_cut(self, passage: _Passage) -> bool:
        return passage.carried in self._cuts.get(passage.site, frozenset())

    # ---------------------------------------------------------------------------------- passing

    async def _provider(
        self, site: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            if len(self._passages) >= CONNECTIONS_MAX:
                log.warning("relay_connection_refused", connections_max=CONNECTIONS_MAX)
                return
            carried = await self._carried(reader, writer)
            if carried is None:
                return
            passage = _Passage(site, carried, [writer])
            self._passages.add(passage)
            try:
                await self._pass_on(passage, reader, writer)
            finally:
                self._passages.discard(passage)
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError) as error:
            log.info("relay_connection_lost", site=site, cause=str(error) or type(error).__name__)
            writer.transport.abort()
        finally:
            writer.close()

    async def _carried(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Carried | None:
        """Return what a request wants to have carried; None: it was refused."""
        async with asyncio.timeout(HEAD_SECONDS_MAX):
            head = await reader.readuntil(b"\r\n\r\n")
        try:
            way = read_way(head)
        except LineError:
            writer.write(NOT_UNDERSTOOD)
            return None
        for carried, port in self._settings.hub.items():
            if (way.host, way.port) == (self._settings.host, port):
                return carried
        writer.write(NOT_LED_TO)
        return None

    async def _pass_on(
        self, passage: _Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._is_cut(passage):
            passage.abort()
            return
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                far_reader, far_writer = await asyncio.open_connection(
                    self._settings.host, self._settings.hub[passage.carried]
                )
        except (OSError, TimeoutError):
            writer.write(NOT_REACHED)
            return
        passage.ends.append(far_writer)
        try:
            if self._is_cut(passage):
                # It was cut while the hub was being reached.
                passage.abort()
                return
            writer.write(OPENED)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        finally:
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until there is no more, or either end is broken."""
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
    except OSError:
        # The other direction then finds its reader broken, or is told so.
        writer.transport.abort()


def kept_cuts(path: Path) -> Cuts:
    """Return what was cut when the relay ended; ProgramError for a damaged file."""
    try:
        with path.open("rb") as stream:
            return read_cuts(stream.read(CONTROL_BYTES_MAX))
    except FileNotFoundError:
        return {}
    except LineError as error:
        raise ProgramError(f"{path} is damaged: {error}; remove it, and all is healed") from error


def main(arguments: Sequence[str]) -> int:
    """Relay until told to end."""
    parser = argparse.ArgumentParser(prog="lab.relay", description="The sites' way to their hub.")
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args(arguments)

    async def run(stop: asyncio.Event) -> None:
        settings = load_configuration(options.config, RelaySettings)
        configure_logging(settings.log, "relay")
        await Relay(settings, kept_cuts(settings.cuts_file)).serve(stop)

    return run_program(run, require_uvloop=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
