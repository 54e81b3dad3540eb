"""`provider-agent cleanup`: tidies a server that its hub has forgotten (behaviour 2.15)."""

import asyncio
from typing import Final

from provider_agent.agent import vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.directory_lock import lock_directory
from provider_agent.fabric.driver import FabricDriver, FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.local_orders import Ask, Tell, local_command, who_answers
from provider_agent.registration_traces import forget_in_vmm, forget_registration
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from wire_contract.vmm_interface import Command
from wire_contract.vocabulary import Verb

CLEAN_UP_SECONDS_MAX: Final = 300.0


async def run_cleanup(settings: AgentSettings, tell: Tell, clock: Clock) -> None:
    """Remove pairing marks, RunAs account, notes on all nodes and the identity.

    It may be repeated. Refused while the provider runs, while the hub still knows this server, and
    while machines are protected.
    """
    with lock_directory(settings.data_directory):
        await _check_forgotten(settings, tell, clock)
        async with vmm_driver(settings.vmm) as driver:
            try:
                await _clean_vmm(driver, VmmService(driver), settings, clock)
            except FabricError as error:
                raise ProgramError(
                    f"the VMM server could not be cleaned up: {error}; nothing was forgotten,"
                    " mend this and run cleanup again"
                ) from error
        tell("pairing, RunAs account and the notes of all nodes are removed from VMM")
        await asyncio.to_thread(forget_registration, settings.data_directory)
        tell("this server's registration is forgotten")


async def unpair_cloud(settings: AgentSettings, named: str, tell: Tell, clock: Clock) -> None:
    """Remove from one cloud what a partner that its hub has forgotten left; may be repeated.

    Beside a running provider, or without one. Refused while a machine of the cloud is protected.
    """
    async with vmm_driver(settings.vmm) as driver:
        try:
            clouds = (await driver.inventory()).clouds
            wanted = named.lower()
            found = [
                each
                for each in clouds
                if wanted in {each.cloud_id.lower(), each.friendly_name.lower()}
            ]
            if len(found) != 1:
                names = ", ".join(each.friendly_name for each in clouds) or "none"
                raise ProgramError(f"there is no cloud {named} here; there is: {names}")
            cloud = found[0]
            arguments = {"partner_cloud_id": cloud.partner_cloud_id or cloud.cloud_id}
            command = _command(Verb.UNPAIR_CLOUD, clock)
            await driver.perform(
                Verb.UNPAIR_CLOUD, cloud.cloud_id, command, arguments, CLEAN_UP_SECONDS_MAX
            )
        except FabricError as error:
            raise ProgramError(
                f"the cloud {named} stays as it is: {error}; mend this and run it again"
            ) from error
    tell(f"cloud {cloud.friendly_name} is paired with no other; its hosts serve no partner of it")


async def unprotect_machine(
    settings: AgentSettings, machine_id: str, tell: Tell, clock: Clock, *, ask: Ask | None
) -> None:
    """Remove from one machine the protection that its hub removed by force; may be repeated.

    Beside a running provider, or without one. Only this end's relationship goes; the machine stays,
    with its disks. `ask`: the operator says that the hub has let go of it; None: is not asked.
    """
    async with vmm_driver(settings.vmm) as driver:
        try:
            machine = await driver.machine(machine_id)
            if machine is None:
                raise ProgramError(f"there is no machine {machine_id} here: nothing is to be done")
            if machine.protected_item is None and machine.replication is None:
                tell(f"machine {machine.name} is not protected: nothing is to be done")
                return
            question = (
                f"Machine {machine.name} then replicates no longer. Has the hub removed its"
                " protection by force (the job PurgeDr says so)?"
            )
            if ask is not None and not ask(question):
                raise ProgramError("nothing was changed; disable its protection at the hub instead")
            # The machine's own epoch: an order of this server's operator is older than none.
            for verb, arguments in (
                (Verb.DISABLE_REPLICATION, {"delete_replica": False}),
                (Verb.UPDATE_PROTECTION, {"item": None, "role": None, "active": False}),
            ):
                command = _command(verb, clock, machine.epoch)
                await driver.perform(
                    verb, machine.machine_id, command, arguments, CLEAN_UP_SECONDS_MAX
                )
            left = await driver.machine(machine_id)
        except FabricError as error:
            raise ProgramError(
                f"machine {machine_id} stays as it is: {error}; mend this and run it again"
            ) from error
    if left is not None and (left.replication is not None or left.protected_item is not None):
        raise ProgramError(f"machine {machine_id} still shows its protection: run it again")
    tell(f"machine {machine.name} is protected no longer; its disks are as they were")


async def _check_forgotten(settings: AgentSettings, tell: Tell, clock: Clock) -> None:
    """Refuse where the hub still knows this server; a hub that is away is no hindrance."""
    identity = await who_answers(
        settings, tell, clock, otherwise="the hub does not know this server any more, or is away"
    )
    if identity is None:
        return
    raise ProgramError(
        f"the hub still knows this server as {identity.facts.friendly_name}: delete it from the"
        f" vault {identity.facts.vault_name} there, then its provider cleans up by itself; if it"
        " cannot, purge it there and run cleanup again"
    )


async def _clean_vmm(
    driver: FabricDriver, service: VmmService, settings: AgentSettings, clock: Clock
) -> None:
    view = await service.view()
    command = _command(Verb.CLEAN_UP, clock)
    await driver.perform(Verb.CLEAN_UP, view.vmm_id, command, {}, CLEAN_UP_SECONDS_MAX)
    await forget_in_vmm(driver, service, settings.data_directory)


def _command(verb: Verb, clock: Clock, epoch: int = 0) -> Command:
    return local_command("cleanup", verb, clock, CLEAN_UP_SECONDS_MAX, epoch)
