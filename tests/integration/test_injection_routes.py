"""Injected events over HTTP: who may, what is answered, bad input."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from service_hub.domain.errors import InvalidRequestError
from service_hub.hub_api.injection_routes import (
    InjectionApi,
    injection_routes,
    request_of,
)
from service_hub.hub_api.server_routes import ServersApi
from tests.support.hub_stories import protected
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.injecting import FABRIC, OneVault, injecting, stored
from tests.unit.arm.arm_estate import KnownTokens
from tests.unit.arm.arm_hub import prepared_hub
from tests.unit.arm.arm_use_cases import MemoryServers
from tests.unit.arm.test_hub_server_routes import MemoryKeys

PATH = "/hub/v1/vaults/vault/injections"
ITEM = (
    f"{FABRIC}/replicationProtectionContainers/tokyo-cloud/replicationProtectedItems/{MACHINE_ID}"
)
OUTAGE = {"kind": "site_outage", "target": FABRIC}
PLANNED = {
    "kind": "planned_failover",
    "target": ITEM,
    "arguments": {"failoverDirection": "PrimaryToRecovery"},
}


@dataclass
class Door:
    """The routes, served."""

    world: HubWorld
    client: "TestClient[web.Request, web.Application]"

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = "good",  # noqa: S107 -- known to the played tokens alone
    ) -> tuple[int, Any]:
        """Send a request; its status and what it is answered."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body)
        async with self.client.request(method, path, headers=headers, data=data) as response:
            return response.status, await response.json()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Door]:
    """Serve the routes of a hub with one protected machine."""
    async with hub_world(folder) as world:
        await protected(world)
        vaults: Any = OneVault(world.vault)
        door = ServersApi(
            vaults=vaults,
            keys=MemoryKeys(),
            servers=MemoryServers(prepared_hub()),
            tokens=KnownTokens(),
            clock=world.clock,
        )
        application = web.Application()
        application.add_routes(
            injection_routes(InjectionApi(door=door, injections=injecting(world)))
        )
        async with TestClient(TestServer(application)) as client:
            yield Door(world, client)


async def test_an_event_is_injected_listed_and_found(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        status, told = await door.ask("POST", PATH, PLANNED)
        assert status == 202
        assert set(told) == {"injectionId", "jobId"}
        assert (await door.world.job(told["jobId"])).affected["injectionId"] == told["injectionId"]
        status, listed = await door.ask("GET", PATH)
        assert (status, [each["kind"] for each in listed["injections"]]) == (
            200,
            ["planned_failover"],
        )
        status, one = await door.ask("GET", f"{PATH}/{told['injectionId']}")
        assert (status, one["state"], one["jobId"]) == (200, "Injected", told["jobId"])
        status, refused = await door.ask("POST", f"{PATH}/{told['injectionId']}/cancel", {})
        assert (status, refused["error"]["code"]) == (409, "Conflict")


async def test_what_waits_is_cancelled(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        status, told = await door.ask("POST", PATH, {**PLANNED, "cron": "30 2 * * 6"})
        assert (status, told["jobId"]) == (202, None)
        path = f"{PATH}/{told['injectionId']}"
        assert (await door.ask("GET", path))[1]["nextAt"] == "2026-01-03T02:30:00+00:00"
        assert (await door.ask("POST", f"{path}/cancel", {}))[1]["state"] == "Cancelled"
        assert (await door.ask("GET", path))[1]["nextAt"] is None


async def test_a_dry_run_answers_the_task_list_and_stores_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        before = await stored(door.world)
        for body in (PLANNED, OUTAGE):
            status, told = await door.ask("POST", PATH, {**body, "dryRun": True})
            assert status == 200
            assert told["tasks"]
        assert await stored(door.world) == before


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("reading", 403)])
async def test_who_has_no_right_injects_nothing(
    tmp_path: Path, token: str | None, status: int
) -> None:
    async with served(tmp_path) as door:
        before = await stored(door.world)
        assert (await door.ask("POST", PATH, OUTAGE, token))[0] == status
        assert (await door.ask("POST", f"{PATH}/x/cancel", {}, token))[0] == status
        assert await stored(door.world) == before


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "kind"),
        ({"kind": "earthquake", "target": FABRIC}, "kind"),
        ({"kind": "commit"}, "target"),
        ({"kind": "commit", "target": 7}, "target"),
        ({"kind": "commit", "target": "x" * 2000}, "target"),
        ({**OUTAGE, "at": "tomorrow"}, "at"),
        ({**OUTAGE, "at": "2026-01-01T12:00:00"}, "at"),
        ({**OUTAGE, "at": "2020-01-01T12:00:00Z"}, "at"),
        ({**OUTAGE, "cron": "often"}, "cron"),
        ({**OUTAGE, "cron": "0 0 * * *", "at": "2026-02-01T12:00:00Z"}, "at"),
        ({**OUTAGE, "arguments": []}, "arguments"),
        ({**OUTAGE, "dryRun": "yes"}, "dryRun"),
        ({**OUTAGE, "now": True}, "now"),
    ],
)
async def test_bad_input_is_named_and_loses_nothing(
    tmp_path: Path, body: dict[str, Any], named: str
) -> None:
    async with served(tmp_path) as door:
        status, told = await door.ask("POST", PATH, body)
        assert status == 400
        assert f"'{named}'" in told["error"]["message"]
        assert (await door.ask("GET", PATH))[1] == {"injections": []}


async def test_unknown_injections_are_not_found(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        assert (await door.ask("GET", f"{PATH}/nothing"))[0] == 404
        assert (await door.ask("POST", f"{PATH}/nothing/cancel", {}))[0] == 404


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["kind", "target", "at", "cron", "arguments", "dryRun", "other"]),
        JSON | st.sampled_from(["commit", "site_outage", "0 0 * * *", "2026-01-01T00:00:00Z"]),
    )
)
def test_whatever_comes_is_a_request_or_refused(body: dict[str, Any]) -> None:
    try:
        request, dry = request_of(body)
    except InvalidRequestError as error:
        assert error.target is not None  # noqa: PT017 -- either is right, nothing else is
        return
    assert request.event.value == body["kind"]
    assert dry is body.get("dryRun", False)
