"""A hub that signs whatever it likes, and an agent that insists on operators' signatures."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from certs.channel_integrity import new_key, seal
from provider_agent.operator_orders import insist, insist_no_more
from tests.integration.agent_fakes.waiting import until
from tests.support.joined_world import JoinedWorld, joined_world
from tests.unit.agent.agent_views import replication
from wire_contract.operator_signature import Order, SignedOperation, signed_header, unsigned_text
from wire_contract.reports import Authority
from wire_contract.vocabulary import Direction, RunState, Verb

KEY = new_key()
ITEM, OTHER = "item-1", "item-2"
NOT_ORDERED = 90007
BOUND = {"item": ITEM, "target": ITEM}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        for item in (ITEM, OTHER):
            opened.vmm.add(item, hyperv_id=item, epoch=1, replication=replication())
        opened.register()
        insist(tmp_path / "agent", KEY)
        yield opened


def signed(
    request: str,
    *,
    item: str = ITEM,
    operation: SignedOperation = SignedOperation.PLANNED_FAILOVER,
    key: str = KEY,
    since: timedelta = timedelta(minutes=-5),
    until: timedelta = timedelta(hours=6),
) -> str:
    now = datetime.now(UTC)
    order = Order(operation, item, Direction.PRIMARY_TO_RECOVERY)
    unsigned = unsigned_text(order, request, now + since, now + until)
    return signed_header(unsigned, seal(key, unsigned.encode()))


def shut_downs(world: JoinedWorld, machine: str = ITEM) -> int:
    return world.vmm.effect_count(Verb.SHUT_DOWN, machine)


def ended(logs: list[Any], job: str) -> bool:
    return any(
        each["event"] == "task_ended" and each["command_id"].startswith(f"{job}/") for each in logs
    )


def outcomes(world: JoinedWorld) -> dict[str, Any]:
    """Return how each command ended; the agent must have stopped."""
    with contextlib.closing(sqlite3.connect(world.journal_file)) as journal:
        rows = journal.execute("SELECT assignment FROM inbox WHERE state = 'finished'").fetchall()
    return {each["job"]: each for each in (json.loads(row[0]) for row in rows)}


async def test_only_what_an_operator_ordered_is_done_and_the_next_good_order_runs(
    world: JoinedWorld,
) -> None:
    fourteen_days = timedelta(days=14)
    bad: dict[str, dict[str, Any]] = {
        "unsigned": {},
        "damaged": {"operator_signature": signed("r1")[:-20]},
        "empty": {"operator_signature": ""},
        "forged": {"operator_signature": signed("r2", key=new_key())},
        "expired": {
            "operator_signature": signed("r3", since=-fourteen_days / 4, until=timedelta(0))
        },
        "early": {"operator_signature": signed("r4", since=timedelta(hours=1))},
        "lasting": {"operator_signature": signed("r5", until=fourteen_days)},
        "commit": {"operator_signature": signed("r6", operation=SignedOperation.COMMIT)},
        "foreign": {"operator_signature": signed("r7", item=OTHER)},
        # The hub calls another machine by the item that was signed.
        "misnamed": {"operator_signature": signed("r8"), "target": OTHER},
        "unknown": {"verb": Verb.CONFIRM_EPOCH.value, "arguments": {"authoritative": False}},
    }
    async with world.agent():
        for job, changes in bad.items():
            await world.assign(job, **{**BOUND, **changes})
        await world.assign("good", **BOUND, operator_signature=signed("r9"))
        await world.acknowledged(len(bad) + 1)
        await until(lambda: shut_downs(world) == 1, "the ordered one has run")
        # The same signature again: for its own job it holds, for another it does not.
        await world.assign("good", **BOUND, attempt=2, operator_signature=signed("r9"))
        await world.assign("replayed", **BOUND, operator_signature=signed("r9"))
        await until(lambda: shut_downs(world) == 2, "the job's next attempt has run")
    async with world.agent():
        await world.assign("replayed after a restart", **BOUND, operator_signature=signed("r9"))
        await world.assign("next", **BOUND, operator_signature=signed("r10"))
        await until(lambda: shut_downs(world) == 3, "the next ordered one has run")
    assert shut_downs(world, OTHER) == 0
    assert world.vmm.call_count(Verb.CONFIRM_EPOCH, ITEM) == 0
    found = outcomes(world)
    refused = {job for job, each in found.items() if not each["succeeded"]}
    assert refused == {*bad, "replayed", "replayed after a restart"}
    for job in refused:
        error = found[job]["error"]
        assert error["code"] == NOT_ORDERED, job
        assert "insists on an operator's signature" in error["message"]
        assert "channel integrity key" in error["recommended_action"]
        assert "Date(" not in error["message"], "what was sent is not repeated"
    assert "another job" in found["replayed"]["error"]["message"]


async def test_a_raised_epoch_alone_is_refused_on_a_replica_and_harmless_verbs_run(
    world: JoinedWorld,
) -> None:
    world.vmm.change(ITEM, replication=replication(mode="Replica"))
    label: dict[str, Any] = {
        **BOUND,
        "verb": Verb.UPDATE_PROTECTION.value,
        "arguments": {"item": "label", "role": "Recovery", "active": False},
        "epoch": 9,
    }
    with capture_logs() as logs:
        async with world.agent():
            await world.assign("raised", **label)
            await until(lambda: ended(logs, "raised"), "it has ended")
            assert world.vmm.machines[ITEM].epoch == 1
            world.vmm.change(ITEM, epoch=9)
            await world.assign("as it is", **label)
            await until(lambda: ended(logs, "as it is"), "it has ended")
    assert world.vmm.effect_count(Verb.UPDATE_PROTECTION, ITEM) == 1
    assert outcomes(world)["raised"]["error"]["code"] == NOT_ORDERED


async def test_a_server_insists_until_its_own_command_says_otherwise(
    world: JoinedWorld, tmp_path: Path
) -> None:
    async with world.agent():
        insist_no_more(tmp_path / "agent")
        await world.assign("unsigned", **BOUND)
        await until(lambda: shut_downs(world) == 1, "it has run")
        insist(tmp_path / "agent", KEY)
        await world.assign("refused", **BOUND)
        await world.assign("signed", **BOUND, operator_signature=signed("r1"))
        await until(lambda: shut_downs(world) == 2, "it has run")
    assert outcomes(world)["refused"]["error"]["code"] == NOT_ORDERED


async def test_a_key_that_cannot_be_used_lets_nothing_through_and_no_log_shows_a_signature(
    world: JoinedWorld, tmp_path: Path
) -> None:
    (tmp_path / "agent/identity.operator-signature/channel-integrity.key").write_text("short")
    with capture_logs() as logs:
        async with world.agent():
            await world.assign("signed", **BOUND, operator_signature=signed("r1"))
            await until(lambda: ended(logs, "signed"), "it has ended")
            assert shut_downs(world) == 0
            insist(tmp_path / "agent", KEY)
            await world.assign("again", **BOUND, operator_signature=signed("r2"))
            await until(lambda: shut_downs(world) == 1, "it has run")
    assert "holds no channel integrity key" in outcomes(world)["signed"]["error"]["message"]
    assert any(each["event"] == "command_not_ordered" for each in logs)
    assert not any(secret in str(logs) for secret in (KEY, "NotAfterTimestamp", "HMACSHA256"))


async def test_the_hubs_word_at_a_session_stops_no_running_copy(
    world: JoinedWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = world.hub.reports.session

    async def lying(*asked: Any) -> Any:
        answer = await session(*asked)
        word = Authority(machine_id=ITEM, item=ITEM, epoch=7, authoritative=False)
        return answer.model_copy(update={"authorities": (word,)})

    monkeypatch.setattr(world.hub.reports, "session", lying)
    world.vmm.change(ITEM, run_state=RunState.RUNNING)
    async with world.agent():
        assert world.vmm.call_count(Verb.CONFIRM_EPOCH, ITEM) == 0
    insist_no_more(tmp_path / "agent")
    async with world.agent():
        assert world.vmm.effect_count(Verb.CONFIRM_EPOCH, ITEM) == 1, "who does not insist obeys"
    assert world.vmm.machines[ITEM].run_state is RunState.OFF
