"""From the official SDK with the signing policy, over the surface and a real hub, to an agent."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.exceptions import HttpResponseError
from azure.mgmt.recoveryservicessiterecovery import models as m
from azure.mgmt.recoveryservicessiterecovery.aio import SiteRecoveryManagementClient
from structlog.testing import capture_logs

from certs.channel_integrity import new_key
from certs.tls import server_context
from provider_agent.operator_orders import insist
from service_hub.arm.api import ArmApi
from service_hub.arm.routes import arm_routes
from service_hub.domain.errors import NotFoundError, SignatureRequiredError
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.records import Vault
from service_hub.services.operator_signatures import SignatureSettings
from service_shell.clock import SystemClock
from site_recovery_cli.operator_signature import OperatorSignaturePolicy, order_of
from tests.integration.agent_fakes.fake_vmm import EFFECTS
from tests.integration.agent_fakes.waiting import until
from tests.integration.arm_server import GOOD_TOKEN, AsyncCredential
from tests.support.hub_stories import protected
from tests.support.hub_world import MACHINE_ID
from tests.support.joined_world import JoinedWorld, RealTime, joined_world
from tests.unit.agent.agent_views import replication
from tests.unit.arm.arm_estate import KnownTokens
from wire_contract.operator_signature import HEADER, Order, SignedOperation
from wire_contract.reports import ProviderError
from wire_contract.vocabulary import Direction, RunState, Verb

KEY = new_key()
NOT_ORDERED = 90007
A_FAILURE = ProviderError(code=32775, message="the fabric refuses")


@dataclass
class StoredVaults:
    """The world's vaults."""

    world: JoinedWorld

    async def find(self, subscription_id: str, resource_group: str, name: str) -> Vault:
        """Return one."""
        del subscription_id, resource_group
        for found in await self.world.hub.store.find(Vault):
            if found.record.name == name:
                return found.record
        raise NotFoundError(name)


@dataclass
class Desk:
    """An operator's way to the hub."""

    world: JoinedWorld
    url: str

    async def fail_over(self, *, key: str | None = None, header: str | None = None) -> Any:
        """Ask for a planned failover; return its job, or the hub's refusal."""
        policies = [] if key is None else [OperatorSignaturePolicy(key, SystemClock())]
        vault = self.world.hub.vault
        client = SiteRecoveryManagementClient(
            AsyncCredential(GOOD_TOKEN),
            vault.subscription_id,
            base_url=self.url,
            credential_scopes=[f"{self.url}/.default"],
            connection_verify=str(self.world.folder / "ca.pem"),
            per_call_policies=policies,
        )
        direction = m.PlannedFailoverInputProperties(failover_direction="PrimaryToRecovery")
        place: list[str] = []
        async with client:
            await client.replication_protected_items.begin_planned_failover(
                *(vault.resource_group, vault.name, "tokyo-fabric", "tokyo-cloud", MACHINE_ID),
                m.PlannedFailoverInput(properties=direction),
                polling=False,
                headers={} if header is None else {HEADER: header},
                raw_response_hook=lambda each: place.append(each.http_response.headers["Location"]),
            )
        return place[0].partition("?")[0].rpartition("/")[2]

    async def refused(self, **options: Any) -> tuple[int, str]:
        """Ask; return status and message of the hub's refusal."""
        with pytest.raises(HttpResponseError) as caught:
            await self.fail_over(**options)
        assert caught.value.status_code is not None
        return caught.value.status_code, caught.value.message

    async def ended(self, job_id: str) -> Job:
        """Return a job once it has ended."""
        while not (job := await self.world.hub.job(job_id)).finished:
            await self.world.hub.committer.until_next()
        return job

    async def require(self, *, required: bool) -> None:
        """Change the vault's setting."""
        hub = self.world.hub
        settings = SignatureSettings(reader=hub.store, committer=hub.committer)
        await settings.require(hub.vault.id, "anna", required=required)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with joined_world(tmp_path) as world:
        await protected(world.hub)
        world.vmm.add(
            MACHINE_ID,
            hyperv_id=MACHINE_ID,
            protected_item=MACHINE_ID,
            epoch=1,
            replication=replication(),
            run_state=RunState.RUNNING,
        )
        world.register()
        insist(tmp_path / "agent", KEY)
        server = world.trust.hub_server()
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        vaults: Any = StoredVaults(world)
        servers: Any = world.hub.servers
        api = ArmApi(
            vaults=vaults,
            fabrics=world.hub.fabrics,
            policies=world.hub.policies,
            pairing=world.hub.pairing,
            protection=world.hub.protection,
            networks=world.hub.networks,
            storage=world.hub.storage,
            jobs=world.hub.jobs,
            events=world.hub.events,
            alerts=world.hub.alerts,
            servers=servers,
            plans=world.hub.recovery_plans,
            tokens=KnownTokens(),
            clock=RealTime(),
            public_url=url,
            retry_after_seconds=0,
        )
        application = web.Application()
        application.add_routes(arm_routes(api))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        tls = server_context(server.chain_pem, server.key_pem)
        await web.SockSite(runner, listener, ssl_context=tls).start()
        try:
            yield Desk(world, url)
        finally:
            await runner.cleanup()


async def test_unsigned_and_forged_are_refused_and_the_signed_one_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = desk.world
    monkeypatch.setitem(EFFECTS, Verb.PREPARE_FAILOVER, lambda *_: {})
    foreign = OperatorSignaturePolicy(KEY, SystemClock()).header(
        Order(SignedOperation.PLANNED_FAILOVER, "another", Direction.PRIMARY_TO_RECOVERY)
    )
    with capture_logs() as logs:
        async with world.agent():
            # Not required by the vault: the hub takes it, the server does not.
            unsigned = await desk.ended(await desk.fail_over())
            await desk.require(required=True)
            missing = await desk.refused()
            malformed = await desk.refused(header="{}")
            huge = await desk.refused(header="x" * 5000)
            elsewhere = await desk.refused(header=foreign)
            forged = await desk.ended(await desk.fail_over(key=new_key()))
            assert world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == 0
            signed = await desk.fail_over(key=KEY)
            await until(
                lambda: world.vmm.effect_count(Verb.PREPARE_FAILOVER, MACHINE_ID) == 1, "it runs"
            )
    for job, words in ((unsigned, "carried no operator"), (forged, "channel integrity key")):
        assert job.state is JobState.FAILED
        error = job.errors[0]
        assert error.provider_code == NOT_ORDERED
        assert words in str(error.provider_message)
        assert error.task_id == "ShutdownVmOnPrimary"
    assert missing[0] == 403
    assert "90017" in missing[1]
    assert "Agent-Authentication" in missing[1]
    assert [each[0] for each in (malformed, huge, elsewhere)] == [400, 400, 400]
    assert "malformed" in malformed[1]
    assert "longer than 4096" in huge[1]
    assert "not for this operation on this item" in elsewhere[1]
    assert signed not in {unsigned.id, forged.id}
    assert world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1
    assert not any(secret in str(logs) for secret in (KEY, "NotAfterTimestamp", "HMACSHA256"))


async def test_one_job_hands_the_same_text_to_both_ends_and_to_its_undo(desk: Desk) -> None:
    hub = desk.world.hub
    policy = OperatorSignaturePolicy(KEY, SystemClock())
    header = policy.header(
        Order(SignedOperation.PLANNED_FAILOVER, MACHINE_ID, Direction.PRIMARY_TO_RECOVERY)
    )
    identity = replace(hub.identity(), operator_signature=header)
    await desk.require(required=True)
    with pytest.raises(SignatureRequiredError, match="EnableProtection"):
        await hub.protection.enable(
            await StoredVaults(desk.world).find("s", "rg", hub.vault.name),
            container=("tokyo-fabric", "tokyo-cloud"),
            item_name=MACHINE_ID,
            machine_id=MACHINE_ID,
            policy_name="p",
            identity=hub.identity(),
        )
    job = await hub.protection.request(
        await StoredVaults(desk.world).find("s", "rg", hub.vault.name),
        MACHINE_ID,
        SignedOperation.PLANNED_FAILOVER.value,
        {"failover_direction": "PrimaryToRecovery"},
        identity,
    )
    seen = set()
    while not (await hub.job(job.id)).finished:
        for site in ("tokyo", "osaka"):
            for each in await hub.assignments(site):
                if each.job == job.id and (site, each.command_id) not in seen:
                    seen.add((site, each.command_id))
                    assert each.operator_signature == header
                    assert header not in repr(each)
                    failing = each.verb == Verb.FAIL_OVER.value
                    await hub.outcome(site, each, A_FAILURE if failing else None)
        if not (await hub.job(job.id)).finished:
            await hub.committer.until_next()
    assert {command.partition("/")[2].partition(".")[0] for _, command in seen} >= {
        "ShutdownVmOnPrimary",
        "FailoverTask",
        "FailoverTask!undo",
    }


async def test_what_cannot_be_a_signature_is_not_handed_on(desk: Desk) -> None:
    hub = desk.world.hub
    for text in ("x" * 100_000, "\udcff", "\x00", "\n", "ä"):
        job = await hub.protection.request(
            hub.vault,
            MACHINE_ID,
            SignedOperation.PLANNED_FAILOVER.value,
            {"failover_direction": "PrimaryToRecovery"},
            replace(hub.identity(), operator_signature=text),
        )
        assert text not in (await hub.job(job.id)).context.values()


def test_reading_and_other_requests_are_not_signed() -> None:
    item = "https://hub/subscriptions/s/x/replicationProtectedItems/item"
    body = b'{"properties": {"failoverDirection": "RecoveryToPrimary"}}'
    back = Direction.RECOVERY_TO_PRIMARY
    assert order_of("POST", f"{item}/reProtect?api-version=1", body) == Order(
        SignedOperation.REVERSE_REPLICATE, "item", back
    )
    assert order_of("POST", f"{item}/failoverCommit", None) == Order(SignedOperation.COMMIT, "item")
    assert order_of("PUT", f"{item}?x=1", body) == Order(SignedOperation.ENABLE, "item")
    for broken in (b"", b"{", b"[]", b"null", b'{"properties": 1}', b"\xff", 7):
        order = order_of("POST", f"{item}/plannedFailover", broken)
        assert order == Order(SignedOperation.PLANNED_FAILOVER, "item")
    for method, url in (
        ("GET", item),
        ("GET", f"{item}/plannedFailover"),
        ("POST", f"{item}/resolveHealthErrors"),
        ("POST", "https://hub/plannedFailover"),
        ("POST", "https://hub/replicationRecoveryPlans/p/plannedFailover"),
        ("PUT", f"{item}/failoverCommit"),
        ("PATCH", item),
    ):
        assert order_of(method, url, None) is None, url
