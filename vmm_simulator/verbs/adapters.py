"""The verb that connects a replica's adapters, and the same work as a failover's first step."""

from collections.abc import Sequence

from vmm_simulator.verbs.arguments import ConnectAdapters, FailOver, WantedAdapter
from vmm_simulator.verbs.call import Call, Result, refused_state
from vmm_simulator.vmm.adapters import Wish, with_adapters
from vmm_simulator.vmm.inventory import Edit, Inventory
from wire_contract.vocabulary import ReplicationMode, RunState


def check_connect(call: Call[ConnectAdapters]) -> None:
    """Refuse a copy that is no replica or runs, and what cannot be connected."""
    machine = call.machine
    if machine.mode is not ReplicationMode.REPLICA:
        raise refused_state(
            f"machine {machine.name} is no replica", "change its adapters in VMM instead"
        )
    if call.host.guests.run_state(machine) is not RunState.OFF:
        raise refused_state(f"machine {machine.name} runs", "change its adapters in VMM instead")
    check_adapters(call)


async def connect_adapters(call: Call[ConnectAdapters]) -> Result:
    """Connect the adapters that are named, with addresses of their pools."""
    await connect(call)
    call.reached("adapters")
    return {}


def check_adapters(call: Call[ConnectAdapters] | Call[FailOver]) -> None:
    """Refuse networks that are not there or out of reach, and pools that are used up."""
    _edit(call.fabric.store.inventory, call.target, call.arguments.adapters)


async def connect(call: Call[ConnectAdapters] | Call[FailOver]) -> None:
    """Connect the adapters that are named; none changes nothing."""
    wanted = call.arguments.adapters
    if wanted:
        await call.fabric.store.edit(lambda inventory: _edit(inventory, call.target, wanted))


def _edit(inventory: Inventory, machine_id: str, wanted: Sequence[WantedAdapter]) -> Edit:
    machine = inventory.machines[machine_id]
    return with_adapters(inventory, machine, [_wish(each) for each in wanted])


def _wish(wanted: WantedAdapter) -> Wish:
    return Wish(
        nic_id=wanted.nic_id,
        network_id=wanted.network_id,
        subnet=wanted.subnet,
        address_type=wanted.address_type,
        address=None if wanted.address is None else str(wanted.address),
        synthetic=wanted.synthetic,
    )
