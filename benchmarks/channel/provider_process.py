"""Many simulated providers in one process, led over its standard input and output.

    provider_process.py GROUND FIRST COUNT [PORT]

One JSON line asks, one answers. PORT: connect to this MQTT port instead of the hub's. With COUNT 1
the provider journals as a real agent does: signature checked, SQLite with synchronous=FULL.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from benchmarks.channel.provider_simulator import Deep, Simulator, context_of
from benchmarks.channel.provision import HOST, Ground
from certs.signing import EventVerifier
from provider_agent.intake import EventIntake
from provider_agent.journal import Journal
from provider_agent.wake import Wake
from service_shell.clock import SystemClock
from wire_contract.reports import StreamPosition

PING_SECONDS: Final = 45.0
PARALLEL_CONNECTS: Final = 32
LINE_BYTES_MAX: Final = 16_777_216


@dataclass(slots=True)
class Crowd:
    """The providers of this process and what they are doing."""

    ground: Ground
    simulators: list[Simulator]
    group: asyncio.TaskGroup
    tasks: dict[str, list[asyncio.Task[None]]] = field(default_factory=dict)

    async def obey(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: C901 -- one case per word
        """Do what is asked and return what is to be told."""
        match asked["do"]:
            case "connect":
                return {"span": await self._in_parallel(lambda each: each.connect())}
            case "bare":
                return {"span": await self._in_parallel(lambda each: _bare(each, asked["port"]))}
            case "disconnect":
                for each in self.simulators:
                    each.disconnect()
            case "drops":
                for each in self.simulators:
                    each.drops = asked["value"]
            case "start":
                self._start(asked["what"])
            case "stop":
                await self._stop(asked["what"])
            case "publish":
                payload = asked["payload"].encode()
                return {"before": await self.simulators[0].publish(asked["topics"], payload)}
            case "journal":
                return {"journal": {each.name: each.journal for each in self.simulators}}
            case "counts":
                return self._counts()
        return {}

    def _counts(self) -> dict[str, int]:
        return {
            "connected": sum(each.connected.is_set() for each in self.simulators),
            "written": sum(len(each.journal) for each in self.simulators),
            "unreported": sum(each.unreported for each in self.simulators),
            "gaps": sum(each.gaps for each in self.simulators),
            "deliveries": sum(each.deliveries for each in self.simulators),
        }

    async def _in_parallel(
        self, work: Callable[[Simulator], Awaitable[object]]
    ) -> tuple[float, float]:
        gate = asyncio.Semaphore(PARALLEL_CONNECTS)

        async def one(simulator: Simulator) -> None:
            async with gate:
                await work(simulator)

        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for each in self.simulators:
                group.create_task(one(each))
        return started, time.monotonic()

    def _start(self, what: str) -> None:
        coroutines: dict[str, Callable[[Simulator], Coroutine[Any, Any, None]]] = {
            "stay": Simulator.stay,
            "listen": Simulator.listen,
            "report": Simulator.report,
            "poll": Simulator.poll,
            "beat": Simulator.beat,
        }
        chosen = coroutines[what]
        self.tasks[what] = [self.group.create_task(chosen(each)) for each in self.simulators]

    async def _stop(self, what: str) -> None:
        tasks = self.tasks.pop(what, [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ping(self) -> None:
        """Keep all connections alive, for ever."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            for each in self.simulators:
                each.ping()

    async def close(self) -> None:
        """End everything."""
        for what in list(self.tasks):
            await self._stop(what)
        for each in self.simulators:
            await each.close()


async def _bare(simulator: Simulator, port: int) -> None:
    """Open a connection of the same TLS to a server that does nothing else."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=simulator.context)
    writer.write(b"?")
    await reader.readexactly(1)
    writer.transport.abort()


@contextlib.asynccontextmanager
async def _deep(ground: Ground, simulator: Simulator, path: Path) -> AsyncIterator[Deep]:
    clock = SystemClock()
    async with Journal.open(path, clock.new_id()) as journal:
        await journal.follow(StreamPosition(stream=simulator.credentials.stream, seq=0))
        verifier = EventVerifier(ground.root_pem)
        intake = EventIntake(verifier, simulator.name, journal, clock, session_due=Wake())

        async def take(jws: bytes) -> None:
            await intake.receive_message(jws)

        yield take


async def main(ground_file: Path, first: int, count: int, port: int | None) -> None:
    """Obey until standard input ends."""
    ground = Ground.load(ground_file)
    chosen = ground.providers[first : first + count]
    path = ground_file.parent / f"journal-{first}-{count}-{port or 0}"
    with path.open("wb", buffering=0) as file:
        simulators = [
            Simulator(
                each,
                context_of(each, ground.root_pem, ground.key_pem),
                port or ground.mqtt_port,
                ground.provider_url,
                file,
            )
            for each in chosen
        ]
        async with contextlib.AsyncExitStack() as stack:
            if count == 1 and port is None:
                deep = _deep(ground, simulators[0], path.with_suffix(".db"))
                simulators[0].deep = await stack.enter_async_context(deep)
            await _serve(ground, simulators)


async def _serve(ground: Ground, simulators: list[Simulator]) -> None:
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        crowd = Crowd(ground, simulators, group)
        pings = group.create_task(crowd.ping())
        _tell({"ready": True})
        while line := await reader.readline():
            try:
                told = await crowd.obey(json.loads(line))
            except* OSError as error:
                told = {"error": repr(error.exceptions[0])}
            _tell(told)
        pings.cancel()
        await crowd.close()


def _tell(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    other_port = int(sys.argv[4]) if len(sys.argv) > 4 else None  # noqa: PLR2004 -- the fourth argument
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), other_port))
