"""`provider-agent register` and `DRConfigurator /r`: from the vault's name to the first clouds."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from certs.channel_integrity import KeyUnfitError
from provider_agent import VERSION
from provider_agent.agent import vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.credentials import (
    IdentityFacts,
    RegistrationCredentials,
    is_registered,
    read_credentials,
)
from provider_agent.domain.proxies import ProxyRules
from provider_agent.domain.registering import ENCRYPTION_UNUSED, encryption_refusal, node_refusal
from provider_agent.fabric.driver import FabricDriver, FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.operator_orders import insist
from provider_agent.proxy import chosen_rules
from provider_agent.proxy_account import accept_proxy
from provider_agent.registration import register
from provider_agent.setup.inspection import this_node
from provider_agent.shredding import shred
from service_shell.clock import Clock
from service_shell.errors import ProgramError


@dataclass(frozen=True, slots=True)
class RegisterOptions:
    """What the command line says; `shred` null: the operator is asked (not with `yes`)."""

    credentials: Path
    friendly_name: str
    yes: bool = False
    sync_all_clouds: bool = True
    encryption_file: str | None = None
    proxy: ProxyRules | None = None
    shred: bool | None = None
    start_vmm_service: bool = False


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Where registration speaks and asks."""

    tell: Callable[[str], None]
    ask: Callable[[str], bool]


async def run_registration(
    settings: AgentSettings, options: RegisterOptions, dialogue: Dialogue, clock: Clock
) -> IdentityFacts:
    """Register this server, accept the proxy, synchronise the clouds; ProgramError says why not."""
    if options.encryption_file is not None:
        if (reason := encryption_refusal(options.encryption_file)) is not None:
            raise ProgramError(reason)
        dialogue.tell(ENCRYPTION_UNUSED)
    granted = read_credentials(options.credentials, clock.now())
    async with vmm_driver(settings.vmm) as driver:
        service = VmmService(driver)
        rules = chosen_rules(options.proxy, settings.proxy, settings.data_directory, os.environ)
        if not is_registered(settings.data_directory):
            await _prepare(settings, options, granted, service, dialogue)
            _insist(settings, granted, dialogue)
        facts = await register(
            settings.data_directory,
            options.credentials,
            options.friendly_name,
            driver,
            clock,
            route=rules,
            tell=dialogue.tell,
        )
        dialogue.tell(f"registered as {facts.friendly_name} ({facts.provider_id})")
        dialogue.tell(f"vault {facts.vault_name}; start the provider now")
        if options.sync_all_clouds:
            await _synchronize_all(driver, service, dialogue)
        else:
            dialogue.tell("no cloud is synchronised: set the property of each cloud in VMM")
    await _shred(options, dialogue)
    return facts


async def _prepare(
    settings: AgentSettings,
    options: RegisterOptions,
    granted: RegistrationCredentials,
    service: VmmService,
    dialogue: Dialogue,
) -> None:
    dialogue.tell(f"vault: {granted.vault_name} ({granted.provider_url})")
    if not options.yes and not dialogue.ask("Register this server with that vault?"):
        raise ProgramError(f"not registered with the vault {granted.vault_name}")
    try:
        if options.start_vmm_service:
            await service.control(running=True)
        view = await service.view()
    except FabricError as error:
        raise ProgramError(
            f"the VMM server cannot be asked: {error}; check vmm.url in the configuration"
        ) from error
    node = this_node(view, settings.node)
    if (reason := node_refusal(view, node, VERSION, options.friendly_name)) is not None:
        raise ProgramError(reason)
    if options.proxy is not None:
        await accept_proxy(
            options.proxy,
            granted.provider_url,
            granted.root_pem,
            settings.data_directory,
            service,
        )


def _insist(settings: AgentSettings, granted: RegistrationCredentials, dialogue: Dialogue) -> None:
    """Keep the vault's channel integrity key, where the file has one, before anything is asked."""
    if not granted.channel_integrity_key:
        return
    try:
        insist(settings.data_directory, granted.channel_integrity_key)
    except KeyUnfitError as error:
        raise ProgramError(
            f"the ChannelIntegrityKey in the credentials file cannot be used: {error};"
            " generate a new registration key"
        ) from error
    dialogue.tell(
        "this server will stop, fail over or discard machines on an operator's signature alone"
        " (see: provider-agent operator-signature --help)"
    )


async def _synchronize_all(driver: FabricDriver, service: VmmService, dialogue: Dialogue) -> None:
    try:
        clouds = (await driver.inventory()).clouds
        for cloud in clouds:
            await service.synchronize(cloud.cloud_id, synchronize=True)
    except FabricError as error:
        raise ProgramError(
            f"the server is registered, but its clouds are not all synchronised: {error};"
            " set the property of each cloud in VMM"
        ) from error
    dialogue.tell(f"all clouds are synchronised ({len(clouds)})")


async def _shred(options: RegisterOptions, dialogue: Dialogue) -> None:
    wanted = options.shred
    if wanted is None and not options.yes:
        wanted = dialogue.ask(
            f"{options.credentials} holds a private key and is not needed any more. Shred it?"
        )
    if wanted:
        await asyncio.to_thread(shred, options.credentials)
        dialogue.tell(f"{options.credentials} is shredded")
    else:
        dialogue.tell(f"delete {options.credentials}: it holds a private key")
