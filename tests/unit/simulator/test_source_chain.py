"""Which change sets are a source's own, by what it noted before it sent them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from vmm_simulator.hyperv.backend import (
    AppliedCut,
    CutKind,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.source_chain import (
    ATTEMPTS_MAX,
    ancestor_of,
    is_own,
    taking_over,
    with_acknowledged,
    with_attempt,
    with_foreign,
)
from vmm_simulator.hyperv.transfer_header import CopyState, Decision, decide
from vmm_simulator.problems import Code
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import ReplicationMode, ReplicationState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def machine(**changes: Any) -> MachineRecord:
    relationship = RelationshipRecord(
        relationship_id="relationship",
        mode=ReplicationMode.PRIMARY,
        state=ReplicationState.REPLICATING,
        peer_host="host1.osaka.example",
        peer_port=8084,
        peer_machine_id="replica",
        interval_seconds=30,
        established_at=NOW,
        **changes,
    )
    return MachineRecord(
        machine_id="machine",
        hyperv_id="machine",
        name="machine",
        cloud_id="cloud",
        host="host1.tokyo.example",
        generation=1,
        disks=(),
        relationship=relationship,
    )


def of(record: MachineRecord) -> RelationshipRecord:
    assert record.relationship is not None
    return record.relationship


def held(cut: int, transfer_id: str | None) -> AppliedCut:
    return AppliedCut(cut, 0, NOW, transfer_id=transfer_id)


def test_a_source_knows_what_it_noted_and_nothing_else() -> None:
    source = with_acknowledged(machine(), held(4, "fourth"))
    assert ancestor_of(of(source)) == "fourth"
    source = with_attempt(with_attempt(source, "fifth", None), "fifth again", None)
    assert is_own(of(source), held(5, "fifth"))
    assert is_own(of(source), held(5, "fifth again"))
    assert not is_own(of(source), held(5, "a clone's"))
    source = with_acknowledged(source, held(5, "fifth"))
    assert (of(source).attempts, ancestor_of(of(source))) == ((), "fifth")


def test_what_never_began_is_forgotten_and_the_rest_is_bounded() -> None:
    source = with_attempt(machine(), "in the air", None)
    for number in range(3 * ATTEMPTS_MAX):
        lost = None if number == 0 else str(number - 1)
        source = with_attempt(source, str(number), lost)
    assert of(source).attempts == ("in the air", str(3 * ATTEMPTS_MAX - 1))
    for number in range(2 * ATTEMPTS_MAX):
        source = with_attempt(source, f"unheard {number}", None)
    assert len(of(source).attempts) == ATTEMPTS_MAX


def test_a_journal_of_before_this_was_noted_goes_on() -> None:
    former = machine(last_cut=4)
    assert ancestor_of(of(former)) is None
    assert is_own(of(former), held(5, "unknown"))
    assert not is_own(of(with_attempt(machine(), "first", None)), held(1, "a clone's"))
    # The other end had its turn as the source: what was acknowledged before is of no use.
    assert ancestor_of(of(machine(last_cut=9, acknowledged={"cut": 4, "transfer_id": "x"}))) is None


def test_only_who_takes_over_goes_on_behind_another_source() -> None:
    source = with_foreign(with_acknowledged(machine(), held(4, "fourth")), 7)
    taken = of(taking_over(source))
    assert (taken.last_cut, taken.foreign_cut, ancestor_of(taken)) == (7, None, None)
    alone = with_acknowledged(machine(), held(4, "fourth"))
    assert taking_over(alone) == alone


@pytest.mark.parametrize("kind", CutKind)
def test_a_replica_refuses_what_follows_on_a_transfer_that_it_does_not_hold(kind: CutKind) -> None:
    def header(cut: int, transfer_id: str, ancestor: str | None) -> TransferHeader:
        return TransferHeader("relationship", transfer_id, 1, cut, kind, NOW, 0, ancestor=ancestor)

    present = header(4, "fourth", "third")
    for ancestor in ("fourth", None):
        taken = decide(CopyState.COMPLETE, present, header(5, "fifth", ancestor))
        assert taken is not Decision.ACKNOWLEDGE_AGAIN
    with pytest.raises(TransferRefusedError, match="two sources") as refusal:
        decide(CopyState.COMPLETE, present, header(5, "fifth", "a clone's"))
    assert refusal.value.code == Code.OTHER_SOURCE
    assert refusal.value.applied == held(4, "fourth")


def test_a_replica_refuses_a_copy_of_the_source_that_it_takes_from() -> None:
    held_by = TransferHeader(
        "relationship", "fourth", 1, 4, CutKind.DELTA, NOW, 0, ancestor="third", origin="one"
    )
    following = replace(held_by, transfer_id="fifth", cut=5, ancestor="fourth")
    for taken in (
        following,
        replace(following, origin=None),
        replace(following, ancestor=None, origin="a clone, chosen"),
    ):
        assert decide(CopyState.COMPLETE, held_by, taken) is Decision.SPOOL
    with pytest.raises(TransferRefusedError, match="two sources") as refusal:
        decide(CopyState.COMPLETE, held_by, replace(following, origin="a clone"))
    assert refusal.value.code == Code.OTHER_SOURCE
