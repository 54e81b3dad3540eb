"""The hub's own routes for whoever looks on, over HTTP: who may, what is shown, bad input."""

import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.hub_api.authority_routes import AuthorityApi, authority_routes
from service_hub.hub_api.looker_routes import looker_routes
from service_hub.hub_api.server_routes import ServersApi, server_routes
from service_hub.looker_parts import looker_parts
from service_hub.ports.changes import Change, Save
from service_hub.services.authority import AuthorityService
from service_hub.services.prerequisites import PrerequisitesService
from tests.support.hub_stories import ask, protected, until_done
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.unit.arm.arm_estate import KnownTokens
from tests.unit.arm.arm_hub import prepared_hub
from tests.unit.arm.arm_use_cases import MemoryServers, MemoryVaults
from tests.unit.arm.test_hub_server_routes import MemoryKeys

V = "/hub/v1/vaults/vault"
ITEM = f"{V}/items/{MACHINE_ID}"
READING = (
    f"{V}/changes",
    f"{V}/inventories",
    f"{V}/machines",
    f"{V}/items",
    ITEM,
    f"{ITEM}/figures?metric=rpo_seconds",
    f"{V}/jobs/export",
)


@dataclass
class Routes:
    """The routes, served by a hub with one protected machine."""

    world: HubWorld
    client: "TestClient[web.Request, web.Application]"

    async def ask(
        self,
        method: str,
        path: str,
        token: str | None = "reading",  # noqa: S107 -- known to the played tokens alone
        data: bytes | None = None,
    ) -> ClientResponse:
        """Send a request."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = await self.client.request(method, path, headers=headers, data=data)
        await response.read()
        return response

    async def body(self, path: str) -> Any:
        """Return what a reader is answered."""
        response = await self.ask("GET", path)
        assert response.status == 200, await response.text()
        assert response.headers["Cache-Control"] == "no-store"
        return await response.json()


class OneVault(MemoryVaults):
    """The vault of the world."""

    def __init__(self, vault: Vault) -> None:
        super().__init__(prepared_hub())
        self._vault = vault

    async def list_all(self) -> list[Vault]:
        """Return it."""
        return [self._vault]


@asynccontextmanager
async def served(folder: Path, *, bare: bool = False) -> AsyncIterator[Routes]:
    """Serve a hub; `bare`: with nothing protected."""
    async with hub_world(folder) as world:
        if not bare:
            await protected(world)
        parts = looker_parts(
            world.store,
            world.committer,
            world.clock,
            fabrics=world.fabrics,
            checker=PrerequisitesService(
                reader=world.store, clock=world.clock, fabrics=world.fabrics
            ),
            plans=world.recovery_plans,
            archive_directory=folder / "archive",
            retention=timedelta(days=180),
        )
        door = ServersApi(
            vaults=OneVault(world.vault),
            keys=MemoryKeys(),
            servers=MemoryServers(prepared_hub()),
            tokens=KnownTokens(),
            clock=world.clock,
        )
        application = web.Application()
        application.add_routes([*looker_routes(parts.api(door)), *server_routes(door)])
        authorities = AuthorityService(
            reader=world.store, committer=world.committer, clock=world.clock
        )
        application.add_routes(authority_routes(AuthorityApi(door=door, authorities=authorities)))
        async with parts.running(), TestClient(TestServer(application)) as client:
            yield Routes(world, client)


async def test_operators_of_any_known_role_look_and_nobody_else(tmp_path: Path) -> None:
    async with served(tmp_path) as routes:
        job = (await routes.world.store.find(Job, item_id=MACHINE_ID))[0].record.id
        paths = (*READING, f"{V}/jobs/{job}/progress", f"{V}/jobs/{job}/receipts")
        for path in paths:
            for token, status in ((None, 401), ("wrong", 401), ("stranger", 403)):
                response = await routes.ask("GET", path, token)
                assert response.status == status, path
                assert (await response.json())["error"]["message"]
            for token in ("reading", "good"):
                assert (await routes.ask("GET", path, token)).status == 200, path
            foreign = path.replace("/vaults/vault/", "/vaults/none/")
            assert (await routes.ask("GET", foreign)).status == 404
        for token, status in ((None, 401), ("stranger", 403), ("reading", 200)):
            body = json.dumps({"operation": "Commit", "target": MACHINE_ID}).encode()
            assert (await routes.ask("POST", f"{V}/preview", token, body)).status == status


async def test_facts_say_who_saw_them_when(tmp_path: Path) -> None:
    async with served(tmp_path) as routes:
        item = await routes.body(ITEM)
        assert item == (await routes.body(f"{V}/items"))["items"][0]
        copies = [*item["copies"].values()]
        copies += (await routes.body(f"{V}/machines"))["machines"]
        copies += (await routes.body(f"{V}/inventories"))["inventories"]
        job = await ask(routes.world, Operation.PLANNED_FAILOVER)
        await until_done(routes.world, job)
        receipts = (await routes.body(f"{V}/jobs/{job}/receipts"))["receipts"]
        assert len(receipts) == 4
        for fact in (*copies, *receipts):
            assert set(fact["observed_by"]) == {"provider_id", "boot_id"}
            assert fact["observed_at"]
            assert fact["stale"] is False
        figures = await routes.body(f"{ITEM}/figures?metric=backlog_bytes&resolution=day")
        asked = b'{"operation": "PlannedFailover", "target": "' + MACHINE_ID.encode() + b'"}'
        preview = await (await routes.ask("POST", f"{V}/preview", data=asked)).json()
        assert set(preview["expected_loss"]) >= {"observed_at", "observed_by", "stale"}
        assert len(preview["copies"]) == 2
        for fact in (*figures["observed"], *preview["copies"].values()):
            assert set(fact["observed_by"]) == {"provider_id", "boot_id"}
            assert isinstance(fact["stale"], bool)
        progress = await routes.body(f"{V}/jobs/{job}/progress")
        place = progress["tasks"][1]["receipts"]
        linked = (await routes.body(place))["receipts"]
        assert [each["task_id"] for each in linked] == ["ShutdownVmOnPrimary"]


async def test_older_routes_say_too_how_old_what_they_show_is(tmp_path: Path) -> None:
    async with served(tmp_path) as routes:
        world = routes.world
        questioned = {"authority_questioned_at": world.clock.now()}
        item = (await world.item()).model_copy(update=questioned)
        await world.committer.commit(Change(saves=(Save(item, None),)))
        (question,) = (await routes.body(f"{V}/authority-questions"))["questions"]
        facts = [*question["copies"].values()]
        facts += [each["inventory"] for each in (await routes.body(f"{V}/servers"))["servers"]]
        assert len(facts) == 4
        for fact in facts:
            assert set(fact["observed_by"]) == {"provider_id", "boot_id"}
            assert isinstance(fact["stale"], bool)


async def test_changes_are_given_from_a_number_on(tmp_path: Path) -> None:
    async with served(tmp_path) as routes:
        first = await routes.body(f"{V}/changes?limit=5")
        assert len(first["changes"]) > 0
        assert set(first["changes"][0]) == {"kind", "id", "change", "deleted"}
        ahead = await routes.body(f"{V}/changes?since=4611686018427387904&wait=25")
        assert ahead["restarted"] is True


WRONG_PATHS = (
    f"{V}/changes?since=-1",
    f"{V}/changes?since=1e9",
    f"{V}/changes?since=" + "9" * 5000,
    f"{V}/changes?since=%D9%A1",
    f"{V}/changes?limit=many",
    f"{V}/changes?wait=soon",
    f"{ITEM}/figures",
    f"{ITEM}/figures?metric=luck",
    f"{ITEM}/figures?metric=rpo_seconds&resolution=century",
    f"{ITEM}/figures?metric=rpo_seconds&from=yesterday",
    f"{ITEM}/figures?metric=rpo_seconds&to=99999-01-01",
    f"{V}/jobs/export?format=xml",
    f"{V}/jobs/export?state=Lost",
    f"{V}/jobs/export?from=%00",
)
WRONG_BODIES = (
    b"",
    b"[]",
    b"{",
    b'{"operation": "Commit"}',
    b'{"target": "m"}',
    b'{"operation": 7, "target": "m"}',
    b'{"operation": "Explode", "target": "m"}',
    b'{"operation": "Commit", "target": ""}',
    b'{"operation": "Commit", "target": "m", "source_operations_required": "yes"}',
    b'{"operation": "Commit", "target": "m", "network_id": ["n"]}',
    b'{"operation": "Commit", "target": "m", "force": true}',
    b'{"operation": "Commit", "target": "' + b"m" * 300 + b'"}',
    b'{"operation": "Commit", "target": "' + b"m" * 70_000 + b'"}',
    b'{"operation": "Commit", "target": "p", "groups": {}}',
    b'{"operation": "Commit", "target": "p", "groups": []}',
    b'{"operation": "Commit", "target": "p", "groups": [[]]}',
    b'{"operation": "Commit", "target": "p", "groups": [{}]}',
    b'{"operation": "Commit", "target": "p", "groups": [{"members": []}]}',
    b'{"operation": "Commit", "target": "p", "groups": [{"members": [7]}]}',
    b'{"operation": "Commit", "target": "p", "groups": [{"members": ["m"], "name": ""}]}',
    b'{"operation": "Commit", "target": "p", "groups": [{"members": ["m"], "quick": true}]}',
    b'{"operation": "Commit", "target": "p", "groups": [{"members": ["m"], "manual_action": 1}]}',
    b'{"operation": "Commit", "target": "p", "groups": [{"members": [], "go_on_past_errors": 1}]}',
    b'{"operation": "Restart", "target": "p", "groups": [{"members": ["m"]}]}',
    b'{"operation": "EnableProtection", "target": "p", "groups": [{"members": ["m"]}]}',
)


async def test_a_wrong_parameter_is_named(tmp_path: Path) -> None:
    async with served(tmp_path, bare=True) as routes:
        for path in WRONG_PATHS:
            response = await routes.ask("GET", path)
            assert response.status == 400, path
            text = (await response.json())["error"]["message"]
            wrong = path.rpartition("?")[2].rpartition("&")[2].partition("=")[0]
            assert ("metric" if wrong.startswith("/") else wrong) in text


async def test_a_malformed_preview_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, bare=True) as routes:
        for body in WRONG_BODIES:
            response = await routes.ask("POST", f"{V}/preview", data=body)
            assert response.status == 400, body
            assert (await response.json())["error"]["message"]


async def test_what_is_not_there_is_404(tmp_path: Path) -> None:
    async with served(tmp_path, bare=True) as routes:
        for path in (
            ITEM,
            f"{ITEM}/figures?metric=rpo_seconds",
            f"{V}/jobs/none/progress",
            f"{V}/jobs/none/receipts",
            f"{V}/jobs/none/receipts/task",
        ):
            assert (await routes.ask("GET", path)).status == 404, path
        body = json.dumps({"operation": "Commit", "target": "m"}).encode()
        assert (await routes.ask("POST", f"{V}/preview", data=body)).status == 404


async def test_jobs_are_exported_as_json_and_as_csv_without_formulas(tmp_path: Path) -> None:
    async with served(tmp_path) as routes:
        world = routes.world
        (found, *_rest) = await world.store.find(Job, item_id=MACHINE_ID)
        renamed = found.record.model_copy(update={"target_object_name": '=HYPERLINK("x"),"'})
        await world.committer.commit(Change(saves=(Save(renamed, found.version),)))
        jobs = (await routes.body(f"{V}/jobs/export"))["jobs"]
        assert sorted(each["job_id"] for each in jobs) == sorted(
            each.record.id for each in await world.store.find(Job, vault_id="vault")
        )
        assert "operator_signature" not in json.dumps(jobs)
        response = await routes.ask("GET", f"{V}/jobs/export?format=csv")
        assert response.content_type == "text/csv"
        rows = list(csv.DictReader(io.StringIO(await response.text())))
        assert len(rows) == len(jobs)
        assert {row["target_name"] for row in rows} >= {"'" + renamed.target_object_name}
        none = await routes.body(f"{V}/jobs/export?state=failed&from=2026-01-01&to=2026-01-01")
        assert none == {"jobs": []}
