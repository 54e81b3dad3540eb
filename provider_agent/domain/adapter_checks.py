"""What must be read back of a machine's adapters (docs/wire-contract.md, the table of verbs)."""

from collections.abc import Mapping

from pydantic import JsonValue

from provider_agent.domain.read_back import Expected, differs, first
from wire_contract.vmm_interface import MachineView, NicView


def adapters_as_asked(expected: Expected, machine: MachineView) -> str | None:
    """Return which of the adapters that were named is not connected as it was asked."""
    present = {each.nic_id: each for each in machine.nics}
    reasons = (_unlike(each, present) for each in _named(expected))
    return first(*reasons)


def adapters_placed(expected: Expected, machine: MachineView) -> str | None:
    """Return which adapter a new replica lacks, or has connected already."""
    present = {each.nic_id: each for each in machine.nics}
    for wanted in _named(expected):
        nic = present.get(str(wanted.get("nic_id")))
        if nic is None:
            return f"there is no adapter {wanted.get('nic_id')}"
        if nic.network_id is not None:
            return f"adapter {nic.nic_id} is connected to network {nic.network_id} already"
    return None


def _named(expected: Expected) -> list[Mapping[str, JsonValue]]:
    asked = expected.arguments.get("adapters")
    return [each for each in asked if isinstance(each, dict)] if isinstance(asked, list) else []


def _unlike(wanted: Mapping[str, JsonValue], present: Mapping[str, NicView]) -> str | None:
    nic_id, network_id = wanted.get("nic_id"), wanted.get("network_id")
    nic = present.get(str(nic_id))
    if nic is None:
        return f"there is no adapter {nic_id}"
    of = f"adapter {nic_id}:"
    if network_id is None:
        return first(
            differs(f"{of} network", None, nic.network_id),
            differs(f"{of} address", None, nic.address),
        )
    static = wanted.get("address_type") == "Static"
    # Which address it is VMM decides: the one that is wanted may not be free.
    unaddressed = static and nic.synthetic and nic.address is None
    return first(
        differs(f"{of} network", network_id, nic.network_id),
        differs(f"{of} subnet", wanted.get("subnet"), nic.subnet),
        f"{of} it has no address" if unaddressed else None,
    )
