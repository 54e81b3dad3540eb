"""Renewal, revocation and approval over the real provider port and the real database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.enrolment import chain_for, decode_certs_only
from certs.identity import PrivateKey, new_private_key
from service_hub.domain.errors import ConflictError, NotFoundError
from service_hub.domain.records import Alert, ManagementCertificate, OutboxEvent, ProviderStream
from service_hub.ports.changes import Change, NewEvent
from tests.support.trust_world import (
    VAULT_ID,
    VMM_ID,
    Answer,
    Server,
    TrustWorld,
    request_body,
    trust_world,
)
from wire_contract import paths
from wire_contract.reports import Heartbeat, SessionRequest
from wire_contract.vocabulary import EventType

BEAT = Heartbeat(boot_id="boot-1", last=None).model_dump_json().encode()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[TrustWorld]:
    async with trust_world(tmp_path) as opened:
        yield opened


async def renew(world: TrustWorld, server: Server, key: PrivateKey) -> Answer:
    provider = await world.provider(server)
    return await world.call(paths.EST_SIMPLEREENROLL, server, request_body(key, provider.id))


def server_of(answer: Answer, key: PrivateKey) -> Server:
    assert answer.code == 200, answer.content
    return Server(key, chain_for(decode_certs_only(answer.body), key.public_key()))


async def beat(world: TrustWorld, server: Server) -> Answer:
    return await world.call(paths.HEARTBEAT, server, BEAT, await world.token(server))


async def send_event(world: TrustWorld, provider_id: str) -> None:
    now = datetime.now(UTC)
    event = NewEvent(
        event_id=world.clock.new_id(),
        vault_id=VAULT_ID,
        provider_id=provider_id,
        type=EventType.REFRESH,
        issued_at=now,
        expires_at=now + timedelta(hours=1),
        body={},
    )
    await world.committer.commit(Change(events=(event,)))


# ------------------------------------------------------------------------------------- renewal


async def test_a_renewed_server_is_the_same_provider_and_both_certificates_hold(
    world: TrustWorld,
) -> None:
    first = await world.registered()
    before = await world.provider(first)
    key = new_private_key()
    second = server_of(await renew(world, first, key), key)
    assert second.thumbprint != first.thumbprint
    assert (await world.provider(second)).id == before.id
    assert [(await beat(world, each)).code for each in (first, second, first)] == [200] * 3
    # Token and certificate change together: the old token is worth nothing with the new key.
    old_token = await world.token(first)
    assert (await world.call(paths.HEARTBEAT, second, BEAT, old_token)).code == 401


async def test_the_older_certificate_ends_when_its_time_is_over(world: TrustWorld) -> None:
    first = await world.registered()
    world.clock.ahead = timedelta(days=20)
    key = new_private_key()
    second = server_of(await renew(world, first, key), key)
    world.clock.ahead = timedelta(days=31)
    assert (await world.call(paths.TOKEN, first)).code == 403
    assert await world.enrolment.provider_of(first.thumbprint) is None
    assert await world.enrolment.provider_of(second.thumbprint) is not None


async def test_a_certificate_whose_successor_is_used_renews_no_more(world: TrustWorld) -> None:
    """An old key that was stolen does not live for ever."""
    first = await world.registered()
    key = new_private_key()
    second = server_of(await renew(world, first, key), key)
    await world.token(second)
    answer = await renew(world, first, new_private_key())
    assert (answer.code, answer.content["code"]) == (409, "Conflict")
    assert "renewed already" in answer.content["message"]
    assert (await renew(world, second, new_private_key())).code == 200


async def test_a_renewal_whose_answer_was_lost_is_asked_again_without_a_trace(
    world: TrustWorld,
) -> None:
    first = await world.registered()
    provider = await world.provider(first)
    key = new_private_key()
    lost = server_of(await renew(world, first, key), key)
    again = server_of(await renew(world, first, key), key)
    kept = await world.store.find(ManagementCertificate, provider_id=provider.id)
    assert {each.record.id for each in kept} == {first.thumbprint, again.thumbprint}
    assert (await world.call(paths.TOKEN, lost)).code == 403


async def test_a_used_key_is_not_certified_again(world: TrustWorld) -> None:
    """Neither the present key nor a request that somebody recorded and sends again."""
    first = await world.registered()
    assert (await renew(world, first, first.key)).code == 409
    key = new_private_key()
    second = server_of(await renew(world, first, key), key)
    await world.token(second)
    assert (await renew(world, second, key)).code == 409


async def test_a_renewal_for_another_name_is_refused(world: TrustWorld) -> None:
    tokyo = await world.registered()
    osaka = await world.registered("44444444-4444-4444-8444-444444444444")
    for name in ((await world.provider(osaka)).id, VMM_ID, "vmm.tokyo.test"):
        answer = await world.call(
            paths.EST_SIMPLEREENROLL, tokyo, request_body(new_private_key(), name)
        )
        assert answer.code == 400
        assert "common name" in answer.content["message"]


async def test_neither_kind_of_certificate_does_the_others_work(world: TrustWorld) -> None:
    server, key = await world.registered(), await world.registration_key()
    assert (await world.enrol(server, new_private_key())).code == 403
    body = request_body(new_private_key(), (await world.provider(server)).id)
    assert (await world.call(paths.EST_SIMPLEREENROLL, key, body)).code == 403
    token = await world.token(server)
    for path in (paths.TOKEN, paths.SESSION, paths.HEARTBEAT, paths.REPORTS, paths.INVENTORY):
        assert (await world.call(path, key, BEAT, token)).code == 403


# ---------------------------------------------------------------------------------- revocation


async def test_a_revoked_server_is_out_at_once_and_kicked_after_the_commit(
    world: TrustWorld,
) -> None:
    first = await world.registered()
    provider = await world.provider(first)
    key = new_private_key()
    second = server_of(await renew(world, first, key), key)
    token = await world.token(second)
    assert await world.certificates.revoke_server(VAULT_ID, provider.id, "olga") == 2
    assert world.connections.kicked == [provider.id]
    assert (await world.call(paths.HEARTBEAT, second, BEAT, token)).code == 403
    assert (await world.call(paths.TOKEN, first)).code == 403
    (alert,) = await world.certificates.alerts(VAULT_ID)
    assert (alert.code, alert.principal) == ("ServerRevoked", "olga")
    assert await world.certificates.revoke_server(VAULT_ID, provider.id, "olga") == 0


async def test_a_server_of_another_vault_cannot_be_revoked(world: TrustWorld) -> None:
    server = await world.registered()
    provider = await world.provider(server)
    with pytest.raises(NotFoundError):
        await world.certificates.revoke_server("other", provider.id, "olga")
    with pytest.raises(NotFoundError):
        await world.certificates.revoke_server(VAULT_ID, "nobody", "olga")
    assert (await world.call(paths.TOKEN, server)).code == 200


async def test_a_long_poll_does_not_outlive_the_certificate(world: TrustWorld) -> None:
    server = await world.registered()
    provider = await world.provider(server)
    stream = await world.store.get(ProviderStream, provider.id)
    assert stream is not None
    token = await world.token(server)
    query = f"?stream={stream.record.stream}&after=0&wait=20"

    async def poll() -> int:
        return await world.get(paths.EVENTS + query, server, token)

    async with asyncio.TaskGroup() as group:
        polling = group.create_task(poll())
        await asyncio.sleep(0.3)
        await world.certificates.revoke_server(VAULT_ID, provider.id, "olga")
        await send_event(world, provider.id)
    assert polling.result() == 403


# ------------------------------------------------------------------------------------ approval


async def test_a_reinstalled_server_waits_for_an_operator_and_then_takes_over(
    world: TrustWorld,
) -> None:
    old = await world.registered()
    provider = await world.provider(old)
    await send_event(world, provider.id)
    key, registration = new_private_key(), await world.registration_key()
    asked = [await world.enrol(registration, key) for _ in range(2)]
    assert [each.code for each in asked] == [202, 202]
    assert "waits for an operator: site-recovery server approve" in asked[0].content["message"]
    assert int(asked[0].headers["Retry-After"]) > 0
    (waiting,) = await world.approvals.list(VAULT_ID)
    assert waiting.old_certificate_thumbprint == old.thumbprint
    assert (waiting.old_address, waiting.new_address) == ("127.0.0.1", "127.0.0.1")
    assert waiting.new_key_thumbprint in asked[0].content["message"]
    assert (await beat(world, old)).code == 200, "nothing has changed before the decision"

    before = await world.store.get(ProviderStream, provider.id)
    approved = await world.approvals.approve(VAULT_ID, waiting.id, "olga")
    assert (approved.decision, approved.decided_by) == ("approved", "olga")
    assert (await world.call(paths.TOKEN, old)).code == 403
    assert world.connections.kicked == [provider.id]
    new = server_of(await world.enrol(registration, key), key)
    assert (await world.register(new)).provider_id == provider.id
    after = await world.store.get(ProviderStream, provider.id)
    assert before is not None
    assert after is not None
    assert after.record.stream != before.record.stream
    assert (after.record.next_seq, after.record.acknowledged_seq) == (1, 0)
    assert await world.store.find(OutboxEvent, provider_id=provider.id) == []
    await send_event(world, provider.id)
    (event,) = await world.store.find(OutboxEvent, provider_id=provider.id)
    assert (event.record.stream, event.record.seq) == (after.record.stream, 1)
    (alert,) = await world.certificates.alerts(VAULT_ID)
    assert (alert.code, alert.principal) == ("ServerReplaced", "olga")


async def test_a_rejected_key_stays_out_and_the_server_goes_on(world: TrustWorld) -> None:
    old, key = await world.registered(), new_private_key()
    registration = await world.registration_key()
    await world.enrol(registration, key)
    (waiting,) = await world.approvals.list(VAULT_ID)
    await world.approvals.reject(VAULT_ID, waiting.id, "olga")
    answer = await world.enrol(registration, key)
    assert (answer.code, answer.content["code"]) == (403, "EnrolmentRejected")
    assert (await beat(world, old)).code == 200
    for decide in (world.approvals.approve, world.approvals.reject):
        with pytest.raises(ConflictError, match="olga has rejected"):
            await decide(VAULT_ID, waiting.id, "olga")
        with pytest.raises(NotFoundError):
            await decide("other", waiting.id, "olga")


async def test_proof_of_the_present_key_needs_no_approval(world: TrustWorld) -> None:
    server = await world.registered()
    assert (await renew(world, server, new_private_key())).code == 200
    assert await world.approvals.list(VAULT_ID) == []


async def test_a_recorded_request_sent_again_asks_nobody(world: TrustWorld) -> None:
    """A replayed first enrolment names a key that has its certificate."""
    server = await world.registered()
    answer = await world.enrol(await world.registration_key(), server.key)
    assert answer.code == 409
    assert "make a new key" in answer.content["message"]
    assert await world.approvals.list(VAULT_ID) == []


async def test_who_holds_a_registration_key_cannot_fill_the_database(world: TrustWorld) -> None:
    await world.registered()
    registration = await world.registration_key()
    answers = [await world.enrol(registration, new_private_key()) for _ in range(9)]
    assert [each.code for each in answers] == [202] * 8 + [409]


async def test_two_operators_who_approve_at_once_decide_once(world: TrustWorld) -> None:
    await world.registered()
    await world.enrol(await world.registration_key(), new_private_key())
    (waiting,) = await world.approvals.list(VAULT_ID)
    results = await asyncio.gather(
        *(world.approvals.approve(VAULT_ID, waiting.id, name) for name in ("olga", "ivan")),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in results) == ["ConflictError", "PendingApproval"]
    assert len(await world.store.find(Alert, vault_id=VAULT_ID)) == 1


# ---------------------------------------------------------------------------------- two sessions


async def test_one_identity_in_two_sessions_is_told_once(world: TrustWorld) -> None:
    server = await world.registered()
    provider = await world.provider(server)

    def session(boot_id: str) -> SessionRequest:
        return SessionRequest(
            boot_id=boot_id,
            session=1,
            journal_id="j",
            provider_version="1",
            vmm_version="1",
            last=None,
            fences={},
            epochs={},
        )

    for boot_id in ("boot-1", "boot-2"):
        await world.providers.session(provider, session(boot_id))
        await world.providers.heartbeat(provider, Heartbeat(boot_id=boot_id, last=None))
    assert await world.certificates.alerts(VAULT_ID) == [], "a restart is no second server"
    for boot_id in ("boot-1", "boot-2", "boot-1"):
        await world.providers.heartbeat(provider, Heartbeat(boot_id=boot_id, last=None))
    (alert,) = await world.certificates.alerts(VAULT_ID)
    assert alert.code == "TwoSessions"
    assert "boot-1" in alert.message
    assert "boot-2" in alert.message
