"""What is asked of all machines at every look and every transfer, kept up from change to change.

A site of thousands of machines would go through all of them dozens of times for each of its verbs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmm_simulator.vmm.records import MachineRecord


@dataclass(frozen=True, slots=True)
class MachineIndex:
    """`tested`: machines of which a test machine exists. `related`: ids by relationship.

    It is of one mapping of machines, and says nothing of another.
    """

    machines: Mapping[str, MachineRecord]
    tested: frozenset[str] = frozenset()
    related: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, machines: Mapping[str, MachineRecord]) -> "MachineIndex":
        """Return the index of all machines."""
        related: dict[str, tuple[str, ...]] = {}
        for each in machines.values():
            if (name := _relationship(each)) is not None:
                related[name] = (*related.get(name, ()), each.machine_id)
        return cls(machines, _tested(machines), related)

    def after(
        self, machines: Mapping[str, MachineRecord], changed: Iterable[MachineRecord]
    ) -> "MachineIndex":
        """Return the index of the machines of after a change; `changed`: those put or removed."""
        tested, related = self.tested, self.related
        for each in changed:
            before, now = self.machines.get(each.machine_id), machines.get(each.machine_id)
            if _test_of(before) != _test_of(now):
                tested = _tested(machines)
            if _relationship(before) != _relationship(now):
                related = _moved(related, each.machine_id, _relationship(before), now)
        return MachineIndex(machines, tested, related)


def _moved(
    related: Mapping[str, tuple[str, ...]],
    machine_id: str,
    former: str | None,
    now: MachineRecord | None,
) -> Mapping[str, tuple[str, ...]]:
    moved, present = dict(related), _relationship(now)
    if former is not None:
        left = tuple(each for each in moved.pop(former, ()) if each != machine_id)
        moved |= {former: left} if left else {}
    if present is not None:
        moved[present] = (*moved.get(present, ()), machine_id)
    return moved


def _tested(machines: Mapping[str, MachineRecord]) -> frozenset[str]:
    return frozenset(
        each.test_machine_of for each in machines.values() if each.test_machine_of is not None
    )


def _test_of(machine: MachineRecord | None) -> str | None:
    return None if machine is None else machine.test_machine_of


def _relationship(machine: MachineRecord | None) -> str | None:
    if machine is None or machine.relationship is None:
        return None
    return machine.relationship.relationship_id
