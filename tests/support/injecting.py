"""Injected events in a hub without network: requests reach the handlers of the ARM surface."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from service_hub.arm.api import ArmApi
from service_hub.arm.inner_requests import InnerRequests
from service_hub.domain.errors import NotFoundError
from service_hub.domain.injections import CLAIM, Injection, InjectionState
from service_hub.domain.jobs import Job
from service_hub.domain.records import Vault
from service_hub.services.durations import DurationService
from service_hub.services.injections import InjectionService
from service_hub.services.preview import PreviewService
from service_hub.services.requests import RequestLedger
from tests.support.hub_world import HubWorld
from tests.unit.arm.arm_estate import KnownTokens

ROOT = "/Subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
LOOKS_MAX = 8
OWN_WORK = frozenset({"job_lease", "job_inbox", "change_counter", "changed_record"})
"""Tables that the hub writes by itself, at moments of its own: leases of jobs that have ended."""

FABRIC = f"{ROOT}/replicationFabrics/tokyo-fabric"


@dataclass
class OneVault:
    """Finds the world's vault by its name."""

    vault: Vault

    async def find(self, subscription_id: str, resource_group: str, name: str) -> Vault:
        """Return it, whatever the subscription."""
        del subscription_id, resource_group
        if name.lower() != self.vault.name:
            raise NotFoundError(name)
        return self.vault

    async def list_all(self) -> list[Vault]:
        """Return it."""
        return [self.vault]


def arm_of(world: HubWorld) -> ArmApi:
    """Return the ARM surface of a hub without network."""
    vaults: Any = OneVault(world.vault)
    return ArmApi(
        vaults=vaults,
        fabrics=world.fabrics,
        policies=world.policies,
        pairing=world.pairing,
        protection=world.protection,
        networks=world.networks,
        storage=world.storage,
        jobs=world.jobs,
        events=world.events,
        alerts=world.alerts,
        servers=world.servers,
        plans=world.recovery_plans,
        tokens=KnownTokens(),
        clock=world.clock,
        public_url="https://hub.example",
    )


def injecting(world: HubWorld) -> InjectionService:
    """Return the use case, as the composition root makes it."""
    injections = InjectionService(
        reader=world.store,
        committer=world.committer,
        runner=world.engine,
        clock=world.clock,
        fabrics=world.fabrics,
        requests=RequestLedger(reader=world.store, clock=world.clock),
        laboratory=world.leaving.sites,
    )
    previews = PreviewService(
        reader=world.store,
        clock=world.clock,
        fabrics=world.fabrics,
        checker=world.leaving.checker,
        durations=DurationService(reader=world.store),
        observation_interval=timedelta(minutes=5),
        saved=world.recovery_plans,
    )
    injections.through(InnerRequests(arm_of(world), previews))
    return injections


def rows_of(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is stored of a hub world in this folder, table by table, but for its own work."""
    with closing(sqlite3.connect(folder / "hub.db")) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: sorted(database.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)  # noqa: S608 -- names of its own tables
            for (name,) in names
            if name not in OWN_WORK
        }


async def stored(world: HubWorld) -> set[tuple[str, str]]:
    """Return the jobs and injections that there are; what the hub notes beside them may change."""
    found = [each.record for kind in (Job, Injection) for each in await world.store.find(kind)]
    return {(each.kind, each.id) for each in found}


async def begun(injections: InjectionService, vault: Vault, made: Injection) -> Injection:
    """Return an event once its request was made; a hub that was killed at it is waited for."""
    for _ in range(LOOKS_MAX):
        if made.state is not InjectionState.SCHEDULED:
            break
        await asyncio.sleep(CLAIM.total_seconds() / 4)
        await injections.fire_due()
        made = await injections.find(vault, made.id)
    return made
