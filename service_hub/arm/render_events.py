"""Events as the dialect shows them (arm-api.md, 2.11; behaviour.md, 4.2)."""

from collections.abc import Mapping
from typing import Any, Final

from service_hub.arm.ids import EVENTS, VaultIds, resource_type
from service_hub.arm.times import fine_time
from service_hub.domain.records import Vault
from service_hub.domain.replication_events import EventHealth, ReplicationEvent

INSTANCE_TYPE: Final = "HyperVReplica2012R2"


def event_body(
    vault: Vault, event: ReplicationEvent, fabric_names: Mapping[str, str]
) -> dict[str, Any]:
    """Return one event; `fabric_names` are the ARM names of the vault's servers by provider."""
    ids, place = VaultIds(vault), event.place
    fabric = fabric_names.get(event.provider_id)
    return {
        "id": ids.event(event.id),
        "name": event.id,
        "type": resource_type(EVENTS),
        "properties": {
            "eventCode": event.code,
            "description": event.description,
            "eventType": event.event_type,
            "affectedObjectFriendlyName": event.affected_name,
            "affectedObjectCorrelationId": event.affected_id,
            "severity": event.severity,
            "timeOfOccurrence": fine_time(event.occurred_at),
            "fabricId": "" if fabric is None else ids.fabric(fabric),
            "providerSpecificDetails": {
                "instanceType": INSTANCE_TYPE,
                "containerName": place.container,
                "fabricName": place.fabric,
                "remoteContainerName": place.remote_container,
                "remoteFabricName": place.remote_fabric,
            },
            "eventSpecificDetails": _job_details(event),
            "healthErrors": [_health(event, each) for each in event.health],
        },
    }


def _job_details(event: ReplicationEvent) -> dict[str, Any] | None:
    if not event.job_id:
        return None
    return {
        "instanceType": "JobStatus",
        "jobId": event.job_id,
        "jobFriendlyName": event.job_name,
        "jobStatus": event.job_status,
        "affectedObjectType": event.job_target_type,
    }


def _health(event: ReplicationEvent, health: EventHealth) -> dict[str, Any]:
    return {
        "errorLevel": health.level,
        "errorCode": health.code,
        "errorMessage": health.message,
        "possibleCauses": health.causes,
        "recommendedAction": health.action,
        "creationTimeUtc": fine_time(event.occurred_at),
        "recoveryProviderErrorMessage": None,
        "entityId": event.affected_id,
        "innerHealthErrors": [],
    }
