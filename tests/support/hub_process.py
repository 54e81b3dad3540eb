"""A hub as a process of its own, which a test may kill, pause, or end as an operator would."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from certs.tokens import issue_operator_token
from service_hub.config import HubSettings
from service_hub.trust import initialise, load
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.secret_files import write_secret

HOST = "127.0.0.1"
PROGRAM = Path(sys.executable).with_name("service-hub")
READY_SECONDS_MAX = 40.0
STOP_SECONDS_MAX = 40.0


@dataclass
class HubProcess:
    """One of the hubs of a database."""

    name: str
    config: Path
    ready: Path
    log: Path
    settings: HubSettings
    running: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self.running is not None
        return self.running.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there, paused or not."""
        return self.running is not None and self.running.returncode is None

    async def start(self) -> None:
        """Start it and return when it serves."""
        self.ready.unlink(missing_ok=True)
        self.running = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("run", "--config", self.config),
            stderr=asyncio.subprocess.DEVNULL,
            stdin=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not self.ready.exists():
                assert self.running.returncode is None, self.tail()
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it with -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to stop; return when it has."""
        await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let no time pass for it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on as if nothing had been."""
        os.kill(self.pid, signal.SIGCONT)

    async def _end(self, number: signal.Signals) -> None:
        if self.running is None or not self.is_running:
            return
        self.running.send_signal(number)
        await asyncio.wait_for(self.running.wait(), STOP_SECONDS_MAX)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what it has logged under a name."""
        if not self.log.exists():
            return []
        found = (json.loads(line) for line in self.log.read_text().splitlines() if line)
        return [line for line in found if line["event"] == event]

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text()[-3000:] if self.log.exists() else "it has logged nothing"


@dataclass(frozen=True)
class FrontDoors:
    """Where clients and servers reach whichever hub is there: ports of a pass-through."""

    operator: int
    provider: int
    mqtt: int


def configure_hub(
    folder: Path,
    name: str,
    doors: FrontDoors,
    free_port: Callable[[], int],
    further: Mapping[str, Any],
) -> HubProcess:
    """Write a hub's configuration; all hubs of a folder have the same key file."""
    ready, log, config = (folder / f"{name}.{kind}" for kind in ("ready", "log", "json"))
    ports = [free_port() for _ in range(3)]
    content = {
        "data_directory": str(folder / name),
        "key_file": str(folder / "hub.key"),
        "public_url": f"https://{HOST}:{doors.operator}",
        "operator": {"host": HOST, "port": ports[0]},
        "provider": {
            "host": HOST,
            "port": ports[1],
            "public_url": f"https://{HOST}:{doors.provider}",
        },
        "mqtt": {
            "host": HOST,
            "port": ports[2],
            "public_host": HOST,
            "public_port": doors.mqtt,
        },
        "heartbeat_seconds": 1,
        "missed_heartbeats_max": 30,
        "retry_after_seconds": 1,
        "log": {"file": str(log), "level": "info"},
        "ready_file": str(ready),
        **further,
    }
    config.write_text(json.dumps(content))
    return HubProcess(name, config, ready, log, load_configuration(config, HubSettings))


def initialise_hubs(hubs: Sequence[HubProcess], token: Path) -> None:
    """Make one chain for all hubs, and an operator's token in a file, as the commands do."""
    first, clock = hubs[0], SystemClock()
    initialise(first.settings, clock.now())
    for other in hubs[1:]:
        other.settings.data_directory.mkdir(mode=0o700)
        shutil.copytree(first.settings.trust_directory, other.settings.trust_directory)
    issued = issue_operator_token(
        load(first.settings, clock.now()).token_key,
        issuer=first.settings.public_url,
        principal="anna",
        role="Contributor",
        now=clock.now(),
        lifetime=timedelta(hours=24),
        token_id=clock.new_id(),
    )
    write_secret(token, issued.encode())
