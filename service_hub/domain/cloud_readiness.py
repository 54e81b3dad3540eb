"""What a pair of clouds must be before it is prepared for replication; pure.

Sources: seed, "before you start"; behaviour.md, sections 1.10, 2.2 and 3.5. All of it is looked at
in what the sites last told of themselves; what is missing is said all at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.jobs import JobError
from wire_contract.vmm_interface import CloudView, InventoryView
from wire_contract.vocabulary import Side

HYPERV_PROFILE: Final = "Hyper-V"
HOST_VERSIONS: Final = frozenset({"2012", "2012R2"})
"""Versions of Windows Server whose hosts this version of the hub knows."""

STATIC: Final = "Static"
REASONS_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class CloudEnd:
    """A cloud and all that its server told."""

    cloud: CloudView
    inventory: InventoryView


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a cloud is not ready: the code of its kind, the cloud's name, and a sentence."""

    code: str
    cloud: str
    words: str


def unready(ends: Mapping[Side, CloudEnd]) -> list[Reason]:
    """Return everything that speaks against preparing these clouds, the source's first."""
    return [
        reason for side in Side for rule in _RULES for reason in rule(ends[side], source=_is(side))
    ]


def refusal_of_unready(ends: Mapping[Side, CloudEnd], now: datetime) -> JobError | None:
    """Return the error of a job that must not go on, with every reason in it; or None."""
    reasons = unready(ends)
    if not reasons:
        return None
    codes = {reason.code for reason in reasons}
    names = sorted({reason.cloud for reason in reasons})
    shown = "; ".join(reason.words for reason in reasons[:REASONS_SHOWN_MAX])
    more = len(reasons) - REASONS_SHOWN_MAX
    detail = shown if more <= 0 else f"{shown}; and {more} more"
    code = codes.pop() if len(codes) == 1 else errors.NOT_READY
    return job_error(code, now, name=" and ".join(names), detail=detail)


def _is(side: Side) -> bool:
    return side is Side.PRIMARY


def _profile(end: CloudEnd, *, source: bool) -> Iterator[Reason]:
    del source
    cloud = end.cloud
    if cloud.capability_profile != HYPERV_PROFILE:
        words = (
            f"the cloud {cloud.friendly_name} has the capability profile"
            f" '{cloud.capability_profile}', not {HYPERV_PROFILE}"
        )
        yield Reason(errors.NO_HYPERV_PROFILE, cloud.friendly_name, words)


def _groups(end: CloudEnd, *, source: bool) -> Iterator[Reason]:
    del source
    cloud = end.cloud
    if not cloud.host_group_ids:
        words = f"the cloud {cloud.friendly_name} has no host group"
        yield Reason(errors.NO_HOST_GROUP, cloud.friendly_name, words)


def _full_groups(end: CloudEnd, *, source: bool) -> Iterator[Reason]:
    """Each host group has a host; those of the source a machine too.

    A target may be empty: its machines are the replicas that are to come.
    """
    cloud = end.cloud
    for group in end.inventory.host_groups:
        if group.host_group_id not in cloud.host_group_ids:
            continue
        lacks = "host" if not group.host_count else ""
        if source and not lacks and not group.machine_count:
            lacks = "virtual machine"
        if lacks:
            words = f"the host group {group.path} of the cloud {cloud.friendly_name} has no {lacks}"
            yield Reason(errors.EMPTY_HOST_GROUP, cloud.friendly_name, words)


def _versions(end: CloudEnd, *, source: bool) -> Iterator[Reason]:
    del source
    cloud = end.cloud
    for host in end.inventory.hosts:
        if host.fqdn in cloud.host_fqdns and host.version not in HOST_VERSIONS:
            words = (
                f"the host {host.fqdn} has version '{host.version}': Windows Server 2012 or 2012 R2"
                " is needed"
            )
            yield Reason(errors.HOST_VERSION, cloud.friendly_name, words)


def _brokers(end: CloudEnd, *, source: bool) -> Iterator[Reason]:
    """VMM makes the broker when the cloud is prepared, but not where addresses are static."""
    del source
    cloud, inventory = end.cloud, end.inventory
    named = {
        host.cluster
        for host in inventory.hosts
        if host.fqdn in cloud.host_fqdns and host.cluster is not None
    }
    clusters = {each.name: each for each in inventory.clusters}
    for name in sorted(named):
        cluster = clusters.get(name)
        if cluster is None:
            words = (
                f"the server does not know the cluster {name} of the cloud {cloud.friendly_name},"
                " so that nobody can tell whether it has a Hyper-V Replica Broker"
            )
        elif cluster.broker is None and cluster.addressing == STATIC:
            words = (
                f"the cluster {name} has static addresses and no Hyper-V Replica Broker, which VMM"
                " makes by itself only where there is DHCP"
            )
        else:
            continue
        yield Reason(errors.NO_BROKER, cloud.friendly_name, words)


_RULES: Final = (_profile, _groups, _full_groups, _versions, _brokers)
