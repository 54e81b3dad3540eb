"""What an insisting provider carries out, and what it refuses: the pure judgement."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.channel_integrity import new_key, seal
from provider_agent.domain.operator_orders import (
    Copy,
    NotOrderedError,
    checked_order,
    copy_of,
    needs_order,
    stops_without_order,
)
from tests.unit.agent.agent_views import machine, replication
from wire_contract.events import Assignment
from wire_contract.operator_signature import Order, SignedOperation, signed_header, unsigned_text
from wire_contract.reports import Authority
from wire_contract.scripts import ScriptOrder, script_digest
from wire_contract.vocabulary import Direction, RunState, Verb

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = new_key()
ITEM = "item-1"
FORWARD, BACK = Direction.PRIMARY_TO_RECOVERY, Direction.RECOVERY_TO_PRIMARY
PLANNED = Order(SignedOperation.PLANNED_FAILOVER, ITEM, FORWARD)
SOURCE = Copy(ITEM, ITEM, epoch=1, primary=True, test=False)
REPLICA = Copy("replica-1", ITEM, epoch=1, primary=False, test=False)
TEST = Copy("test-1", ITEM, epoch=1, primary=False, test=True)


def signed(
    order: Order = PLANNED,
    *,
    since: timedelta = timedelta(minutes=-5),
    until: timedelta = timedelta(hours=6),
    key: str = KEY,
) -> str:
    unsigned = unsigned_text(order, "request-1", NOW + since, NOW + until)
    return signed_header(unsigned, seal(key, unsigned.encode()))


def assignment(verb: Verb = Verb.SHUT_DOWN, **changes: Any) -> Assignment:
    values: dict[str, Any] = {
        "job": "job-1",
        "task": "ShutdownVmOnPrimary.Primary",
        "attempt": 1,
        "fence": 1,
        "item": ITEM,
        "target": ITEM,
        "epoch": 1,
        "verb": verb.value,
        "arguments": {},
        "deadline": NOW + timedelta(minutes=1),
        **changes,
    }
    return Assignment.model_validate(values)


def refusal(text: str | None, asked: Assignment, copy: Copy | None = SOURCE) -> str:
    with pytest.raises(NotOrderedError) as caught:
        checked_order(text, KEY, asked, copy, NOW)
    return str(caught.value)


@pytest.mark.parametrize(
    ("order", "verb", "copy"),
    [
        (PLANNED, Verb.SHUT_DOWN, SOURCE),
        (PLANNED, Verb.PREPARE_FAILOVER, SOURCE),
        (PLANNED, Verb.FAIL_OVER, REPLICA),
        (PLANNED, Verb.CANCEL_FAILOVER, REPLICA),
        (Order(SignedOperation.PLANNED_FAILOVER, ITEM, BACK), Verb.SHUT_DOWN, REPLICA),
        (Order(SignedOperation.PLANNED_FAILOVER, ITEM, BACK), Verb.FAIL_OVER, SOURCE),
        (Order(SignedOperation.UNPLANNED_FAILOVER, ITEM, FORWARD), Verb.FAIL_OVER, REPLICA),
        (Order(SignedOperation.ENABLE, ITEM), Verb.ENABLE_REPLICATION, SOURCE),
        (Order(SignedOperation.COMMIT, ITEM.upper()), Verb.COMMIT, REPLICA),
        (Order(SignedOperation.REVERSE_REPLICATE, ITEM, BACK), Verb.PREPARE_REVERSE, SOURCE),
        (Order(SignedOperation.TEST_FAILOVER_CLEANUP, ITEM), Verb.REMOVE_TEST_MACHINE, TEST),
        (Order(SignedOperation.TEST_FAILOVER_CLEANUP, ITEM), Verb.REMOVE_TEST_MACHINE, None),
    ],
)
def test_what_an_operator_signed_is_allowed(order: Order, verb: Verb, copy: Copy | None) -> None:
    signature = checked_order(signed(order), KEY, assignment(verb), copy, NOW)
    assert signature.request_id == "request-1"


def test_each_defect_has_its_own_sentence() -> None:
    asked, prepared = assignment(), assignment(Verb.PREPARE_FAILOVER)
    reasons = [
        refusal(None, asked),
        refusal("{}", asked),
        refusal("x" * 100_000, asked),
        refusal(signed(key=new_key()), asked),
        refusal(signed().replace(ITEM, "item-2"), asked),
        refusal(signed(since=timedelta(hours=-6), until=timedelta(0)), asked),
        refusal(signed(since=timedelta(seconds=1)), asked),
        refusal(signed(until=timedelta(days=7)), asked),
        refusal(signed(Order(SignedOperation.PLANNED_FAILOVER, "item-2", FORWARD)), asked),
        refusal(signed(Order(SignedOperation.COMMIT, ITEM)), asked),
        refusal(signed(Order(SignedOperation.PLANNED_FAILOVER, ITEM, BACK)), prepared),
        refusal(signed(Order(SignedOperation.PLANNED_FAILOVER, ITEM)), asked),
        refusal(signed(), asked, TEST),
        refusal(signed(Order(SignedOperation.TEST_FAILOVER, ITEM, FORWARD)), asked),
    ]
    words = [
        "carried no operator signature",
        "cannot be read",
        "cannot be read: it is longer",
        "not made with this vault's channel integrity key",
        "not made with this vault's channel integrity key",
        "expired at",
        "valid only from",
        "longer than 7 days",
        "for another machine",
        "for Commit, which never does shut_down",
        "on the other end",
        "names no direction",
        "not for a test machine",
        "this is no test machine",
    ]
    assert len(reasons) == len(words)
    for reason, word in zip(reasons, words, strict=True):
        assert word in reason


def test_a_signature_of_one_machine_does_not_hold_for_another_that_the_hub_calls_by_its_item() -> (
    None
):
    other = Copy("machine-2", "machine-2", epoch=1, primary=True, test=False)
    assert "another machine" in refusal(signed(), assignment(target="machine-2"), other)
    assert "another machine" in refusal(signed(), assignment(item="machine-2"), SOURCE)


def script(**changes: Any) -> dict[str, Any]:
    """Return the order of a script; `changes` of its context, or of path and seconds."""
    context = {
        "plan_id": "plan-1",
        "plan_name": "Payroll",
        "group": "Group 1",
        "when": "before",
        "action": "Tell",
        "kind": "PlannedFailover",
        "direction": "PrimaryToRecovery",
        "side": "Recovery",
        "job_id": "job-1",
        "machines": [{"item": "b", "name": "B"}, {"item": "A", "name": "A"}],
    }
    own: dict[str, Any] = {
        name: changes.pop(name) for name in ("path", "seconds") if name in changes
    }
    return {"path": "RPScripts/tell.sh", "seconds": 60, **own, "context": {**context, **changes}}


def test_a_script_is_run_under_an_order_of_its_own_alone() -> None:
    digest = script_digest(ScriptOrder.model_validate(script()))
    order = Order(SignedOperation.PLANNED_FAILOVER, "plan-1", FORWARD, digest)
    text = signed(order)

    def asked(**changes: Any) -> Assignment:
        return assignment(Verb.RUN_SCRIPT, item=None, target="plan-1", arguments=script(**changes))

    assert checked_order(text, KEY, asked(), None, NOW).order == order
    # Which run it is, and in which order its machines are named, binds nothing.
    turned = [{"item": "a", "name": "x"}, {"item": "B", "name": "y", "machine_id": "m"}]
    assert checked_order(text, KEY, asked(job_id="job-2", machines=turned), None, NOW)
    for changes in (
        {"path": "RPScripts/other.sh"},
        {"seconds": 61},
        {"side": "Primary"},
        {"direction": "RecoveryToPrimary"},
        {"group": "Group 2"},
        {"when": "after"},
        {"action": "Ask"},
        {"machines": [{"item": "a", "name": "A"}]},
    ):
        assert "another script" in refusal(text, asked(**changes), None)
    assert "another plan" in refusal(text, asked(plan_id="plan-2"), None)
    assert "another operation" in refusal(text, asked(kind="Commit"), None)
    unread = assignment(Verb.RUN_SCRIPT, item=None, target="plan-1")
    assert "cannot be read" in refusal(text, unread, None)
    of_machine = signed(Order(SignedOperation.PLANNED_FAILOVER, "plan-1", FORWARD))
    assert "for a machine, and this is a script" in refusal(of_machine, asked(), None)
    # Nothing else is done under it, whatever the hub calls a plan.
    named = signed(Order(SignedOperation.PLANNED_FAILOVER, ITEM, FORWARD, digest))
    assert "for a script of a recovery plan" in refusal(named, assignment(), SOURCE)


def test_a_raised_epoch_on_a_replica_needs_an_order_whatever_the_verb() -> None:
    raised = assignment(Verb.UPDATE_PROTECTION, epoch=2)
    assert needs_order(raised, REPLICA)
    assert not needs_order(assignment(Verb.UPDATE_PROTECTION), REPLICA)
    assert not needs_order(raised, SOURCE), "a primary that raises its own epoch stops nobody"
    assert not needs_order(assignment(Verb.PLACE_REPLICA), None), "about to be made"
    assert needs_order(assignment(Verb.PLACE_REPLICA, epoch=2), None), "born above its primary"
    assert needs_order(assignment(Verb.ENABLE_REPLICATION), SOURCE), "in the hands of a replica"
    assert needs_order(assignment(Verb.SHUT_DOWN), None)
    assert "carried no operator signature" in refusal(None, raised, REPLICA)
    assert "never does update_protection" in refusal(signed(), raised, REPLICA)


def test_a_test_machine_belongs_to_the_replica_that_it_was_made_of() -> None:
    replica = machine(machine_id="replica-1", hyperv_id=ITEM)
    view = machine(machine_id="test-1", hyperv_id="test-1", test_machine_of="replica-1")
    copy = copy_of(view, replica)
    assert (copy.original, copy.test) == (ITEM, True)


@pytest.mark.parametrize(
    ("authoritative", "epoch", "changes", "stops"),
    [
        (True, 1, {}, False),
        (True, 5, {}, False),
        (False, 1, {}, True),
        (False, 1, {"run_state": RunState.OFF}, True),
        (False, 1, {"run_state": RunState.OFF, "fenced": True}, False),
        (True, 1, {"replication": replication(mode="Replica")}, False),
        (True, 2, {"replication": replication(mode="Replica")}, True),
        (False, 1, {"replication": replication(mode="Replica")}, True),
        (
            False,
            1,
            {"replication": replication(mode="Replica"), "run_state": RunState.PAUSED},
            True,
        ),
        (
            False,
            1,
            {"replication": replication(mode="Replica"), "run_state": RunState.OFF},
            False,
        ),
    ],
)
def test_the_hubs_word_alone_stops_and_fences_no_copy(
    authoritative: bool,
    epoch: int,
    changes: dict[str, Any],
    stops: bool,
) -> None:
    values = {"replication": replication(), "run_state": RunState.RUNNING, "epoch": 1, **changes}
    authority = Authority(
        machine_id="machine-1", item="i", epoch=epoch, authoritative=authoritative
    )
    assert stops_without_order(authority, machine(**values)) is stops
    assert stops_without_order(authority, None) is False
