"""Where a new machine goes: a pure decision, the same for the same inventory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.capacity import Needs, cloud_short_of, host_short_of
from vmm_simulator.vmm.clusters import broker_missing
from vmm_simulator.vmm.estate_records import StoreRecord
from vmm_simulator.vmm.records import CloudRecord, FabricRecord, HostRecord, MachineRecord
from vmm_simulator.vmm.storage import best_store

REASONS_SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Wish:
    """What a replica asks of its place: room, a storage classification, networks to reach.

    `cloud_id`: the cloud whose pairing it belongs to; null: of any. `primary_brokers`: those of the
    primary's cluster, by whose entry its nodes may be let in.
    """

    needs: Needs = field(default_factory=Needs)
    classification_id: str | None = None
    network_ids: tuple[str, ...] = ()
    cloud_id: str | None = None
    primary_brokers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A host, and the store for the disks; without one, the host's default folder."""

    host: HostRecord
    store: StoreRecord | None


def hosts_of(cloud: CloudRecord, hosts: Iterable[HostRecord]) -> tuple[HostRecord, ...]:
    """Return the hosts of a cloud, ordered by FQDN: those of its host groups."""
    return tuple(
        sorted(
            (host for host in hosts if host.host_group in cloud.host_groups),
            key=lambda host: host.fqdn,
        )
    )


def clouds_of(host: HostRecord, clouds: Iterable[CloudRecord]) -> tuple[str, ...]:
    """Return the ids of the clouds that a host belongs to."""
    return tuple(sorted(each.cloud_id for each in clouds if host.host_group in each.host_groups))


def place_replica(
    fabric: FabricRecord,
    candidates: Sequence[HostRecord],
    machines: Sequence[MachineRecord],
    primary_host: str,
    wish: Wish,
) -> Place:
    """Return the place of a replica: a host that nothing speaks against, with fewest machines.

    Among equals the first by name, so that a repeated request finds the same host. Refused with
    the hosts' reasons when there is none.
    """
    reasons = {
        host.fqdn: _against(fabric, host, machines, primary_host, wish) for host in candidates
    }
    suitable = [host for host in candidates if reasons[host.fqdn] is None]
    if not suitable:
        shown = [f"{fqdn}: {reason}" for fqdn, reason in reasons.items()][:REASONS_SHOWN_MAX]
        raise RefusedError(
            Code.NO_SUITABLE_HOST,
            f"no host of the cloud accepts replication from {primary_host}"
            + "".join(f"; {each}" for each in shown),
            "pair the clouds again, so that every host is prepared and authorises its partners; or"
            " remove what speaks against the hosts named",
            "the cloud has no host, or something speaks against each of its hosts",
        )
    loads = dict.fromkeys((host.fqdn for host in suitable), 0)
    for machine in machines:
        if machine.host in loads:
            loads[machine.host] += 1
    host = min(suitable, key=lambda each: (loads[each.fqdn], each.fqdn))
    store = best_store(
        fabric.stores,
        host,
        machines,
        classification_id=wish.classification_id,
        needed_bytes=wish.needs.disk_bytes,
    )
    return Place(host, store)


def check_cloud_capacity(
    cloud: CloudRecord, machines: Iterable[MachineRecord], needs: Needs
) -> None:
    """Refuse one machine more than a cloud's capacity allows."""
    short = cloud_short_of(cloud, machines, needs)
    if short is not None:
        raise RefusedError(
            Code.NO_SUITABLE_HOST,
            f"the capacity of cloud {cloud.name} does not suffice: {short}",
            "raise the cloud's capacity, or remove machines from it",
        )


def reaches(fabric: FabricRecord, host: HostRecord, network_id: str) -> bool:
    """Return whether a host's adapters reach a VM network's logical network."""
    network = next((each for each in fabric.networks if each.network_id == network_id), None)
    if network is None:
        return False
    return host.logical_networks is None or network.logical_network in host.logical_networks


def _against(
    fabric: FabricRecord,
    host: HostRecord,
    machines: Sequence[MachineRecord],
    primary_host: str,
    wish: Wish,
) -> str | None:
    """Return why a host cannot take a replica, None when nothing speaks against it."""
    if _is_where_the_primary_is(fabric, host, primary_host, wish):
        return "the machine itself runs there, or in its cluster"
    port = host.replica_port if wish.cloud_id is None else host.port_of(wish.cloud_id)
    if port is None:
        return "it is not prepared for replication"
    if not host.authorises(primary_host, wish.primary_brokers):
        return f"it does not authorise {primary_host}"
    missing = broker_missing(fabric, host)
    if missing is not None:
        return missing
    out_of_reach = [each for each in wish.network_ids if not reaches(fabric, host, each)]
    if out_of_reach:
        return f"the logical network of VM network {out_of_reach[0]} is not attached to it"
    return host_short_of(host, machines, wish.needs)


def _is_where_the_primary_is(
    fabric: FabricRecord, host: HostRecord, primary_host: str, wish: Wish
) -> bool:
    """Hyper-V keeps no second copy on the same host or cluster; two clouds of a server may share.

    The primary's cluster is known by its broker.
    """
    if host.fqdn.lower() == primary_host.lower():
        return True
    cluster = fabric.cluster(host.cluster)
    broker = None if cluster is None or cluster.broker is None else cluster.broker.name
    return broker is not None and broker in wish.primary_brokers
