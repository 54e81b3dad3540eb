"""What was ordered and what was read back, and the words for where the two differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from wire_contract.vmm_interface import (
    CloudView,
    HostView,
    InventoryView,
    MachineView,
    ReplicationView,
)
from wire_contract.vocabulary import ReplicationState, Verb


@dataclass(frozen=True, slots=True)
class Expected:
    """What was ordered: `epoch` is 0 where there is no item; `result` is what the verb answered.

    `thumbprints` are those of the certificates that were issued, per host (`configure_hosts`).
    """

    verb: Verb
    target: str
    epoch: int = 0
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    result: Mapping[str, JsonValue] = field(default_factory=dict)
    nonce: str = ""
    thumbprints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was read after the verb: a machine (null: it does not exist), a cloud and hosts, or all.

    `inventory` is read for verbs on the VMM server itself, `machines` are those of a cloud.
    """

    machine: MachineView | None = None
    cloud: CloudView | None = None
    hosts: tuple[HostView, ...] = ()
    inventory: InventoryView | None = None
    machines: tuple[MachineView, ...] = ()


def differs(name: str, wanted: object, found: object) -> str | None:
    """Return what is not as it was wanted, or null."""
    return None if wanted == found else f"{name} is {found}, not {wanted}"


def first(*reasons: str | None) -> str | None:
    """Return the first reason, or null."""
    return next((reason for reason in reasons if reason is not None), None)


Check = Callable[[Expected, MachineView], str | None]


def replicates(machine: MachineView) -> ReplicationView | str:
    """Return the relationship, or the reason that there is none."""
    return machine.replication or "the machine has no replication relationship"


def in_state(*states: ReplicationState) -> Check:
    """Return a check that replication is in one of these states."""

    def check(_: Expected, machine: MachineView) -> str | None:
        replication = replicates(machine)
        if isinstance(replication, str):
            return replication
        if replication.state in states:
            return None
        wanted = " or ".join(str(int(state)) for state in states)
        return f"replication state is {int(replication.state)}, not {wanted}"

    return check
