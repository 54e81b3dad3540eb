"""The parts of the hub that an external MQTT broker needs: delivery through it, and its files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from certs.chain import TrustChain
from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import client_context
from service_hub.channel.broker import BrokerAddress, open_broker
from service_hub.channel.delivery import CombinedDelivery, Delivery
from service_hub.channel.mosquitto_files import (
    ACCESS,
    ACCESS_FILE,
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    CONFIGURATION_FILE,
    HUB_IDENTITY,
    KEY_FILE,
    mosquitto_configuration,
)
from service_hub.channel.wakeups import Wakeups
from service_hub.config import BrokerKind, BrokerSettings, HubSettings
from service_hub.ports import PresenceSink
from service_hub.trust import load
from service_shell.clock import SystemClock
from service_shell.configuration import load_configuration
from service_shell.errors import ProgramError
from service_shell.secret_files import write_secret

broker_commands = typer.Typer(help="An external MQTT broker.", no_args_is_help=True)


@asynccontextmanager
async def open_delivery(
    settings: BrokerSettings,
    chain: TrustChain,
    now: datetime,
    *,
    own: Delivery,
    presence: PresenceSink,
    wakeups: Wakeups,
) -> AsyncIterator[Delivery]:
    """Give the delivery that the configuration names; the own listener stays open beside a broker.

    The hub's identity at the broker is made anew at each start, as its server certificate is.
    """
    if settings.kind is BrokerKind.OWN:
        yield own
        return
    key = new_private_key()
    issued = chain.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), HUB_IDENTITY, now)
    tls = client_context(chain.root_pem, chain_pem=issued.chain_pem, key_pem=private_key_pem(key))
    address = BrokerAddress(settings.host, settings.port)
    async with open_broker(address=address, tls=tls, presence=presence, wakeups=wakeups) as broker:
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
    now, key = SystemClock().now(), new_private_key()
    trust = load(settings, now)
    names = settings.broker.names
    issued = trust.chain.issue(
        Profile.HUB_SERVER,
        key.public_key(),
        settings.broker.host,
        now,
        dns_names=names[0],
        ip_addresses=names[1],
    )
    folder = output.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    texts = {
        CONFIGURATION_FILE: mosquitto_configuration(folder, "0.0.0.0", settings.broker.port),
        ACCESS_FILE: ACCESS,
        AUTHORITY_FILE: trust.chains.management_cas_pem + trust.chains.roots_pem,
        CERTIFICATE_FILE: issued.chain_pem,
        KEY_FILE: private_key_pem(key).decode(),
    }
    for name, text in texts.items():
        write_secret(folder / name, text.encode())
    typer.echo(f"written to {folder}; give the files to the user that mosquitto runs as")
