"""The mail server that letters are handed to: SMTP (RFC 5321) with TLS, by aiosmtplib."""

import ssl
from email.message import EmailMessage
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiosmtplib
from pydantic import Field, model_validator

from service_hub.domain.alert_mails import ADDRESS_CHARACTERS_MAX, AlertMail
from service_hub.services.alert_mails import MailError
from service_shell.configuration import Settings
from service_shell.errors import ProgramError
from service_shell.secret_files import read_secret

PASSWORD_BYTES_MAX: Final = 4096
OWNERS_MAX: Final = 20


class MailTls(StrEnum):
    """How the way to the mail server is protected."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    OFF = "off"


class MailSettings(Settings):
    """The mail server; without `username` the hub does not say who it is.

    `tls_root_file`: the roots (PEM) that its certificate must chain to; without it the machine's.
    `password_file` has mode 0600. `owner_addresses` get what vaults send to their owners.
    """

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=587, ge=1, le=65_535)
    tls: MailTls = MailTls.STARTTLS
    tls_root_file: Path | None = None
    sender: str = Field(
        min_length=3, max_length=ADDRESS_CHARACTERS_MAX, pattern=r"^[^\s@]+@[^\s@]+$"
    )
    username: str | None = Field(default=None, min_length=1, max_length=254)
    password_file: Path | None = None
    owner_addresses: tuple[str, ...] = Field(default=(), max_length=OWNERS_MAX)
    timeout_seconds: float = Field(default=30.0, ge=1, le=300)

    @model_validator(mode="after")
    def _is_whole(self) -> "MailSettings":
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.username is not None and self.tls is MailTls.OFF:
            raise ValueError("a password is not sent in clear: use tls starttls or implicit")
        return self


class MailServer:
    """A Mailer: each letter over a connection of its own."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        roots = settings.tls_root_file
        try:
            self._tls = ssl.create_default_context(cafile=None if roots is None else str(roots))
        except OSError as error:
            raise ProgramError(
                f"mail.tls_root_file {roots} can't be used: {error}; name a PEM file with roots"
            ) from error
        self._password = None
        if settings.password_file is not None:
            secret = read_secret(settings.password_file, PASSWORD_BYTES_MAX)
            self._password = secret.decode().rstrip("\r\n")

    async def send(self, mail: AlertMail) -> None:
        """Return when the server has taken the letter for everybody; MailError."""
        settings = self._settings
        secured = settings.tls is not MailTls.OFF
        try:
            refused, _ = await aiosmtplib.send(
                self._message(mail),
                sender=settings.sender,
                recipients=list(mail.recipients),
                hostname=settings.host,
                port=settings.port,
                username=settings.username,
                password=self._password,
                use_tls=settings.tls is MailTls.IMPLICIT,
                start_tls=settings.tls is MailTls.STARTTLS,
                tls_context=self._tls if secured else None,
                timeout=settings.timeout_seconds,
            )
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise MailError(f"{settings.host}:{settings.port}: {error}") from error
        if refused:
            raise MailError(f"{settings.host} did not take it for {', '.join(sorted(refused))}")

    def _message(self, mail: AlertMail) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._settings.sender
        message["To"] = ", ".join(mail.recipients)
        message["Subject"] = mail.subject
        message["Date"] = mail.made_at
        # The same for each try: whoever got it already knows it.
        domain = self._settings.sender.rpartition("@")[2]
        message["Message-ID"] = f"<{mail.id}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return message
