from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from certs.identity import new_private_key
from provider_agent import journal
from provider_agent.journal_errors import JournalError
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.trust import Trust
from tests.integration.agent_fakes.waiting import until
from wire_contract import paths
from wire_contract.reports import Authority, Receipt, StreamPosition
from wire_contract.vocabulary import RunState, Verb


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.vmm.add("machine-1")
        made.register()
        yield made


async def received(site: Estate, highest: int) -> None:
    await until(
        lambda: all(site.hub.receipt(seq) for seq in range(1, highest + 1)),
        f"events up to {highest} have receipts",
    )


async def test_presence_says_online_and_then_offline_and_is_also_the_will(site: Estate) -> None:
    async with site.agent():
        session = site.hub.sessions[-1]
        online = site.hub.mqtt.presence[-1]
        assert (online.state, online.boot_id) == ("online", session.boot_id)
        assert online.session == session.session
        assert site.hub.mqtt.will is not None
        assert site.hub.mqtt.will.state == "offline"
        assert site.hub.mqtt.online
        assert site.ready_file.exists()
    assert site.hub.mqtt.presence[-1].state == "offline"
    assert not site.ready_file.exists()


async def test_events_arrive_over_mqtt_without_a_pull(site: Estate) -> None:
    site.hub.heartbeat_seconds = 600
    async with site.agent():
        await until(lambda: len(site.hub.pulls) >= 1, "the pull after the connect is over")
        before = len(site.hub.pulls)
        for _ in range(5):
            site.hub.send("tombstone", {})
        await received(site, 5)
        # At most the pull that the connect had asked for and that was still under way.
        assert len(site.hub.pulls) <= before + 1


async def test_a_hint_makes_the_provider_pull(site: Estate) -> None:
    site.hub.heartbeat_seconds = 600
    async with site.agent():
        site.hub.add(_signed(site, 1), delivered=False)
        site.hub.mqtt.hint()
        await received(site, 1)


async def test_a_heartbeat_shows_the_loss_of_the_last_event(site: Estate) -> None:
    async with site.agent():
        site.hub.add(_signed(site, 1), delivered=False)
        await received(site, 1)


async def test_a_gap_is_pulled_and_the_order_is_kept(site: Estate) -> None:
    site.hub.heartbeat_seconds = 600
    async with site.agent():
        site.hub.add(_signed(site, 1), delivered=False)
        site.hub.add(_signed(site, 2), delivered=False)
        site.hub.add(_signed(site, 3))
        await received(site, 3)
    assert [receipt.seq for receipt in site.hub.told(Receipt)] == [1, 2, 3]


async def test_repeated_and_old_deliveries_change_nothing(site: Estate) -> None:
    async with site.agent():
        for _ in range(3):
            site.hub.send("tombstone", {})
        await received(site, 3)
        for jws in (*site.hub.events, *reversed(site.hub.events)):
            site.hub.mqtt.deliver(jws.encode())
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "what follows is done")
    assert [receipt.seq for receipt in site.hub.told(Receipt)] == [1, 2, 3, 4]


async def test_without_mqtt_the_long_poll_delivers(site: Estate) -> None:
    site.hub.mqtt.refuse_connects = 10**9
    async with site.agent(ready=False):
        await until(lambda: site.hub.mqtt.connects > 1, "MQTT was tried")
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the task is done")
        assert not site.ready_file.exists()


async def test_a_lost_mqtt_connection_comes_back_in_a_new_session(site: Estate) -> None:
    async with site.agent():
        sessions = [each.session for each in site.hub.sessions]
        site.hub.mqtt.drop()
        site.hub.send("tombstone", {})
        await until(lambda: site.hub.mqtt.online, "MQTT is connected again")
        await received(site, 1)
        await until(lambda: len(site.hub.sessions) > len(sessions), "a session has begun")
        assert site.hub.sessions[-1].session > sessions[-1]


async def test_a_restarted_hub_is_found_again_and_nothing_is_missed(site: Estate) -> None:
    async with site.agent():
        await site.hub.stop()
        site.hub.send("tombstone", {})
        async with site.hub.serve():
            await received(site, 1)
            await until(lambda: site.hub.mqtt.online, "MQTT is connected again")


async def test_rubbish_over_mqtt_is_survived(site: Estate) -> None:
    async with site.agent():
        for rubbish in (b"", b"\xff" * 100, b"a.b.c", b"." * 60_000, b"{}"):
            site.hub.mqtt.deliver(rubbish)
        stranger = Trust().event_signer()
        site.hub.mqtt.deliver(stranger.sign(_payload(site, 1)).encode())
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the true event is done")
    assert [receipt.seq for receipt in site.hub.told(Receipt)] == [1]


@pytest.mark.parametrize("defect", ["stranger", "tampered", "audience", "number", "not_an_event"])
async def test_an_event_that_proves_nothing_is_reported_once_and_mended_by_the_hub(
    site: Estate, defect: str
) -> None:
    site.hub.add(_defective(site, defect))
    async with site.agent():
        await until(site.hub.unverifiable, "it is reported")
        assert site.hub.receipt(1) is None
        # The hub voids the number; what follows is not blocked.
        site.hub.events[0] = _signed(site, 1)
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "what follows is done")
    reports = site.hub.unverifiable()
    assert [(each.stream, each.seq) for each in reports] == [(site.hub.stream, 1)]
    assert site.hub.receipt(1) is not None


async def test_a_new_stream_is_followed_from_where_the_hub_says(site: Estate) -> None:
    async with site.agent():
        site.hub.send("tombstone", {})
        await received(site, 1)
        site.hub.open_stream()
        site.hub.first_seq = 41
        site.hub.reports.clear()
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the task of the new stream is done")
    assert site.hub.receipt(42) is not None
    last = site.hub.sessions[-1].last
    assert last is not None
    assert site.hub.sessions[0].last is None


async def test_a_session_tells_what_the_journal_knows(site: Estate) -> None:
    async with site.agent():
        site.hub.assign("shut_down", "machine-1", "job-1", fence=7, epoch=5)
        await until(lambda: site.hub.outcome("job-1"), "the task is done")
    async with site.agent():
        first, last = site.hub.sessions[0], site.hub.sessions[-1]
        assert last.journal_id == first.journal_id
        assert last.boot_id != first.boot_id
        assert last.session > first.session
        assert last.fences == {"job-1": 7}
        assert last.epochs == {"item-machine-1": 5}
        assert last.last == StreamPosition(stream=site.hub.stream, seq=1)


async def test_a_hub_that_asks_for_patience_is_not_taken_for_lost(site: Estate) -> None:
    async with site.agent():
        sessions = len(site.hub.sessions)
        site.hub.refuse[paths.REPORTS] = 429
        refused = site.hub.requests.count(("POST", paths.REPORTS))
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(
            lambda: site.hub.requests.count(("POST", paths.REPORTS)) > refused + 2,
            "the report is tried again",
        )
        assert len(site.hub.sessions) == sessions
        del site.hub.refuse[paths.REPORTS]
        await until(lambda: site.hub.outcome("job-1"), "the outcome arrives")


async def test_a_token_is_renewed_when_the_hub_refuses_it(site: Estate) -> None:
    async with site.agent():
        site.hub.signing_key = new_private_key()
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the task is done")
        site.hub.signing_key = new_private_key()
        site.hub.mqtt.drop()
        await until(lambda: site.hub.mqtt.online, "MQTT is connected with another token")


async def test_a_token_is_renewed_before_it_ends(site: Estate) -> None:
    site.hub.token_lifetime = timedelta(seconds=3)
    async with site.agent():
        asked = site.hub.requests.count(("POST", paths.TOKEN))
        await until(lambda: site.hub.requests.count(("POST", paths.TOKEN)) > asked, "it is renewed")


async def test_a_report_that_the_hub_cannot_take_does_not_hold_up_the_others(
    site: Estate,
) -> None:
    site.hub.poison.add("machine_observed")
    async with site.agent():
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the outcome passes")
        posts = site.hub.report_posts
        site.hub.send("tombstone", {})
        await received(site, 2)
        assert site.hub.report_posts <= posts + 3
    assert site.hub.observed("machine-1") == []


async def test_a_refresh_sends_the_inventory(site: Estate) -> None:
    async with site.agent():
        count = len(site.hub.inventories)
        assert count >= 1
        site.hub.send("refresh", {})
        await until(lambda: len(site.hub.inventories) > count, "the inventory is sent")


async def test_changes_of_the_fabric_are_reported_and_a_new_machine_sends_the_inventory(
    site: Estate,
) -> None:
    async with site.agent():
        await until(lambda: site.hub.observed("machine-1"), "the start is reported")
        count = len(site.hub.inventories)
        site.vmm.change("machine-1", run_state=RunState.RUNNING)
        await until(
            lambda: site.hub.observed("machine-1")[-1].machine.run_state is RunState.RUNNING,
            "the change is reported",
        )
        site.vmm.add("machine-2", protected_item=None)
        await until(lambda: len(site.hub.inventories) > count, "the inventory is sent")
        assert len(site.hub.inventories[-1].machines) == 2


async def test_an_announced_change_is_reported_long_before_the_next_look(site: Estate) -> None:
    site.options = {"watch_seconds": 600}
    async with site.agent():
        await until(lambda: site.hub.observed("machine-1"), "the start is reported")
        for run_state in (RunState.RUNNING, RunState.OFF):
            site.vmm.change("machine-1", run_state=run_state)
            await site.vmm.announce()
            await until(
                lambda: site.hub.observed("machine-1")[-1].machine.run_state is run_state,  # noqa: B023 -- awaited within its turn
                "the change is reported",
            )


def _authority(epoch: int, *, authoritative: bool) -> Authority:
    return Authority(
        machine_id="machine-1", item="item-machine-1", epoch=epoch, authoritative=authoritative
    )


async def test_the_hub_decides_which_copies_may_run_before_the_provider_is_ready(
    site: Estate,
) -> None:
    site.vmm.add("machine-1", run_state="Running", epoch=2)
    site.hub.authorities = (
        _authority(3, authoritative=False),
        Authority(machine_id="gone", item="item-gone", epoch=1, authoritative=True),
    )
    async with site.agent():
        machine = site.vmm.machines["machine-1"]
        assert (machine.run_state, machine.epoch, machine.fenced) == (RunState.OFF, 3, True)
        command = site.hub.sessions[-1]
        expected = f"epoch/machine-1/{command.boot_id}/{command.session}"
        assert expected in site.vmm.ledger


async def test_epochs_are_confirmed_again_after_the_vmm_server_restarted(site: Estate) -> None:
    site.hub.authorities = (_authority(2, authoritative=True),)
    async with site.agent():
        confirmed = site.vmm.effect_count(Verb.CONFIRM_EPOCH, "machine-1")
        await site.vmm.stop()
        site.vmm.change("machine-1", epoch_confirmed=False)
        site.hub.assign("start", "machine-1", "job-1")
        await until(
            lambda: any(not beat.fabric_reachable for beat in site.hub.heartbeats),
            "the hub is told that the fabric is away",
        )
        async with site.vmm.serve(site.trust.server()):
            await until(lambda: site.hub.outcome("job-1"), "the task is done")
            await until(lambda: site.hub.heartbeats[-1].fabric_reachable, "the fabric is back")
        assert site.vmm.effect_count(Verb.CONFIRM_EPOCH, "machine-1") > confirmed
        started = site.vmm.effects.index(("start", "machine-1"))
        assert ("confirm_epoch", "machine-1") in site.vmm.effects[confirmed:started]


async def test_a_host_that_restarted_between_two_looks_is_confirmed_again(site: Estate) -> None:
    site.hub.authorities = (_authority(2, authoritative=True),)
    async with site.agent():
        await until(lambda: site.hub.observed("machine-1"), "the fabric was looked at")
        site.vmm.change("machine-1", epoch_confirmed=False)
        await until(lambda: site.vmm.machines["machine-1"].epoch_confirmed, "it is confirmed")


async def test_a_provider_waits_for_a_vmm_server_that_is_not_there_yet(site: Estate) -> None:
    await site.vmm.stop()
    async with site.agent(ready=False):
        await until(
            lambda: any(not beat.fabric_reachable for beat in site.hub.heartbeats),
            "the hub is told that the fabric is away",
        )
        assert not site.ready_file.exists()
        async with site.vmm.serve(site.trust.server()):
            await until(site.ready_file.exists, "the provider is ready")


async def test_a_second_agent_on_the_same_journal_is_refused(
    site: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_SECONDS_MAX", 0.05)
    async with site.agent():
        with pytest.raises(BaseExceptionGroup) as caught:
            async with site.agent(ready=False) as second:
                await until(second.task.done, "the second agent ends", seconds=15)
        assert caught.group_contains(JournalError, match="in use by another process")


def _payload(site: Estate, seq: int, **changes: object) -> dict[str, object]:
    now = datetime.now(UTC)
    return {
        "id": str(uuid4()),
        "vault": "vault-1",
        "aud": site.hub.provider_id,
        "stream": site.hub.stream,
        "seq": seq,
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(minutes=5)).isoformat(),
        "type": "tombstone",
        "body": {},
        **changes,
    }


def _signed(site: Estate, seq: int, **changes: object) -> str:
    return site.hub.signer.sign(_payload(site, seq, **changes))


def _defective(site: Estate, defect: str) -> str:
    good = _signed(site, 1)
    match defect:
        case "stranger":
            return Trust().event_signer().sign(_payload(site, 1))
        case "tampered":
            header, payload, signature = good.split(".")
            return ".".join((header, payload[:-4] + "AAAA", signature))
        case "audience":
            return _signed(site, 1, aud=str(uuid4()))
        case "number":
            return _signed(site, 2)
    return site.hub.signer.sign(b'{"hello": "world"}')


async def test_a_version_that_the_hub_offers_is_told_as_available(site: Estate) -> None:
    site.hub.offered_version = "99.0"
    async with site.agent():
        await until(lambda: len(site.hub.sessions) > 1, "a second session tells it")
    assert [each.available_version for each in site.hub.sessions] == [None, "99.0"]
