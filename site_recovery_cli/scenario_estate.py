"""What a scenario sees of a hub and does to it, through a profile's connection."""

from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.job_progress import read_job
from site_recovery_cli.job_report import properties_of
from site_recovery_cli.job_tree import tree
from site_recovery_cli.operator_signature import SIGNATURES, OperatorSignaturePolicy
from site_recovery_cli.plan_orders import scripts_to_sign
from site_recovery_cli.protected_targets import find_plan
from site_recovery_cli.scenario_files import Inject, Target
from wire_contract.operator_signature import HEADER, Order, SignedOperation
from wire_contract.vocabulary import Direction

ITEMS: Final = "replicationprotecteditems"
PLANS: Final = "replicationrecoveryplans"

_SIGNED: Final[Mapping[str, SignedOperation]] = {
    "test_failover": SignedOperation.TEST_FAILOVER,
    "test_failover_cleanup": SignedOperation.TEST_FAILOVER_CLEANUP,
    "planned_failover": SignedOperation.PLANNED_FAILOVER,
    "unplanned_failover": SignedOperation.UNPLANNED_FAILOVER,
    "change_recovery_point": SignedOperation.CHANGE_RECOVERY_POINT,
    "cancel_failover": SignedOperation.CANCEL_FAILOVER,
    "commit": SignedOperation.COMMIT,
    "reverse_replicate": SignedOperation.REVERSE_REPLICATE,
}
"""Kinds that an operator signs; what goes to a laboratory's sites needs no signature."""


@dataclass(frozen=True, slots=True)
class HubEstate:
    """The Estate of a scenario's run."""

    connection: Connection
    vault: str | None

    async def inject(self, inject: Inject) -> str:
        """Inject an event; the id of its job."""
        event = {
            "kind": inject.kind,
            "target": await self.id_of(inject.target),
            "arguments": inject.arguments,
        }
        told = await self.send(event)
        if not told.get("jobId"):
            raise CommandError(
                f"{inject.kind} began no job yet; look: site-recovery inject list",
                ExitCode.REFUSED,
            )
        return str(told["jobId"])

    async def send(self, event: dict[str, Any]) -> Mapping[str, Any]:
        """Inject what is told, signed where the login has the operators' key."""
        headers: Mapping[str, str] = {}
        # What waits for its time outlives any signature, and a dry run does nothing.
        begins = not event.keys() & {"at", "cron", "dryRun"}
        operation = _SIGNED.get(str(event["kind"])) if begins else None
        if self.connection.signing is not None and operation is not None:
            headers = await self._signed(event, operation, self.connection.signing)
        vault_id = await self.connection.vault_id(self.vault)
        return await self.connection.routes.inject(vault_id, event, headers)

    async def _signed(
        self, event: dict[str, Any], operation: SignedOperation, signing: OperatorSignaturePolicy
    ) -> Mapping[str, str]:
        """Return the header for an event of a machine; an event of a plan has them put in."""
        kind, name = str(event["target"]).rstrip("/").split("/")[-2:]
        arguments = dict(event["arguments"])
        named = arguments.get("failoverDirection")
        if kind.lower() == PLANS:
            plan = await find_plan(self.connection, self.vault, name)
            away = plan.direction if named is None else Direction(str(named))
            way = None if named is None else str(named)
            scripts = await scripts_to_sign(
                self.connection, self.vault, plan.resource, operation.value, way
            )
            arguments[SIGNATURES] = {
                **signing.of_each(operation, plan.members, away),
                **signing.of_scripts(operation, scripts),
            }
            event["arguments"] = arguments
        if kind.lower() != ITEMS:
            return {}
        direction = None if named is None else Direction(str(named))
        return {HEADER: signing.header(Order(operation, name, direction))}

    async def item(self, name: str) -> Mapping[str, Any]:
        """Return state, active, health, allows and reasons (lists) of a protected machine."""
        found = await self._named("item", name)
        properties = found.properties or models.ReplicationProtectedItemProperties()
        return {
            "state": properties.protection_state,
            "active": properties.active_location,
            "health": properties.replication_health,
            "allows": list(properties.allowed_operations or []),
            "reasons": [str(each.error_code) for each in properties.health_errors or []],
        }

    async def job(self, job_id: str) -> Mapping[str, Any]:
        """Return state, failed and doing (names of tasks, in both spellings), codes of a job."""
        job = await read_job(self.connection, self.connection.scope(self.vault), job_id)
        properties = properties_of(job)
        codes = []
        for each in properties.errors or []:
            service, provider = each.service_error_details, each.provider_error_details
            codes += [str(service.code)] if service is not None else []
            codes += [str(provider.error_code)] if provider is not None else []
        return {
            "state": properties.state,
            "failed": _tasks(properties, "Failed"),
            "doing": _tasks(properties, "InProgress"),
            "codes": codes,
        }

    async def connected(self, server: str) -> bool:
        """Return whether a server's provider is connected."""
        vault_id = await self.connection.vault_id(self.vault)
        for each in await self.connection.routes.servers(vault_id):
            if server.lower() in {
                str(each["friendly_name"]).lower(),
                str(each["vmm_fqdn"]).lower(),
            }:
                return bool(each["connected"])
        raise CommandError(f"there is no server {server} in this vault", ExitCode.NOT_FOUND)

    async def id_of(self, target: Target) -> str:
        """Return the ARM id of what is named; CommandError when it is none, or several."""
        ((kind, name),) = target.named.items()
        return name if kind == "id" else str((await self._named(kind, name)).id)

    async def _named(self, kind: str, name: str) -> Any:
        """Return the one resource of this name or friendly name."""
        recovery, scope = self.connection.recovery, self.connection.scope(self.vault)
        lists: Mapping[str, Any] = {
            "item": recovery.replication_protected_items,
            "plan": recovery.replication_recovery_plans,
            "container": recovery.replication_protection_containers,
            "fabric": recovery.replication_fabrics,
        }
        with explained(f"find the {kind} {name}", self.connection.hub):
            group = lists[kind]
            listed: AsyncIterable[Any] = group.list(*scope)
            found = [each async for each in listed if name.lower() in _names(each)]
        if len(found) != 1:
            raise CommandError(
                f"{len(found) or 'no'} {kind}s are named {name}; name one by its id",
                ExitCode.USAGE if found else ExitCode.NOT_FOUND,
            )
        return found[0]


def _tasks(properties: models.JobProperties, state: str) -> list[str]:
    """Return the tasks in this state, those of groups too, each by name and as people read it."""
    found = [line.task for line in tree(properties.tasks) if line.task.state == state]
    names = (name for task in found for name in (task.name, task.friendly_name) if name)
    return list(dict.fromkeys(names))


def _names(resource: Any) -> set[str]:
    friendly = getattr(resource.properties, "friendly_name", None)
    return {str(each).lower() for each in (resource.name, friendly) if each}
