"""The parts of the hub that an external MQTT broker needs: delivery through it, and its files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from service_hub.broker_keeper import (
    BrokerKeeper,
    write_certificates,
    write_file,
    write_revoked,
)
from service_hub.channel.broker import BrokerAddress, open_broker
from service_hub.channel.delivery import CombinedDelivery, Delivery
from service_hub.channel.mosquitto_files import (
    ACCESS,
    ACCESS_FILE,
    CONFIGURATION_FILE,
    mosquitto_configuration,
)
from service_hub.channel.wakeups import Wakeups
from service_hub.config import BrokerKind, BrokerSettings, HubSettings
from service_hub.database_parts import database_exists, open_database_readers
from service_hub.ports.channel import PresenceSink
from service_hub.ports.stores import Reader
from service_hub.ports.surroundings import Clock
from service_hub.trust import HubTrust, load
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError

broker_commands = typer.Typer(help="An external MQTT broker.", no_args_is_help=True)


@asynccontextmanager
async def open_delivery(
    settings: BrokerSettings,
    trust: HubTrust,
    clock: Clock,
    *,
    own: Delivery,
    reader: Reader,
    presence: PresenceSink,
    wakeups: Wakeups,
) -> AsyncIterator[Delivery]:
    """Give the delivery that the configuration names; the own listener stays open beside a broker.

    The hub's identity at the broker is made anew at each start, as its server certificate is, and
    in time while the hub runs.
    """
    if settings.kind is BrokerKind.OWN:
        yield own
        return
    keeper = BrokerKeeper(settings, trust, reader, clock)
    address = BrokerAddress(settings.host, settings.port)
    opening = open_broker(
        address=address, tls=keeper.tls, presence=presence, wakeups=wakeups, kicked=keeper.kick
    )
    async with keeper.running(), opening as broker:
        yield CombinedDelivery(own, broker)


@broker_commands.callback()
def commands() -> None:
    """An external MQTT broker."""


@broker_commands.command("files")
def files_command(
    config: Annotated[Path, typer.Option(help="The configuration file.")],
    output: Annotated[Path, typer.Option(help="Folder to write to, as the broker will see it.")],
) -> None:
    """Write mosquitto's configuration, access list and certificates."""
    settings = load_configuration(config, HubSettings)
    if settings.broker.kind is BrokerKind.OWN:
        raise ProgramError(
            "the configuration names no broker: set broker: {kind: mqtt, host: ..., port: ...}"
        )
    now = SystemClock().now()
    trust = load(settings, now)
    folder = output.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(
        folder,
        CONFIGURATION_FILE,
        mosquitto_configuration(folder, "0.0.0.0", settings.broker.port),
    )
    write_file(folder, ACCESS_FILE, ACCESS)
    write_certificates(folder, settings.broker, trust, now)
    listed = asyncio.run(_revoked(folder, settings, trust, now))
    typer.echo(f"written to {folder}, {listed} revoked certificates listed")
    typer.echo("give the files to the user that mosquitto runs as")


async def _revoked(folder: Path, settings: HubSettings, trust: HubTrust, now: datetime) -> int:
    if not database_exists(settings):
        return await write_revoked(folder, trust, None, now)
    async with open_database_readers(settings) as reader:
        return await write_revoked(folder, trust, reader, now)
