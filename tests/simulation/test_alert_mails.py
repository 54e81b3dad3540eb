"""Letters about events reach a real mail server: TLS, a password, once each, tried again."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from service_hub.domain.alert_mails import AlertMail, AlertSettings
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.replication_events import ReplicationEvent, Severity
from service_hub.mail_server import MailServer, MailSettings, MailTls
from service_hub.ports.changes import NEW, Change, Save
from service_hub.services.alert_mails import AlertMails, AlertSettingsService, MailError
from tests.support.hub_world import HubWorld, hub_world
from tests.support.loopback_certificate import loopback_certificate

USER, PASSWORD = "hub", "s3cret-of-the-hub"
TO = "ops@example.org"


@dataclass
class PostOffice:
    """Takes letters; `answers` are given first, one for each letter that is brought."""

    received: list[Any] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    async def handle_DATA(  # noqa: N802 -- the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take a letter, or answer what was asked for."""
        del server, session
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        self.received.append((message_from_bytes(envelope.content), envelope.rcpt_tos))
        return "250 OK"


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    del server, session, envelope, mechanism
    known = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=data == known, handled=False)


@asynccontextmanager
async def post_office(folder: Path) -> AsyncIterator[tuple[PostOffice, MailSettings]]:
    """Open a mail server that wants TLS and a password, and the settings for it."""
    certificate, key = loopback_certificate(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    office = PostOffice()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(
            office,
            hostname="mail.example",
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            authenticator=_authenticate,
            loop=loop,
        ),
        "127.0.0.1",
        0,
    )
    password = folder / "mail.password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield (
            office,
            MailSettings(
                host="localhost",
                port=port,
                tls_root_file=certificate,
                sender="hub@example.org",
                username=USER,
                password_file=password,
                timeout_seconds=10,
            ),
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[HubWorld]:
    async with hub_world(tmp_path) as world:
        yield world


def mails_of(world: HubWorld, mail: MailSettings) -> AlertMails:
    return AlertMails(
        reader=world.store,
        events=world.store,
        committer=world.committer,
        clock=world.clock,
        mailer=MailServer(mail),
        owners=(),
    )


async def subscribe(world: HubWorld) -> None:
    await world.alerts.change(world.vault, send_to_owners="false", addresses=[TO], locale="")


async def happen(world: HubWorld, name: str, severity: Severity = "Critical") -> None:
    event = ReplicationEvent(
        id=name,
        vault_id=world.vault.id,
        code="SRSJobStatus",
        event_type="JobStatus",
        severity=severity,
        description="Failover - Failed",
        occurred_at=world.clock.now(),
        affected_name="Web01",
    )
    await world.committer.commit(Change(saves=(Save(event, NEW),)))


async def test_each_event_is_written_of_once(world: HubWorld, tmp_path: Path) -> None:
    await happen(world, "before")
    world.clock.time += timedelta(seconds=1)
    await subscribe(world)
    async with post_office(tmp_path) as (office, mail):
        mails = mails_of(world, mail)
        await happen(world, "failed")
        await happen(world, "well", "OK")
        assert [await mails.turn() for _ in range(3)] == [1, 0, 0]
        # Another hub of the database, or this one after a restart, writes nothing twice.
        assert await mails_of(world, mail).turn() == 0
    ((letter, to),) = office.received
    assert to == [TO]
    assert letter["Subject"] == "[Critical] Web01 Failover - Failed"
    assert letter["Message-ID"] == "<failed@example.org>"
    kept = await world.store.get(AlertMail, "failed")
    assert kept is not None
    assert (kept.record.state, kept.record.tries) == ("Sent", 1)


async def test_a_letter_that_is_not_taken_is_kept_and_brought_again(
    world: HubWorld, tmp_path: Path
) -> None:
    await subscribe(world)
    async with post_office(tmp_path) as (office, mail):
        mails = mails_of(world, mail)
        office.answers = ["451 try again later"]
        await happen(world, "failed")
        assert await mails.turn() == 0
        kept = await world.store.get(AlertMail, "failed")
        assert kept is not None
        assert kept.record.state == "Waiting"
        assert "451" in kept.record.last_error
        assert await mails.turn() == 0, "its pause is not over"
        world.clock.time += timedelta(minutes=5)
        assert await mails.turn() == 1
        assert len(office.received) == 1
        world.clock.time += timedelta(days=8)
        assert await mails.prune() == 1


async def test_a_server_that_is_gone_or_not_to_be_trusted_gets_nothing(
    world: HubWorld, tmp_path: Path
) -> None:
    await subscribe(world)
    await happen(world, "failed")
    other = tmp_path / "other"
    other.mkdir()
    foreign, _ = loopback_certificate(other)
    async with post_office(tmp_path) as (office, mail):
        distrusted = mail.model_copy(update={"tls_root_file": foreign})
        assert await mails_of(world, distrusted).turn() == 0
        assert office.received == []
    letter = await world.store.get(AlertMail, "failed")
    assert letter is not None
    assert "certificate verify failed" in letter.record.last_error
    with pytest.raises(MailError, match="localhost"):
        await MailServer(mail).send(letter.record)
    assert PASSWORD not in letter.record.model_dump_json()


async def test_without_a_mail_server_nobody_can_be_named(world: HubWorld) -> None:
    settings = AlertSettingsService(
        reader=world.store,
        committer=world.committer,
        clock=world.clock,
        owners=(),
        has_server=False,
    )
    with pytest.raises(InvalidRequestError, match="'mail'"):
        await settings.change(world.vault, send_to_owners="", addresses=[TO], locale="")
    assert await world.store.get(AlertSettings, world.vault.id) is None
    assert (await settings.find(world.vault)).addresses == ()


def test_a_password_is_not_sent_in_clear() -> None:
    with pytest.raises(ValueError, match="in clear"):
        MailSettings(host="h", sender="a@b", tls=MailTls.OFF, username="u", password_file=Path("p"))
