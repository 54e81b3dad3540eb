"""The hub's own routes of recovery plans: documents out and in, previews and dry runs by name."""

import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from service_hub.domain.jobs import Job
from service_hub.domain.protection import Operation
from service_hub.domain.records import MachineObservation
from service_hub.domain.recovery_plans import GroupType, PlanAction, PlanScript, RecoveryGroup
from service_hub.hub_api.injection_routes import InjectionApi, injection_routes
from service_hub.hub_api.looker_routes import looker_routes
from service_hub.hub_api.plan_routes import PlanDocumentsApi, plan_routes
from service_hub.hub_api.server_routes import ServersApi
from service_hub.looker_parts import looker_parts
from service_hub.plan_ports import PlanContent
from service_hub.ports.changes import Change, Save
from service_hub.services.plan_documents import PlanDocumentService
from tests.support.hub_world import HubWorld, hub_world
from tests.support.injecting import OneVault, injecting
from tests.support.many_items import Sites, an_item, furnish, item_id
from tests.support.mapped_estate import SOURCE, furnished, network
from tests.unit.arm.arm_estate import KnownTokens
from tests.unit.arm.arm_hub import prepared_hub
from tests.unit.arm.arm_use_cases import MemoryServers
from tests.unit.arm.test_hub_server_routes import MemoryKeys
from wire_contract.plan_documents import DOCUMENT_BYTES_MAX
from wire_contract.vocabulary import Direction, Side

V = "/hub/v1/vaults/vault"
PLAN = f"{V}/plans/Payroll"
FORWARD = {"failoverDirection": "PrimaryToRecovery"}


class Plans:
    """A hub with a plan of two groups over three machines, and a client of its routes."""

    def __init__(self, world: HubWorld, client: TestClient[web.Request, web.Application]) -> None:
        self.world = world
        self._client = client

    async def ask(
        self, method: str, path: str, data: Any = None, role: str = "good", kind: str = "json"
    ) -> ClientResponse:
        """Send a request; `data` that is no bytes as JSON."""
        headers = {"Authorization": f"Bearer {role}", "Content-Type": f"application/{kind}"}
        body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        content = None if body is None else io.BytesIO(body)
        response = await self._client.request(method, path, headers=headers, data=content)
        await response.read()
        return response

    async def answered(self, method: str, path: str, data: Any = None) -> Any:
        """Return what is answered; it must go well."""
        response = await self.ask(method, path, data)
        assert response.status < 300, await response.text()
        return await response.json()

    async def refused(self, path: str, data: Any, status: int = 400, kind: str = "json") -> str:
        """Return why a POST is refused."""
        response = await self.ask("POST", path, data, kind=kind)
        assert response.status == status, await response.text()
        return str((await response.json())["error"]["message"])


def boot(*numbers: int, **actions: Any) -> RecoveryGroup:
    members = tuple(item_id(each) for each in numbers)
    return RecoveryGroup(group_type=GroupType.BOOT, members=members, **actions)


KINDS = (Operation.PLANNED_FAILOVER, Operation.TEST_FAILOVER)
SCRIPT = PlanAction(
    name="Update DNS",
    kinds=KINDS,
    directions=(Direction.PRIMARY_TO_RECOVERY,),
    script=PlanScript(path="\\RP\\dns.py", side=Side.RECOVERY, seconds=30, undo_path="RP\\u.py"),
)
LOOK = PlanAction(name="Look", kinds=(Operation.PLANNED_FAILOVER,), manual="Look at it.")
GROUPS = (boot(1, 2, before=(SCRIPT,)), boot(3, after=(LOOK,)))


@pytest.fixture
async def plans(tmp_path: Path) -> AsyncIterator[Plans]:
    async with hub_world(tmp_path) as world:
        await furnish(world, *(an_item(number) for number in (1, 2, 3)))
        await world.recovery_plans.save(
            world.vault,
            "Payroll",
            PlanContent(GROUPS, "tokyo-fabric", "osaka-fabric"),
            world.identity(),
        )
        vaults: Any = OneVault(world.vault)
        door = ServersApi(
            vaults=vaults,
            keys=MemoryKeys(),
            servers=MemoryServers(prepared_hub()),
            tokens=KnownTokens(),
            clock=world.clock,
        )
        parts = looker_parts(
            world.store,
            world.committer,
            world.clock,
            fabrics=world.fabrics,
            checker=world.leaving.checker,
            plans=world.recovery_plans,
            archive_directory=tmp_path / "archive",
            retention=timedelta(days=180),
        )
        documents = PlanDocumentService(reader=world.store, plans=world.recovery_plans)
        application = web.Application()
        application.add_routes(
            [
                *plan_routes(PlanDocumentsApi(door=door, documents=documents)),
                *looker_routes(parts.api(door)),
                *injection_routes(InjectionApi(door=door, injections=injecting(world))),
            ]
        )
        async with TestClient(TestServer(application)) as client:
            yield Plans(world, client)


async def saved(plans: Plans, name: str) -> Any:
    """Return the groups of a plan."""
    return (await plans.world.recovery_plans.find(plans.world.vault, name)).plan.groups


async def test_a_plan_is_exported_changed_and_imported_in_both_forms(plans: Plans) -> None:
    as_json = await plans.ask("GET", f"{PLAN}/export", role="reading")
    assert (as_json.status, as_json.content_type) == (200, "application/json")
    document = await as_json.json()
    assert (document["name"], document["groups"][2]["machines"]) == ("Payroll", ["web01", "web02"])
    as_yaml = await plans.ask("GET", f"{PLAN}/export?format=yaml")
    assert as_yaml.content_type == "application/yaml"
    text = await as_yaml.text()
    assert yaml.safe_load(text) == document
    changed = text.replace("  - web02\n", "").replace("- web03\n", "- WEB03\n  - web02\n")
    response = await plans.ask("POST", f"{V}/plans/Second/import", changed.encode(), kind="yaml")
    told = await response.json()
    assert (response.status, told["plan"]) == (202, "Second"), told
    await Sites(plans.world).ended(told["job_id"])
    members = [group.members for group in await saved(plans, "second")][2:]
    assert members == [(item_id(1),), (item_id(3), item_id(2))]
    before = await saved(plans, "Payroll")
    await plans.answered("POST", f"{V}/plans/Second/import", document)
    assert await saved(plans, "Second") == before


async def test_what_cannot_be_imported_is_refused_and_nothing_is_saved(plans: Plans) -> None:
    document = await plans.answered("GET", f"{PLAN}/export")
    path = f"{V}/plans/Other/import"
    unknown = json.loads(json.dumps(document).replace("web03", "db07"))
    assert "'db07'" in await plans.refused(path, unknown)
    elsewhere = {**document, "recovery": "Kyoto"}
    assert "No servers of this vault are called 'Kyoto'" in await plans.refused(path, elsewhere)
    twice = json.loads(json.dumps(document).replace("web03", "web01"))
    assert "twice" in await plans.refused(path, twice)
    many = {**document, "groups": [{"machines": []}] * 8}
    assert "at most 7 are allowed" in await plans.refused(path, many)
    assert "isn't valid YAML" in await plans.refused(path, b"a: b: c", kind="yaml")
    long = b" " * (DOCUMENT_BYTES_MAX + 1)
    assert f"longer than {DOCUMENT_BYTES_MAX}" in await plans.refused(path, long)
    assert "64 characters" in await plans.refused(f"{V}/plans/{'n' * 65}/import", document)
    response = await plans.ask("POST", path, document, role="reading")
    assert response.status == 403
    assert (await plans.ask("GET", f"{V}/plans/Other/export")).status == 404
    assert (await plans.ask("GET", f"{PLAN}/export?format=xml")).status == 400


async def test_a_saved_plan_is_previewed_by_name_with_its_groups_and_actions(plans: Plans) -> None:
    asked = {"operation": "PlannedFailover", "plan": "payroll", "direction": "PrimaryToRecovery"}
    told = await plans.answered("POST", f"{V}/preview", asked)
    assert told["allowed"], told["refusal"]
    tasks = [(each["friendly_name"], each["course"]) for each in told["tasks"]]
    assert tasks == [
        ("Recovery plan preflight checks", "checked by the hub"),
        ("Group 1: pre-steps (1) Update DNS", "runs"),
        ("Group 1", "runs a job for each machine"),
        ("Group 2", "runs a job for each machine"),
        ("Group 2: post-steps (1) Look", "waits for a person"),
    ]
    assert [each["target_name"] for each in told["members"]] == ["web01", "web02", "web03"]
    stopped = {each["words"] for each in told["effects"] if each["action"] == "stopped"}
    assert len(stopped) == 3
    refused = await plans.answered("POST", f"{V}/preview", {**asked, "operation": "Commit"})
    assert (refused["allowed"], refused["refusal"]["code"]) == (False, "25009")
    for wrong, status in (
        ({**asked, "target": "x"}, 400),
        ({**asked, "operation": "ChangePit"}, 400),
        ({**asked, "plan": "none"}, 404),
    ):
        await plans.refused(f"{V}/preview", wrong, status)


async def test_a_plans_test_is_previewed_with_its_network_as_it_would_begin(plans: Plans) -> None:
    asked = {"operation": "TestFailover", "plan": "Payroll", "direction": "PrimaryToRecovery"}
    told = await plans.answered("POST", f"{V}/preview", asked)
    assert told["allowed"], told["refusal"]
    for named, said in (
        ({"network_id": "nowhere"}, "7004: The server has no VM network 'nowhere'."),
        ({"logical_network_id": "nowhere"}, "No machine of the plan is connected to a network"),
        ({"network_id": "a", "logical_network_id": "b"}, "Name a VM network in 'network_id' or"),
    ):
        assert said in await plans.refused(f"{V}/preview", {**asked, **named})


async def test_an_injection_into_a_plan_is_told_before_it_is_made(plans: Plans) -> None:
    root = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
    target = f"{root}/replicationRecoveryPlans/Payroll"
    event = {"kind": "planned_failover", "target": target, "arguments": FORWARD, "dryRun": True}
    told = await plans.answered("POST", f"{V}/injections", event)
    assert told["allowed"]
    assert [each["target_name"] for each in told["members"]] == ["web01", "web02", "web03"]
    clean = {"kind": "test_failover_cleanup", "target": target, "dryRun": True}
    refused = await plans.answered("POST", f"{V}/injections", clean)
    assert not refused["allowed"]
    assert "web01" in refused["refusal"]["possible_causes"]
    busy = await plans.answered("POST", f"{V}/injections", {**event, "dryRun": False})
    assert busy["jobId"]
    again = await plans.answered("POST", f"{V}/injections", event)
    assert again["refusal"]["code"] == "532"


async def known_networks(world: HubWorld) -> None:
    """Let the first machine be on a network without isolation; osaka has a virtual one too."""
    osaka = furnished("osaka")
    virtual = network("osaka", "virtual").model_copy(
        update={"network_type": "WindowsNetworkVirtualization"}
    )
    view = osaka.view.model_copy(update={"networks": (*osaka.view.networks, virtual)})
    source = SOURCE.model_copy(update={"machine_id": item_id(1), "hyperv_id": item_id(1)})
    copy = MachineObservation(
        id=f"tokyo-provider/{item_id(1)}",
        vault_id="vault",
        provider_id="tokyo-provider",
        machine=source,
        observed_at=world.clock.now(),
    )
    records = (furnished("tokyo"), osaka.model_copy(update={"view": view}), copy)
    await world.committer.commit(Change(saves=[Save(each, None) for each in records]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("osaka-virtual", "25080: web01: the machine is connected to corp, a network without"),
        ("osaka-apart", "7004: web01: the network apart is not available to the cloud"),
        ("osaka-none", "7004: The server has no VM network 'osaka-none'."),
        ("osaka-lab", None),
    ],
)
async def test_a_network_that_does_not_fit_is_refused_alike_however_it_is_asked_for(
    plans: Plans, name: str, words: str | None
) -> None:
    """Previewed, dry run and really: a machine's test and a plan's."""
    await known_networks(plans.world)
    await plans.world.recovery_plans.save(
        plans.world.vault,
        "One",
        PlanContent((boot(1),), "tokyo-fabric", "osaka-fabric"),
        plans.world.identity(),
    )
    root = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.RecoveryServices/vaults/v"
    cloud = f"{root}/replicationFabrics/tokyo-fabric/replicationProtectionContainers/tokyo-cloud"
    targets = {
        "target": f"{cloud}/replicationProtectedItems/{item_id(1)}",
        "plan": f"{root}/replicationRecoveryPlans/One",
    }
    there = f"{root}/replicationFabrics/osaka-fabric/replicationNetworks/{name}"
    properties = {**FORWARD, "networkType": "VmNetworkAsInput", "networkId": there}
    for kind, target in targets.items():
        event = {"kind": "test_failover", "target": target, "arguments": properties}
        asked = {kind: target.rpartition("/")[2], "operation": "TestFailover"}
        wanted = {**asked, "network_id": name, "direction": "PrimaryToRecovery"}
        told = (
            (f"{V}/preview", wanted),
            (f"{V}/injections", {**event, "dryRun": True}),
        )
        for path, body in told:
            if words is not None:
                assert words in await plans.refused(path, body)
                continue
            assert (await plans.answered("POST", path, body))["allowed"]
        if words is not None:
            assert words in await plans.refused(f"{V}/injections", event)
    jobs = {each.record.scenario.name for each in await plans.world.store.find(Job)}
    assert "TestFailover" not in jobs


async def test_networks_that_a_machines_test_is_given_are_previewed(plans: Plans) -> None:
    await known_networks(plans.world)
    asked = {"operation": "TestFailover", "target": item_id(1), "direction": "PrimaryToRecovery"}
    made = await plans.answered("POST", f"{V}/preview", {**asked, "logical_network_id": "l"})
    assert made["allowed"]
    assert "Create test environment" in {each["friendly_name"] for each in made["tasks"]}
    other = {**asked, "target": item_id(2), "logical_network_id": "l"}
    assert "The machine is connected to no network" in await plans.refused(f"{V}/preview", other)
    group = {**asked, "groups": [{"members": [item_id(1)]}], "network_id": "osaka-lab"}
    assert "name it in 'target' or in 'plan'" in await plans.refused(f"{V}/preview", group)
