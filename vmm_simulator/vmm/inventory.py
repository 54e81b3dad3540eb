"""All that a VMM server knows at one moment, and changes of it as values; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from vmm_simulator.hyperv.statistics import Statistics
from vmm_simulator.vmm.estate_records import GrantRecord
from vmm_simulator.vmm.machine_index import MachineIndex
from vmm_simulator.vmm.placement import hosts_of
from vmm_simulator.vmm.records import (
    CloudRecord,
    FabricRecord,
    HostRecord,
    MachineRecord,
)

RecordT = TypeVar("RecordT", CloudRecord, HostRecord, MachineRecord, GrantRecord)
AnyRecord = FabricRecord | CloudRecord | HostRecord | MachineRecord | GrantRecord

_COUNTED: Final = {
    "last_cut": 0,
    "last_cut_record": 0,
    "acknowledged": None,
    "attempts": (),
    "foreign_cut": None,
    "last_replication_at": None,
    "last_application_consistent_at": None,
    "transferred_bytes": 0,
    "statistics": Statistics(),
    "last_error": None,
}
"""What each cycle of a relationship moves on."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """One moment: the fabric, and everything of which there are many, by its id."""

    fabric: FabricRecord
    clouds: Mapping[str, CloudRecord] = field(default_factory=dict)
    hosts: Mapping[str, HostRecord] = field(default_factory=dict)
    machines: Mapping[str, MachineRecord] = field(default_factory=dict)
    grants: Mapping[str, GrantRecord] = field(default_factory=dict)
    index: MachineIndex | None = field(default=None, compare=False, repr=False)
    """Of these machines; an inventory without one, or with that of others, goes through all."""

    @property
    def machine_index(self) -> MachineIndex:
        """What is asked of all machines again and again."""
        if self.index is not None and self.index.machines is self.machines:
            return self.index
        return MachineIndex.of(self.machines)

    def copies_of(self, relationship_id: str) -> list[MachineRecord]:
        """Return the machines that are an end of this relationship."""
        found = self.machine_index.related.get(relationship_id, ())
        return [self.machines[each] for each in found]

    def hosts_of(self, cloud: CloudRecord) -> tuple[HostRecord, ...]:
        """Return the hosts of a cloud, ordered by FQDN."""
        return hosts_of(cloud, self.hosts.values())

    def nodes_of(self, cluster: str) -> tuple[HostRecord, ...]:
        """Return the nodes of a cluster, ordered by FQDN."""
        nodes = (each for each in self.hosts.values() if each.cluster == cluster)
        return tuple(sorted(nodes, key=lambda host: host.fqdn))

    def find(self, record: AnyRecord) -> AnyRecord | None:
        """Return what stands in this inventory under a record's id."""
        match record:
            case FabricRecord():
                return self.fabric
            case CloudRecord():
                return self.clouds.get(record.cloud_id)
            case HostRecord():
                return self.hosts.get(record.fqdn)
            case MachineRecord():
                return self.machines.get(record.machine_id)
            case GrantRecord():
                return self.grants.get(record.grant_id)

    def after(self, edit: "Edit") -> "Inventory":
        """Return the inventory as it is once the edit is done."""
        fabrics = [each for each in edit.put if isinstance(each, FabricRecord)]
        machines = _changed(self.machines, MachineRecord, edit)
        touched = [e for e in (*edit.put, *edit.removed) if isinstance(e, MachineRecord)]
        return Inventory(
            fabrics[-1] if fabrics else self.fabric,
            _changed(self.clouds, CloudRecord, edit),
            _changed(self.hosts, HostRecord, edit),
            machines,
            _changed(self.grants, GrantRecord, edit),
            self.machine_index.after(machines, touched),
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the inventory that becomes true as a whole or not at all."""

    put: tuple[AnyRecord, ...] = ()
    removed: tuple[AnyRecord, ...] = ()

    def then(self, other: "Edit") -> "Edit":
        """Return both as one, the other's word being the later one."""
        return Edit(self.put + other.put, self.removed + other.removed)


def id_of(record: AnyRecord) -> str:
    """Return what a record is found by among those of its kind."""
    match record:
        case FabricRecord():
            return record.vmm_id
        case CloudRecord():
            return record.cloud_id
        case HostRecord():
            return record.fqdn
        case MachineRecord():
            return record.machine_id
        case GrantRecord():
            return record.grant_id


def _changed(
    present: Mapping[str, RecordT], kind: type[RecordT], edit: Edit
) -> Mapping[str, RecordT]:
    put = {id_of(each): each for each in edit.put if isinstance(each, kind)}
    removed = {id_of(each) for each in edit.removed if isinstance(each, kind)}
    if not put and not removed:
        return present
    # A copy as a whole: a step for each of thousands of machines would be paid at every change.
    changed = dict(present)
    changed.update(put)
    for name in removed:
        changed.pop(name, None)
    return changed


def worth_telling(before: AnyRecord | None, after: AnyRecord | None) -> bool:
    """Return whether a change of one record is news: the counters of replication are not."""
    if isinstance(before, MachineRecord) and isinstance(after, MachineRecord):
        return _without_counters(before) != _without_counters(after)
    return before != after


def _without_counters(machine: MachineRecord) -> MachineRecord:
    relationship = machine.relationship
    if relationship is None:
        return machine
    return machine.model_copy(update={"relationship": relationship.model_copy(update=_COUNTED)})
