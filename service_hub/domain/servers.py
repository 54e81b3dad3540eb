"""Decisions about registered servers: their jobs, what holds them, which keys let one in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.jobs import Job, JobError, TaskRun
from service_hub.domain.mapping_records import NetworkMapping
from service_hub.domain.planning import JobIdentity
from service_hub.domain.records import (
    ContainerMapping,
    ManagementCertificate,
    ProtectedItem,
    Provider,
    RegistrationKey,
    Vault,
)
from service_hub.domain.scenarios import SCENARIOS
from wire_contract.vocabulary import Side

CREATE_SITE: Final = "create_site"
REGISTER: Final = "register_provider"
UNREGISTER: Final = "unregister_server"
REFRESH: Final = "refresh_server"
TIDY_PARTNER: Final = "tidy_partner"
SERVER_JOBS: Final = frozenset({CREATE_SITE, REGISTER, UNREGISTER, REFRESH})

DELETING_TASK: Final = "UnregisterFabricTask"
CHECKING_TASKS: Final = frozenset(
    {"UnregisterFabricPreflightChecksTask", "RefreshProviderPreflightChecksTask"}
)

NAMES_SHOWN_MAX: Final = 10
"""How many names a refusal lists before it says how many more there are."""


def plan_server_job(key: str, provider: Provider, identity: JobIdentity) -> Job:
    """Return a job on a server: target and affected objects as recorded (recorded.md, 12)."""
    return Job(
        id=identity.job_id,
        vault_id=provider.vault_id,
        scenario_key=key,
        operation=None,
        target_object_id=provider.vmm_id,
        target_object_name=provider.vmm_fqdn,
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
        providers={Side.PRIMARY: provider.id},
        affected={
            "primaryVmmId": provider.vmm_id,
            "primaryVmmName": title_of(provider),
            "primaryFabricProviderId": "VMM",
        },
        created_at=identity.now,
    )


def plan_partner_job(
    provider: Provider, cloud_id: str, gone_cloud_id: str, identity: JobIdentity
) -> Job:
    """Return the job that removes from one cloud what a purged partner has left there."""
    planned = plan_server_job(TIDY_PARTNER, provider, identity)
    clouds: dict[str, JsonValue] = {
        Side.PRIMARY.value: cloud_id,
        Side.RECOVERY.value: gone_cloud_id,
    }
    update = {"target_object_id": cloud_id, "context": {"clouds": clouds}}
    return planned.model_copy(update=update)


def left_by(provider: Provider, mappings: Sequence[ContainerMapping]) -> list[tuple[str, str, str]]:
    """Return (partner, its cloud, the cloud that is gone) of what a purge leaves with others."""
    left = set()
    for each in mappings:
        ends = (
            (each.primary_provider_id, each.primary_cloud_id),
            (each.recovery_provider_id, each.recovery_cloud_id),
        )
        for (own, own_cloud), (other, other_cloud) in (ends, ends[::-1]):
            if own == provider.id and other != provider.id:
                left.add((other, other_cloud, own_cloud))
    return sorted(left)


def title_of(provider: Provider) -> str:
    """Return what operators call a server."""
    return provider.friendly_name or provider.vmm_fqdn


def usage_of(
    items: Sequence[ProtectedItem],
    mappings: Sequence[ContainerMapping],
    network_mappings: Sequence[NetworkMapping] = (),
) -> str | None:
    """Return in words what still needs a server, or None; a pairing that failed needs nothing.

    Network mappings are removed before the pairings are (behaviour.md, 2.15).
    """
    parts = [
        _listed("protected machine", [item.friendly_name for item in items]),
        _listed("network mapping", [each.name for each in network_mappings]),
        _listed("pairing", [each.name for each in mappings if holds_server(each)]),
    ]
    return "; ".join(part for part in parts if part) or None


def holds_server(mapping: ContainerMapping) -> bool:
    """Return whether a pairing keeps its servers from being deleted."""
    return mapping.mapping_state != "PairingFailed"


def refusal_in_use(provider: Provider, usage: str, now: datetime) -> JobError:
    """Return why a server that is still needed is not deleted."""
    return job_error(errors.SERVER_IN_USE, now, name=title_of(provider), detail=usage)


def refusal_while_leaving(provider: Provider, leaving: Job, now: datetime) -> JobError:
    """Return why nothing more is asked of a server that is being deleted."""
    detail = f"{leaving.scenario.name} since {leaving.created_at:%Y-%m-%dT%H:%M:%SZ}"
    return job_error(errors.BUSY, now, name=title_of(provider), detail=detail)


def refusal_of_vault_deletion(vault: Vault, servers: Sequence[str]) -> str | None:
    """Return why a vault may not be deleted, with its servers, or None."""
    if not servers:
        return None
    return (
        f"The vault '{vault.name}' holds {_listed('registered server', servers)}: delete each"
        " server first (remove it, or purge it when it is disconnected)."
    )


def refusal_of_key(
    key: RegistrationKey | None, vault: Vault | None, named_vault: str | None, now: datetime
) -> str | None:
    """Return why a presented key enrols nobody, or None when it is valid now.

    `named_vault` is the vault that the credentials file says it is for, where the caller told.
    """
    if key is None or vault is None:
        return "This certificate is no registration key of this hub; or its vault was deleted."
    reasons = (
        (
            key.revoked_at is not None,
            f"was revoked at {_moment(key.revoked_at or now)}",
        ),
        (now >= key.expires_at, f"expired at {_moment(key.expires_at)}"),
        (now < key.valid_from, f"is not valid before {_moment(key.valid_from)}"),
        (
            named_vault is not None and named_vault.lower() != key.vault_id.lower(),
            f"belongs to the vault '{vault.name}', not to the one that the credentials file names",
        ),
    )
    reason = next((words for holds, words in reasons if holds), None)
    return None if reason is None else f"The registration key '{key.name}' {reason}."


def refusal_of_certificate(certificate: ManagementCertificate | None) -> str:
    """Return why a certificate that is not valid is none of a server's."""
    if certificate is None:
        return (
            "This certificate is of no server here: it was never registered, or was unregistered."
        )
    if certificate.revoked_at is not None:
        return f"This server's certificate was revoked at {_moment(certificate.revoked_at)}."
    if certificate.expires_at is not None:
        return f"This server's certificate expired at {_moment(certificate.expires_at)}."
    return "This certificate is of a server that was unregistered."


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(sorted(names)[:NAMES_SHOWN_MAX])
    more = len(names) - NAMES_SHOWN_MAX
    rest = f" and {more} more" if more > 0 else ""
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {what}{plural} ({shown}{rest})"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
