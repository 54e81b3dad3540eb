"""Malformed input on every route that takes a body: refused, never our fault, never a success."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_hub.arm.bodies import (
    CleanupInput,
    DisableInput,
    EnableInput,
    FailoverInput,
    Input,
    MappingInput,
    PolicyInput,
    ResumeInput,
    TestFailoverInput,
    UnplannedFailoverInput,
    read,
)
from service_hub.arm.handle_alerts import AlertInput
from service_hub.arm.item_updates import ResolveInput, UpdateInput
from service_hub.arm.routes import working_routes
from service_hub.arm.vault_bodies import CertificateInput, VaultInput
from service_hub.domain.errors import InvalidRequestError
from tests.unit.arm.arm_estate import (
    CLOUDS,
    FABRICS,
    GROUP,
    MACHINE,
    MAPPING,
    POLICY,
    SUBSCRIPTION,
    VAULT,
)
from tests.unit.arm.arm_hub import MemoryHub
from tests.unit.arm.arm_use_cases import arm_api
from tests.unit.arm.conftest import Surface
from wire_contract.vocabulary import Side

NAMES = {
    "{subscription}": SUBSCRIPTION,
    "{resource_group}": GROUP,
    "{vault}": VAULT,
    "{fabric}": FABRICS[Side.PRIMARY],
    "{provider}": MemoryHub().fabric(Side.PRIMARY).provider.vmm_id,
    "{container}": CLOUDS[Side.PRIMARY],
    "{mapping}": MAPPING,
    "{item}": MACHINE,
    "{policy}": POLICY,
    "{plan}": "Payroll",
    "{setting}": "defaultAlertSetting",
    "{certificate}": "c",
    "{job}": "3f0c2a4e-0000-4000-8000-000000000001",
}
CHANGES = [
    (route.method, route.path)
    for route in working_routes(arm_api(MemoryHub(), "https://hub.example"))
    if route.method not in {"GET", "DELETE"}
]
TAKES_NO_BODY = (
    "{plan}/reProtect",
    "failoverCommit",
    "failoverCancel",
    "repairReplication",
    "{fabric}/remove",
    "{provider}/remove",
    "/refreshProvider",
    "/default/refresh",
    "/checkConsistency",
    "{container}/remove",
    "/cancel",
    "/restart",
)
BODY_OPTIONAL = (
    *TAKES_NO_BODY,
    "testFailoverCleanup",
    "{item}/remove",
    "{mapping}/remove",
    "/resume",
)

DEEP = b"[" * 200_000
MALFORMED = [
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"{}{}",
    b"{'a': 1}",
    b'{"properties": NaN}',
    b'{"properties": Infinity}',
    b'{"properties": 1e999999}',
    b'{"properties": ' + b"9" * 10_000 + b"}",
    b'{"properties": {"a": ' + DEEP,
    b'{"properties": ' + b'{"properties": ' * 100 + b"1" + b"}" * 101,
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf",
    b"\x00",
    b'{"properties": {"failoverDirection": "\\ud800"}}',
    b'{"properties": {"comments": "\\u0000"}}',
    b'{"location": "\\udfff", "properties": {}}',
    b'{"\\ud800": 1}',
    b'{"properties": "text"}',
    b'{"properties": [1, 2]}',
]
WRONG_TYPES = (
    b'{"properties": {"providerSpecificInput": 7, "replicationProviderInput": 7,'
    b' "comments": 7, "certificate": 7, "integrityKey": 7,'
    b' "vmNics": 7, "customEmailAddresses": 7, "healthErrors": 7}}'
)
USES_NOTHING = ("{fabric}", "{provider}", "{container}", "/discoverProtectableItem")
"""Where a body is read and none of its properties counts."""


def filled(path: str) -> str:
    for name, value in NAMES.items():
        path = path.replace(name, value)
    return path


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_malformed_bodies_are_refused_on_every_route(
    surface: Surface, method: str, path: str
) -> None:
    known = () if path.endswith(USES_NOTHING) else (WRONG_TYPES,)
    for body in (*MALFORMED, *known):
        response = await surface.ask(method, filled(path), data=body)
        if path.endswith(TAKES_NO_BODY):
            # Takes none, and cares for none; here the item's state refuses it.
            assert response.status < 600
            continue
        assert 400 <= response.status < 500, (body[:40], await response.text())
        assert (await response.json())["error"]["code"] == "InvalidRequest"
    assert surface.hub.jobs == {} or path.endswith(TAKES_NO_BODY)


@pytest.mark.parametrize(
    ("method", "path"), [change for change in CHANGES if not change[1].endswith(BODY_OPTIONAL)]
)
async def test_an_empty_body_is_refused_where_one_is_needed(
    surface: Surface, method: str, path: str
) -> None:
    response = await surface.ask(method, filled(path), data=b"")
    assert response.status == 400


KINDS: list[type[Input]] = [
    VaultInput,
    CertificateInput,
    PolicyInput,
    MappingInput,
    EnableInput,
    FailoverInput,
    UnplannedFailoverInput,
    TestFailoverInput,
    CleanupInput,
    DisableInput,
    ResumeInput,
    UpdateInput,
    ResolveInput,
    AlertInput,
]
PROPERTY_NAMES = st.sampled_from(
    [
        "properties",
        "Properties",
        "location",
        "tags",
        "sku",
        "name",
        "certificate",
        "policyId",
        "PolicyId",
        "protectableItemId",
        "providerSpecificInput",
        "providerSpecificDetails",
        "instanceType",
        "failoverDirection",
        "networkType",
        "networkId",
        "comments",
        "recoveryPoints",
        "replicationPort",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["PrimaryToRecovery", "HyperVReplica2012R2", "A2A", "Enable"])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(PROPERTY_NAMES, below, max_size=6),
    max_leaves=20,
)


def outcome(body: bytes, kind: type[Input]) -> object:
    """Return what was read, or which property was refused."""
    try:
        return read(body, kind)
    except InvalidRequestError as refused:
        return refused.target


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(KINDS), value=VALUES)
def test_any_json_is_read_or_refused(kind: type[Input], value: Any) -> None:
    body = json.dumps(value).encode("utf-8", "surrogatepass")
    assert isinstance(outcome(body, kind), (kind, str))


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(KINDS), body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(kind: type[Input], body: bytes) -> None:
    assert isinstance(outcome(body, kind), (kind, str))
