"""Network mapping: what is offered, and how a copy's adapters are connected (behaviour 2.5); pure.

Which networks, subnets and kinds of addresses: here. Which address: the VMM server, since only it
knows what its pools have given away (vmm_simulator.vmm.adapters has that rule).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.jobs import JobError
from service_hub.domain.mapping_records import NetworkMapping
from service_hub.domain.records import AttachedAdapter, ContainerMapping, ProtectedItem
from wire_contract.vmm_interface import MachineView, NetworkView, NicView

GUID_GROUPS: Final = (8, 4, 4, 4, 12)

STATIC: Final = "Static"
"""The kind of an address that is reserved in a pool."""

Adapter = dict[str, JsonValue]
"""How one adapter is to be connected, as `connect_adapters` takes it (docs/wire-contract.md)."""


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What decides on the adapters of an item.

    Mappings from its primary server to its recovery server, the networks of both, and its two
    copies as they were last observed.
    """

    mappings: tuple[NetworkMapping, ...] = ()
    primary: tuple[NetworkView, ...] = ()
    recovery: tuple[NetworkView, ...] = ()
    primary_machine: MachineView | None = None
    recovery_machine: MachineView | None = None


@dataclass(frozen=True, slots=True)
class CloudOffer:
    """Whether a target network can be used for one cloud that uses the source network."""

    primary_cloud_id: str
    recovery_cloud_id: str
    available: bool


@dataclass(frozen=True, slots=True)
class NetworkOffer:
    """A VM network that a source network may be mapped to, and for which of its clouds."""

    network: NetworkView
    clouds: tuple[CloudOffer, ...]

    @property
    def is_offered(self) -> bool:
        """Whether it serves at least one cloud."""
        return any(each.available for each in self.clouds)


def replica_adapter_id(machine_id: str, nic_id: str) -> str:
    """Return the id of the replica's adapter that stands for one of the primary's: a GUID.

    It follows from both, so that each end of a pair is found from the other.
    """
    digest = hashlib.sha256(f"{machine_id}/{nic_id}".lower().encode()).hexdigest()
    groups, at = [], 0
    for length in GUID_GROUPS:
        groups.append(digest[at : at + length])
        at += length
    return "-".join(groups)


def pairs_of(
    machine_id: str, primary: MachineView | None, replica: MachineView | None
) -> dict[str, str]:
    """Return the replica's adapter for each of the primary's, also for those still to be made.

    A replica that was there before it was protected has adapters of its own: those stand for the
    primary's in their order.
    """
    present = [each.nic_id for each in _nics(replica)]
    own = {each.nic_id: replica_adapter_id(machine_id, each.nic_id) for each in _nics(primary)}
    others = [each for each in present if each not in own.values()]
    pairs = {}
    for nic_id, replica_id in own.items():
        pairs[nic_id] = others.pop(0) if others and replica_id not in present else replica_id
    return pairs


def target_subnet(network: NetworkView, source_subnet: str | None) -> str | None:
    """Return the subnet of the same name, else the first one; None where there are none."""
    names = [each.name for each in network.subnets]
    if source_subnet in names:
        return source_subnet
    return names[0] if names else None


def offers(
    source: NetworkView, pairs: Sequence[ContainerMapping], targets: Sequence[NetworkView]
) -> tuple[NetworkOffer, ...]:
    """Return what a source network may be mapped to, and what is shown as not available.

    A VM network is offered where its logical network is attached to a target cloud, of each pair
    whose primary cloud uses the source network. `pairs` are those of the two servers.
    """
    using = [each for each in pairs if each.primary_cloud_id in source.cloud_ids]
    return tuple(
        NetworkOffer(
            target,
            tuple(
                CloudOffer(
                    each.primary_cloud_id,
                    each.recovery_cloud_id,
                    each.recovery_cloud_id in target.cloud_ids,
                )
                for each in using
            ),
        )
        for target in targets
    )


def refusal_of_mapping(
    source: NetworkView | None,
    target: NetworkView | None,
    pairs: Sequence[ContainerMapping],
    now: datetime,
) -> JobError | None:
    """Return why a network may not be mapped to another, or None."""
    if source is None or target is None:
        which = "source" if source is None else "target"
        detail = f"the {which} server has no such network any more, or told of none yet"
        return job_error(errors.NETWORK_MISSING, now, name="the mapping", detail=detail)
    (offer,) = offers(source, pairs, (target,))
    if offer.is_offered:
        return None
    detail = (
        f"the logical network of '{target.friendly_name}' is attached to no cloud that these are"
        " paired with"
        if offer.clouds
        else "no cloud that uses it is paired with one of the target server"
    )
    return job_error(errors.NETWORK_NOT_OFFERED, now, name=source.friendly_name, detail=detail)


def mapped_to(network_id: str | None, cloud_id: str, facts: NetworkFacts) -> NetworkView | None:
    """Return the network that a replica in this recovery cloud gets for one of its primary's.

    None: it stays disconnected, since nobody mapped the network, or the mapped one is gone, or it
    is not available in that cloud.
    """
    for mapping in facts.mappings:
        if mapping.primary_network_id != network_id:
            continue
        for network in facts.recovery:
            if network.network_id == mapping.recovery_network_id and cloud_id in network.cloud_ids:
                return network
    return None


def mapped_networks(item: ProtectedItem, facts: NetworkFacts) -> tuple[str, ...]:
    """Return the networks that a replica's host has to reach, each once."""
    found = [
        network.network_id
        for nic in _nics(facts.primary_machine)
        if (network := mapped_to(nic.network_id, item.recovery_cloud_id, facts)) is not None
    ]
    return tuple(dict.fromkeys(found))


def placed_adapters(item: ProtectedItem, facts: NetworkFacts) -> tuple[Adapter, ...]:
    """Return the adapters of a new replica: those of the primary, not connected."""
    return tuple(
        {
            "nic_id": replica_adapter_id(item.recovery_machine_id, nic.nic_id),
            "synthetic": nic.synthetic,
        }
        for nic in _nics(facts.primary_machine)
    )


def replica_adapters(item: ProtectedItem, facts: NetworkFacts) -> tuple[Adapter, ...]:
    """Return how the adapters of the replica at the recovery side are to be connected now.

    A static address is asked for again on the other side; which one it becomes, VMM decides.
    """
    pairs = pairs_of(item.recovery_machine_id, facts.primary_machine, facts.recovery_machine)
    chosen = {each.nic_id: each for each in item.chosen_adapters}
    return tuple(
        _as_chosen(pairs[nic.nic_id], nic, chosen[nic.nic_id])
        if nic.nic_id in chosen
        else _connected(
            pairs[nic.nic_id],
            nic,
            mapped_to(nic.network_id, item.recovery_cloud_id, facts),
        )
        for nic in _nics(facts.primary_machine)
    )


def returned_adapters(item: ProtectedItem, facts: NetworkFacts) -> tuple[Adapter, ...]:
    """Return which adapters of the first primary are to be connected otherwise at a failback.

    The failback table of behaviour 2.5: what nobody changed stays; an adapter that was
    disconnected is disconnected here too; one that was moved, or whose map was changed, goes to
    the network that is mapped to its own, or to none.
    """
    replicas = {each.nic_id: each for each in _nics(facts.recovery_machine)}
    attached = {each.nic_id: each for each in item.adapters}
    pairs = pairs_of(item.recovery_machine_id, facts.primary_machine, facts.recovery_machine)
    changes = []
    for nic in _nics(facts.primary_machine):
        replica_id = pairs[nic.nic_id]
        replica = replicas.get(replica_id)
        if replica is None:
            continue
        wanted = _returned_to(nic, replica, attached.get(replica_id), facts)
        if wanted != nic.network_id:
            network = next((e for e in facts.primary if e.network_id == wanted), None)
            changes.append(_connected(nic.nic_id, nic, network))
    return tuple(changes)


def _returned_to(
    nic: NicView, replica: NicView, attached: AttachedAdapter | None, facts: NetworkFacts
) -> str | None:
    known = {each.network_id for each in facts.primary}
    sources = [
        each.primary_network_id
        for each in facts.mappings
        if each.recovery_network_id == replica.network_id and each.primary_network_id in known
    ]
    if sources:
        return nic.network_id if nic.network_id in sources else min(sources)
    unchanged = attached is not None and attached.network_id == replica.network_id
    never_attached = attached is None and replica.network_id is None
    return nic.network_id if unchanged or never_attached else None


def attached_by(adapters: object) -> tuple[AttachedAdapter, ...]:
    """Return what a job had set on the recovery copy's adapters, from the facts it was made of."""
    if not isinstance(adapters, list):
        return ()
    return tuple(
        AttachedAdapter(
            nic_id=str(each["nic_id"]),
            network_id=each.get("network_id"),
            subnet=each.get("subnet"),
        )
        for each in adapters
        if isinstance(each, dict)
    )


def _connected(nic_id: str, source: NicView, network: NetworkView | None) -> Adapter:
    if network is None:
        return {"nic_id": nic_id, "network_id": None, "synthetic": source.synthetic}
    return {
        "nic_id": nic_id,
        "network_id": network.network_id,
        "subnet": target_subnet(network, source.subnet),
        "address_type": source.address_type,
        "address": source.address,
        "synthetic": source.synthetic,
    }


def _as_chosen(nic_id: str, source: NicView, choice: AttachedAdapter) -> Adapter:
    """Return an adapter as an operator chose it; an address that was not chosen is the source's."""
    return {
        "nic_id": nic_id,
        "network_id": choice.network_id,
        "subnet": choice.subnet,
        "address_type": source.address_type if choice.address is None else STATIC,
        "address": choice.address or source.address,
        "synthetic": source.synthetic,
    }


def chosen_by(arguments: object, before: Sequence[AttachedAdapter]) -> tuple[AttachedAdapter, ...]:
    """Return an item's choices once a request was carried out: what it does not name stays.

    `arguments` are those of the request's job: `chosen` are adapters with their choice, `mapped`
    those that follow the network map again.
    """
    if not isinstance(arguments, Mapping) or "chosen" not in arguments:
        return tuple(before)
    named = [AttachedAdapter.model_validate(each) for each in arguments["chosen"]]
    gone = {each.nic_id for each in named} | {str(each) for each in arguments["mapped"]}
    return (*(each for each in before if each.nic_id not in gone), *named)


def _nics(machine: MachineView | None) -> tuple[NicView, ...]:
    return () if machine is None else machine.nics


def adapters_on(network_id: str, machine: MachineView | None) -> tuple[str, ...]:
    """Return the adapters of a machine that are on a network."""
    return tuple(each.nic_id for each in _nics(machine) if each.network_id == network_id)


def shown_count(adapters_of: Mapping[str, JsonValue]) -> int:
    """Return how many adapters a map job updates: the number in its task's text."""
    return sum(len(each) for each in adapters_of.values() if isinstance(each, list))
