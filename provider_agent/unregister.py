"""`provider-agent unregister`: the running provider leaves its vault (behaviour 2.15)."""

import asyncio
from collections.abc import Callable
from typing import Final

from provider_agent.agent import vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.credentials import is_registered, load_identity
from provider_agent.directory_lock import DirectoryInUseError, lock_directory
from provider_agent.fabric.driver import FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.hub_https import HubError, HubRefusedError
from provider_agent.local_orders import hub_client
from provider_agent.registration_traces import forget_in_vmm
from service_shell.clock import Clock
from service_shell.errors import ProgramError

LEAVING_SECONDS_MAX: Final = 900.0
"""As long as the hub waits for its task."""

POLL_SECONDS: Final = 0.2

Tell = Callable[[str], None]
Ask = Callable[[str], bool]


async def run_unregistration(
    settings: AgentSettings,
    tell: Tell,
    clock: Clock,
    *,
    ask: Ask | None = None,
    seconds_max: float = LEAVING_SECONDS_MAX,
) -> None:
    """Have the hub take this server out; return when the provider has cleaned up and forgotten.

    `ask` is asked before anything is; None: nobody is. ProgramError names what is still protected,
    mapped or paired, or what else is in the way.
    """
    _check_running(settings)
    identity = load_identity(settings.data_directory, clock.now())
    question = (
        f"Take this server out of the vault {identity.facts.vault_name}? To come back it must be"
        " registered anew, with a new registration key."
    )
    if ask is not None and not ask(question):
        raise ProgramError("the server stays in its vault: nobody said yes; --yes asks nothing")
    try:
        async with hub_client(settings, identity, clock) as hub:
            answer = await hub.unregister()
    except HubRefusedError as error:
        raise ProgramError(f"the server stays in its vault: {error}") from error
    except HubError as error:
        raise ProgramError(
            f"the hub cannot be asked: {error}; try again later, or purge the server at the hub"
            " and run: provider-agent cleanup"
        ) from error
    tell(f"the hub takes this server out of the vault (job {answer.job_id})")
    await _until_ended(settings, answer.job_id, seconds_max)
    if is_registered(settings.data_directory):
        raise ProgramError(
            "the provider was stopped before it had cleaned up; start it again, and look at job"
            f" {answer.job_id} in the vault"
        )
    try:
        async with vmm_driver(settings.vmm) as driver:
            # The provider has done it; repeated, so that who waits here is told what stands.
            await forget_in_vmm(driver, VmmService(driver), settings.data_directory)
    except FabricError as error:
        raise ProgramError(
            f"the server has left its vault, but VMM keeps its RunAs account: {error};"
            " run: provider-agent cleanup"
        ) from error
    tell(f"this server has left the vault {identity.facts.vault_name}")


async def _until_ended(settings: AgentSettings, job_id: str, seconds_max: float) -> None:
    """Return when the provider has ended, as it does after it has left."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds_max
    while _runs(settings):
        if loop.time() >= until:
            raise ProgramError(
                f"the provider has not cleaned up within {seconds_max:.0f} s; look at job"
                f" {job_id} in the vault"
            )
        await asyncio.sleep(POLL_SECONDS)


def _runs(settings: AgentSettings) -> bool:
    """Return whether a provider works with the data directory: it then holds its lock."""
    try:
        with lock_directory(settings.data_directory):
            return False
    except DirectoryInUseError:
        return True


def _check_running(settings: AgentSettings) -> None:
    """Refuse without a provider that could clean up."""
    if _runs(settings):
        return
    raise ProgramError(
        "the provider does not run, and it is the one that cleans up: start it and run unregister"
        " again; where the hub has forgotten this server, run: provider-agent cleanup"
    )
