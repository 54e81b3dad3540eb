"""`provider-agent start-without-hub`: an operator's word where no hub gives one (decision 4).

A host that began anew starts no protected machine before the hub has said that its copy may run.
While the hub is away somebody at the site may say so instead, under the epoch that the copy has: it
gets no newer one, a fence stays, and the hub is told of it as soon as it is in contact.
"""

from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from provider_agent.agent import vmm_driver
from provider_agent.config import AgentSettings
from provider_agent.fabric.driver import FabricDriver, FabricError
from provider_agent.local_orders import Ask, Tell, local_command, who_answers
from service_shell.clock import Clock
from service_shell.errors import ProgramError
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import RunState, Verb

SECONDS_MAX: Final = 300.0


@dataclass(frozen=True, slots=True)
class LocalWord:
    """Who lets which machine start, and why."""

    machine_id: str
    reason: str
    by: str


async def start_without_hub(
    settings: AgentSettings, word: LocalWord, tell: Tell, clock: Clock, *, ask: Ask | None
) -> None:
    """Let a copy start that waits for a hub which is away; may be repeated.

    Refused while the hub answers, for a copy that is fenced and for one that is no active one; the
    fabric itself refuses the last two. `ask` None: is not asked.
    """
    if not word.reason.strip():
        raise ProgramError("say why the machine is to start without the hub: --reason TEXT")
    await _check_away(settings, tell, clock)
    async with vmm_driver(settings.vmm) as driver:
        try:
            machine = await _waiting(driver, word.machine_id)
            if machine is None:
                tell("it waits for no hub: nothing is to be done")
                return
            question = (
                f"Machine {machine.name} then runs under epoch {machine.epoch}, whatever happened"
                " at other sites meanwhile. Is it certain that no copy of it runs elsewhere?"
            )
            if ask is not None and not ask(question):
                raise ProgramError("nothing was changed; the hub confirms it once it is in contact")
            left = await _started(driver, machine, word, clock)
        except FabricError as error:
            raise ProgramError(
                f"machine {word.machine_id} stays as it is: {error}; bring the hub into contact,"
                " which knows the active copy"
            ) from error
    if left is None or left.run_state is not RunState.RUNNING:
        raise ProgramError(f"machine {word.machine_id} does not run: look at its host, try again")
    tell(f"machine {left.name} runs under epoch {left.epoch}; the hub is told of it")


async def _check_away(settings: AgentSettings, tell: Tell, clock: Clock) -> None:
    """Refuse while the hub answers: it says itself, within seconds, which copies may run."""
    if await who_answers(settings, tell, clock, otherwise="the hub is away") is None:
        return
    raise ProgramError(
        "the hub answers: its provider confirms what may run by itself; a fence is overridden at"
        " the hub: site-recovery authority override"
    )


async def _waiting(driver: FabricDriver, machine_id: str) -> MachineView | None:
    machine = await driver.machine(machine_id)
    if machine is None or machine.protected_item is None:
        raise ProgramError(f"there is no protected machine {machine_id} here")
    runs = machine.run_state is RunState.RUNNING
    return None if machine.epoch_confirmed and runs else machine


async def _started(
    driver: FabricDriver, machine: MachineView, word: LocalWord, clock: Clock
) -> MachineView | None:
    """Say that the copy may run, start it, and return how it is then."""
    said: dict[str, JsonValue] = {
        "authoritative": True,
        "item": machine.protected_item,
        "without_hub": {"by": word.by, "reason": word.reason.strip()},
    }
    orders: tuple[tuple[Verb, dict[str, JsonValue]], ...] = (
        (Verb.CONFIRM_EPOCH, said),
        (Verb.START, {}),
    )
    for verb, arguments in orders:
        # Its own epoch: who is away may have given a newer one to another copy.
        command = local_command("without-hub", verb, clock, SECONDS_MAX, machine.epoch)
        await driver.perform(verb, machine.machine_id, command, arguments, SECONDS_MAX)
    return await driver.machine(machine.machine_id)
