"""Protected machines and recovery plans as commands name them, with what they allow now."""

import shlex
from dataclasses import dataclass
from typing import Any, Final

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection
from site_recovery_cli.exit_codes import ExitCode
from site_recovery_cli.failures import CommandError, explained
from site_recovery_cli.named_resources import Named, choose, listed
from wire_contract.vocabulary import Direction

NO_JOB: Final = "none"

COMMANDS: Final = {
    "TestFailover": "failover test",
    "TestFailoverCleanup": "failover cleanup",
    "PlannedFailover": "failover planned",
    "UnplannedFailover": "failover unplanned",
    "Commit": "failover commit",
    "CancelFailover": "failover cancel",
    "ChangePit": "failover change-point --recovery-point ID",
    "RepairReplication": "failover resynchronize",
    "ReverseReplicate": "failover reverse",
    "DisableProtection": "protect disable",
}
"""Which command asks for what `allowedOperations` calls so."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an operation is asked of: a protected machine, or a recovery plan."""

    name: str
    state: str
    allowed: tuple[str, ...]
    direction: Direction | None
    """Of its next failover: away from where it runs; None where the machines of a plan differ."""
    job: str | None
    """The job that holds it now."""
    operations: Any
    """The SDK's operation group."""
    path: tuple[str, ...]
    is_plan: bool = False
    members: tuple[str, ...] = ()
    """The items of a plan's machines, by which an operator signs for them."""
    resource: Any = None
    """The plan as the SDK has it."""

    def require(self, operation: str, what: str) -> None:
        """Do nothing where this is allowed now; CommandError names what is."""
        if operation in self.allowed:
            return
        raise CommandError(
            f"{what}: {operation} is not allowed now ({self.state}); {self._way_on()}",
            ExitCode.REFUSED,
        )

    def _way_on(self) -> str:
        if self.job is not None:
            return f"job {self.job} holds it: site-recovery job watch {self.job}"
        name = shlex.quote(self.name)
        if not self.allowed:
            kind = "plan" if self.is_plan else "protect"
            return f"nothing is allowed; see: site-recovery {kind} show {name}"
        option = " --plan" if self.is_plan else ""
        commands = "".join(
            f"; site-recovery {COMMANDS[each]} {name}{option}"
            for each in self.allowed
            if each in COMMANDS
        )
        return f"allowed: {', '.join(self.allowed)}{commands}"


def properties_of_item(item: Any) -> models.ReplicationProtectedItemProperties:
    """Return what a protected machine says of itself; empty where the hub sent nothing."""
    return item.properties or models.ReplicationProtectedItemProperties()


def named_item(item: Any) -> Named:
    """Return a protected machine with its name and its primary cloud."""
    properties = properties_of_item(item)
    cloud = properties.primary_protection_container_friendly_name or ""
    return Named(item, properties.friendly_name or item.name or "", cloud)


def job_of_item(item: Any) -> str | None:
    """Return the id of the job that holds a protected machine."""
    scenario = properties_of_item(item).current_scenario
    job = "" if scenario is None else (scenario.job_id or "").rpartition("/")[2]
    return job if job and job.lower() != NO_JOB else None


async def list_items(connection: Connection, vault: str | None) -> list[Named]:
    """Return all protected machines of a vault."""
    items = connection.recovery.replication_protected_items
    with explained("list protected machines", connection.hub):
        return [named_item(each) for each in await listed(items.list(*connection.scope(vault)))]


async def find_item(connection: Connection, vault: str | None, wanted: str) -> Named:
    """Return the protected machine of this name, CLOUD/NAME or id; CommandError."""
    items = await list_items(connection, vault)
    return choose("protected machine", wanted, items, "protect list")


async def find_machine(connection: Connection, vault: str | None, wanted: str) -> Target:
    """Return a protected machine as what an operation is asked of; CommandError."""
    found = await find_item(connection, vault, wanted)
    properties = properties_of_item(found.resource)
    return Target(
        found.name,
        properties.protection_state_description or properties.protection_state or "",
        tuple(properties.allowed_operations or ()),
        _away_from([properties.active_location]),
        job_of_item(found.resource),
        connection.recovery.replication_protected_items,
        (*connection.scope(vault), *found.path),
    )


async def find_plan(connection: Connection, vault: str | None, wanted: str) -> Target:
    """Return a recovery plan as what an operation is asked of; CommandError."""
    scope, plans = connection.scope(vault), connection.recovery.replication_recovery_plans
    with explained("list plans", connection.hub):
        listing = await listed(plans.list(*scope))
    named = [Named(each, each.name or "") for each in listing]
    found = choose("plan", wanted, named, "plan list")
    quoted = found.name.replace("'", "''")
    items = connection.recovery.replication_protected_items
    with explained(f"list machines of plan {found.name}", connection.hub):
        members = await listed(items.list(*scope, filter=f"RecoveryPlanName eq '{quoted}'"))
    properties = found.resource.properties
    jobs = {job_of_item(each) for each in members}
    return Target(
        found.name,
        ", ".join(sorted({str(properties_of_item(each).protection_state) for each in members})),
        tuple(properties.allowed_operations or ()),
        _away_from([properties_of_item(each).active_location for each in members]),
        next((job for job in jobs if job is not None), None),
        plans,
        (*scope, found.name),
        is_plan=True,
        members=tuple(str(each.name) for each in members),
        resource=found.resource,
    )


def _away_from(active: list[str | None]) -> Direction | None:
    ways = {
        Direction.RECOVERY_TO_PRIMARY if each == "Recovery" else Direction.PRIMARY_TO_RECOVERY
        for each in active
    }
    return ways.pop() if len(ways) == 1 else None
