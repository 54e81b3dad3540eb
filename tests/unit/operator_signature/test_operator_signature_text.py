"""The header's text: made, read, and every way in which it can be wrong."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.channel_integrity import KeyUnfitError, checked_key, holds, new_key, seal
from service_hub.domain.protection import Operation
from service_hub.domain.scenarios import SCENARIOS, Scenario, scenario_key
from wire_contract.operator_signature import (
    DESTRUCTIVE,
    ORDERED,
    SIGNATURE_CHARACTERS_MAX,
    Order,
    SignatureMalformedError,
    SignedOperation,
    read_signature,
    signed_header,
    unsigned_text,
)
from wire_contract.vocabulary import Direction, Side, Verb

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = new_key()
ORDER = Order(SignedOperation.PLANNED_FAILOVER, "item-1", Direction.PRIMARY_TO_RECOVERY)


def header(order: Order = ORDER) -> str:
    unsigned = unsigned_text(order, "request-1", NOW, NOW + timedelta(hours=6))
    return signed_header(unsigned, seal(KEY, unsigned.encode()))


def changed(**changes: Any) -> str:
    fields = json.loads(header())
    return json.dumps({**fields, **changes})


def test_what_was_signed_is_read_and_holds() -> None:
    signature = read_signature(header())
    assert signature.order == ORDER
    assert signature.request_id == "request-1"
    assert (signature.not_before, signature.not_after) == (NOW, NOW + timedelta(hours=6))
    assert holds(KEY, signature.signed_text, signature.hmac)
    assert not holds(new_key(), signature.signed_text, signature.hmac)


def test_the_form_is_the_recorded_one() -> None:
    text = header()
    fields = json.loads(text)
    assert list(fields) == [
        "NotBeforeTimestamp",
        "NotAfterTimestamp",
        "ClientRequestId",
        "HashFunction",
        "Hmac",
        "Version",
        "PropertyBag",
    ]
    assert text.startswith('{"NotBeforeTimestamp":"\\/Date(1772366400000)\\/"')
    assert (fields["Version"]["Major"], fields["Version"]["Minor"]) == (1, 2)
    assert b'"HashFunction":null,"Hmac":null' in read_signature(text).signed_text


def test_a_recorded_header_that_binds_nothing_is_read_and_has_no_order() -> None:
    unsigned = json.dumps(
        {
            "NotBeforeTimestamp": "/Date(1505740434000)/",
            "NotAfterTimestamp": "/Date(1506345234000)/",
            "ClientRequestId": "6d1a-2017-09-18 13:13:54Z-P",
            "HashFunction": None,
            "Hmac": None,
            "Version": {"Major": 1, "Minor": 2},
            "PropertyBag": {},
        },
        separators=(",", ":"),
    )
    signature = read_signature(signed_header(unsigned, seal(KEY, unsigned.encode())))
    assert signature.order is None
    assert holds(KEY, signature.signed_text, signature.hmac)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ClientRequestId", "request-2"),
        ("NotAfterTimestamp", "/Date(1772990000000)/"),
        ("PropertyBag", {"Operation": "PlannedFailover", "Item": "item-2"}),
        ("Further", 1),
    ],
)
def test_whatever_is_changed_no_longer_holds(name: str, value: object) -> None:
    fields = {**json.loads(header()), name: value}
    signature = read_signature(json.dumps(fields, separators=(",", ":")))
    assert not holds(KEY, signature.signed_text, signature.hmac)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{" * 3000,
        "[" * 3000,
        header()[:-1],
        header() + " " * SIGNATURE_CHARACTERS_MAX,
        header().replace("item-1", "item-ä"),
        changed(HashFunction="HMACMD5"),
        changed(HashFunction=None),
        changed(Hmac="not base64!"),
        changed(Hmac=None),
        changed(Hmac="A" * 2000),
        changed(NotBeforeTimestamp="2026-03-01"),
        changed(NotAfterTimestamp="/Date(999999999999999)/"),
        changed(NotAfterTimestamp="/Date(-1)/"),
        changed(ClientRequestId=""),
        changed(ClientRequestId="x" * 257),
        changed(PropertyBag="none"),
        changed(PropertyBag={"Hmac": "AAAA"}),
        header().replace('"Version"', '"ClientRequestId":"again","Version"'),
    ],
)
def test_what_is_no_signature_is_named_malformed_and_not_repeated(text: str) -> None:
    with pytest.raises(SignatureMalformedError) as caught:
        read_signature(text)
    assert "item-" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(repr)))
def test_any_text_is_read_or_malformed(text: str) -> None:
    with contextlib.suppress(SignatureMalformedError):
        assert read_signature(text).request_id


@given(position=st.integers(0, len(header()) - 1), character=st.characters())
def test_any_changed_character_costs_the_proof(position: int, character: str) -> None:
    text = header()
    if character == text[position]:
        return
    spoilt = text[:position] + character + text[position + 1 :]
    try:
        signature = read_signature(spoilt)
    except SignatureMalformedError:
        return
    # The one freedom: how the base64 of the same HMAC ends.
    same = signature.signed_text == read_signature(text).signed_text
    assert not holds(KEY, signature.signed_text, signature.hmac) or same


@pytest.mark.parametrize("text", ["", "short", "x" * 1025, "a b" * 20, "ä" * 40, "a\nb" * 20])
def test_an_unfit_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(KeyUnfitError) as caught:
        checked_key(text)
    assert not text or text not in str(caught.value)


def test_every_verb_is_classified() -> None:
    assert set(DESTRUCTIVE) == set(Verb)


def verbs_of(scenario: Scenario) -> dict[Verb, set[Side]]:
    found: dict[Verb, set[Side]] = {}
    for spec in scenario.tasks:
        for verb in (spec.verb, spec.undo):
            if verb is not None:
                found.setdefault(verb, set()).update(spec.sides)
    return found


def test_every_scenario_that_destroys_is_signed_and_its_signature_allows_its_verbs() -> None:
    signed = {each.value for each in SignedOperation}
    for operation in Operation:
        for unplanned in (False, True):
            verbs = verbs_of(SCENARIOS[scenario_key(operation, unplanned=unplanned)])
            if operation.value not in signed:
                assert not any(DESTRUCTIVE[verb] for verb in verbs), operation
                continue
            allowed = ORDERED[SignedOperation(operation.value)]
            for verb, sides in verbs.items():
                assert sides <= allowed[verb], (operation, verb)


def test_jobs_that_no_operation_begins_destroy_nothing() -> None:
    of_operations = {
        scenario_key(each, unplanned=unplanned, keeps=keeps, networks=keeps, committed=keeps)
        for each in Operation
        for unplanned in (False, True)
        for keeps in (False, True)
    }
    for key, scenario in SCENARIOS.items():
        if key not in of_operations:
            assert not any(DESTRUCTIVE[verb] for verb in verbs_of(scenario)), key
