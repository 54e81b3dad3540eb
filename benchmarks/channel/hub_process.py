"""The hub as it is, in its own process, and a hand to commit events and to time that.

    hub_process.py CONFIG SOCKET

It runs `service_hub.hub.run_hub`; the only additions are that the committer it makes is remembered,
and the moment of the first publication after a commit.
"""

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import service_hub.hub
from service_hub.channel.delivery import Publication
from service_hub.channel.mqtt_endpoint import MqttEndpoint
from service_hub.config import HubSettings
from service_hub.engine.committer import GroupCommitter
from service_hub.ports.changes import Change, NewEvent
from service_hub.ports.running import Outbox
from service_hub.ports.stores import Store
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.logs import configure_logging
from service_shell.program import run_program
from wire_contract.vocabulary import EventType

EVENT_LIFETIME: Final = timedelta(hours=1)
LINE_BYTES_MAX: Final = 1_048_576


class RememberedCommitter(GroupCommitter):
    """The hub's committer; the one that was made last can be asked for."""

    made: "RememberedCommitter | None" = None

    def __init__(self, store: Store, outbox: Outbox) -> None:
        super().__init__(store, outbox)
        RememberedCommitter.made = self


class FirstPublication:
    """When the MQTT endpoint was first given an event since the last commit began."""

    moment: float | None = None


def remember_publications() -> None:
    """Have the endpoint note that moment."""
    endpoint: Any = MqttEndpoint
    publish = endpoint.publish

    def noted(self: MqttEndpoint, provider_id: str, payload: bytes) -> Publication:
        if FirstPublication.moment is None:
            FirstPublication.moment = time.monotonic()
        taken: Publication = publish(self, provider_id, payload)
        return taken

    endpoint.publish = noted


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve the measuring process: one JSON line asks, one answers."""
    clock = SystemClock()
    while line := await reader.readline():
        asked = json.loads(line)
        if "providers" not in asked:
            writer.write(json.dumps({"published": FirstPublication.moment}).encode() + b"\n")
            await writer.drain()
            continue
        now = clock.now()
        events = [
            NewEvent(
                event_id=clock.new_id(),
                vault_id=asked["vault_id"],
                provider_id=provider_id,
                type=EventType.REFRESH,
                issued_at=now,
                expires_at=now + EVENT_LIFETIME,
                body={},
            )
            for provider_id in asked["providers"]
        ]
        committer = RememberedCommitter.made
        assert committer is not None, "the hub is not ready yet"
        FirstPublication.moment = None
        before = time.monotonic()
        await committer.commit(Change(events=events))
        told = {"before": before, "after": time.monotonic()}
        writer.write(json.dumps(told).encode() + b"\n")
        await writer.drain()
    writer.close()


def main(config: Path, socket_path: Path) -> int:
    """Run the hub until it is told to stop."""
    settings = load_configuration(config, HubSettings)
    configure_logging(settings.log, "service-hub")
    hub: Any = service_hub.hub
    hub.GroupCommitter = RememberedCommitter
    remember_publications()

    socket_path.unlink(missing_ok=True)

    async def serve(stop: asyncio.Event) -> None:
        server = await asyncio.start_unix_server(answer, socket_path, limit=LINE_BYTES_MAX)
        async with server:
            await service_hub.hub.run_hub(settings, SystemClock(), stop)

    return run_program(serve, require_uvloop=False)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
