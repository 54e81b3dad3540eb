"""Bad input on every route: refused as the caller's fault, never a failure of the hub."""

import json
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from certs.identity import new_private_key
from service_hub.provider_api.callers import Credential
from service_hub.provider_api.routes import ROUTES, Route
from tests.support.provider_api_world import VMM_ID, ApiWorld, api_world, enrolment_body
from wire_contract import paths

SEED = 2_026
MUTATIONS_PER_ROUTE = 40

HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"{",
    b'"\xff\xfe"',
    b"\x00" * 100,
    b'{"boot_id": "\\ud800", "last": null}',
    b'{"boot_id": 1e999, "last": NaN}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"boot_id": "b", "last": {"stream": "s", "seq": ' + b"9" * 5_000 + b"}}",
    b'{"boot_id": "b", "last": null, "unannounced": 1}',
]
ORDINARY: dict[str, object] = {
    paths.REGISTRATION: {
        "vmm_id": VMM_ID,
        "vmm_fqdn": "vmm.test",
        "friendly_name": "Tokyo",
        "provider_version": "1",
        "vmm_version": "1",
    },
    paths.SESSION: {
        "boot_id": "b",
        "session": 1,
        "journal_id": "j",
        "provider_version": "1",
        "vmm_version": "1",
        "last": {"stream": "s", "seq": 4},
        "fences": {"job": 3},
        "epochs": {"item": 2},
    },
    paths.HEARTBEAT: {"boot_id": "b", "last": {"stream": "s", "seq": 4}, "fabric_reachable": True},
    paths.REPORTS: {
        "journal_id": "j",
        "reports": [
            {
                "kind": "receipt",
                "report_id": "r",
                "stream": "s",
                "seq": 1,
                "event_id": "e",
                "receipt": "accepted",
            },
            {"kind": "unverifiable", "report_id": "u", "stream": "s", "seq": 2, "detail": "d"},
        ],
    },
    paths.INVENTORY: {
        "vmm": {"vmm_id": VMM_ID, "fqdn": "vmm.test", "version": "1"},
        "clouds": [],
        "hosts": [{"fqdn": "h", "version": "2012R2", "cloud_ids": ["c"]}],
        "networks": [],
        "classifications": [],
        "machines": [],
    },
    paths.HOST_CERTIFICATES: {"requests": [{"host": "h", "csr_pem": "-----BEGIN"}]},
}
WITH_BODY = [route for route in ROUTES if route.method == "POST"]


@pytest.fixture
async def world() -> AsyncIterator[ApiWorld]:
    """Give an open provider listener."""
    async with api_world() as opened:
        yield opened


def ordinary(route: Route) -> bytes:
    if route.path == paths.EST_SIMPLEENROLL:
        return enrolment_body(VMM_ID, new_private_key())
    return json.dumps(ORDINARY.get(route.path, {})).encode()


def mutated(chance: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(3):
            case 0:
                data[place : place + 1] = chance.randbytes(1)
            case 1:
                del data[place : place + chance.randrange(1, 20)]
            case _:
                data[place:place] = chance.choice(
                    [
                        b"null",
                        b"-1",
                        b"[]",
                        b'"',
                        b"{}",
                        b"1e400",
                        b"\xc3\x28",
                        b"99999999999999999999",
                    ]
                )
    return bytes(data)


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: route.path)
async def test_no_body_makes_the_hub_fail(world: ApiWorld, route: Route) -> None:
    registration = route.credential is Credential.REGISTRATION
    holder = world.registration_key() if registration else world.provider()
    chance = random.Random(SEED)  # noqa: S311 -- a seeded test, no secret
    inputs = HOSTILE + [mutated(chance, ordinary(route)) for _ in range(MUTATIONS_PER_ROUTE)]
    enrolling = {paths.EST_SIMPLEENROLL, paths.EST_SIMPLEREENROLL}
    takes_a_body = route.path in ORDINARY or route.path in enrolling
    headers = {} if registration else world.bearer(holder)
    refused = 0
    for body in inputs:
        answer = await world.call(
            route.method, route.path, holder, body=body, token=False, headers=headers
        )
        assert answer.code < 500 or answer.code == 501, body
        if answer.code >= 400:
            assert set(answer.content) == {"code", "message", "remedy"}
        refused += answer.code == 400
    assert (refused > len(inputs) // 2) == takes_a_body


@pytest.mark.parametrize("name", ["stream", "after", "wait"])
async def test_no_query_makes_the_hub_fail(world: ApiWorld, name: str) -> None:
    holder = world.provider()
    headers = world.bearer(holder)
    for value in [
        "%00",
        "%ff",
        "%ed%a0%80",
        "1" * 5_000,
        "-0",
        "0x1",
        "1e1",
        "%F0%9F%98%80",
        "'--",
    ]:
        query = {"stream": "stream-1", "after": "0", "wait": "0", name: value}
        text = "&".join(f"{key}={each}" for key, each in query.items())
        answer = await world.call(
            "GET", f"{paths.EVENTS}?{text}", holder, token=False, headers=headers
        )
        assert answer.code in {200, 400, 414}, value


async def test_a_body_that_breaks_off_is_the_callers_fault(world: ApiWorld) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'{"boot_id"'
        raise ConnectionError("the caller's cable")

    holder = world.provider()
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await world.call("POST", paths.HEARTBEAT, holder, body=broken())
    assert (await world.call("POST", paths.TOKEN, holder)).code == 200
    assert world.cases.told == []
