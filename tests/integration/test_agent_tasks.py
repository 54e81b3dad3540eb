import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provider_agent.outcomes import ErrorCode
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.fake_vmm import Fault
from tests.integration.agent_fakes.waiting import until
from tests.unit.agent.agent_views import CLOUD_ID, HOST
from wire_contract.reports import TaskOutcome, TaskProgress
from wire_contract.vocabulary import ReceiptKind, RefusalReason, Verb


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        for machine_id in ("machine-1", "machine-2", "machine-3"):
            made.vmm.add(machine_id)
        made.register()
        yield made


async def outcome_of(site: Estate, job: str) -> TaskOutcome:
    await until(lambda: site.hub.outcome(job), f"the outcome of {job} is reported")
    outcome = site.hub.outcome(job)
    assert outcome is not None
    return outcome


def error_code(outcome: TaskOutcome) -> int | None:
    assert not outcome.succeeded
    return outcome.error.code if outcome.error is not None else None


async def test_an_assignment_becomes_a_receipt_an_effect_and_an_observed_success(
    site: Estate,
) -> None:
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        outcome = await outcome_of(site, "job-1")
    receipt = site.hub.receipt(1)
    assert receipt is not None
    assert receipt.receipt is ReceiptKind.ACCEPTED
    assert receipt.command_id == "job-1/Task.Primary/1"
    assert outcome.succeeded
    machine = outcome.observed["machine"]
    assert isinstance(machine, dict)
    assert machine["run_state"] == "Running"
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1


async def test_a_result_is_passed_on_for_later_tasks(site: Estate) -> None:
    arguments = {"cloud_id": CLOUD_ID, "hyperv_id": "hyperv-9"}
    async with site.agent():
        site.hub.assign("place_replica", "machine-9", "job-1", arguments=arguments)
        outcome = await outcome_of(site, "job-1")
    assert outcome.succeeded
    assert outcome.observed["result"] == {"replica_host": HOST, "replica_port": 8084}


async def test_a_verb_that_says_ok_and_does_nothing_has_failed(site: Estate) -> None:
    site.vmm.faults["start"] = Fault("lie")
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        outcome = await outcome_of(site, "job-1")
    assert error_code(outcome) == ErrorCode.POST_CONDITION
    assert outcome.error is not None
    assert "answered ok but the post-condition does not hold" in outcome.error.message
    assert outcome.observed["machine"]


async def test_a_refusal_is_passed_on_in_the_fabrics_own_words(site: Estate) -> None:
    site.vmm.faults["start"] = Fault("refuse")
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        outcome = await outcome_of(site, "job-1")
    assert error_code(outcome) == 32775
    assert outcome.error is not None
    assert outcome.error.message == "the simulated fabric refuses"


@pytest.mark.parametrize("kind", ["vanish_before", "vanish_after", "busy"])
async def test_a_call_without_an_answer_is_repeated_and_takes_effect_once(
    site: Estate, kind: str
) -> None:
    site.vmm.faults["start"] = Fault(kind, times=2)
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        outcome = await outcome_of(site, "job-1")
    assert outcome.succeeded
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1
    assert site.vmm.call_count(Verb.START, "machine-1") == 3
    waiting = site.hub.told(TaskProgress)
    assert [each.job for each in waiting] == ["job-1"]


async def test_a_fabric_that_stays_away_until_the_deadline_is_a_failure(site: Estate) -> None:
    site.vmm.faults["start"] = Fault("busy", times=10_000)
    deadline = datetime.now(UTC) + timedelta(seconds=1.5)
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1", deadline=deadline.isoformat())
        outcome = await outcome_of(site, "job-1")
    assert error_code(outcome) == ErrorCode.FABRIC_UNREACHABLE
    assert site.vmm.effect_count(Verb.START, "machine-1") == 0


async def test_a_task_that_is_late_already_is_refused_and_never_begun(site: Estate) -> None:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1", deadline=past)
        site.hub.assign("start", "machine-1", "job-2", envelope={"expires_at": past})
        await until(lambda: site.hub.receipt(2), "both events have receipts")
    for seq in (1, 2):
        receipt = site.hub.receipt(seq)
        assert receipt is not None
        assert receipt.reason is RefusalReason.EXPIRED
    assert site.vmm.call_count(Verb.START, "machine-1") == 0


async def test_the_deadline_is_looked_at_again_when_the_tasks_turn_comes(site: Estate) -> None:
    site.vmm.holds["shut_down"] = asyncio.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=1)
    async with site.agent():
        site.hub.assign("shut_down", "machine-1", "job-1")
        site.hub.assign("start", "machine-1", "job-2", deadline=deadline.isoformat())
        await until(lambda: datetime.now(UTC) > deadline, "the deadline passes")
        site.vmm.holds["shut_down"].set()
        outcome = await outcome_of(site, "job-2")
    assert error_code(outcome) == ErrorCode.EXPIRED
    assert site.vmm.call_count(Verb.START, "machine-1") == 0


async def test_one_item_has_one_task_at_a_time_while_items_go_side_by_side(site: Estate) -> None:
    site.vmm.holds["start"] = asyncio.Event()
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        site.hub.assign("update_protection", "machine-1", "job-2", arguments={"item": "x"})
        site.hub.assign("start", "machine-2", "job-3")
        site.hub.assign("shut_down", "machine-3", "job-4")
        await outcome_of(site, "job-4")
        await until(
            lambda: site.vmm.call_count(Verb.START, "machine-2") == 1, "the second item is begun"
        )
        assert site.vmm.call_count(Verb.UPDATE_PROTECTION, "machine-1") == 0
        site.vmm.holds["start"].set()
        await outcome_of(site, "job-2")
        await outcome_of(site, "job-3")
    assert site.vmm.running_max == 1
    assert [call for call in site.vmm.calls if call[1] == "machine-1"] == [
        ("start", "machine-1"),
        ("update_protection", "machine-1"),
    ]


async def test_no_more_items_are_worked_on_at_once_than_allowed(site: Estate) -> None:
    site.options["tasks"] = {"parallel_max": 1, "read_back_seconds": 0}
    site.vmm.holds["start"] = asyncio.Event()
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        site.hub.assign("shut_down", "machine-2", "job-2")
        await until(lambda: site.hub.receipt(2), "both are in the journal")
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the first is begun")
        assert site.vmm.call_count(Verb.SHUT_DOWN, "machine-2") == 0
        site.vmm.holds["start"].set()
        assert (await outcome_of(site, "job-2")).succeeded


def withdraw(site: Estate, job: str) -> int:
    return site.hub.send(
        "withdrawal", {"job": job, "task": "Task.Primary", "attempt": 1, "fence": 1}
    )


async def test_what_is_withdrawn_before_it_begins_is_never_done(site: Estate) -> None:
    site.vmm.holds["shut_down"] = asyncio.Event()
    async with site.agent():
        site.hub.assign("shut_down", "machine-1", "job-1")
        site.hub.assign("start", "machine-1", "job-2")
        seq = withdraw(site, "job-2")
        outcome = await outcome_of(site, "job-2")
        site.vmm.holds["shut_down"].set()
        await outcome_of(site, "job-1")
        # The same command once more: it stays withdrawn.
        again = site.hub.send(
            "assignment",
            {
                "job": "job-2",
                "task": "Task.Primary",
                "attempt": 1,
                "fence": 1,
                "epoch": 2,
                "item": "item-machine-1",
                "target": "machine-1",
                "verb": "start",
                "arguments": {},
                "deadline": "2999-01-01T00:00:00Z",
            },
        )
        await until(lambda: site.hub.receipt(again), "the repeated assignment has a receipt")
    assert error_code(outcome) == ErrorCode.WITHDRAWN
    receipts = [site.hub.receipt(seq), site.hub.receipt(again)]
    assert [each and each.receipt for each in receipts] == [
        ReceiptKind.ACCEPTED,
        ReceiptKind.DUPLICATE,
    ]
    assert site.vmm.call_count(Verb.START, "machine-1") == 0


async def test_what_has_begun_is_finished_and_told_as_it_ended(site: Estate) -> None:
    site.vmm.holds["start"] = asyncio.Event()
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb is called")
        seq = withdraw(site, "job-1")
        await until(lambda: site.hub.receipt(seq), "the withdrawal has its receipt")
        assert site.hub.outcome("job-1") is None
        site.vmm.holds["start"].set()
        assert (await outcome_of(site, "job-1")).succeeded


async def test_lower_fences_and_epochs_are_refused_per_job_and_per_item(site: Estate) -> None:
    async with site.agent():
        site.hub.assign("start", "machine-1", "job-1", fence=5, epoch=4)
        site.hub.assign("start", "machine-1", "job-1", fence=4, epoch=4, attempt=2)
        site.hub.assign("start", "machine-1", "job-2", fence=1, epoch=3)
        site.hub.assign("start", "machine-2", "job-3", fence=1, epoch=2)
        site.hub.assign("dance", "machine-2", "job-4")
        await until(lambda: site.hub.receipt(5), "all have receipts")
    found = [site.hub.receipt(seq) for seq in range(1, 6)]
    assert [each and each.reason for each in found] == [
        None,
        RefusalReason.LOWER_FENCE,
        RefusalReason.LOWER_EPOCH,
        None,
        RefusalReason.UNKNOWN_VERB,
    ]


async def test_hosts_get_certificates_that_the_hub_issued_for_their_own_keys(
    site: Estate,
) -> None:
    async with site.agent():
        site.hub.assign("configure_hosts", CLOUD_ID, "job-1", item=None, epoch=0)
        outcome = await outcome_of(site, "job-1")
    assert outcome.succeeded, outcome.error
    hosts: Any = outcome.observed["hosts"]
    assert hosts[0]["certificate_thumbprint"] == site.vmm.view.hosts[0].certificate_thumbprint
    assert site.hub.certificates_issued == 1


async def test_clouds_that_share_hosts_are_configured_one_after_the_other(site: Estate) -> None:
    """A host has one certificate: each task reads back the one that it has brought."""
    (own,) = site.vmm.view.clouds
    other = own.model_copy(update={"cloud_id": "cloud-2"})
    site.vmm.view = site.vmm.view.model_copy(update={"clouds": (own, other)})
    site.vmm.holds["configure_hosts"] = asyncio.Event()
    async with site.agent():
        site.hub.assign("configure_hosts", CLOUD_ID, "job-1", item=None, epoch=0)
        site.hub.assign("configure_hosts", "cloud-2", "job-2", item=None, epoch=0)
        site.hub.assign("start", "machine-1", "job-3")
        # Looked at after both, and done: the second cloud waits for the first.
        assert (await outcome_of(site, "job-3")).succeeded
        assert site.vmm.call_count(Verb.CONFIGURE_HOSTS, "cloud-2") == 0
        site.vmm.holds["configure_hosts"].set()
        for job in ("job-1", "job-2"):
            outcome = await outcome_of(site, job)
            assert outcome.succeeded, outcome.error
    assert site.hub.certificates_issued == 2


async def test_an_interrupted_host_configuration_is_repeated_with_the_same_certificates(
    site: Estate,
) -> None:
    """A second issue would not match what the fabric's ledger says was installed."""
    site.vmm.faults["configure_hosts"] = Fault("vanish_after")
    site.vmm.holds["configure_hosts"] = asyncio.Event()
    async with site.agent() as running:
        site.hub.assign("configure_hosts", CLOUD_ID, "job-1", item=None, epoch=0)
        await until(lambda: site.vmm.calls, "the verb is called")
        await running.kill()
    site.vmm.holds["configure_hosts"].set()
    async with site.agent():
        assert (await outcome_of(site, "job-1")).succeeded
    assert site.hub.certificates_issued == 1


async def test_a_hub_that_refuses_host_certificates_ends_the_task(site: Estate) -> None:
    site.hub.refuse["/provider/v1/host-certificates"] = 404
    async with site.agent():
        site.hub.assign("configure_hosts", CLOUD_ID, "job-1", item=None, epoch=0)
        outcome = await outcome_of(site, "job-1")
    assert error_code(outcome) == ErrorCode.HOST_CERTIFICATES
    assert site.vmm.calls == []


async def test_removing_what_is_gone_succeeds(site: Estate) -> None:
    async with site.agent():
        site.hub.assign("remove_test_machine", "machine-1", "job-1")
        site.hub.assign("remove_test_machine", "machine-1", "job-1", attempt=2)
        await until(lambda: len(site.hub.told(TaskOutcome)) == 2, "both outcomes are reported")
    assert all(outcome.succeeded for outcome in site.hub.told(TaskOutcome))


async def test_protection_of_a_machine_that_was_removed_by_hand_has_ended(site: Estate) -> None:
    async with site.agent():
        site.hub.assign("disable_replication", "machine-9", "job-1")
        assert (await outcome_of(site, "job-1")).succeeded
        site.hub.assign("update_protection", "machine-9", "job-2", arguments={"item": None})
        assert (await outcome_of(site, "job-2")).succeeded
        site.hub.assign("update_protection", "machine-9", "job-3", arguments={"item": "item-1"})
        assert error_code(await outcome_of(site, "job-3")) == 32779


async def test_an_agent_killed_in_the_middle_of_a_verb_finishes_it_after_its_restart(
    site: Estate,
) -> None:
    site.vmm.holds["start"] = asyncio.Event()
    async with site.agent() as running:
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb is called")
        await running.kill()
    site.vmm.holds["start"].set()
    async with site.agent():
        assert (await outcome_of(site, "job-1")).succeeded
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1
    assert len(site.hub.told(TaskOutcome)) == 1


async def test_a_verb_that_was_begun_is_not_called_again_after_its_deadline(site: Estate) -> None:
    site.vmm.holds["start"] = asyncio.Event()
    deadline = datetime.now(UTC) + timedelta(seconds=1.5)
    async with site.agent() as running:
        site.hub.assign("start", "machine-1", "job-1", deadline=deadline.isoformat())
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb is called")
        await running.kill()
    await until(lambda: datetime.now(UTC) > deadline, "the deadline passes")
    async with site.agent():
        outcome = await outcome_of(site, "job-1")
    site.vmm.holds["start"].set()
    assert error_code(outcome) == ErrorCode.EXPIRED
    assert outcome.error is not None
    assert "may have had its effect" in outcome.error.message
    assert site.vmm.call_count(Verb.START, "machine-1") == 1


async def test_the_same_command_in_a_new_event_has_no_second_effect(site: Estate) -> None:
    async with site.agent():
        site.hub.assign("shut_down", "machine-1", "job-1")
        await outcome_of(site, "job-1")
        site.hub.assign("shut_down", "machine-1", "job-1")
        await until(lambda: site.hub.receipt(2), "the repetition has its receipt")
    receipt = site.hub.receipt(2)
    assert receipt is not None
    assert receipt.receipt is ReceiptKind.DUPLICATE
    assert site.vmm.call_count(Verb.SHUT_DOWN, "machine-1") == 1


async def test_an_outcome_waits_for_a_hub_that_is_away(site: Estate) -> None:
    site.vmm.holds["start"] = asyncio.Event()
    async with site.agent() as running:
        site.hub.assign("start", "machine-1", "job-1")
        await until(lambda: site.vmm.call_count(Verb.START, "machine-1"), "the verb is called")
        site.hub.out_of_order = True
        site.vmm.holds["start"].set()
        await until(lambda: site.vmm.effects, "the verb has its effect")
        await running.kill()
    site.hub.out_of_order = False
    async with site.agent():
        assert (await outcome_of(site, "job-1")).succeeded
    assert site.vmm.effect_count(Verb.START, "machine-1") == 1
