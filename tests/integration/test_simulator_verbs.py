"""Every verb of a simulated site, asked for twice; what each refuses.

Over 400 lines because it is the life of one machine, verb by verb.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    PORT,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import (
    POLICY,
    certificates_for,
    enable,
    fail_over_planned,
    pair,
    protect,
)
from wire_contract.vocabulary import CLOUD_VERBS, FABRIC_VERBS, SERVER_VERBS, Verb

WALKED = ("cancel_", "change_", "disable_", "export_", "import_", "pause_", "resume_", "resync")
"""Verbs that are asked again and again under every fault: the driver's contract suite."""

UNPLANNED = {"planned": False, "expected_cut": None, "recovery_point": None}


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def twice(
    site: RunningSite, verb: Verb, target: str, arguments: dict[str, Any], epoch: int = 1
) -> None:
    """Do a verb, the same command again, and the next attempt: one end state, one effect."""
    before = site.new_id()
    status, first = await site.verb(verb, target, arguments, id=before, epoch=epoch)
    assert (status, first.get("repeated")) == (200, False), (verb, first)
    view = await look(site, verb, target)
    status, again = await site.verb(verb, target, arguments, id=before, epoch=epoch)
    assert (status, again["result"]) == (200, first["result"]), (verb, again)
    assert again["repeated"]
    assert await look(site, verb, target) == view, verb
    status, retried = await site.verb(verb, target, arguments, epoch=epoch)
    assert status == 200, (verb, retried)
    assert await look(site, verb, target) == view, verb
    effects = (await site.manage("GET", "/effects"))[1]["effects"]
    lines = [each for each in effects if each["command_id"] == before]
    assert [each["outcome"] for each in lines] == ["succeeded"]


async def look(site: RunningSite, verb: Verb, target: str) -> Any:
    """Return what verbs change, without what changes by itself."""
    if verb in CLOUD_VERBS | SERVER_VERBS:
        return (await site.get("/vmm/v1/inventory"))["clouds"]
    status, machine = await site.manage("GET", f"/machines/{target}")
    if status != 200:
        return status
    replication = machine["replication"] or {}
    kept = {key: machine[key] for key in ("run_state", "epoch", "fenced", "nics", "guest_pid")}
    return kept, [replication.get(key) for key in ("mode", "state", "peer_machine_id")]


async def test_every_verb_twice(estate: Estate) -> None:
    done: set[Verb] = set()

    async def each(site: RunningSite, verb: Verb, target: str, arguments: Any, epoch: int) -> None:
        done.add(verb)
        await twice(site, verb, target, arguments, epoch)

    async with estate.both() as (tokyo, osaka):
        for site, other in ((tokyo, "osaka"), (osaka, "tokyo")):
            cloud = CLOUD[site.name]
            issued = {"certificates": await certificates_for(site)}
            await each(site, Verb.CONFIGURE_HOSTS, cloud, issued, 0)
            partners = {
                "replica_port": PORT,
                "authentication": "certificate",
                "allowed_primaries": estate.fqdns(other),
            }
            await each(site, Verb.PREPARE_CLOUD, cloud, partners, 0)
            pairing = {"role": "Primary", "partner_cloud_id": CLOUD[other]}
            await each(site, Verb.PAIR_CLOUD, cloud, pairing, 0)
        await protection(tokyo, osaka, each)
        await drill(osaka, each)
        host = (await osaka.machine(REPLICA))["host"]
        await failover(tokyo, osaka, host, each)
        await each(tokyo, Verb.CONFIRM_EPOCH, MACHINE, {"authoritative": False, "item": MACHINE}, 2)
        await osaka.until(REPLICA, lambda view: view["replication"]["state"] == 3)
        await each(osaka, Verb.SYNCHRONIZE, REPLICA, {}, 2)
    # Not these: they have stories of their own (test_simulator_drills.py, and below).
    walked = {verb for verb in FABRIC_VERBS if verb.value.startswith(WALKED)}
    others = {
        Verb.CREATE_TEST_NETWORKS,
        Verb.REMOVE_TEST_NETWORKS,
        Verb.KEEP_COPY,
        Verb.UPDATE_REPLICATION,
    }
    assert done == set(FABRIC_VERBS) - {Verb.CLEAN_UP, Verb.UNPAIR_CLOUD} - walked - others


async def test_a_server_is_cleaned_up_once_nothing_is_protected(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        cloud = CLOUD["tokyo"]
        issued = {"certificates": await certificates_for(tokyo)}
        await tokyo.done(Verb.CONFIGURE_HOSTS, cloud, issued, epoch=0)
        partners = {
            "replica_port": PORT,
            "authentication": "certificate",
            "allowed_primaries": estate.fqdns("osaka"),
        }
        await tokyo.done(Verb.PREPARE_CLOUD, cloud, partners, epoch=0)
        pairing = {"role": "Primary", "partner_cloud_id": CLOUD["osaka"]}
        await tokyo.done(Verb.PAIR_CLOUD, cloud, pairing, epoch=0)
        mark = {"item": MACHINE, "role": "Primary", "active": True}
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, mark)
        server = (await tokyo.get("/vmm/v1/inventory"))["vmm"]["vmm_id"]

        partner = {"partner_cloud_id": CLOUD["osaka"]}
        for gone, words in (({"partner_cloud_id": "another"}, "is paired with"), (partner, "SQL-")):
            status, problem = await tokyo.verb(Verb.UNPAIR_CLOUD, cloud, gone, epoch=0)
            assert (status, problem["code"]) == (409, 32775)
            assert words in problem["message"]
        status, problem = await tokyo.verb(Verb.CLEAN_UP, server, epoch=0)
        assert (status, problem["code"]) == (409, 32775)
        assert "still protected" in problem["message"]
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, {**mark, "item": None})
        await twice(tokyo, Verb.UNPAIR_CLOUD, cloud, partner, 0)
        bare = await tokyo.get("/vmm/v1/inventory")
        assert [each["partner_cloud_id"] for each in bare["clouds"]] == [None]
        assert not any(each["replica_enabled"] for each in bare["hosts"])
        assert {each["certificate_thumbprint"] for each in bare["hosts"]} == {None}
        await tokyo.done(
            Verb.CONFIGURE_HOSTS, cloud, {"certificates": await certificates_for(tokyo)}
        )
        await tokyo.done(Verb.PREPARE_CLOUD, cloud, partners, epoch=0)
        await tokyo.done(Verb.PAIR_CLOUD, cloud, pairing, epoch=0)
        assert (await tokyo.verb(Verb.CLEAN_UP, "another-server", epoch=0))[0] == 404
        assert (await tokyo.verb("clean_up", MACHINE))[0] == 404

        await twice(tokyo, Verb.CLEAN_UP, server, {}, 0)
        left = await tokyo.get("/vmm/v1/inventory")
        assert {each["partner_cloud_id"] for each in left["clouds"]} == {None}
        assert {each["certificate_thumbprint"] for each in left["hosts"]} == {None}
        assert not any(each["replica_enabled"] for each in left["hosts"])
        # What was deleted can be set up again: with a new key.
        await tokyo.done(
            Verb.CONFIGURE_HOSTS, cloud, {"certificates": await certificates_for(tokyo)}
        )
        assert osaka.name == "osaka"


TEST_NAME = "SQL-01 - Test"


async def protection(tokyo: RunningSite, osaka: RunningSite, each: Any) -> None:
    machine = await tokyo.machine(MACHINE)
    keys = ("disk_id", "name", "kind", "size_bytes")
    placed = {
        "cloud_id": CLOUD["osaka"],
        "hyperv_id": MACHINE,
        "name": machine["name"],
        "generation": 2,
        "disks": [{key: disk[key] for key in keys} for disk in machine["disks"]],
        "primary_host": machine["host"],
        "item": MACHINE,
    }
    await each(osaka, Verb.PLACE_REPLICA, REPLICA, placed, 1)
    enabling = {
        **POLICY,
        "relationship_id": "relationship-1",
        "replica_machine_id": REPLICA,
        "replica_host": (await osaka.machine(REPLICA))["host"],
        "replica_port": PORT,
        "item": MACHINE,
    }
    await each(tokyo, Verb.ENABLE_REPLICATION, MACHINE, enabling, 1)
    await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
    await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
    await each(tokyo, Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False}, 1)
    await each(tokyo, Verb.COMPLETE_INITIAL_REPLICATION, MACHINE, {}, 1)
    await osaka.until(REPLICA, lambda view: view["replication"]["state"] == 3)
    adapter = {"nic_id": "replica-nic", "network_id": "network"}
    await each(osaka, Verb.CONNECT_ADAPTERS, REPLICA, {"adapters": [adapter]}, 1)
    item = {"item": MACHINE, "role": "Primary", "active": True}
    await each(tokyo, Verb.UPDATE_PROTECTION, MACHINE, item, 1)


async def drill(osaka: RunningSite, each: Any) -> None:
    copy = {"replica_machine_id": REPLICA, "name": TEST_NAME, "recovery_point": None}
    await each(osaka, Verb.CREATE_TEST_MACHINE, "test-1", copy, 1)
    await each(osaka, Verb.PREPARE_TEST_MACHINE, "test-1", {"network_id": "network"}, 1)
    assert (await osaka.machine("test-1"))["nics"][0]["network_name"] == "network"
    await each(osaka, Verb.START, "test-1", {}, 1)
    status, problem = await osaka.verb(Verb.FAIL_OVER, REPLICA, UNPLANNED, epoch=1)
    assert (status, problem["code"]) == (409, 32774)
    await each(osaka, Verb.REMOVE_TEST_MACHINE, "test-1", {}, 1)
    assert (await osaka.manage("GET", "/machines/test-1"))[0] == 404


async def failover(tokyo: RunningSite, osaka: RunningSite, host: str, each: Any) -> None:
    await each(tokyo, Verb.SHUT_DOWN, MACHINE, {"seconds": 30}, 1)
    await each(tokyo, Verb.PREPARE_FAILOVER, MACHINE, {}, 1)
    await each(osaka, Verb.FAIL_OVER, REPLICA, UNPLANNED, 2)
    await each(osaka, Verb.START, REPLICA, {}, 2)
    await each(osaka, Verb.COMMIT, REPLICA, {}, 2)
    preparing = {
        "relationship_id": "relationship-2",
        "primary_host": host,
        "primary_machine_id": REPLICA,
        "resynchronize": False,
        "interval_seconds": 30,
    }
    await each(tokyo, Verb.PREPARE_REVERSE, MACHINE, preparing, 2)
    reversing = {
        **POLICY,
        "relationship_id": "relationship-2",
        "replica_machine_id": MACHINE,
        "replica_host": (await tokyo.machine(MACHINE))["host"],
        "replica_port": PORT,
        "resynchronize": False,
    }
    await each(osaka, Verb.REVERSE_REPLICATE, REPLICA, reversing, 2)


async def test_cancel_failover_twice_on_both_ends(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await fail_over_planned(tokyo, osaka)
        await twice(osaka, Verb.CANCEL_FAILOVER, REPLICA, {}, 2)
        await twice(tokyo, Verb.CANCEL_FAILOVER, MACHINE, {}, 2)


async def test_lower_epoch_fence_and_a_passed_deadline_have_no_effect(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, {"item": None}, epoch=5)
        assert (await tokyo.machine(MACHINE))["epoch"] == 5
        past = datetime.now(UTC) - timedelta(seconds=1)
        await tokyo.done(
            Verb.UPDATE_PROTECTION, MACHINE, {"item": None}, id="job/a/1", fence=4, epoch=5
        )
        refused: list[tuple[dict[str, Any], int]] = [
            ({"epoch": 4}, 91001),
            ({"epoch": 5, "id": "job/b/1", "fence": 3}, 91002),
            ({"epoch": 5, "deadline": past}, 91003),
        ]
        effects = await tokyo.manage("GET", "/effects")
        for command, code in refused:
            status, problem = await tokyo.verb(Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, **command)
            assert (status, problem["code"]) == (409, code), problem
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        assert await tokyo.manage("GET", "/effects") == effects
        # Fences are compared within a job, never across.
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, {"item": None}, id="other/b/1", epoch=5)


async def test_replica_and_locked_primary_cannot_start(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        status, problem = await osaka.verb(Verb.START, REPLICA, epoch=2)
        assert (status, problem["code"]) == (409, 32775)
        assert "not failed over" in (await osaka.machine(REPLICA))["start_blocked_by"]
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 5})
        await tokyo.done(Verb.PREPARE_FAILOVER, MACHINE)
        status, problem = await tokyo.verb(Verb.START, MACHINE)
        assert (status, problem["code"]) == (409, 32775)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Off"


async def test_state_refusals(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        running = await tokyo.verb(Verb.PREPARE_FAILOVER, MACHINE)
        early = await osaka.verb(Verb.COMMIT, REPLICA)
        wrong_end = await tokyo.verb(Verb.FAIL_OVER, MACHINE, UNPLANNED)
        behind = {"planned": True, "expected_cut": 10_000, "recovery_point": None}
        missing = await osaka.verb(Verb.FAIL_OVER, REPLICA, behind)
        for status, problem in (running, early, wrong_end, missing):
            assert (status, problem["code"]) == (409, 32775), problem
        unknown_point = {**UNPLANNED, "recovery_point": "yesterday"}
        status, _ = await osaka.verb(Verb.FAIL_OVER, REPLICA, unknown_point)
        assert status == 404
        assert (await osaka.machine(REPLICA))["replication"]["state"] == 3


async def test_a_shut_down_that_the_guest_does_not_finish_says_so(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        tokyo.guests[MACHINE].refuses_to_stop = True
        status, problem = await tokyo.verb(Verb.SHUT_DOWN, MACHINE, {"seconds": 1}, epoch=0)
        assert (status, problem["code"]) == (503, 32772)
        assert (await tokyo.manage("GET", f"/machines/{MACHINE}"))[1]["desired_running"]


async def test_an_old_start_does_not_undo_a_later_shut_down(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.done(Verb.START, MACHINE, id="job-1/start/1", epoch=0)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, epoch=0)
        status, answer = await tokyo.verb(Verb.START, MACHINE, id="job-1/start/1", epoch=0)
        assert (status, answer["repeated"]) == (200, True)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Off"


async def test_a_repeated_start_whose_guest_is_gone_starts_it_again(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.done(Verb.START, MACHINE, id="job-1/start/1", epoch=0)
        await tokyo.guests[MACHINE].kill()
        assert (await tokyo.machine(MACHINE))["run_state"] == "Off"
        await tokyo.done(Verb.START, MACHINE, id="job-1/start/1", epoch=0)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"


async def test_two_identical_commands_at_once_are_one_effect(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.faults({"verb": "fail_over", "kind": "slow", "seconds": 0.1})
        answers = await asyncio.gather(
            *(
                osaka.verb(Verb.FAIL_OVER, REPLICA, UNPLANNED, id="job/f/1", epoch=2)
                for _ in range(5)
            )
        )
        assert {status for status, _ in answers} == {200}
        assert len({str(answer["result"]) for _, answer in answers}) == 1
        assert (await osaka.manage("GET", "/faults"))[1]["faults"][0]["hits"] == 1
        effects = (await osaka.manage("GET", "/effects"))[1]["effects"]
        assert [each["epoch"] for each in effects if each["verb"] == "fail_over"] == [2]


async def test_a_command_id_means_one_thing(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await tokyo.done(Verb.START, MACHINE, id="job/a/1", epoch=0)
        other_verb = await tokyo.verb(
            Verb.SHUT_DOWN, MACHINE, {"seconds": 5}, id="job/a/1", epoch=0
        )
        assert (other_verb[0], other_verb[1]["code"]) == (409, 91008)
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"


async def test_enabling_towards_a_host_that_does_not_listen_is_not_now(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        await pair(estate, tokyo)
        arguments = {
            **POLICY,
            "relationship_id": "relationship-1",
            "replica_machine_id": REPLICA,
            "replica_host": estate.fqdns("osaka")[0],
            "replica_port": PORT,
            "item": MACHINE,
        }
        status, problem = await tokyo.verb(Verb.ENABLE_REPLICATION, MACHINE, arguments)
        assert (status, problem["code"]) == (503, 0x2EFD)
        assert (await tokyo.machine(MACHINE))["replication"] is None


async def test_a_primary_that_is_not_authorised_gets_no_replica(estate: Estate) -> None:
    async with estate.both() as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        partners = {
            "replica_port": PORT,
            "authentication": "certificate",
            "allowed_primaries": [estate.fqdns("tokyo")[1]],
        }
        machine = await tokyo.machine(MACHINE)
        await enable(estate, tokyo, osaka)
        await osaka.done(Verb.PREPARE_CLOUD, CLOUD["osaka"], partners)
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        refused = await tokyo.until(
            MACHINE, lambda each: each["replication"]["last_error"] is not None
        )
        assert machine["host"] in refused["replication"]["last_error"]
        assert (await osaka.machine(REPLICA))["replication"]["state"] == 2


BAD_REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("fail_over", MACHINE, {}, 400),
    ("fail_over", MACHINE, {**UNPLANNED, "more": 1}, 400),
    ("shut_down", MACHINE, {"seconds": -1}, 400),
    ("shut_down", "nobody", {"seconds": 1}, 404),
    ("shut_down", "..%2F..%2Fetc", {"seconds": 1}, 400),
    ("explode", MACHINE, {}, 404),
    ("pair_cloud", CLOUD["tokyo"], {"role": "Both", "partner_cloud_id": "x"}, 400),
    ("pair_cloud", "cloud-nowhere", {"role": "Primary", "partner_cloud_id": "x"}, 404),
    ("configure_hosts", CLOUD["tokyo"], {"certificates": []}, 400),
    ("prepare_cloud", CLOUD["tokyo"], {"replica_port": 0}, 400),
    ("place_replica", REPLICA, {"disks": []}, 400),
    ("create_test_machine", "t-1", {"replica_machine_id": "nobody", "name": "n"}, 404),
    ("remove_test_machine", MACHINE, {}, 409),
    ("prepare_failover", MACHINE, {}, 409),
]


async def test_bad_requests_are_problems(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        for verb, target, arguments, status in BAD_REQUESTS:
            found, problem = await tokyo.verb(verb, target, arguments)
            assert found == status, (verb, target, problem)
            assert problem["message"]
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        assert (await tokyo.manage("GET", "/effects"))[1] == {"effects": []}
