"""Who is written to when something happens in a vault, and what becomes of each letter; pure.

A letter is kept before it is sent, one for each event: its id is the event's, and its Message-ID
follows from it, so that a letter that had to be sent again is known by its receiver.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final, Literal

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.records import Record
from service_hub.domain.replication_events import ReplicationEvent

SETTING_NAME: Final = "defaultAlertSetting"
ADDRESSES_MAX: Final = 20
ADDRESS_CHARACTERS_MAX: Final = 254
"""Of a path of SMTP (RFC 5321, section 4.5.3.1.3)."""

SUBJECT_CHARACTERS_MAX: Final = 200
WRITTEN_OF: Final = frozenset({"Warning", "Critical"})
"""The severities of which somebody is written to."""

FIRST_PAUSE: Final = timedelta(seconds=30)
PAUSE_MAX: Final = timedelta(hours=1)
TRIED_FOR: Final = timedelta(days=2)
"""How long a letter is tried before it is given up; mail servers do about the same."""

_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,189}")
_YES: Final = frozenset({"send", "true"})
_NO: Final = frozenset({"donotsend", "false", ""})


class AlertSettings(Record):
    """The one alert setting of a vault; `id` is the vault's.

    Of events before `since` nobody is written to; `read_to` is how far they were looked at.
    """

    kind: ClassVar[str] = "alert_settings"

    send_to_owners: str = "DoNotSend"
    addresses: tuple[str, ...] = ()
    locale: str = "en-US"
    since: datetime
    read_to: datetime

    @property
    def to_owners(self) -> bool:
        """Whether those are written to whom the hub's configuration names as owners."""
        return self.send_to_owners.lower() in _YES

    def recipients(self, owners: Sequence[str]) -> tuple[str, ...]:
        """Return who is written to, each once."""
        return tuple(dict.fromkeys((*self.addresses, *(owners if self.to_owners else ()))))


class AlertMail(Record):
    """One letter about one event; `id` is the event's. It changes by its own table alone."""

    kind: ClassVar[str] = "alert_mail"

    recipients: tuple[str, ...]
    subject: str
    text: str
    state: Literal["Waiting", "Sent", "GivenUp"] = "Waiting"
    made_at: datetime
    due_at: datetime
    tries: int = 0
    last_error: str = ""


def checked_settings(
    settings: AlertSettings, owners: Sequence[str], *, has_server: bool
) -> AlertSettings:
    """Return the settings where they can be carried out; InvalidRequestError names the property."""
    if settings.send_to_owners.lower() not in _YES | _NO:
        raise InvalidRequestError("It is Send or DoNotSend.", "properties.sendToOwners")
    for index, address in enumerate(settings.addresses):
        if len(address) > ADDRESS_CHARACTERS_MAX or not _ADDRESS.fullmatch(address):
            raise InvalidRequestError(
                "This is no e-mail address.", f"properties.customEmailAddresses.{index}"
            )
    if settings.to_owners and not owners:
        raise InvalidRequestError(
            "The hub knows no owners' addresses: name them in mail.owner_addresses of its"
            " configuration, or in customEmailAddresses.",
            "properties.sendToOwners",
        )
    if settings.recipients(owners) and not has_server:
        raise InvalidRequestError(
            "This hub has no mail server to send by: set 'mail' in its configuration.",
            "properties.customEmailAddresses",
        )
    return settings


def letter(
    event: ReplicationEvent, settings: AlertSettings, owners: Sequence[str], now: datetime
) -> AlertMail | None:
    """Return the letter about an event, None where nobody is written to of it."""
    recipients = settings.recipients(owners)
    if event.severity not in WRITTEN_OF or event.occurred_at < settings.since or not recipients:
        return None
    # A subject is one line, whatever a name holds.
    about = " ".join(f"{event.affected_name} {event.description}".split())
    return AlertMail(
        id=event.id,
        vault_id=event.vault_id,
        recipients=recipients,
        subject=f"[{event.severity}] {about}"[:SUBJECT_CHARACTERS_MAX],
        text=_text(event),
        made_at=now,
        due_at=now,
    )


def _text(event: ReplicationEvent) -> str:
    lines = [
        event.description,
        "",
        f"Severity: {event.severity}",
        f"Time: {event.occurred_at:%Y-%m-%dT%H:%M:%SZ}",
        f"Object: {event.affected_name}",
        f"Event: {event.code}",
    ]
    if event.job_id:
        lines.append(f"Job: {event.job_name} {event.job_id}, {event.job_status}")
    for each in event.health:
        lines += ["", f"{each.code}: {each.message}"]
        lines += [f"Possible causes: {each.causes}"] if each.causes else []
        lines += [f"Recommended action: {each.action}"] if each.action else []
    return "\n".join(lines) + "\n"


def trying(mail: AlertMail, now: datetime) -> AlertMail:
    """Return a letter whose next try begins: who stores this sends it, nobody else until then."""
    pause = min(FIRST_PAUSE * 2 ** min(mail.tries, 16), PAUSE_MAX)
    return mail.model_copy(update={"tries": mail.tries + 1, "due_at": now + pause})


def tried(mail: AlertMail, error: str | None, now: datetime) -> AlertMail:
    """Return a letter after a try; `error`: why it was not taken, in words."""
    if error is None:
        return mail.model_copy(update={"state": "Sent", "last_error": ""})
    over = now - mail.made_at >= TRIED_FOR
    return mail.model_copy(
        update={"state": "GivenUp" if over else "Waiting", "last_error": error[:500]}
    )
