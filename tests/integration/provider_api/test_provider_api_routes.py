"""The whole surface: every route asks for its credential, and what each answers."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from certs.enrolment import chain_for, decode_certs_only
from certs.identity import certificate_request, new_private_key
from certs.profiles import Profile
from service_hub.domain.errors import ConflictError, InvalidRequestError, StaleVersionError
from service_hub.provider_api.callers import Credential
from service_hub.provider_api.routes import BODY_BYTES_MAX, ROUTES, Route
from tests.support.channel_world import OSAKA, TOKYO, Holder, Trust, provider_record
from tests.support.provider_api_world import VMM_ID, Answer, ApiWorld, api_world, enrolment_body
from wire_contract import paths
from wire_contract.reports import Heartbeat, Registration, ReportBatch, SessionRequest
from wire_contract.vmm_interface import InventoryView, VmmView

REGISTRATION = Registration(
    vmm_id=VMM_ID, vmm_fqdn="vmm.test", friendly_name="Tokyo", provider_version="1", vmm_version="1"
)
SESSION = SessionRequest(
    boot_id="b",
    session=1,
    journal_id="j",
    provider_version="1",
    vmm_version="1",
    last=None,
    fences={},
    epochs={},
)
INVENTORY = InventoryView(
    vmm=VmmView(vmm_id=VMM_ID, fqdn="vmm.test", version="1"),
    clouds=(),
    hosts=(),
    networks=(),
    classifications=(),
    machines=(),
)
GOOD_BODIES: dict[str, bytes] = {
    paths.REGISTRATION: REGISTRATION.model_dump_json().encode(),
    paths.SESSION: SESSION.model_dump_json().encode(),
    paths.HEARTBEAT: Heartbeat(boot_id="b", last=None).model_dump_json().encode(),
    paths.REPORTS: ReportBatch(journal_id="j", reports=()).model_dump_json().encode(),
    paths.INVENTORY: INVENTORY.model_dump_json().encode(),
    paths.HOST_CERTIFICATES: b'{"requests": []}',
}
SUCCESS = {paths.INVENTORY: 204, paths.MQTT_WEBSOCKET: 404, paths.UNREGISTRATION: 501}
ALL_PROVIDER_PATHS = {
    value
    for name, value in vars(paths).items()
    if name.isupper() and value.startswith("/") and not name.startswith(("VMM_", "REPLICA_"))
}
BY_PATH = {route.path: route for route in ROUTES}


@pytest.fixture
async def world() -> AsyncIterator[ApiWorld]:
    """Give an open provider listener."""
    async with api_world() as opened:
        yield opened


def target(route: Route) -> str:
    return f"{route.path}?stream=stream-1&after=0" if route.path == paths.EVENTS else route.path


async def send(world: ApiWorld, route: Route, holder: Holder | None = None, **how: Any) -> Answer:
    body = GOOD_BODIES.get(route.path)
    if route.path in {paths.EST_SIMPLEENROLL, paths.EST_SIMPLEREENROLL}:
        body = enrolment_body()
    return await world.call(route.method, target(route), holder, body=body, **how)


def is_problem(answer: Answer) -> bool:
    return set(answer.content) == {"code", "message", "remedy"} and all(answer.content.values())


def test_every_path_of_the_contract_has_one_route() -> None:
    assert {route.path for route in ROUTES} == ALL_PROVIDER_PATHS
    assert len(ROUTES) == len(ALL_PROVIDER_PATHS)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
async def test_every_route_asks_for_exactly_its_credential(world: ApiWorld, route: Route) -> None:
    registered, enrolled = world.provider(TOKYO), world.provider(TOKYO, registered=False)
    key, expired = world.registration_key(), world.trust.holder(Profile.VAULT_REGISTRATION, "old")
    stranger = world.trust.holder(Profile.PROVIDER_MANAGEMENT, TOKYO)
    other = world.trust.holder(Profile.PROVIDER_MANAGEMENT, OSAKA)
    success = SUCCESS.get(route.path, 200)
    expected = {
        Credential.NONE: [success] * 8,
        Credential.REGISTRATION: [401, success, 403, 403, 403, 403, 403, 403],
        Credential.MANAGEMENT: [401, 403, 403, 403, success, success, success, success],
        Credential.ENROLLED_TOKEN: [401, 403, 403, 403, 401, 401, success, success],
        Credential.REGISTERED_TOKEN: [401, 403, 403, 403, 401, 401, 403, success],
    }[route.credential]
    answers = [
        await send(world, route),
        await send(world, route, key, token=False),
        await send(world, route, expired, token=False),
        await send(world, route, stranger),
        await send(world, route, registered, token=False),
        await send(world, route, registered, token=False, headers=world.bearer(other)),
        await send(world, route, enrolled),
        await send(world, route, registered),
    ]
    assert [answer.code for answer in answers] == expected
    assert all(is_problem(answer) for answer in answers if answer.code >= 400)


@pytest.mark.parametrize(
    "route",
    [each for each in ROUTES if each.credential is not Credential.NONE],
    ids=lambda route: route.path,
)
async def test_a_revoked_certificate_is_refused_on_the_open_connection(
    world: ApiWorld, route: Route
) -> None:
    holder = (
        world.registration_key()
        if route.credential is Credential.REGISTRATION
        else world.provider()
    )
    assert (await send(world, route, holder)).code == SUCCESS.get(route.path, 200)
    world.servers.keys.clear()
    world.servers.by_thumbprint.clear()
    assert (await send(world, route, holder)).code == 403


async def test_a_token_of_another_provider_or_another_certificate_is_refused(
    world: ApiWorld,
) -> None:
    tokyo, osaka, renewed = world.provider(TOKYO), world.provider(OSAKA), world.provider(TOKYO)
    route = BY_PATH[paths.HEARTBEAT]
    for headers in (
        world.bearer(tokyo, OSAKA),
        world.bearer(osaka, OSAKA),
        world.bearer(renewed),
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer ..."},
        {"Authorization": "Bearer \u00e9"},
    ):
        answer = await send(world, route, tokyo, token=False, headers=headers)
        assert answer.code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert world.cases.told == []


async def test_forwarded_certificates_are_never_believed(world: ApiWorld) -> None:
    holder = world.provider()
    headers = {
        **world.bearer(holder),
        "X-Forwarded-Client-Cert": f"Hash={holder.thumbprint}",
        "X-SSL-Cert": holder.chain_pem.replace("\n", "%0A"),
    }
    answer = await world.call("POST", paths.TOKEN, headers=headers)
    assert answer.code == 401


async def test_a_certificate_of_another_hub_does_not_get_through(world: ApiWorld) -> None:
    stranger = Trust.create().holder(Profile.PROVIDER_MANAGEMENT, TOKYO)
    world.servers.by_thumbprint[stranger.thumbprint] = provider_record(TOKYO)
    # With TLS 1.3 the client learns of the refusal only when it reads.
    with pytest.raises(aiohttp.ClientConnectionError):
        await world.call("POST", paths.TOKEN, stranger)


@pytest.mark.parametrize("uploaded", [False, True])
async def test_enrolment_gives_the_leaf_and_its_authority(
    world: ApiWorld, *, uploaded: bool
) -> None:
    holder, key = world.registration_key(uploaded=uploaded), new_private_key()
    answer = await world.call(
        "POST", paths.EST_SIMPLEENROLL, holder, body=enrolment_body(VMM_ID, key)
    )
    assert answer.code == 200
    assert answer.headers["Content-Type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert answer.headers["Content-Transfer-Encoding"] == "base64"
    chain = chain_for(decode_certs_only(answer.body), key.public_key())
    assert chain.count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "refused"),
        (b"not base64 \xff", "base64"),
        (b"AAAA", "refused"),
        (enrolment_body("vmm.tokyo.test"), "GUID"),
        (enrolment_body("{" + VMM_ID + "}"), "GUID"),
        (b"A" * 40_000, "larger"),
    ],
)
async def test_enrolment_refuses_what_is_no_request_for_a_guid(
    world: ApiWorld, body: bytes, words: str
) -> None:
    holder = world.registration_key()
    answer = await world.call("POST", paths.EST_SIMPLEENROLL, holder, body=body)
    assert answer.code == 400
    assert words in answer.content["message"]
    assert world.servers.enrolled == []


async def test_cacerts_needs_nothing(world: ApiWorld) -> None:
    answer = await world.call("GET", paths.EST_CACERTS)
    assert len(decode_certs_only(answer.body)) == 2


async def test_a_token_comes_with_its_life(world: ApiWorld) -> None:
    answer = await world.call("POST", paths.TOKEN, world.provider(), token=False)
    assert answer.content == {"token": f"sealed-for-{TOKYO}", "expires_in": 3600}


async def test_messages_reach_their_use_cases_as_they_were_sent(world: ApiWorld) -> None:
    holder = world.provider()
    for path in (paths.SESSION, paths.HEARTBEAT, paths.REPORTS, paths.INVENTORY):
        assert (await send(world, BY_PATH[path], holder)).code < 300
    assert [type(each) for each in world.cases.told] == [
        SessionRequest,
        Heartbeat,
        ReportBatch,
        InventoryView,
    ]
    assert world.cases.told[0] == SESSION
    assert world.cases.told[3] == INVENTORY


async def test_host_certificates_are_issued_together_or_not_at_all(world: ApiWorld) -> None:
    holder = world.provider()
    good = certificate_request(new_private_key(), "host.tokyo.test").decode()
    one = {"host": "host.tokyo.test", "csr_pem": good}
    answer = await world.call(
        "POST", paths.HOST_CERTIFICATES, holder, body=_json({"requests": [one, one]})
    )
    assert [each["host"] for each in answer.content["certificates"]] == ["host.tokyo.test"] * 2
    assert all(
        each["root_pem"] == world.trust.chain.root_pem for each in answer.content["certificates"]
    )
    world.servers.hosts.clear()
    bad = {"host": "other", "csr_pem": "nonsense"}
    answer = await world.call(
        "POST", paths.HOST_CERTIFICATES, holder, body=_json({"requests": [one, bad]})
    )
    assert answer.code == 400
    assert world.servers.hosts == []


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InvalidRequestError("no", "fences"), 400),
        (ConflictError("registered already"), 409),
        (StaleVersionError("again"), 503),
        (ZeroDivisionError("our own fault"), 500),
    ],
)
async def test_errors_become_problems_and_say_nothing_inside(
    world: ApiWorld, failure: Exception, code: int
) -> None:
    world.cases.failure = failure
    answer = await send(world, BY_PATH[paths.HEARTBEAT], world.provider())
    assert answer.code == code
    assert is_problem(answer)
    assert ("Retry-After" in answer.headers) == (code == 503)
    assert "our own fault" not in answer.content["message"]


async def test_unknown_paths_and_methods_are_problems_too(world: ApiWorld) -> None:
    unknown = await world.call("GET", "/provider/v2/events")
    assert (unknown.code, is_problem(unknown)) == (404, True)
    wrong = await world.call("DELETE", paths.HEARTBEAT)
    assert (wrong.code, is_problem(wrong)) == (405, True)
    assert wrong.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "route",
    [route for route in ROUTES if route.method == "POST" and route.body_bytes_max < 2_000_000],
    ids=lambda route: route.path,
)
async def test_a_body_beyond_its_limit_is_refused(world: ApiWorld, route: Route) -> None:
    holder = (
        world.registration_key()
        if route.credential is Credential.REGISTRATION
        else world.provider()
    )
    answer = await world.call(
        "POST", route.path, holder, body=io.BytesIO(b"x" * (route.body_bytes_max + 1))
    )
    assert answer.code == 413


async def test_a_body_without_a_length_is_counted(world: ApiWorld) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (BODY_BYTES_MAX // 4)

    answer = await world.call("POST", paths.HEARTBEAT, world.provider(), body=chunks())
    assert answer.code == 413


async def test_an_encoded_body_is_refused(world: ApiWorld) -> None:
    answer = await world.call(
        "POST",
        paths.HEARTBEAT,
        world.provider(),
        body=b"\x1f\x8b\x08",
        headers={"Content-Encoding": "gzip"},
    )
    assert answer.code in {400, 415}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
