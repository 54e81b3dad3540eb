"""What every fabric driver promises (provider_agent.fabric.driver), whatever fabric is behind it.

A fabric takes part by a `Bench`: its driver, a startable machine that is off, its cloud, and a
look into its ledger of effects. Add its factory to BENCHES; no test here knows which one it runs
on.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509

from certs.tls import client_context
from provider_agent.fabric.driver import (
    FabricAnswerError,
    FabricBusyError,
    FabricDriver,
    FabricRefusedError,
    FabricUnknownTargetError,
    FabricUnreachableError,
)
from provider_agent.fabric.simulated_vmm import SimulatedVmm
from tests.integration.agent_fakes.fake_vmm import TOKEN, FakeVmm, Fault
from tests.integration.agent_fakes.trust import Trust
from tests.support.simulator_estate import CLOUD, MACHINE, make_estate
from tests.support.simulator_estate import trust as estate_trust
from tests.unit.agent.agent_views import CLOUD_ID
from wire_contract.vmm_interface import Command
from wire_contract.vocabulary import RunState, Verb

SECONDS = 30.0
NONCE = "00112233445566778899aabbccddeeff"


@dataclass
class Bench:
    """One fabric under the contract."""

    driver: FabricDriver
    machine_id: str
    cloud_id: str
    effects: Callable[[Verb, str], Awaitable[int]]


@contextlib.asynccontextmanager
async def played_vmm(folder: Path) -> AsyncIterator[Bench]:
    """The interface of the VMM server, played in this process."""
    del folder
    trust, vmm = Trust(), FakeVmm()
    vmm.add("machine-1", protected_item=None)
    tls = client_context(trust.chain.root_pem)

    async def effects(verb: Verb, target: str) -> int:
        return vmm.effect_count(verb, target)

    async with (
        vmm.serve(trust.server()),
        SimulatedVmm.connect(vmm.url, tls, TOKEN) as driver,
    ):
        yield Bench(driver, "machine-1", CLOUD_ID, effects)


@contextlib.asynccontextmanager
async def simulated_site(folder: Path) -> AsyncIterator[Bench]:
    """The simulator itself, over the wire; its ledger is read on the management port."""
    estate = make_estate(folder, running=False)
    tls = client_context(estate_trust().root_pem)

    async with estate.running("tokyo") as site:

        async def effects(verb: Verb, target: str) -> int:
            _, body = await site.manage("GET", "/effects")
            own = [(each["verb"], each["machine"]) for each in body["effects"]]
            return own.count((verb.value, target))

        url = f"https://127.0.0.1:{site.vmm_port}"
        token = (folder / "token").read_text().strip()
        async with SimulatedVmm.connect(url, tls, token) as driver:
            yield Bench(driver, MACHINE, CLOUD["tokyo"], effects)


BENCHES: list[Callable[[Path], AbstractAsyncContextManager[Bench]]] = [played_vmm, simulated_site]


@pytest.fixture(params=BENCHES, ids=lambda make: make.__name__)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with request.param(tmp_path) as made:
        yield made


def command(
    command_id: str = "job-1/Task.Primary/1", epoch: int = 2, seconds: float = 60
) -> Command:
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    return Command(id=command_id, fence=1, epoch=epoch, deadline=deadline)


async def test_the_inventory_and_the_views_of_one_say_the_same(bench: Bench) -> None:
    inventory = await bench.driver.inventory()
    machine = await bench.driver.machine(bench.machine_id)
    assert machine in inventory.machines
    assert await bench.driver.cloud(bench.cloud_id) in inventory.clouds


async def test_what_does_not_exist_is_null_to_read_and_refused_to_change(bench: Bench) -> None:
    assert await bench.driver.machine("no-such-machine") is None
    assert await bench.driver.cloud("no-such-cloud") is None
    with pytest.raises(FabricUnknownTargetError):
        await bench.driver.perform(Verb.START, "no-such-machine", command(), {}, SECONDS)


async def test_a_running_guest_answers_the_nonce_it_is_given(bench: Bench) -> None:
    await bench.driver.perform(Verb.START, bench.machine_id, command(), {}, SECONDS)
    machine = await bench.driver.machine(bench.machine_id, NONCE)
    assert machine is not None
    assert machine.run_state is RunState.RUNNING
    assert machine.guest is not None
    assert (machine.guest.nonce, machine.guest.verified) == (NONCE, True)
    assert machine.epoch == 2


async def test_a_repeated_command_has_one_effect_and_the_same_result(bench: Bench) -> None:
    first = await bench.driver.perform(Verb.START, bench.machine_id, command(), {}, SECONDS)
    again = await bench.driver.perform(Verb.START, bench.machine_id, command(), {}, SECONDS)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.result == again.result
    assert await bench.effects(Verb.START, bench.machine_id) == 1


async def test_the_same_at_the_same_time_has_one_effect(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(
                bench.driver.perform(Verb.START, bench.machine_id, command(), {}, SECONDS)
            )
    assert await bench.effects(Verb.START, bench.machine_id) == 1


async def test_a_lower_epoch_is_refused_before_any_effect(bench: Bench) -> None:
    await bench.driver.perform(Verb.START, bench.machine_id, command("j/t/1", 5), {}, SECONDS)
    with pytest.raises(FabricRefusedError) as caught:
        await bench.driver.perform(
            Verb.SHUT_DOWN, bench.machine_id, command("j/t/2", 4), {}, SECONDS
        )
    assert caught.value.problem.message
    assert await bench.effects(Verb.SHUT_DOWN, bench.machine_id) == 0


async def test_nothing_begins_after_its_deadline(bench: Bench) -> None:
    with pytest.raises(FabricRefusedError):
        await bench.driver.perform(Verb.START, bench.machine_id, command(seconds=-1), {}, SECONDS)
    assert await bench.effects(Verb.START, bench.machine_id) == 0


async def test_every_host_of_a_cloud_asks_for_a_certificate_in_its_own_name(bench: Bench) -> None:
    cloud = await bench.driver.cloud(bench.cloud_id)
    assert cloud is not None
    requests = await bench.driver.host_requests(bench.cloud_id)
    assert {each.host for each in requests} == set(cloud.host_fqdns)
    for each in requests:
        assert x509.load_pem_x509_csr(each.csr_pem.encode()).is_signature_valid


async def test_ids_cannot_climb_out_of_their_path(bench: Bench) -> None:
    for odd in ("../inventory", "a/b", "?x=y", "%2e%2e", "a#b", "ä"):
        assert await bench.driver.machine(odd) is None


# The HTTPS driver alone: what it makes of a server that misbehaves.


@contextlib.asynccontextmanager
async def answering(handler: Callable[[web.Request], web.Response]) -> AsyncIterator[FabricDriver]:
    async def answer(request: web.Request) -> web.Response:
        return handler(request)

    trust = Trust()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust.server()).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        async with SimulatedVmm.connect(url, client_context(trust.chain.root_pem), TOKEN) as driver:
            yield driver
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"vmm": 1}', b"{" * 5000, b"x" * (17 * 2**20)],
    ids=lambda body: repr(body[:12]),
)
async def test_an_answer_that_breaks_the_contract_is_named_as_that(body: bytes) -> None:
    async with answering(lambda _: web.Response(body=body)) as driver:
        with pytest.raises(FabricAnswerError):
            await driver.inventory()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, FabricRefusedError),
        (401, FabricRefusedError),
        (404, FabricUnknownTargetError),
        (409, FabricRefusedError),
        (500, FabricRefusedError),
        (502, FabricBusyError),
        (503, FabricBusyError),
        (302, FabricRefusedError),
    ],
)
async def test_every_status_has_its_meaning_also_without_a_problem_body(
    status: int, error: type[Exception]
) -> None:
    headers = {"Location": "https://elsewhere.example/"}
    async with answering(
        lambda _: web.Response(status=status, text="<html>", headers=headers)
    ) as driver:
        with pytest.raises(error):
            await driver.perform(Verb.START, "machine-1", command(), {}, SECONDS)


async def test_a_server_that_is_not_there_or_does_not_end_is_unreachable() -> None:
    trust, vmm = Trust(), FakeVmm()
    tls = client_context(trust.chain.root_pem)
    vmm.add("machine-1")
    async with vmm.serve(trust.server()), SimulatedVmm.connect(vmm.url, tls, TOKEN) as driver:
        vmm.faults["start"] = Fault("vanish_before")
        with pytest.raises(FabricUnreachableError):
            await driver.perform(Verb.START, "machine-1", command(), {}, SECONDS)
        vmm.holds["start"] = asyncio.Event()
        with pytest.raises(FabricUnreachableError):
            await driver.perform(Verb.START, "machine-1", command(), {}, 0.1)
        vmm.holds["start"].set()
        await vmm.stop()
        with pytest.raises(FabricUnreachableError):
            await driver.inventory()


async def test_a_server_of_another_authority_is_not_talked_to() -> None:
    trust, vmm = Trust(), FakeVmm()
    stranger: ssl.SSLContext = client_context(Trust().chain.root_pem)
    async with vmm.serve(trust.server()), SimulatedVmm.connect(vmm.url, stranger, TOKEN) as driver:
        with pytest.raises(FabricUnreachableError, match="does not answer"):
            await driver.inventory()


async def test_a_wrong_token_is_a_refusal_in_words() -> None:
    trust, vmm = Trust(), FakeVmm()
    tls = client_context(trust.chain.root_pem)
    async with vmm.serve(trust.server()), SimulatedVmm.connect(vmm.url, tls, "wrong") as driver:
        with pytest.raises(FabricRefusedError, match="no token"):
            await driver.inventory()
