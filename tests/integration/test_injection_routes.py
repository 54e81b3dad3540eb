"""Injected events over HTTP: who may, what is answered, bad input."""

import json
import re
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

from service_hub.arm.calls import Call
from service_hub.arm.errors import error_answer
from service_hub.arm.routes import working_routes
from service_hub.domain.errors import DomainError, InvalidRequestError
from service_hub.domain.injections import ARM_VERBS, InjectionKind
from service_hub.domain.recovery_plans import GroupType, RecoveryGroup
from service_hub.hub_api.injection_routes import (
    InjectionApi,
    injection_routes,
    request_of,
)
from service_hub.hub_api.server_routes import ServersApi
from service_hub.plan_ports import PlanContent
from service_hub.ports.use_cases import RequestIdentity
from tests.support.hub_stories import ended, protected
from tests.support.hub_world import MACHINE_ID, HubWorld, hub_world
from tests.support.injecting import FABRIC, ROOT, OneVault, arm_of, injecting, rows_of, stored
from tests.unit.arm.arm_estate import KnownTokens
from tests.unit.arm.arm_hub import prepared_hub
from tests.unit.arm.arm_use_cases import MemoryServers
from tests.unit.arm.test_hub_server_routes import MemoryKeys

PATH = "/hub/v1/vaults/vault/injections"
ITEM = (
    f"{FABRIC}/replicationProtectionContainers/tokyo-cloud/replicationProtectedItems/{MACHINE_ID}"
)
CLOUD = ITEM.partition("/replicationProtectedItems")[0]
PLAN = f"{ROOT}/replicationRecoveryPlans/Payroll"
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


async def test_a_dry_run_answers_the_task_list_and_changes_nothing_in_the_database(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as door:
        before = rows_of(tmp_path)
        for body in (PLANNED, OUTAGE, {**PLANNED, "target": CLOUD}, {**PLANNED, "target": FABRIC}):
            status, told = await door.ask("POST", PATH, {**body, "dryRun": True})
            assert status == 200, told
            assert told["tasks"]
        refused = {**PLANNED, "arguments": {"failoverDirection": "Up"}, "dryRun": True}
        assert (await door.ask("POST", PATH, refused))[0] == 400
        # A schedule is checked and shown as well, and not kept.
        weekly = {**PLANNED, "cron": "30 2 * * 6", "dryRun": True}
        assert (await door.ask("POST", PATH, weekly))[0] == 200
        assert rows_of(tmp_path) == before


ARGUMENTS: dict[str, dict[str, Any]] = {
    "test_failover": {
        "failoverDirection": "PrimaryToRecovery",
        "networkType": "NoNetworkAttachAsInput",
    },
    "test_failover_cleanup": {"comments": "done"},
    "planned_failover": {"failoverDirection": "PrimaryToRecovery"},
    "unplanned_failover": {
        "failoverDirection": "PrimaryToRecovery",
        "sourceSiteOperations": "NotRequired",
    },
    "reverse_replicate": {"failoverDirection": "RecoveryToPrimary"},
    "replication_fault": {"link": "cut"},
}
SITE_KINDS = {"site_outage", "provider_loss", "replication_fault"}


def fits(kind: str, place: str) -> bool:
    """Whether a kind of event makes sense for a kind of target."""
    if kind in SITE_KINDS:
        # A plan lies in no site.
        return place != "plan"
    return kind != "change_recovery_point" or place == "item"


async def test_each_kind_goes_into_each_kind_of_target_that_makes_sense(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        boot = RecoveryGroup(group_type=GroupType.BOOT, members=(MACHINE_ID,))
        content = PlanContent((boot,), "tokyo-fabric", "osaka-fabric")
        saving = await door.world.recovery_plans.save(
            door.world.vault, "Payroll", content, door.world.identity()
        )
        await ended(door.world, saving.id)
        places = {"item": ITEM, "plan": PLAN, "container": CLOUD, "fabric": FABRIC}
        for kind in InjectionKind:
            given: dict[str, Any] = ARGUMENTS.get(kind.value, {})
            if kind is InjectionKind.CHANGE_RECOVERY_POINT:
                details = {"instanceType": "HyperVReplica2012R2"}
                point = f"{ITEM}/recoveryPoints/point"
                given = {"recoveryPointId": point, "providerSpecificDetails": details}
            for place, target in places.items():
                body = {"kind": kind, "target": target, "arguments": given, "cron": "0 3 * * *"}
                status, told = await door.ask("POST", PATH, body)
                if fits(kind, place) and kind is not InjectionKind.CHANGE_RECOVERY_POINT:
                    assert status == 202, (kind, place, told)
                    continue
                # The played replica has no points: the surface's own words, for an item.
                assert status == 400, (kind, place, told)
                named = "recovery point" if fits(kind, place) else "target"
                alone = "name a protected item" in told["error"]["message"]
                assert named in told["error"]["message"] or alone, (kind, place, told)
        waiting = (await door.ask("GET", PATH))[1]["injections"]
        assert len(waiting) == 7 * 4 + 3 * 3
        gone = {**PLANNED, "target": f"{PLAN}-gone"}
        assert (await door.ask("POST", PATH, gone))[0] == 404


WRONG_BODIES = [
    ("planned_failover", {"direction": "PrimaryToRecovery"}),
    ("planned_failover", {"failoverDirection": "Sideways"}),
    ("unplanned_failover", {"failoverDirection": "PrimaryToRecovery", "sourceSiteOperations": 1}),
    ("test_failover", {"failoverDirection": "PrimaryToRecovery", "networkType": "Wifi"}),
    ("change_recovery_point", {"recoveryPointId": "none"}),
    ("reverse_replicate", {"failoverDirection": 7}),
]


async def own_refusal(world: HubWorld, kind: str, arguments: Any) -> tuple[int, str, str]:
    """Return how the surface's own route refuses a body: status, code and words."""
    verb = ARM_VERBS[InjectionKind(kind)]
    (route,) = (
        each
        for each in working_routes(arm_of(world))
        if each.method == "POST" and each.path.endswith(f"{{item}}/{verb}")
    )
    identity = RequestIdentity("anna", "", "", "POST", "/x", "")
    given = [*ROOT.split("/")[2:5:2], "v", *FABRIC.split("/")[-1:], "tokyo-cloud", MACHINE_ID]
    names = dict(zip(re.findall(r"{(\w+)}", route.path), given, strict=True))
    body = json.dumps({"properties": arguments}).encode()
    with pytest.raises(DomainError) as own:
        await route.handler(Call(identity=identity, names=names, query={}, body=body, url="/x"))
    answer = error_answer(own.value, identity)
    said: Any = answer.body
    return int(answer.status), said["error"]["code"], str(own.value)


async def test_arguments_are_refused_as_the_surface_refuses_its_own_body(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        for kind, arguments in WRONG_BODIES:
            own = await own_refusal(door.world, kind, arguments)
            before = rows_of(tmp_path)
            wanted = {"kind": kind, "target": ITEM, "arguments": arguments}
            for more in ({"dryRun": True}, {"cron": "0 3 * * *"}, {}):
                status, told = await door.ask("POST", PATH, {**wanted, **more})
                error = told["error"]
                assert (status, error["code"], error["message"]) == own, (kind, more)
                if more:
                    assert rows_of(tmp_path) == before


NO_MOMENTS = (
    "2026-W01-1T12:00:00Z",
    "20260201T120000Z",
    "2026-02-01",
    "2026-02-01T12:00Z",
    "1767225600",
    "2026-02-30T12:00:00Z",
    "2026-02-01T12:00:00+9",
    "2026-02-01T25:00:00Z",
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00:00+12:00",
    "2027-01-03T00:00:00Z",
    "",
)


async def test_a_moment_is_one_of_rfc_3339_within_a_year(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        for at in NO_MOMENTS:
            status, told = await door.ask("POST", PATH, {**OUTAGE, "at": at})
            assert (status, "'at'" in told["error"]["message"]) == (400, True), at


async def test_a_moment_with_an_offset_is_that_moment(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        body = {**OUTAGE, "at": "2026-01-02T12:00:00.5+09:00"}
        status, told = await door.ask("POST", PATH, body)
        assert status == 202
        one = (await door.ask("GET", f"{PATH}/{told['injectionId']}"))[1]
        assert one["nextAt"] == "2026-01-02T03:00:00.500000+00:00"


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
        ({**OUTAGE, "arguments": {"restore": 1}}, "restore"),
        ({**OUTAGE, "kind": "replication_fault"}, "faults"),
        ({**OUTAGE, "kind": "replication_fault", "arguments": {"link": "x"}}, "link"),
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
