"""Verbs of the networks that a test failover has of its own: made before it, gone after it."""

import structlog

from vmm_simulator.verbs.arguments import CreateTestNetworks, RemoveTestNetworks
from vmm_simulator.verbs.call import Call, Result
from vmm_simulator.vmm.drill_networks import TestedFor, WantedNetwork, making, removing
from vmm_simulator.vmm.estate_edits import checked
from vmm_simulator.vmm.estate_records import SubnetRecord
from vmm_simulator.vmm.inventory import Edit, Inventory

log = structlog.get_logger(__name__)


def check_create(call: Call[CreateTestNetworks]) -> None:
    """Refuse a logical network on which no test network can be made (7004, 25080)."""
    checked(lambda inventory: _making(call, inventory))(call.fabric.store.inventory)


async def create(call: Call[CreateTestNetworks]) -> Result:
    """Make a network for each that the tested machine is connected to."""
    await call.fabric.store.edit(checked(lambda inventory: _making(call, inventory)))
    log.info(
        "test_networks_made",
        test_machine_id=call.arguments.test_machine_id,
        networks=[each.network_id for each in call.arguments.networks],
    )
    call.reached("networks made")
    return {}


def check_remove(call: Call[RemoveTestNetworks]) -> None:
    """Refuse while a machine is connected to one of them."""
    removing(call.fabric.store.inventory, call.arguments.test_machine_id)


async def remove(call: Call[RemoveTestNetworks]) -> Result:
    """Take them away with their pools; those that are gone are no error."""
    test_of = call.arguments.test_machine_id
    await call.fabric.store.edit(checked(lambda inventory: removing(inventory, test_of)))
    log.info("test_networks_removed", test_machine_id=test_of)
    call.reached("networks removed")
    return {}


def _making(call: Call[CreateTestNetworks], inventory: Inventory) -> Edit:
    arguments = call.arguments
    store = call.fabric.store
    clouds = [store.cloud(each) for each in (arguments.cloud_id, *arguments.further_cloud_ids)]
    wanted = [
        WantedNetwork(
            network_id=each.network_id,
            name=each.name,
            like=each.like,
            dynamic_addresses=each.dynamic_addresses,
            subnets=tuple(
                SubnetRecord(name=subnet.name, address_list=subnet.address_list)
                for subnet in each.subnets
            ),
        )
        for each in arguments.networks
    ]
    tested_for = TestedFor(arguments.test_machine_id, arguments.environment)
    return making(inventory, clouds, arguments.logical_network_id, tested_for, wanted)
