"""Stores: what is free in them, who sees them, and which one a machine's disks go to; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from vmm_simulator.vmm.estate_records import StoreKind, StoreRecord
from vmm_simulator.vmm.records import HostRecord, MachineRecord


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What speaks for and against one store; `suitable` when nothing speaks against it."""

    store: StoreRecord
    visible: bool
    classified: bool
    free_bytes: int
    needed_bytes: int

    @property
    def suitable(self) -> bool:
        """Whether the disks may go there."""
        return self.visible and self.classified and self.free_bytes >= self.needed_bytes

    @property
    def against(self) -> str:
        """Return in words why not, empty for a suitable one."""
        if not self.visible:
            return "the host does not see it"
        if not self.classified:
            return "it has another classification"
        if self.free_bytes < self.needed_bytes:
            return f"{self.needed_bytes} bytes are needed, {self.free_bytes} are free"
        return ""


def visible_to(store: StoreRecord, host: HostRecord) -> bool:
    """Return whether a host sees a store: a CSV by being a node, others by being named."""
    if store.kind is StoreKind.CSV:
        return store.cluster is not None and store.cluster == host.cluster
    return host.fqdn in store.hosts


def lies_in(store: StoreRecord, path: str) -> bool:
    """Return whether a file lies in a store's folder."""
    return PurePosixPath(path).is_relative_to(store.folder)


def used_bytes(store: StoreRecord, machines: Iterable[MachineRecord]) -> int:
    """Return what a store has given away: the full size of each disk, however sparse its file."""
    disks = (disk for machine in machines for disk in machine.disks)
    return sum(disk.size_bytes for disk in disks if lies_in(store, disk.path))


def free_bytes(store: StoreRecord, machines: Iterable[MachineRecord]) -> int:
    """Return what a store still has, never below zero."""
    return max(0, store.capacity_bytes - store.foreign_bytes - used_bytes(store, machines))


def store_facts(
    stores: Iterable[StoreRecord],
    host: HostRecord,
    machines: Sequence[MachineRecord],
    *,
    classification_id: str | None,
    needed_bytes: int,
) -> tuple[StoreFacts, ...]:
    """Return the facts of all stores, the best first (behaviour 2.6: most free that holds all).

    Without a classification every store fits. Among equals the first by id, so that a repeated
    request finds the same one.
    """
    facts = [
        StoreFacts(
            store=store,
            visible=visible_to(store, host),
            classified=classification_id in (None, store.classification_id),
            free_bytes=free_bytes(store, machines),
            needed_bytes=needed_bytes,
        )
        for store in stores
    ]
    return tuple(
        sorted(facts, key=lambda each: (not each.suitable, -each.free_bytes, each.store.store_id))
    )


def best_store(
    stores: Iterable[StoreRecord],
    host: HostRecord,
    machines: Sequence[MachineRecord],
    *,
    classification_id: str | None,
    needed_bytes: int,
) -> StoreRecord | None:
    """Return the store for a new replica's disks, or None: the host's own default folder.

    A classification that no suitable store has leads to the default folder (behaviour 2.6).
    Without one a clustered host takes a CSV, so that the replica is highly available (1.10);
    other hosts take their default folder.
    """
    if classification_id is None:
        shared = [each for each in stores if each.kind is StoreKind.CSV]
        stores = shared if host.cluster is not None else ()
    facts = store_facts(
        stores, host, machines, classification_id=classification_id, needed_bytes=needed_bytes
    )
    return facts[0].store if facts and facts[0].suitable else None


def highly_available(
    machine: MachineRecord, host: HostRecord, stores: Iterable[StoreRecord]
) -> bool:
    """Return whether every node of the host's cluster sees all of a machine's disks."""
    if host.cluster is None:
        return False
    shared = [
        each for each in stores if each.kind is StoreKind.CSV and each.cluster == host.cluster
    ]
    return all(any(lies_in(store, disk.path) for store in shared) for disk in machine.disks)
