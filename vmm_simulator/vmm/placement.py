"""Where a new machine goes: a pure decision, the same for the same inventory."""

from collections.abc import Iterable, Sequence

from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.vmm.records import CloudRecord, HostRecord, MachineRecord


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
    candidates: Sequence[HostRecord], machines: Iterable[MachineRecord], primary_host: str
) -> HostRecord:
    """Return the host for a replica: prepared, authorising the primary, with fewest machines.

    Among equals the first by name, so that a repeated request finds the same host.
    """
    suitable = [
        host
        for host in candidates
        if host.replica_port is not None and primary_host in host.authorised
    ]
    if not suitable:
        raise RefusedError(
            Code.NO_SUITABLE_HOST,
            f"no host of the cloud accepts replication from {primary_host}",
            "pair the clouds again, so that every host is prepared and authorises its partners",
            "the cloud has no host, or its hosts are not prepared for this primary host",
        )
    loads = dict.fromkeys((host.fqdn for host in suitable), 0)
    for machine in machines:
        if machine.host in loads:
            loads[machine.host] += 1
    return min(suitable, key=lambda host: (loads[host.fqdn], host.fqdn))
