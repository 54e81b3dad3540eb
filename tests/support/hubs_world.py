"""Several real hubs on one database, two real sites with agents, an operator on the official SDK.

Everything reaches a hub through a relay, as it would through a TCP pass-through in front of them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseError
from azure.mgmt.recoveryservicessiterecovery import models

from lab.item_operations import ItemOperations, Place, create_policy, pair_clouds
from lab.operator_client import (
    FINISHED_STATES,
    HubAddress,
    Operator,
    failure_text,
    open_operator,
)
from lab.registration import create_vault, wait_connected, write_registration_key
from lab.story_protection import wait_protected
from lab.waiting import wait_for
from tests.support.busy_estate import EstateWithAgents, busy_estate, vmm_fqdn
from tests.support.hub_process import FrontDoors, HubProcess, configure_hub, initialise_hubs
from tests.support.relay import HOST, Relay
from tests.support.simulator_estate import CLOUD
from wire_contract.vocabulary import Direction

JOB_SECONDS_MAX = 120.0
HELD_SECONDS_MAX = 60.0
PROTECTED_SECONDS_MAX = 300.0
REGION = "local"
SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
FAILOVER_VERBS = ("shut_down", "prepare_failover", "fail_over", "start")


@dataclass
class Doors:
    """The pass-through in front of the hubs: operators, registering servers, MQTT."""

    operator: Relay
    provider: Relay
    mqtt: Relay

    def lead_to(self, hub: HubProcess) -> None:
        """Lead whoever comes to this hub."""
        self.operator.lead_to(hub.settings.operator.port)
        self.provider.lead_to(hub.settings.provider.port)
        self.mqtt.lead_to(hub.settings.mqtt.port)


@dataclass
class HubsWorld:
    """What a story needs."""

    folder: Path
    hubs: Sequence[HubProcess]
    doors: Doors
    sites: EstateWithAgents
    operator: Operator
    told: list[Any]
    """What the agents and sites, which are in this process, have logged."""

    items: list[ItemOperations] = field(default_factory=list)
    away: bool = False
    """Whether the machines run at the recovery site now."""

    @property
    def direction(self) -> Direction:
        """The direction of the next failover."""
        return Direction.RECOVERY_TO_PRIMARY if self.away else Direction.PRIMARY_TO_RECOVERY

    @property
    def source(self) -> str:
        """The site where the machines run."""
        return "osaka" if self.away else "tokyo"

    @property
    def target(self) -> str:
        """The site where they are to run."""
        return "tokyo" if self.away else "osaka"

    def connect(self, hub: HubProcess) -> None:
        """Have both agents reach this hub."""
        self.sites.lead_to(hub.settings.provider.port, hub.settings.mqtt.port)

    async def begin_failovers(self) -> list[str]:
        """Ask for a planned failover of every machine; the jobs' names."""
        names: list[str] = []

        def note(response: Any) -> None:
            location = str(response.http_response.headers["Location"])
            names.append(location.partition("?")[0].rpartition("/")[2])

        for item in self.items:
            await self.operator.recovery.replication_protected_items.begin_planned_failover(
                *item.path,
                {"properties": {"failoverDirection": self.direction.value}},
                polling=False,
                raw_response_hook=note,
            )
        return names

    async def hold(self, verb: str, site: str) -> None:
        """Have the site hold every call of a verb until `let_go`."""
        fault = {"verb": verb, "machine": None, "kind": "hold"}
        await self.sites.agents[site].site.faults(fault)

    async def held(self, verb: str, site: str, count: int) -> None:
        """Return when so many calls of a verb are held."""

        async def look() -> bool | None:
            status, answer = await self.sites.agents[site].site.manage("GET", "/faults")
            assert status == 200
            waiting = sum(each["waiting"] for each in answer["faults"] if each["verb"] == verb)
            return True if waiting >= count else None

        await wait_for(f"{count} held calls of {verb}", look, HELD_SECONDS_MAX)

    async def let_go(self, site: str) -> None:
        """End every fault of a site."""
        await self.sites.agents[site].site.faults()

    async def job(self, name: str) -> models.Job | None:
        """Return a job as a hub shows it; None while no hub answers."""
        try:
            return await self.operator.recovery.replication_jobs.get(*self.operator.scope, name)
        except (ServiceRequestError, ServiceResponseError):
            return None
        except HttpResponseError as error:
            if error.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return None

    async def ended(self, names: Sequence[str]) -> None:
        """Return when all these jobs have succeeded, the hubs' absence in between borne."""
        for name in names:
            look = partial(self._finished, name)
            job = await wait_for(f"the end of {name}", look, JOB_SECONDS_MAX)
            assert job.properties is not None
            assert job.properties.state == "Succeeded", failure_text(job)

    async def _finished(self, name: str) -> models.Job | None:
        job = await self.job(name)
        is_finished = job and job.properties and job.properties.state in FINISHED_STATES
        return job if is_finished else None

    async def settle(self) -> None:
        """After failovers: commit and reverse every machine, until all are Protected again."""
        self.away = not self.away
        async with asyncio.TaskGroup() as group:
            for item in self.items:
                group.create_task(self._settle_one(item))

    async def _settle_one(self, item: ItemOperations) -> None:
        await item.commit()
        await item.reverse_replicate(self.direction)
        await wait_protected(item, PROTECTED_SECONDS_MAX)

    def receipts(self, receipt: str) -> list[Any]:
        """Return what the agents said of events: accepted, duplicate or refused."""
        return [
            line
            for line in self.told
            if line["event"] == "event_received" and line["receipt"] == receipt
        ]


@asynccontextmanager
async def hubs_world(
    folder: Path,
    free_port: Callable[[], int],
    *,
    names: Sequence[str],
    further: Mapping[str, Mapping[str, Any]],
    machine_count: int,
) -> AsyncIterator[HubsWorld]:
    """Start hubs (with `further` settings by name), sites and agents; protect every machine."""
    async with AsyncExitStack() as stack:
        told = stack.enter_context(structlog.testing.capture_logs())
        relays = [await stack.enter_async_context(Relay.opened()) for _ in range(3)]
        doors = Doors(*relays)
        ports = FrontDoors(*(relay.port for relay in relays))
        hubs = [configure_hub(folder, each, ports, free_port, further[each]) for each in names]
        for hub in hubs:
            stack.push_async_callback(hub.kill)
        token = folder / "operator.token"
        initialise_hubs(hubs, token)
        async with asyncio.TaskGroup() as group:
            for hub in hubs:
                group.create_task(hub.start())
        doors.lead_to(hubs[0])
        sites = await stack.enter_async_context(busy_estate(folder, machine_count))
        root = hubs[0].settings.trust_directory / "root.pem"
        address = HubAddress(
            f"https://{HOST}:{ports.operator}", str(root), SUBSCRIPTION, "g", "prod"
        )
        operator = await stack.enter_async_context(
            open_operator(address, token.read_text(), datetime.now(UTC))
        )
        world = HubsWorld(folder, hubs, doors, sites, operator, told)
        await _furnish(world, root.read_text())
        yield world


async def _furnish(world: HubsWorld, root_pem: str) -> None:
    """Register both agents, pair the clouds, and protect every machine."""
    operator = world.operator
    await create_vault(operator, REGION)
    world.connect(world.hubs[0])
    for agent in world.sites.agents.values():
        now = datetime.now(UTC)
        key = await write_registration_key(operator, REGION, root_pem, world.folder, now)
        await agent.register(key)
        key.unlink()
    async with asyncio.TaskGroup() as group:
        for agent in world.sites.agents.values():
            group.create_task(agent.start(world.sites.group))
    fqdns = [vmm_fqdn(site) for site in CLOUD]
    found = await wait_connected(operator, fqdns)
    places = {site: Place.of(operator, found[vmm_fqdn(site)].fabric, CLOUD[site]) for site in CLOUD}
    policy = await create_policy(operator, "policy", 30)
    await pair_clouds(operator, places["tokyo"], places["osaka"], policy)
    world.items = [
        ItemOperations(operator, places["tokyo"], machine_id, f"web{number:02}")
        for number, machine_id in enumerate(world.sites.estate.machine_ids)
    ]
    async with asyncio.TaskGroup() as group:
        for item in world.items:
            group.create_task(_protect(item, policy))


async def _protect(item: ItemOperations, policy: str) -> None:
    await item.enable(policy)
    await wait_protected(item, PROTECTED_SECONDS_MAX)
