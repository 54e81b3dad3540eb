"""What is wrong in a vault, and how much is in it (arm-api.md, section 2.11; arm-examples/vaults).

Nothing of it is stored: it is counted from what items, servers and pairings say now.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from service_hub.arm.ids import CONTAINERS, FABRICS, PROTECTED_ITEMS, VaultIds, resource_type
from service_hub.arm.render_containers import mapping_health
from service_hub.arm.render_fabrics import fabric_health_errors
from service_hub.arm.render_items import item_health
from service_hub.arm.surroundings import Surroundings, clouds
from service_hub.domain.jobs import JobState
from service_hub.domain.records import ContainerMapping, Vault

VAULT_HEALTH: Final = "replicationVaultHealth"
_NAME: Final = "Default"

_SEVERITIES: Final = {"Error": "Error", "Warning": "Warning"}
"""Severity of a summary by an error's level; all else is Info."""


def vault_health_body(around: Surroundings, now: datetime) -> dict[str, Any]:
    """Return a vault's health: of each kind of resource how many there are, and their issues."""
    items = [item_health(facts, now) for facts in around.items]
    fabrics = [fabric_health_errors(fabric) for fabric in around.fabrics]
    pairings = [mapping_health(mapping) for mapping in around.mappings]
    return {
        "id": f"{VaultIds(around.vault).root}/{VAULT_HEALTH}/{_NAME}",
        "name": _NAME,
        "type": resource_type(VAULT_HEALTH),
        "properties": {
            "vaultErrors": [],
            "protectedItemsHealth": _summary(
                PROTECTED_ITEMS,
                (health for health, _ in items),
                (error for _, errors in items for error in errors),
            ),
            "fabricsHealth": _summary(
                FABRICS,
                ("Critical" if errors else "Normal" for errors in fabrics),
                (error for errors in fabrics for error in errors),
            ),
            "containersHealth": {
                **_summary(CONTAINERS, _cloud_healths(around, pairings), ()),
                "issues": [
                    _issue(
                        mapping.mapping_state,
                        ("FabricInfrastructure", "Error"),
                        f"The mapping '{mapping.name}' is in state {mapping.mapping_state}.",
                        CONTAINERS,
                        [mapping.primary_cloud_id, mapping.recovery_cloud_id],
                    )
                    for mapping, health in zip(around.mappings, pairings, strict=True)
                    if health != "Normal"
                ],
            },
        },
    }


def replication_usages_body(
    around: Surroundings, jobs: Mapping[JobState, int], plans: int, now: datetime
) -> dict[str, Any]:
    """Return one entry with the figures of a vault; jobs count as long as they are kept."""
    items = [item_health(facts, now)[0] for facts in around.items]
    away = sum(not fabric.connected for fabric in around.fabrics)
    critical = sum(health == "Critical" for health in items)
    return {
        "monitoringSummary": {
            "unHealthyVmCount": sum(health in {"Critical", "Warning"} for health in items),
            "unHealthyProviderCount": away,
            "eventsCount": critical + away,
            "deprecatedProviderCount": 0,
            "supportedProviderCount": len(around.fabrics),
            "unsupportedProviderCount": 0,
        },
        "jobsSummary": {
            "failedJobs": jobs.get(JobState.FAILED, 0),
            "suspendedJobs": jobs.get(JobState.SUSPENDED, 0),
            "inProgressJobs": jobs.get(JobState.IN_PROGRESS, 0) + jobs.get(JobState.NOT_STARTED, 0),
        },
        "protectedItemCount": len(around.items),
        "registeredServersCount": len(around.fabrics),
        "recoveryPlanCount": plans,
    }


def usages(around: Surroundings, plans: int, now: datetime) -> list[dict[str, Any]]:
    """Return what a vault holds, kind by kind; nothing of it is limited (limit -1)."""
    healths = Counter(item_health(facts, now)[0] for facts in around.items)
    counted = (
        ("ProtectedItemCount", "Replicated items", len(around.items)),
        ("ProtectedItemCriticalCount", "Critical", healths["Critical"]),
        ("ProtectedItemWarningCount", "Warning", healths["Warning"]),
        ("RegisteredServersCount", "Registered VMM servers", len(around.fabrics)),
        ("PairedCloudsCount", "Paired clouds", len(_paired_clouds(around.mappings))),
        ("ReplicationPolicyCount", "Replication policies", len(around.policies)),
        ("RecoveryPlanCount", "Recovery plans", plans),
    )
    return [
        {
            "unit": "Count",
            "currentValue": value,
            "limit": -1,
            "name": {"value": name, "localizedValue": title},
        }
        for name, title, value in counted
    ]


def vault_setting_body(vault: Vault) -> dict[str, Any]:
    """Return the one setting there is: of migration, which two VMM sites have nothing of."""
    kind = "replicationVaultSettings"
    return {
        "id": f"{VaultIds(vault).root}/{kind}/{VAULT_SETTING}",
        "name": VAULT_SETTING,
        "type": resource_type(kind),
        "properties": {"migrationSolutionId": None, "vmwareToAzureProviderType": None},
    }


VAULT_SETTING: Final = "default"


def _paired_clouds(mappings: Iterable[ContainerMapping]) -> set[str]:
    return {cloud for each in mappings for cloud in (each.primary_cloud_id, each.recovery_cloud_id)}


def _cloud_healths(around: Surroundings, pairings: Iterable[str]) -> list[str]:
    ill = {
        cloud
        for mapping, health in zip(around.mappings, pairings, strict=True)
        if health != "Normal"
        for cloud in (mapping.primary_cloud_id, mapping.recovery_cloud_id)
    }
    return [
        "Critical" if cloud.cloud_id in ill else "Normal"
        for fabric in around.fabrics
        for cloud in clouds(fabric)
    ]


def _summary(kind: str, healths: Iterable[str], errors: Iterable[dict[str, Any]]) -> dict[str, Any]:
    counts = Counter(healths)
    affected: dict[tuple[str, str, str, str], list[str]] = {}
    for error in errors:
        severity = _SEVERITIES.get(error["errorLevel"], "Info")
        about = error.get("summaryMessage") or error["errorMessage"]
        key = (str(error["errorCode"]), error["errorCategory"], severity, about)
        affected.setdefault(key, []).append(error["entityId"])
    return {
        "resourceCount": counts.total(),
        "issues": [
            _issue(code, (category, severity), about, kind, entities)
            for (code, category, severity, about), entities in affected.items()
        ],
        "categorizedResourceCounts": dict(counts),
    }


def _issue(
    code: str, weight: tuple[str, str], about: str, kind: str, entities: list[str]
) -> dict[str, Any]:
    category, severity = weight
    return {
        "summaryCode": code,
        "category": category,
        "severity": severity,
        "summaryMessage": about,
        "affectedResourceType": kind,
        "affectedResourceSubtype": "",
        "affectedResourceCorrelationIds": entities,
    }
