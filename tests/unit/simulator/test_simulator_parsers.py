import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vmm_simulator.hyperv.addresses import FILE_BYTES_MAX, DamagedHostsFileError, parse_hosts
from vmm_simulator.hyperv.host_control import (
    BODY_BYTES_MAX,
    Offer,
    OfferAnswer,
    OfferedDisk,
    ReplicaLocation,
    asked_relationship,
    offer_path,
    parse_offer,
    read_answer,
)
from vmm_simulator.hyperv.host_questions import OtherEnd, import_path, question, state_path
from vmm_simulator.problems import Code, RefusedError
from vmm_simulator.verbs.arguments import CreateTestMachine, PlaceReplica
from vmm_simulator.verbs.registry import VERBS
from wire_contract.vocabulary import FABRIC_VERBS, Verb


def test_hosts_file() -> None:
    data = b"# estate\n127.1.2.3 Host1.Tokyo.example alias # comment\n\n::1\tsix\n127.9.9.9 alias\n"
    assert parse_hosts(data) == {
        "host1.tokyo.example": "127.1.2.3",
        "alias": "127.1.2.3",
        "six": "::1",
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"host1 127.0.0.1\n", "line 1"),
        (b"127.0.0.1 ok\n999.1.1.1 host\n", "line 2"),
        (b"127.0.0.1 " + b"x" * 300, "too long"),
        (b"\xff\xfe", "not UTF-8"),
        (b"#" * (FILE_BYTES_MAX + 1), "larger than"),
    ],
)
def test_damaged_hosts_files_are_named(data: bytes, said: str) -> None:
    with pytest.raises(DamagedHostsFileError, match=said):
        parse_hosts(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_hosts_file_or_damaged(data: bytes) -> None:
    try:
        found = parse_hosts(data)
    except DamagedHostsFileError:
        return
    assert all(name == name.lower() and len(name) <= 253 for name in found)


OFFER = Offer(
    relationship_id="r-1",
    epoch=1,
    hyperv_id="vm-1",
    replica_machine_id="replica-1",
    primary_machine_id="vm-1",
    primary_host="host1.tokyo.example",
    primary_port=8084,
    disks=(OfferedDisk(disk_id="d", size_bytes=4096),),
    interval_seconds=30,
)
PATH = offer_path("r-1")


def test_offer_there_and_back() -> None:
    assert parse_offer("PUT", PATH, OFFER.model_dump_json().encode()) == OFFER


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("DELETE", PATH, OFFER.model_dump_json().encode(), Code.NOT_FOUND),
        ("PUT", offer_path("r-2"), OFFER.model_dump_json().encode(), Code.NOT_FOUND),
        ("PUT", PATH, b" " * (BODY_BYTES_MAX + 1), Code.INVALID_PARAMETER),
        ("PUT", PATH, b"{}", Code.INVALID_PARAMETER),
        (
            "PUT",
            PATH,
            OFFER.model_copy(update={"replica_machine_id": "../etc"}).model_dump_json().encode(),
            Code.INVALID_PARAMETER,
        ),
    ],
)
def test_wrong_offers_are_refused(method: str, path: str, body: bytes, code: Code) -> None:
    with pytest.raises(RefusedError) as refusal:
        parse_offer(method, path, body)
    assert refusal.value.code == code


@given(st.binary(max_size=600), st.integers())
def test_a_mutilated_offer_is_an_offer_or_refused(noise: bytes, seed: int) -> None:
    body = bytearray(OFFER.model_dump_json().encode())
    place = random.Random(seed).randrange(len(body))  # noqa: S311 -- a place in a test
    body[place : place + len(noise) // 8] = noise
    try:
        offer = parse_offer("PUT", PATH, bytes(body))
    except RefusedError:
        return
    assert offer.relationship_id == "r-1"


@given(st.integers(100, 599), st.binary(max_size=300))
def test_any_answer_of_a_replica_host_is_understood_or_a_refusal(status: int, body: bytes) -> None:
    try:
        answer = read_answer("host", status, body, OfferAnswer)
    except RefusedError:
        return
    assert status == 200
    assert answer.machine_id is not None


@given(st.integers(199, 201), st.binary(max_size=100) | st.sampled_from([b'{"host":"h","port":1}']))
def test_any_answer_of_a_broker_is_a_place_or_a_refusal(status: int, body: bytes) -> None:
    try:
        location = read_answer("host", status, body, ReplicaLocation)
    except RefusedError:
        return
    assert 0 < location.port < 65_536


@given(st.text(max_size=200) | st.text(max_size=20).map(offer_path))
def test_any_question_for_a_replica_names_a_relationship_or_is_refused(path: str) -> None:
    try:
        identity = asked_relationship(path)
    except RefusedError:
        return
    assert offer_path(identity) == path


@given(st.integers(100, 599), st.binary(max_size=300))
def test_any_answer_about_the_other_end_is_understood_or_a_refusal(
    status: int, body: bytes
) -> None:
    try:
        end = read_answer("host", status, body, OtherEnd)
    except RefusedError:
        return
    assert status == 200
    assert end.epoch >= 0


@given(st.sampled_from(["GET", "PUT", "POST", "DELETE"]), st.text(max_size=80))
def test_a_question_names_its_relationship_or_is_none(method: str, text: str) -> None:
    paths = [state_path(text), import_path(text), text]
    found = [question(method, path) for path in paths]
    assert all(each is None or (text and each.relationship_id == text) for each in found)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text) and method in ("GET", "PUT"):
        assert found.count(None) == 2


def test_every_verb_has_rules() -> None:
    assert set(VERBS) == set(FABRIC_VERBS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(sorted(FABRIC_VERBS)), st.dictionaries(st.text(max_size=12), JSON, max_size=5)
)
def test_any_arguments_are_valid_or_refused(verb: Verb, arguments: dict[str, Any]) -> None:
    model = VERBS[verb].arguments
    try:
        parsed = model.model_validate(arguments)
    except ValidationError:
        return
    assert set(arguments) <= set(type(parsed).model_fields)


@pytest.mark.parametrize("identity", ["", "../x", "a/b", ".hidden", "x" * 129, "a\n", "a b"])
def test_an_id_that_could_leave_its_folder_is_refused(identity: str) -> None:
    with pytest.raises(ValidationError):
        CreateTestMachine(replica_machine_id=identity, name="test")


def test_a_disk_larger_than_any_is_refused() -> None:
    with pytest.raises(ValidationError, match="size_bytes"):
        PlaceReplica.model_validate(
            {
                "cloud_id": "c",
                "hyperv_id": "h",
                "name": "n",
                "generation": 2,
                "disks": [{"disk_id": "d", "name": "d", "kind": "Data", "size_bytes": 2**60}],
                "primary_host": "host",
                "item": "h",
            }
        )
