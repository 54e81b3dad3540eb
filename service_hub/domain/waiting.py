"""Everything that is not final, in words: what it waits for, since when, and what can end it; pure.

Nothing may stay unfinished without a name (design: architecture, decision 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from service_hub.domain import open_tests
from service_hub.domain.durations import Usual, in_words
from service_hub.domain.jobs import Job
from service_hub.domain.protection import ProtectionState, allowed_operations
from service_hub.domain.records import (
    ContainerMapping,
    PendingApproval,
    ProtectedItem,
    Provider,
    ProviderContact,
)
from service_hub.domain.root_rotation import NewRoot, RootProgress

PENDING: Final = "pending"
NAMED_MAX: Final = 5
"""Servers that are named where more of them wait for the same."""


class WaitingKind(StrEnum):
    """What waits."""

    JOB = "job"
    ITEM = "item"
    APPROVAL = "approval"
    PAIRING = "pairing"
    SERVER = "server"
    ROOT = "root"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that is not final; `words` say what for, since when and what can end it."""

    kind: WaitingKind
    id: str
    name: str
    since: datetime | None
    words: str


_ITEMS_WAIT_FOR: Final[Mapping[ProtectionState, str]] = {
    ProtectionState.ENABLE_FAILED: "its protection to be enabled anew",
    ProtectionState.DISABLE_FAILED: "its protection to be disabled whole",
    ProtectionState.INITIAL_REPLICATION: "its initial replication to end",
    ProtectionState.PRIMARY_COMPLETED: "its protection to be finalized on the recovery side",
    ProtectionState.PLANNED_FAILED_OVER: "its failover to be accepted",
    ProtectionState.UNPLANNED_FAILED_OVER: "its failover to be accepted",
    ProtectionState.PLANNED_COMMITTED: "replication in the other direction",
    ProtectionState.UNPLANNED_COMMITTED: "replication in the other direction",
    ProtectionState.PLANNED_COMMIT_FAILED: "its commit to be completed",
    ProtectionState.UNPLANNED_COMMIT_FAILED: "its commit to be completed",
    ProtectionState.PLANNED_UNDO_FAILED: "somebody to end what was not fully taken back",
    ProtectionState.UNPLANNED_UNDO_FAILED: "somebody to end what was not fully taken back",
    ProtectionState.OVERRIDDEN: "its protection to be ended, and enabled anew",
}
_PAIRS_WAIT_FOR: Final[Mapping[str, tuple[str, str]]] = {
    "PairingFailed": ("paired", "the pairing"),
    "UnpairingFailed": ("separated", "the mapping's removal"),
}
_BY_ITSELF: Final = frozenset(
    {ProtectionState.INITIAL_REPLICATION, ProtectionState.PRIMARY_COMPLETED}
)


def standing_alert_id(job_id: str) -> str:
    """Return the id of the alert that is raised when a job stands still."""
    return f"stands-still/{job_id}"


def of_job(job: Job, usual: Usual | None) -> Waiting | None:
    """Return what a job waits for, and how long that usually takes; None once it has ended."""
    words = job.waiting_for
    if words is None:
        return None
    if usual is not None:
        words = f"{words}; usually {in_words(usual.median_seconds)}"
    return Waiting(WaitingKind.JOB, job.id, _name(job), job.started_at or job.created_at, words)


def of_job_standing_still(job: Job, reason: str, since: datetime | None) -> Waiting:
    """Return what a job waits for that this hub cannot decide on; its own words would mislead."""
    words = (
        f"waiting for a hub that can decide on its events{_since(since)}: it stands still"
        f" ({reason}), and nothing of it is lost; can be ended by restarting the hub with a version"
        " in which the fault is mended"
    )
    return Waiting(WaitingKind.JOB, job.id, _name(job), since, words)


def of_item(item: ProtectedItem, left_at: datetime | None) -> Waiting | None:
    """Return what an item waits for, since a job left it so; None while one works on it."""
    if item.authority_questioned_at is not None:
        since = item.authority_questioned_at
        words = (
            f"waiting for an operator to say which copy may run{_since(since)};"
            " can be ended by site-recovery authority decide"
        )
        return Waiting(WaitingKind.ITEM, item.id, item.friendly_name, since, words)
    if item.current is not None or item.plan is not None:
        return None
    test = open_tests.waiting_for(item)
    if test is not None:
        opened_at = item.test_opened_at or item.last_test_failover_at
        return Waiting(WaitingKind.ITEM, item.id, item.friendly_name, opened_at, test)
    what = _ITEMS_WAIT_FOR.get(item.state)
    if what is None:
        return None
    allowed = " or ".join(each.value for each in allowed_operations(item.state))
    ends = f"can be ended by {allowed}" if allowed else "can be ended by enabling it again"
    if item.state in _BY_ITSELF:
        ends = "it ends by itself when both sites report it"
    words = f"waiting for {what}{_since(left_at)}; {ends}"
    return Waiting(WaitingKind.ITEM, item.id, item.friendly_name, left_at, words)


def of_approval(approval: PendingApproval) -> Waiting | None:
    """Return what a known server with a new key waits for; None once it was decided."""
    if approval.decision != PENDING:
        return None
    words = (
        f"waiting for an operator to decide on its new key{_since(approval.requested_at)};"
        f" can be ended by site-recovery server approve or reject {approval.id}"
    )
    name, since = approval.friendly_name, approval.requested_at
    return Waiting(WaitingKind.APPROVAL, approval.id, name, since, words)


def of_pairing(mapping: ContainerMapping, left_at: datetime | None) -> Waiting | None:
    """Return what a pairing that failed waits for; None for others: a job works on it, or none."""
    what = _PAIRS_WAIT_FOR.get(mapping.mapping_state)
    if what is None:
        return None
    restart = "" if mapping.job_id is None else f"site-recovery job restart {mapping.job_id}, or "
    words = f"waiting for its clouds to be {what[0]}{_since(left_at)}; can be ended by {restart}by"
    words += f" requesting {what[1]} anew"
    return Waiting(WaitingKind.PAIRING, mapping.id, mapping.name, left_at, words)


def of_server(
    provider: Provider, contact: ProviderContact | None, *, connected: bool
) -> Waiting | None:
    """Return what a server waits for that is not registered, revoked, or not heard of."""
    if connected:
        return None
    name = provider.friendly_name or provider.vmm_fqdn or provider.vmm_id
    since = None if contact is None else contact.last_contact_at
    if provider.registered_at is None:
        since = provider.enrolled_at
        words = (
            f"waiting for its registration{_since(since)}, since it has a certificate alone; can be"
            " ended by provider-agent register beside the server"
        )
    elif contact is not None and contact.cut_off_at is not None:
        since = contact.cut_off_at
        words = (
            f"waiting for its provider to come back{_since(since)}, when its certificates were"
            " revoked; can be ended by provider-agent register beside the server, or by"
            f" site-recovery server purge {name}"
        )
    else:
        words = (
            f"waiting for its provider to be heard of{_since(since)}; can be ended by starting the"
            f" provider (provider-agent doctor says what is wrong), or by site-recovery server"
            f" purge {name}"
        )
    return Waiting(WaitingKind.SERVER, provider.id, name, since, words)


def of_new_root(root: NewRoot, servers: Sequence[RootProgress]) -> Waiting:
    """Return what the replacement of the root waits for; `servers` are the vault's."""
    behind = [each.provider for each in servers if each.is_behind]
    what, ends = "somebody to end trust in the former root", "service-hub trust finish-rotation"
    if behind:
        names = sorted(each.friendly_name or each.vmm_fqdn or each.vmm_id for each in behind)
        more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
        what = f"{', '.join(names[:NAMED_MAX])}{more} to take the new root over"
        ends = f"starting these servers' providers, and then by {ends}"
    words = f"waiting for {what}{_since(root.announced_at)}; can be ended by {ends}"
    name = f"replacement of the root by {root.thumbprint}"
    return Waiting(WaitingKind.ROOT, root.thumbprint, name, root.announced_at, words)


def _name(job: Job) -> str:
    return f"{job.scenario.friendly_name} of {job.target_object_name}"


def _since(moment: datetime | None) -> str:
    return "" if moment is None else f" since {moment:%Y-%m-%dT%H:%M:%SZ}"
