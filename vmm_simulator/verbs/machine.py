"""Verbs on one machine as such: protection property, start, shut down, the current epoch."""

import structlog

from vmm_simulator.hyperv.fencing import fence
from vmm_simulator.hyperv.starting import start_blocked_by, thinks_itself_active
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import ConfirmEpoch, NoArguments, ShutDown, UpdateProtection
from vmm_simulator.verbs.call import Call, Result, refuse_present_fence
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import fenced, position, without_fence
from wire_contract.vmm_interface import StartedWithoutHub
from wire_contract.vocabulary import RunState

log = structlog.get_logger(__name__)


def check_update_protection(call: Call[UpdateProtection]) -> None:
    """Refuse to set the property of a machine that is not there; cleared it is with the machine."""
    if call.arguments.item is not None:
        call.fabric.store.machine(call.target)


async def update_protection(call: Call[UpdateProtection]) -> Result:
    """Set or clear the VM's "Datacenter Recovery" property; a fence ends with the protection."""
    arguments = call.arguments
    if arguments.item is None and call.target not in call.fabric.store.machines:
        call.reached("updated")
        return {}
    role = None if arguments.item is None or arguments.role is None else arguments.role.value

    def update(present: MachineRecord) -> MachineRecord:
        kept = present if arguments.item is not None else without_fence(present)
        return kept.model_copy(
            update={
                "protected_item": arguments.item,
                # Answered, whichever it was.
                "protection_asked_at": None,
                "protection_end_asked_at": None,
                "protected_role": role,
                "protected_active": arguments.active and arguments.item is not None,
            }
        )

    await call.change(update)
    call.reached("updated")
    return {}


def check_start(call: Call[NoArguments]) -> None:
    """Refuse a copy that may not be started under the command's epoch."""
    machine = call.machine
    block = start_blocked_by(call.fabric.claim(machine), call.command.epoch)
    if block is not None:
        raise RefusedError(
            block.code,
            f"machine {machine.name} cannot be started: {block.reason}",
            "start the active copy; an epoch is confirmed by the hub through its provider",
        )


async def start(call: Call[NoArguments]) -> Result:
    """Have a guest process run; whether this copy may be started was checked."""
    wanted = {"desired_running": True, "saved": False}
    machine = await call.change(lambda each: each.model_copy(update=wanted))
    call.reached("wanted")
    await call.host.guests.start(machine)
    call.reached("started")
    return {}


def check_shut_down(call: Call[ShutDown]) -> None:
    """Refuse a paused machine: nobody in it hears that it is to shut down."""
    if call.host.guests.run_state(call.machine) is RunState.PAUSED:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {call.machine.name} is paused: its guest cannot shut down",
            "resume it or turn it off",
        )


async def shut_down(call: Call[ShutDown]) -> Result:
    """Have the guest finish its record, flush and end."""
    before = call.machine
    unwanted = {"desired_running": False, "saved": False}
    machine = await call.change(lambda each: each.model_copy(update=unwanted))
    call.reached("unwanted")
    seconds = min(call.arguments.seconds, call.seconds_left())
    if not await call.host.guests.stop(machine, seconds):
        await call.change(
            lambda each: each.model_copy(update={"desired_running": before.desired_running})
        )
        raise RefusedError(
            Code.TIMEOUT,
            f"the guest of machine {machine.name} did not shut down within {seconds:.0f} s",
            "look into the guest, or turn it off",
        )
    call.reached("stopped")
    return {}


def check_epoch(call: Call[ConfirmEpoch]) -> None:
    """Refuse to lift a fence by a word that is not newer than the one which set it."""
    if call.arguments.authoritative:
        refuse_present_fence(call, call.machine)


def fenced_by_the_word(call: Call[ConfirmEpoch], machine: MachineRecord) -> MachineRecord:
    """Return the copy as it takes the hub's epoch: fenced at once where another one holds it.

    A copy that runs would hold it, too, until it is ended; for good, were the site killed before.
    """
    if call.arguments.authoritative or not _thinks_itself_active(machine):
        return machine
    return fenced(machine)


async def confirm_epoch(call: Call[ConfirmEpoch]) -> Result:
    """Take the hub's word on who is the active copy; the epoch is stored already."""
    if call.arguments.authoritative:
        return await _confirm_active(call)
    machine = call.machine
    call.fabric.confirmed.discard(machine.machine_id)
    if _thinks_itself_active(machine):
        await call.fabric.cycles.stop(machine.machine_id)
        await fence(
            call.fabric.store, call.host, machine.machine_id, "the hub says: not the active copy"
        )
    else:
        await call.host.guests.kill(machine)
    await call.change(lambda each: each.model_copy(update={"desired_running": False}))
    call.reached("stopped")
    return {}


async def _confirm_active(call: Call[ConfirmEpoch]) -> Result:
    update: dict[str, object] = {"fenced": False}
    word = call.arguments.without_hub
    if word is not None:
        noted = StartedWithoutHub(by=word.by, reason=word.reason, at=call.fabric.clock.now())
        update["started_without_hub"] = noted
        log.warning("confirmed_without_hub", machine_id=call.target, by=word.by, reason=word.reason)
    machine = await call.change(lambda each: each.model_copy(update=update))
    call.fabric.confirmed.add(machine.machine_id)
    call.reached("confirmed")
    startable = start_blocked_by(call.fabric.claim(machine), call.command.epoch) is None
    if startable and machine.desired_running:
        await call.host.guests.start(machine)
    call.fabric.cycles.ensure(machine.machine_id)
    call.reached("started")
    return {}


def is_running(call: Call[NoArguments]) -> bool:
    """Return whether the effect of `start` still holds."""
    return call.host.guests.run_state(call.machine) is RunState.RUNNING


def is_off(call: Call[ShutDown]) -> bool:
    """Return whether the effect of `shut_down` still holds."""
    return call.host.guests.run_state(call.machine) is RunState.OFF


def _thinks_itself_active(machine: MachineRecord) -> bool:
    if machine.reserved:
        # Placed and not made yet: a fence would outlast the word, and keep the replica from
        # starting after a failover.
        return False
    return thinks_itself_active(position(machine))
