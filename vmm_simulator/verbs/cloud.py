"""Verbs on a cloud: certificates, the replication listeners of its hosts, its pair."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import structlog

from vmm_simulator.hyperv.backend import Authentication
from vmm_simulator.problems import Code, RefusedError, bad_arguments
from vmm_simulator.verbs.arguments import ConfigureHosts, PairCloud, PrepareCloud, UnpairCloud
from vmm_simulator.verbs.call import Call, Result
from vmm_simulator.vmm.clusters import with_broker_of_vmm
from vmm_simulator.vmm.estate_edits import put_part
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.offline_folders import offline_folder
from vmm_simulator.vmm.partner_clusters import PartnerCluster
from vmm_simulator.vmm.placement import hosts_of
from vmm_simulator.vmm.records import CloudRecord, HostRecord
from vmm_simulator.vmm.replication_ports import PairPort, require_one_way

NAMES_SHOWN_MAX: Final = 10
PROTECTED_PROFILE: Final = "Hyper-V"
"""The capability profile of clouds that can be paired (seed, prerequisites)."""

_CERTIFICATE: Final = ("certificate_thumbprint", "certificate_names")
"""What is known of a host's certificate."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


def check_configure(call: Call[ConfigureHosts]) -> None:
    """Refuse certificates that are not those of the cloud's hosts."""
    hosts = _hosts(call)
    issued = {each.host.lower(): each for each in call.arguments.certificates}
    strangers = issued.keys() - {host.fqdn.lower() for host in hosts}
    if strangers:
        raise bad_arguments(f"{min(strangers)} is no host of cloud {call.target}")
    missing = [host.fqdn for host in hosts if host.fqdn.lower() not in issued]
    if missing:
        raise bad_arguments(f"there is no certificate for host {missing[0]}")


async def configure_hosts(call: Call[ConfigureHosts]) -> Result:
    """Install the issued certificates on every host of the cloud."""
    issued = {each.host.lower(): each for each in call.arguments.certificates}
    for record in _hosts(call):
        certificate = issued[record.fqdn.lower()]
        host = call.fabric.hosts[record.fqdn]
        installed = host.credentials.install(
            certificate.chain_pem, certificate.root_pem, call.fabric.clock.now()
        )
        await call.fabric.store.change_host(
            record.fqdn,
            lambda each, installed=installed: each.model_copy(  # type: ignore[misc]
                update={
                    "certificate_thumbprint": installed.thumbprint,
                    "certificate_names": installed.names,
                }
            ),
        )
        await host.use_certificate()
        call.reached(f"configured {record.fqdn}")
    return {}


def check_prepare(call: Call[PrepareCloud]) -> None:
    """Refuse while a host of the cloud has nothing to prove itself with, or the port is taken.

    Where first copies travel, also as long as their folder is not fit for any of the hosts.
    """
    _check_offline(call)
    certificates = call.arguments.authentication is Authentication.CERTIFICATE
    for record in _hosts(call):
        require_one_way(_ports(record, call))
        if not certificates:
            call.fabric.hosts[record.fqdn].tickets()
        elif record.certificate_thumbprint is None:
            raise RefusedError(
                Code.INVALID_STATE,
                f"host {record.fqdn} has no certificate",
                "have one issued and installed (configure_hosts) first",
            )


def _check_offline(call: Call[PrepareCloud]) -> None:
    """Refuse a folder of this site that first copies cannot travel by (seed, step 4)."""
    arguments, store = call.arguments, call.fabric.store
    if arguments.offline_folder is None:
        return
    offline_folder(
        arguments.offline_folder,
        store.fabric.file_shares,
        service_account=store.service.service_account,
        using_hosts=_hosts(call),
        all_hosts=(*store.hosts, *arguments.allowed_primaries),
        further_servers=arguments.further_servers,
    )


async def prepare_cloud(call: Call[PrepareCloud]) -> Result:
    """Have every host of the cloud listen and authorise the partners, clusters get their broker."""
    arguments = call.arguments
    for record in _hosts(call):

        def prepare(present: HostRecord) -> HostRecord:
            partners = {**present.allowed_primaries, call.target: arguments.allowed_primaries}
            clusters = {**present.partner_clusters, call.target: _clusters(arguments)}
            return present.model_copy(
                update={
                    "replica_port": arguments.replica_port,
                    "replica_ports": _ports(present, call),
                    "allowed_primaries": partners,
                    "partner_clusters": clusters,
                }
            )

        await call.fabric.hosts[record.fqdn].listen(frozenset(_ports(record, call).values()))
        await call.fabric.store.change_host(record.fqdn, prepare)
        await _prepare_cluster(call, record)
        log.info("host_prepared", host=record.fqdn, port=arguments.replica_port)
        call.reached(f"prepared {record.fqdn}")
    await call.fabric.brokers.settle()
    return {}


def _clusters(arguments: PrepareCloud) -> tuple[PartnerCluster, ...]:
    return tuple(
        PartnerCluster(broker=each.broker, nodes=each.nodes) for each in arguments.partner_clusters
    )


def _ports(host: HostRecord, call: Call[PrepareCloud]) -> dict[str, PairPort]:
    """Return what a host listens on once this pairing has its port."""
    arguments = call.arguments
    wanted = PairPort(port=arguments.replica_port, authentication=arguments.authentication)
    before = host.replica_ports
    if not before and host.replica_port is not None:
        # A journal of before ports were kept for each pairing: one port served them all.
        former = PairPort(port=host.replica_port)
        before = dict.fromkeys(host.allowed_primaries, former)
    return {**before, call.target: wanted}


async def _prepare_cluster(call: Call[PrepareCloud], host: HostRecord) -> None:
    """Make the replica broker of a host's cluster, where VMM does that by itself.

    A cluster with static addresses is left without: its machines are refused until an
    administrator has made the broker (seed, prerequisites).
    """

    def prepare(inventory: Inventory) -> Edit:
        cluster = inventory.fabric.cluster(host.cluster)
        if cluster is None:
            return Edit()
        return put_part(inventory, "clusters", with_broker_of_vmm(cluster))

    await call.fabric.store.edit(prepare)


def check_pair(call: Call[PairCloud]) -> None:
    """Refuse a second partner: a cloud has one at most (behaviour section 6)."""
    cloud = call.fabric.store.cloud(call.target)
    arguments = call.arguments
    if cloud.capability_profile != PROTECTED_PROFILE:
        raise RefusedError(
            Code.INVALID_STATE,
            f"cloud {cloud.name} has the capability profile {cloud.capability_profile}",
            f"give it the capability profile {PROTECTED_PROFILE}, or pair another cloud",
        )
    if cloud.partner_cloud_id not in (None, arguments.partner_cloud_id):
        raise RefusedError(
            Code.INVALID_STATE,
            f"cloud {cloud.name} is paired with cloud {cloud.partner_cloud_id}",
            "a cloud has one partner; remove that pairing first",
        )


async def pair_cloud(call: Call[PairCloud]) -> Result:
    """Mark the cloud as paired."""
    arguments = call.arguments

    def pair(present: CloudRecord) -> CloudRecord:
        return present.model_copy(
            update={
                "paired_role": arguments.role.value,
                "partner_cloud_id": arguments.partner_cloud_id,
            }
        )

    await call.fabric.store.change_cloud(call.target, pair)
    call.reached("paired")
    return {}


def check_unpair(call: Call[UnpairCloud]) -> None:
    """Refuse while a machine of the cloud is protected, or when another pairing has begun."""
    store, cloud = call.fabric.store, call.fabric.store.cloud(call.target)
    if cloud.partner_cloud_id not in (None, call.arguments.partner_cloud_id):
        raise RefusedError(
            Code.INVALID_STATE,
            f"cloud {cloud.name} is paired with cloud {cloud.partner_cloud_id}",
            "name that pairing, if it is the one to end",
        )
    protected = sorted(
        each.name
        for each in store.machines.values()
        if each.cloud_id == cloud.cloud_id and each.protected
    )
    if protected:
        raise RefusedError(
            Code.INVALID_STATE,
            f"{len(protected)} machines of cloud {cloud.name} are still protected: "
            + ", ".join(protected[:NAMES_SHOWN_MAX]),
            "end their protection first",
        )


async def unpair_cloud(call: Call[UnpairCloud]) -> Result:
    """Take the pairing from the cloud; its hosts keep what other pairings need."""
    store = call.fabric.store
    for record in _hosts(call):
        partners = _without(record.allowed_primaries, call.target)
        ports = _without(record.replica_ports, call.target)
        update: dict[str, Any] = {
            "allowed_primaries": partners,
            "replica_ports": ports,
            "partner_clusters": _without(record.partner_clusters, call.target),
        }
        host = call.fabric.hosts[record.fqdn]
        if not partners:
            await host.stop_listening()
            host.credentials.forget()
            update |= dict.fromkeys(_CERTIFICATE, None) | {"replica_port": None}
        elif ports:
            await host.listen(frozenset(ports.values()))
            update |= {"replica_port": next(reversed(ports.values())).port}
        await store.change_host(
            record.fqdn,
            lambda each, update=update: each.model_copy(update=update),  # type: ignore[misc]
        )
        log.info("host_unpaired", host=record.fqdn, serves_others=bool(partners))
        call.reached(f"unpaired {record.fqdn}")
    await store.change_cloud(
        call.target,
        lambda each: each.model_copy(update={"paired_role": "", "partner_cloud_id": None}),
    )
    await call.fabric.brokers.settle()
    call.reached("unpaired")
    return {}


def _without(by_cloud: Mapping[str, T], cloud_id: str) -> dict[str, T]:
    return {cloud: each for cloud, each in by_cloud.items() if cloud != cloud_id}


def _hosts(
    call: Call[ConfigureHosts] | Call[PrepareCloud] | Call[UnpairCloud],
) -> Sequence[HostRecord]:
    cloud = call.fabric.store.cloud(call.target)
    return hosts_of(cloud, call.fabric.store.hosts.values())
