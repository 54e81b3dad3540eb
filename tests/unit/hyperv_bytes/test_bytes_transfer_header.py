from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_simulator.hyperv.backend import CutKind, TransferHeader, TransferRefusedError
from vmm_simulator.hyperv.transfer_header import (
    CopyState,
    Decision,
    applied_by,
    decide,
    decode_applied,
    decode_header,
    decode_refusal,
    encode_applied,
    encode_header,
    encode_refusal,
)
from vmm_simulator.problems import Code

HELD = TransferHeader(
    relationship_id="r-1",
    transfer_id="t-7",
    epoch=3,
    cut=7,
    kind=CutKind.DELTA,
    taken_at=datetime(2016, 5, 1, 12, 0, 1, 500_000, tzinfo=UTC),
    last_record=99,
)
NEXT = replace(HELD, transfer_id="t-8", cut=8)
BASE, COMPLETE = CopyState.BASE, CopyState.COMPLETE
EMPTY, INCOMPLETE = CopyState.EMPTY, CopyState.INCOMPLETE


def test_headers_and_answers_cross_the_network() -> None:
    assert decode_header(encode_header(HELD)) == HELD
    applied = applied_by(HELD)
    assert applied is not None
    assert decode_applied(encode_applied(applied)) == applied
    refusal = decode_refusal(encode_refusal(TransferRefusedError(32775, "not now", applied)))
    assert (refusal.code, str(refusal), refusal.applied) == (32775, "not now", applied)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_foreign_headers_are_a_value_error(data: bytes | str) -> None:
    for decode in (decode_header, decode_applied, decode_refusal):
        with pytest.raises(ValueError, match=r".*"):
            decode(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"r-1"', '"../r"'),
        ('"r-1"', '""'),
        ('"r-1"', f'"{"r" * 200}"'),
        ('"epoch":3', '"epoch":-3'),
        ('"cut":7', '"cut":0'),
        ('"cut":7', f'"cut":{2**63}'),
        ('"delta"', '"everything"'),
        ('"last_record":99', '"last_record":99,"more":1'),
        ("12:00:01.500000Z", "12:00:01.5"),
        ('"r-1"', f'"r-1", "x": "{"y" * 5000}"'),
    ],
)
def test_a_header_out_of_rule_is_refused(old: str, new: str) -> None:
    text = encode_header(HELD)
    assert old in text
    with pytest.raises(ValueError, match=r"transfer header"):
        decode_header(text.replace(old, new))


@pytest.mark.parametrize(
    ("state", "held", "offered", "expected"),
    [
        (COMPLETE, HELD, NEXT, Decision.SPOOL),
        (COMPLETE, HELD, replace(NEXT, kind=CutKind.FINAL), Decision.SPOOL),
        (COMPLETE, HELD, replace(NEXT, epoch=4), Decision.SPOOL),
        (COMPLETE, HELD, HELD, Decision.ACKNOWLEDGE_AGAIN),
        (COMPLETE, HELD, replace(NEXT, cut=20, kind=CutKind.FULL), Decision.WRITE_DIRECTLY),
        (COMPLETE, HELD, replace(NEXT, cut=20, kind=CutKind.DIFFERENCES), Decision.SPOOL),
        (EMPTY, None, replace(NEXT, kind=CutKind.FULL), Decision.WRITE_DIRECTLY),
        (INCOMPLETE, None, replace(NEXT, kind=CutKind.DIFFERENCES), Decision.SPOOL),
        (BASE, None, NEXT, Decision.SPOOL),
        (
            COMPLETE,
            HELD,
            replace(HELD, relationship_id="r-2", transfer_id="t-1", cut=1, kind=CutKind.FULL),
            Decision.WRITE_DIRECTLY,
        ),
    ],
)
def test_what_a_replica_takes(
    state: CopyState, held: TransferHeader | None, offered: TransferHeader, expected: Decision
) -> None:
    assert decide(state, held, offered) is expected


@pytest.mark.parametrize(
    ("state", "held", "offered", "code"),
    [
        (COMPLETE, HELD, replace(HELD, transfer_id="t-x"), Code.INVALID_STATE),
        (COMPLETE, HELD, replace(HELD, last_record=100), Code.INVALID_STATE),
        (COMPLETE, HELD, replace(NEXT, cut=6), Code.INVALID_STATE),
        (COMPLETE, HELD, replace(NEXT, cut=7, kind=CutKind.FULL), Code.INVALID_STATE),
        (COMPLETE, HELD, replace(NEXT, cut=9), Code.RESYNCHRONIZATION_REQUIRED),
        (COMPLETE, HELD, replace(NEXT, epoch=2), Code.LOWER_EPOCH),
        (COMPLETE, HELD, replace(NEXT, relationship_id="r-2"), Code.INVALID_STATE),
        (EMPTY, None, NEXT, Code.RESYNCHRONIZATION_REQUIRED),
        (INCOMPLETE, None, NEXT, Code.RESYNCHRONIZATION_REQUIRED),
    ],
)
def test_what_a_replica_refuses(
    state: CopyState, held: TransferHeader | None, offered: TransferHeader, code: int
) -> None:
    with pytest.raises(TransferRefusedError) as refused:
        decide(state, held, offered)
    assert refused.value.code == code
    assert refused.value.applied == applied_by(held)
