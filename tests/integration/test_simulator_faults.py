import asyncio
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.simulator_estate import (
    DISK_BYTES,
    MACHINE,
    REPLICA,
    TOKEN,
    WAIT_SECONDS,
    Estate,
    RunningSite,
    client_session,
    make_estate,
)
from tests.support.simulator_steps import protect
from vmm_simulator.hyperv.backend import (
    AppliedCut,
    ChangeSet,
    PeerAddress,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.problems import Code
from wire_contract.vocabulary import ReplicationState, Verb

UNPLANNED = {"planned": False, "expected_cut": None, "recovery_point": None}

REPLICATING = ReplicationState.REPLICATING.value
COMPARING = {
    ReplicationState.WAITING_TO_START_RESYNCHRONIZE.value,
    ReplicationState.RESYNCHRONIZING.value,
    REPLICATING,
}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path, running=False)


def fault(kind: str, **more: Any) -> dict[str, Any]:
    return {"verb": "start", "machine": None, "kind": kind, **more}


async def start(tokyo: RunningSite, **command: Any) -> tuple[int, dict[str, Any]]:
    return await tokyo.verb(Verb.START, MACHINE, epoch=0, **command)


async def runs(tokyo: RunningSite) -> bool:
    return bool((await tokyo.machine(MACHINE))["run_state"] == "Running")


async def outcomes(tokyo: RunningSite) -> list[str]:
    effects = (await tokyo.manage("GET", "/effects"))[1]["effects"]
    return [each["outcome"] for each in effects]


async def test_slow_takes_its_time(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(fault("slow", seconds=0.3))
        began = time.monotonic()
        assert (await start(tokyo))[0] == 200
        assert time.monotonic() - began >= 0.3
        assert await runs(tokyo)


async def test_hold_waits_until_the_set_is_changed(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(fault("hold", machine=MACHINE))
        async with asyncio.TaskGroup() as group:
            held = group.create_task(start(tokyo))
            async with asyncio.timeout(WAIT_SECONDS):
                while (await shown(tokyo))[0]["waiting"] != 1:
                    await asyncio.sleep(0.01)
            assert not await runs(tokyo)
            assert await outcomes(tokyo) == []
            # Another set that holds as well does not let it through.
            await tokyo.faults(fault("hold"))
            async with asyncio.timeout(WAIT_SECONDS):
                while (await shown(tokyo))[0]["waiting"] != 1:
                    await asyncio.sleep(0.01)
            assert not held.done()
            assert (await tokyo.manage("DELETE", "/faults"))[1] == {"faults": []}
        assert held.result()[0] == 200
        assert await runs(tokyo)


async def shown(tokyo: RunningSite) -> list[dict[str, Any]]:
    return list((await tokyo.manage("GET", "/faults"))[1]["faults"])


async def test_refuse_says_its_code_and_counts(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(fault("refuse", code=32774, times=2))
        for _ in range(2):
            status, problem = await start(tokyo)
            assert (status, problem["code"]) == (409, 32774)
        assert not await runs(tokyo)
        assert await outcomes(tokyo) == []
        (counted,) = await shown(tokyo)
        assert (counted["remaining"], counted["hits"], counted["waiting"]) == (0, 2, 0)
        assert (await start(tokyo))[0] == 200


@pytest.mark.parametrize(("kind", "happened"), [("vanish_before", False), ("vanish_after", True)])
async def test_vanish_drops_the_connection(estate: Estate, kind: str, happened: bool) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(fault(kind, times=1))
        with pytest.raises(aiohttp.ClientError):
            await start(tokyo, id="job/start/1")
        assert await runs(tokyo) is happened
        status, answer = await start(tokyo, id="job/start/1")
        assert (status, answer["repeated"]) == (200, happened)
        assert await outcomes(tokyo) == ["succeeded"]


async def test_lie_says_yes_and_does_nothing(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(fault("lie", times=1))
        assert (await start(tokyo, id="job/start/1"))[0] == 200
        assert not await runs(tokyo)
        assert await outcomes(tokyo) == []
        assert (await start(tokyo, id="job/start/1"))[0] == 200
        assert await runs(tokyo)


async def test_partial_stops_after_the_first_step_and_can_go_on(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await tokyo.done(Verb.START, MACHINE, epoch=0)
        await protect(estate, tokyo, osaka)
        half = {"verb": "fail_over", "machine": MACHINE, "kind": "partial", "times": 1}
        await osaka.faults(half)
        status, problem = await osaka.verb(
            Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2, id="job/f/1"
        )
        assert (status, problem["code"]) == (409, 32768)
        assert (await osaka.machine(REPLICA))["replication"]["state"] == 12
        assert (await outcomes(osaka))[-1].startswith("broken off")
        await osaka.done(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2, id="job/f/1")
        assert (await osaka.machine(REPLICA))["replication"]["state"] == 5


async def test_half_done_failover_can_be_cancelled(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.faults({"verb": "fail_over", "kind": "partial", "code": 32779})
        assert (await osaka.verb(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=2))[0] == 404
        await osaka.done(Verb.CANCEL_FAILOVER, REPLICA, epoch=2)
        await tokyo.done(Verb.CANCEL_FAILOVER, MACHINE, epoch=2)
        before = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > before)


async def test_a_source_whose_removal_broke_off_is_compared_and_goes_on(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await tokyo.done(Verb.START, MACHINE, epoch=0)
        await protect(estate, tokyo, osaka)
        await tokyo.faults({"verb": "disable_replication", "kind": "partial", "times": 1})
        removal = {"delete_replica": False}
        assert (await tokyo.verb(Verb.DISABLE_REPLICATION, MACHINE, removal))[0] == 409
        assert (await tokyo.machine(MACHINE))["replication"]["state"] in COMPARING
        await tokyo.until(MACHINE, lambda each: each["replication"]["state"] == REPLICATING)
        before = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > before)


async def test_a_failover_is_cancelled_to_a_source_whose_removal_broke_off(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await tokyo.done(Verb.PREPARE_FAILOVER, MACHINE, epoch=1)
        await tokyo.faults({"verb": "disable_replication", "kind": "partial", "times": 1})
        removal = {"delete_replica": False}
        assert (await tokyo.verb(Verb.DISABLE_REPLICATION, MACHINE, removal))[0] == 409
        await tokyo.done(Verb.CANCEL_FAILOVER, MACHINE, epoch=2)
        assert (await tokyo.machine(MACHINE))["replication"]["state"] in COMPARING
        await tokyo.until(MACHINE, lambda each: each["replication"]["state"] == REPLICATING)
        before = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > before)


async def test_faults_are_for_their_verb_and_machine(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(
            fault("refuse", machine="another"), {**fault("refuse"), "verb": "commit"}
        )
        assert (await start(tokyo))[0] == 200
        assert [each["hits"] for each in await shown(tokyo)] == [0, 0]


WRONG_SETS: list[tuple[Any, str]] = [
    ({"faults": [{"verb": "explode", "kind": "lie"}]}, "faults.0.verb"),
    ({"faults": [{"verb": "start", "kind": "nap"}]}, "faults.0.kind"),
    ({"faults": [{"verb": "start", "kind": "slow"}]}, "needs `seconds`"),
    ({"faults": [{"verb": "start", "kind": "slow", "seconds": 1e9}]}, "faults.0.seconds"),
    ({"faults": [{"verb": "start", "kind": "lie", "times": 0}]}, "faults.0.times"),
    ({"faults": [{"verb": "start", "kind": "lie", "who": "me"}]}, "faults.0.who"),
    ({"faults": [fault("lie")] * 201}, "faults"),
    ([], "the body"),
]


async def test_a_wrong_set_is_refused_whole(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.faults(fault("lie"))
        for body, said in WRONG_SETS:
            status, problem = await tokyo.manage("PUT", "/faults", body)
            assert status == 400, body
            assert said in problem["message"]
            assert [each["kind"] for each in await shown(tokyo)] == ["lie"]


async def test_nobody_gets_in_without_the_token(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo, client_session() as session:
        for port, path in (
            (tokyo.vmm_port, "/vmm/v1/inventory"),
            (tokyo.management_port, "/effects"),
            (tokyo.management_port, "/no/such/path"),
        ):
            for header in ("", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
                url = f"https://127.0.0.1:{port}{path}"
                async with session.get(url, headers={"Authorization": header}) as answer:
                    assert answer.status == 401, (path, header)


async def test_strange_requests_get_a_problem(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo, client_session() as session:
        base = f"https://127.0.0.1:{tokyo.vmm_port}/vmm/v1"
        verb = f"{base}/machines/{MACHINE}/start"
        for body in (b"", b"{", b"[]", b'{"command": {}}', b"\xff" * 100, b"[" * 100_000):
            async with session.post(verb, data=body) as answer:
                assert answer.status == 400, body[:20]
                assert (await answer.json())["code"] == 32773
        async with session.post(verb, data=io.BytesIO(b" " * 1_100_000)) as answer:
            assert answer.status == 413
        async with session.get(f"{base}/machines/{MACHINE}?nonce=../x") as answer:
            assert answer.status == 400
        async with session.delete(f"{base}/inventory") as answer:
            assert answer.status == 405


async def test_the_management_port_shows_the_local_copy(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await tokyo.done(Verb.START, MACHINE, epoch=0)
        await protect(estate, tokyo, osaka)
        by_hyperv_id = (await osaka.manage("GET", f"/machines/{MACHINE}"))[1]
        assert by_hyperv_id["machine_id"] == REPLICA
        assert by_hyperv_id["guest_pid"] is None
        assert [len(disk) for disk in osaka.disks(REPLICA)] == list(DISK_BYTES)
        assert len(by_hyperv_id["disk_paths"]) == len(DISK_BYTES)
        own = (await tokyo.manage("GET", f"/machines/{MACHINE}"))[1]
        assert own["guest_pid"] is not None
        assert own["replication"]["last_cut"] >= 1
        assert (await tokyo.manage("GET", "/machines/nobody"))[0] == 404
        inventory = (await tokyo.manage("GET", "/inventory"))[1]
        assert [each["machine_id"] for each in inventory["machines"]] == [MACHINE]
        assert inventory["hosts"][0]["allowed_primaries"] == estate.fqdns("osaka")


async def test_a_refusal_that_comes_after_the_cancellation_fences_nobody(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        backend = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[0]].backend
        under_way, go_on = asyncio.Event(), asyncio.Event()
        send = backend.send

        async def refused_late(
            change_set: ChangeSet,
            peer: PeerAddress,
            header: TransferHeader,
            progress: Callable[[int], None],
        ) -> AppliedCut:
            if header.epoch > 1:
                return await send(change_set, peer, header, progress)
            under_way.set()
            await go_on.wait()
            raise TransferRefusedError(Code.LOWER_EPOCH, "epoch 1 has been passed by")

        monkeypatch.setattr(backend, "send", refused_late)
        async with asyncio.timeout(WAIT_SECONDS):
            await under_way.wait()
        await tokyo.done(Verb.CANCEL_FAILOVER, MACHINE, epoch=2)
        before = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        go_on.set()
        await osaka.until(REPLICA, lambda each: each["replication"]["last_cut"] > before)
        view = await tokyo.machine(MACHINE)
        assert (view["fenced"], view["replication"]["state"]) == (False, 3)
        await tokyo.done(Verb.START, MACHINE, epoch=2)
        await tokyo.guests[MACHINE].write(0, 0, b"still the active copy", 1)
