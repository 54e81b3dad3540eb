"""Who is written to of what, and what becomes of a letter."""

from datetime import UTC, datetime, timedelta

import pytest

from service_hub.domain.alert_mails import (
    PAUSE_MAX,
    TRIED_FOR,
    AlertMail,
    AlertSettings,
    checked_settings,
    letter,
    tried,
    trying,
)
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.replication_events import EventHealth, ReplicationEvent, Severity

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OWNERS = ("owner@example.org",)


def settings(**update: object) -> AlertSettings:
    made = AlertSettings(
        id="v", vault_id="v", addresses=("ops@example.org",), since=NOW, read_to=NOW
    )
    return made.model_copy(update=update)


def event(severity: Severity = "Critical", at: datetime = NOW) -> ReplicationEvent:
    return ReplicationEvent(
        id="e",
        vault_id="v",
        code="SRSJobStatus",
        event_type="JobStatus",
        severity=severity,
        description="Failover - Failed",
        occurred_at=at,
        affected_name="Web\r\nBcc: all@example.org",
        job_id="j",
        job_name="Failover",
        job_status="Failed",
        health=(EventHealth(code="532", level="Error", message="m", causes="c", action="a"),),
    )


def test_a_letter_says_what_why_and_what_to_do_in_one_line_of_subject() -> None:
    mail = letter(event(), settings(), OWNERS, NOW)
    assert mail is not None
    assert mail.subject == "[Critical] Web Bcc: all@example.org Failover - Failed"
    assert mail.recipients == ("ops@example.org",)
    assert "532: m" in mail.text
    assert "Recommended action: a" in mail.text


def test_nobody_is_written_to_of_what_is_well_or_was_before() -> None:
    assert letter(event("OK"), settings(), OWNERS, NOW) is None
    assert letter(event(at=NOW - timedelta(seconds=1)), settings(), OWNERS, NOW) is None
    assert letter(event(), settings(addresses=()), OWNERS, NOW) is None
    to_owners = settings(addresses=(), send_to_owners="Send")
    mail = letter(event("Warning"), to_owners, OWNERS, NOW)
    assert mail is not None
    assert mail.recipients == OWNERS


@pytest.mark.parametrize(
    ("update", "owners", "has_server", "target"),
    [
        ({"send_to_owners": "perhaps"}, OWNERS, True, "properties.sendToOwners"),
        ({"send_to_owners": "Send"}, (), True, "properties.sendToOwners"),
        ({"addresses": ("a b@c",)}, OWNERS, True, "properties.customEmailAddresses.0"),
        ({"addresses": ("a@b\n",)}, OWNERS, True, "properties.customEmailAddresses.0"),
        ({}, OWNERS, False, "properties.customEmailAddresses"),
    ],
)
def test_settings_that_cannot_be_carried_out_are_refused(
    update: dict[str, object], owners: tuple[str, ...], has_server: bool, target: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        checked_settings(settings(**update), owners, has_server=has_server)
    assert refused.value.target == target
    nobody = settings(addresses=(), send_to_owners="false")
    assert checked_settings(nobody, (), has_server=False) == nobody


def test_a_letter_is_tried_at_growing_distances_and_given_up_in_the_end() -> None:
    mail: AlertMail | None = letter(event(), settings(), OWNERS, NOW)
    assert mail is not None
    now, pauses = NOW, []
    while mail.state == "Waiting":
        mail = trying(mail, now)
        pauses.append(mail.due_at - now)
        mail = tried(mail, "busy", now)
        now = mail.due_at
    assert (mail.state, mail.last_error) == ("GivenUp", "busy")
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MAX
    assert TRIED_FOR <= now - NOW <= TRIED_FOR + 2 * PAUSE_MAX
    assert tried(mail, None, now).state == "Sent"
