"""Changes that an administrator makes to the fabric, its hosts and clouds, as edits; pure.

Each is checked as a whole by `rules.check`: what others refer to cannot go, what breaks a rule
cannot come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmm_simulator.problems import Code, RefusedError, unknown
from vmm_simulator.vmm.estate_records import BrokerRecord
from vmm_simulator.vmm.inventory import AnyRecord, Edit, Inventory
from vmm_simulator.vmm.record import Record
from vmm_simulator.vmm.records import CloudRecord, HostRecord
from vmm_simulator.vmm.rules import check
from vmm_simulator.vmm.storage import used_bytes
from wire_contract.cluster_names import broker_name


@dataclass(frozen=True, slots=True)
class Part:
    """Where the fabric's record keeps one kind of thing, and which field names one of them."""

    noun: str
    field: str
    key: str


PARTS: Final[Mapping[str, Part]] = {
    "host-groups": Part("host group", "host_groups", "group_id"),
    "clusters": Part("cluster", "clusters", "name"),
    "logical-networks": Part("logical network", "logical_networks", "logical_network_id"),
    "networks": Part("VM network", "networks", "network_id"),
    "ip-pools": Part("IP pool", "address_pools", "pool_id"),
    "classifications": Part("storage classification", "classifications", "classification_id"),
    "stores": Part("store", "stores", "store_id"),
    "library-shares": Part("library share", "library_shares", "unc"),
    "file-shares": Part("file share", "file_shares", "unc"),
}
"""By their name in paths of the management port."""


def checked(decide: Callable[[Inventory], Edit]) -> Callable[[Inventory], Edit]:
    """Return the decision, refused (91011) where its result breaks a rule."""

    def both(inventory: Inventory) -> Edit:
        edit = decide(inventory)
        check(inventory, inventory.after(edit))
        return edit

    return both


def put_part(inventory: Inventory, kind: str, record: Record) -> Edit:
    """Return the edit that adds a part of the fabric, or replaces the one of the same key."""
    part = PARTS[kind]
    present = _present(inventory, part)
    return _with_parts(inventory, part, {**present, getattr(record, part.key): record})


def remove_part(inventory: Inventory, kind: str, key: str) -> Edit:
    """Return the edit that takes a part away, or refuse with 404."""
    part = PARTS[kind]
    present = _present(inventory, part)
    if key not in present:
        raise unknown(part.noun, key)
    return _with_parts(
        inventory, part, {name: each for name, each in present.items() if name != key}
    )


def make_broker(inventory: Inventory, cluster: str, name: str | None) -> Edit:
    """Return the edit that gives a cluster a replica broker made by hand; a present one stays."""
    present = inventory.fabric.cluster(cluster)
    if present is None:
        raise unknown("cluster", cluster)
    if present.broker is not None:
        return Edit()
    broker = BrokerRecord(name=name or broker_name(cluster), made_by_vmm=False)
    return put_part(inventory, "clusters", present.model_copy(update={"broker": broker}))


def remove_broker(inventory: Inventory, cluster: str) -> Edit:
    """Return the edit that takes a cluster's broker away; refused while its nodes replicate."""
    present = inventory.fabric.cluster(cluster)
    if present is None:
        raise unknown("cluster", cluster)
    nodes = {node.fqdn for node in inventory.nodes_of(cluster)}
    replicating = [
        each.name
        for each in inventory.machines.values()
        if each.host in nodes and each.relationship is not None
    ]
    if replicating:
        raise RefusedError(
            Code.INVALID_STATE,
            f"machine {min(replicating)} on cluster {cluster} replicates",
            "end its protection first",
        )
    return put_part(inventory, "clusters", present.model_copy(update={"broker": None}))


def put_cloud(inventory: Inventory, cloud: CloudRecord) -> Edit:
    """Return the edit that adds a cloud, or changes one; its pairing stays what it is."""
    former = inventory.clouds.get(cloud.cloud_id)
    if former is not None:
        pairing = {"paired_role": former.paired_role, "partner_cloud_id": former.partner_cloud_id}
        cloud = cloud.model_copy(update=pairing)
    return Edit(put=(cloud,))


def remove_cloud(inventory: Inventory, cloud_id: str) -> Edit:
    """Return the edit that takes a cloud away; refused while it is paired."""
    cloud = inventory.clouds.get(cloud_id)
    if cloud is None:
        raise unknown("cloud", cloud_id)
    if cloud.partner_cloud_id is not None:
        raise RefusedError(
            Code.INVALID_STATE,
            f"cloud {cloud.name} is paired with cloud {cloud.partner_cloud_id}",
            "end the pairing first",
        )
    return Edit(removed=(cloud,))


def put_host(inventory: Inventory, host: HostRecord) -> Edit:
    """Return the edit that adds a host, or changes one; what the pairing set up stays.

    A new host is not prepared: it takes replicas once its cloud's pair has been configured again.
    Whether its folder of disks changes is not asked: disks that exist stay where they are.
    """
    former = inventory.hosts.get(host.fqdn)
    if former is None:
        return Edit(put=(host,))
    kept = {name: getattr(former, name) for name in HostRecord.model_fields if name not in SETTABLE}
    return Edit(put=(host.model_copy(update=kept),))


SETTABLE: Final = frozenset(
    {
        "fqdn",
        "version",
        "host_group",
        "disks_directory",
        "cluster",
        "processors",
        "memory_megabytes",
        "logical_networks",
        "delegations",
        "run_as_account",
        "authorisations",
        "bandwidth",
        "proxy",
        "keytab",
    }
)
"""Fields of a host that an administrator sets; all others belong to pairing and replication."""


def remove_host(inventory: Inventory, fqdn: str) -> Edit:
    """Return the edit that takes a host away; its machines have to be elsewhere (a rule)."""
    host = inventory.hosts.get(fqdn)
    if host is None:
        raise unknown("host", fqdn)
    return Edit(removed=(host,))


def set_free_bytes(inventory: Inventory, store_id: str, free: int) -> Edit:
    """Return the edit after which a store has this much free: others take, or give back, the rest.

    Refused where VMM's own machines alone leave less.
    """
    store = next((each for each in inventory.fabric.stores if each.store_id == store_id), None)
    if store is None:
        raise unknown("store", store_id)
    foreign = store.capacity_bytes - used_bytes(store, inventory.machines.values()) - free
    if foreign < 0:
        raise RefusedError(
            Code.INVALID_PARAMETER,
            f"store {store.name} cannot have {free} bytes free: its capacity is"
            f" {store.capacity_bytes}, its machines take the rest",
            "raise its capacity, or move machines away",
        )
    return put_part(inventory, "stores", store.model_copy(update={"foreign_bytes": foreign}))


def _present(inventory: Inventory, part: Part) -> dict[str, Any]:
    return {getattr(each, part.key): each for each in getattr(inventory.fabric, part.field)}


def _with_parts(inventory: Inventory, part: Part, parts: Mapping[str, Any]) -> Edit:
    fabric: AnyRecord = inventory.fabric.model_copy(update={part.field: tuple(parts.values())})
    return Edit(put=(fabric,))
