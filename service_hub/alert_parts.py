"""Part of the composition root: alert settings, and what sends the letters."""

from typing import Final

from service_hub.config import HubSettings
from service_hub.engine.chores import Chore
from service_hub.mail_server import MailServer
from service_hub.ports.stores import Committer
from service_hub.ports.surroundings import Clock
from service_hub.services.alert_mails import AlertMails, AlertSettingsService
from service_hub.store.record_store import RecordStore

ALERT_MAILS_SECONDS: Final = 5.0
"""How often it is looked whether there is something to write of."""

OLD_MAILS_SECONDS: Final = 3600.0


def alert_settings(
    settings: HubSettings, clock: Clock, store: RecordStore, committer: Committer
) -> AlertSettingsService:
    """Return the use case; without a mail server in the configuration nobody can be named."""
    mail = settings.mail
    return AlertSettingsService(
        reader=store,
        committer=committer,
        clock=clock,
        owners=() if mail is None else mail.owner_addresses,
        has_server=mail is not None,
    )


def alert_chores(
    settings: HubSettings, clock: Clock, store: RecordStore, committer: Committer
) -> tuple[Chore, ...]:
    """Return what writes and sends letters, nothing where there is no mail server."""
    if settings.mail is None:
        return ()
    mails = AlertMails(
        reader=store,
        events=store,
        committer=committer,
        clock=clock,
        mailer=MailServer(settings.mail),
        owners=settings.mail.owner_addresses,
    )
    return (
        Chore("alert_mails", ALERT_MAILS_SECONDS, mails.turn),
        Chore("old_alert_mails", OLD_MAILS_SECONDS, mails.prune),
    )
