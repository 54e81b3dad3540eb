"""One call of a verb, and what verbs act on."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import JsonValue

from service_shell.clock import Clock
from vmm_simulator.broker_roles import BrokerRoles
from vmm_simulator.hyperv.cycles import Cycles
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.starting import Claim
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.transitions import claim
from wire_contract.model import WireModel
from wire_contract.vmm_interface import Command

ArgumentsT = TypeVar("ArgumentsT", bound=WireModel)

Result = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Fabric:
    """The fabric that verbs act on; `confirmed` names machines whose epoch holds since the start.

    What is confirmed is not in the journal on purpose: a host that starts knows nothing of what
    happened elsewhere while it was away (architecture, decision 4).
    """

    store: InventoryStore
    hosts: Mapping[str, Host]
    cycles: Cycles
    brokers: BrokerRoles
    clock: Clock
    confirmed: set[str] = field(default_factory=set)

    def host_of(self, machine: MachineRecord) -> Host:
        """Return the host that a machine is on."""
        return self.hosts[machine.host]

    def claim(self, machine: MachineRecord) -> Claim:
        """Return what decides whether a machine may start."""
        return claim(machine, confirmed=machine.machine_id in self.confirmed)


@dataclass(frozen=True, slots=True)
class Call(Generic[ArgumentsT]):
    """One verb for one target; `reached` marks the end of an internal step."""

    fabric: Fabric
    target: str
    command: Command
    arguments: ArgumentsT
    reached: Callable[[str], None]

    @property
    def machine(self) -> MachineRecord:
        """The target as it is now, or a refusal with 404."""
        return self.fabric.store.machine(self.target)

    @property
    def host(self) -> Host:
        """The host of the target."""
        return self.fabric.host_of(self.machine)

    async def change(self, change: Callable[[MachineRecord], MachineRecord]) -> MachineRecord:
        """Change the target's record, durably."""
        return await self.fabric.store.change_machine(self.target, change)

    def seconds_left(self) -> float:
        """Return how long until the deadline, never below zero."""
        left = (self.command.deadline - self.fabric.clock.now()).total_seconds()
        return max(0.0, left)


class StepBreakError(Exception):
    """A fault of kind `partial` ends the verb after a step."""

    def __init__(self, step: str, code: int) -> None:
        super().__init__(step)
        self.step = step
        self.code = code


Perform = Callable[[Call[ArgumentsT]], Awaitable[Result]]


def refused_state(message: str, action: str = "") -> RefusedError:
    """Return the refusal for a state in which the verb cannot be done (32775)."""
    return RefusedError(Code.INVALID_STATE, message, action)


def refuse_present_fence(call: Call[ArgumentsT], machine: MachineRecord) -> None:
    """Refuse to make a copy the active one by a word that is not newer than its fence."""
    if machine.fenced and call.command.epoch <= machine.fenced_at_epoch:
        raise RefusedError(
            Code.COPY_FENCED,
            f"machine {machine.name} was fenced at epoch {machine.fenced_at_epoch};"
            f" epoch {call.command.epoch} does not make it the active copy again",
            "fail over to it or reverse the replication",
        )
