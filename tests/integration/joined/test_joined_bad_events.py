"""Every kind of bad event on the hub's real channel, each followed by a good one, which runs."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.signing import EventSigner
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation
from service_hub.services.event_faults import REFUSED_CODE, TOO_LARGE_CODE, VOIDED_CODE
from tests.integration.agent_fakes.waiting import until
from tests.support.hub_stories import ask, protected
from tests.support.hub_world import MACHINE_ID
from tests.support.joined_world import (
    JoinedWorld,
    Spoiler,
    acknowledge_by_hand,
    joined_world,
)
from wire_contract.vocabulary import Verb


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JoinedWorld]:
    async with joined_world(tmp_path) as opened:
        yield opened


async def a_good_event_runs(world: JoinedWorld, seq: int, before: int = 0) -> None:
    await world.assign("good")
    await world.acknowledged(seq)
    await until(
        lambda: world.vmm.effect_count(Verb.SHUT_DOWN, "machine-1") == before + 1, "it has run"
    )


def broken_signature(signer: EventSigner, payload: dict[str, object]) -> str:
    head, body, signature = signer.sign(payload).split(".")
    return ".".join((head, body, "A" * 8 + signature[8:]))


def wrong_audience(signer: EventSigner, payload: dict[str, object]) -> str:
    return signer.sign({**payload, "aud": "osaka-provider"})


def wrong_number(signer: EventSigner, payload: dict[str, object]) -> str:
    return signer.sign({**payload, "seq": 7})


def no_envelope(signer: EventSigner, payload: dict[str, object]) -> str:
    del payload
    return signer.sign({"hello": "there"})


def too_large(signer: EventSigner, payload: dict[str, object]) -> str:
    del signer, payload
    raise ValueError("the event is larger than receivers take")


SPOILERS = [broken_signature, wrong_audience, wrong_number, no_envelope]

SIGNATURES_MAX = 5
"""Signed, signed anew, tombstone; the pump and a pull may each have read it before it was void, and
what they sign then is not in the tombstone's place for long."""


@pytest.mark.parametrize("spoiler", SPOILERS)
async def test_what_cannot_be_verified_once_is_signed_anew_and_runs(
    world: JoinedWorld, spoiler: Spoiler
) -> None:
    world.signer.spoil(1, spoiler, times=1)
    async with world.agent():
        await world.assign("bad")
        await a_good_event_runs(world, 2, before=1)


@pytest.mark.parametrize("spoiler", SPOILERS)
async def test_what_cannot_be_verified_twice_is_void_and_the_next_runs(
    world: JoinedWorld, spoiler: Spoiler
) -> None:
    world.signer.spoil(1, spoiler, times=1000)
    async with world.agent():
        await world.assign("bad")
        await a_good_event_runs(world, 2)
    # The first number is acknowledged, and nothing but a tombstone of it verifies.
    types = world.signer.types[1]
    assert types[:2] == ["assignment", "assignment"], "signed, signed anew"
    assert "tombstone" in types
    assert len(types) <= SIGNATURES_MAX
    assert world.vmm.effect_count(Verb.SHUT_DOWN, "machine-1") == 1, "the good one alone has run"


async def test_what_has_expired_is_refused_and_the_next_runs(world: JoinedWorld) -> None:
    async with world.agent():
        await world.assign("bad", deadline=datetime.now(UTC) - timedelta(seconds=1))
        await a_good_event_runs(world, 2)


async def test_what_is_replayed_has_its_effect_once_and_the_next_runs(world: JoinedWorld) -> None:
    async with world.agent():
        await world.assign("first")
        _, signed = await world.source.signed_after(world.provider.id, 0, 1)
        await world.acknowledged(1)
        for _ in range(3):
            world.endpoint.publish(world.provider.id, signed[0][1].encode())
        await a_good_event_runs(world, 2, before=1)
        # The same command under a new number: known by its id.
        await world.assign("first")
        await world.acknowledged(3)
    assert world.vmm.effect_count(Verb.SHUT_DOWN, "machine-1") == 2


async def test_what_lies_beyond_a_gap_is_not_taken_in_and_the_next_runs(
    world: JoinedWorld,
) -> None:
    async with world.agent():
        await world.assign("first")
        _, signed = await world.source.signed_after(world.provider.id, 0, 1)
        await world.acknowledged(1)
        body = json.loads(_payload(signed[0][1]))
        ahead = world.trust.signer().sign({**body, "seq": 50})
        world.endpoint.publish(world.provider.id, ahead.encode())
        await a_good_event_runs(world, 2, before=1)


async def test_what_is_out_of_order_is_put_in_order(world: JoinedWorld) -> None:
    async with world.agent():
        number = world.endpoint.connected(world.provider.id)
        assert number is not None
        for name in ("first", "second", "third"):
            await world.assign(name)
        _, signed = await world.source.signed_after(world.provider.id, 0, 3)
        for _, jws in reversed(signed):
            world.endpoint.publish(world.provider.id, jws.encode())
        await a_good_event_runs(world, 4, before=3)


async def test_what_is_too_large_for_mqtt_is_pulled_and_the_next_runs(world: JoinedWorld) -> None:
    async with world.agent():
        await world.assign("large", arguments={"seconds": 1, "filling": "x" * 100_000})
        await a_good_event_runs(world, 2, before=1)


async def test_what_is_too_large_to_be_signed_is_void_and_the_next_runs(
    world: JoinedWorld,
) -> None:
    async with world.agent():
        await world.assign("huge", arguments={"filling": "x" * 9_000_000})
        await a_good_event_runs(world, 2)


async def test_a_task_too_large_to_be_signed_fails_at_once_with_its_own_words(
    world: JoinedWorld,
) -> None:
    """The real job ends with the receipt of the tombstone, long before its deadline."""
    await protected(world.hub)
    await acknowledge_by_hand(world)
    world.vmm.add(MACHINE_ID, epoch=1)
    async with world.agent():
        seq = (await world.stream()).next_seq
        world.signer.spoil(seq, too_large, times=1000)
        failed = await ended(world, await ask(world.hub, Operation.PLANNED_FAILOVER))
        assert failed.state is JobState.FAILED
        assert failed.errors[0].provider_code == TOO_LARGE_CODE
        assert "larger than one event may be" in (failed.errors[0].provider_message or "")
        assert world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == 0
        job_id = await ask(world.hub, Operation.PLANNED_FAILOVER)
        await until(
            lambda: world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1, "the next one runs"
        )
        assert not (await world.hub.job(job_id)).errors


async def test_a_task_that_is_late_by_the_agents_clock_fails_and_names_the_clocks(
    world: JoinedWorld,
) -> None:
    """Half a day ahead, each deadline has passed before the event arrives."""
    await protected(world.hub)
    await acknowledge_by_hand(world)
    world.vmm.add(MACHINE_ID, epoch=1)
    async with world.agent(ahead=timedelta(hours=12)):
        failed = await ended(world, await ask(world.hub, Operation.PLANNED_FAILOVER))
        assert failed.errors[0].provider_code == REFUSED_CODE
        assert "by its clock the deadline had passed" in (failed.errors[0].provider_message or "")
        assert "synchronise both clocks" in failed.errors[0].provider_action
        assert world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == 0
    async with world.agent():
        await ask(world.hub, Operation.PLANNED_FAILOVER)
        await until(
            lambda: world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1, "the next one runs"
        )


async def test_a_task_whose_signer_is_not_valid_yet_by_the_agents_clock_fails_and_names_it(
    world: JoinedWorld,
) -> None:
    """Behind the hub, whose signer is new: nothing verifies, however often it is signed."""
    await protected(world.hub)
    await acknowledge_by_hand(world)
    world.vmm.add(MACHINE_ID, epoch=1)
    async with world.agent(ahead=-timedelta(hours=1)):
        failed = await ended(world, await ask(world.hub, Operation.PLANNED_FAILOVER))
        assert failed.errors[0].provider_code == VOIDED_CODE
        assert "its clock is wrong" in failed.errors[0].provider_causes
        assert "provider-agent doctor" in failed.errors[0].provider_action
        assert world.vmm.call_count(Verb.SHUT_DOWN, MACHINE_ID) == 0
    async with world.agent():
        await ask(world.hub, Operation.PLANNED_FAILOVER)
        await until(
            lambda: world.vmm.effect_count(Verb.SHUT_DOWN, MACHINE_ID) == 1, "the next one runs"
        )


async def ended(world: JoinedWorld, job_id: str) -> Job:
    async with asyncio.timeout(20):
        while not (job := await world.hub.job(job_id)).finished:
            await asyncio.sleep(0.02)
        return job


async def test_garbage_on_the_topic_changes_nothing_and_the_next_runs(world: JoinedWorld) -> None:
    async with world.agent():
        for garbage in (b"", b"\xff\xfe", b"a.b.c", b"{}" * 1000):
            world.endpoint.publish(world.provider.id, garbage)
        await a_good_event_runs(world, 1)


def _payload(jws: str) -> bytes:
    body = jws.split(".")[1]
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
