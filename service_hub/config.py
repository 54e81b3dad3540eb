"""The hub's configuration file (docs/operating.md shows every key with its default)."""

import ipaddress
import socket
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from service_hub.database_settings import DatabaseSettings
from service_hub.domain.accept_rate import AcceptRate
from service_hub.laboratory import LaboratorySettings
from service_hub.mail_server import MailSettings
from service_hub.oidc_settings import OidcSettings
from service_shell.configuration import ListenSettings, LogSettings, Settings


class ProviderListenSettings(ListenSettings):
    """Where providers connect; `public_url` is what they are told to use."""

    public_url: str

    @field_validator("public_url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        return https_url(value)


class MqttListenSettings(ListenSettings):
    """Where providers subscribe; `public_host` (and port) is what they are told to use."""

    public_host: str
    public_port: int | None = Field(default=None, ge=1, le=65_535)


class BrokerKind(StrEnum):
    """Who delivers events: the hub's own listener alone, or an external MQTT 5 broker too."""

    OWN = "own"
    MQTT = "mqtt"


class BrokerSettings(Settings):
    """The external broker; `mqtt.public_host` and `public_port` must then be the broker's."""

    kind: BrokerKind = BrokerKind.OWN
    host: str = Field(default="", max_length=253)
    port: int = Field(default=8883, ge=1, le=65_535)
    folder: Path | None = None
    """Where the broker reads certificates and the list of revoked ones; the hub keeps it fresh."""

    reload_command: tuple[str, ...] = Field(default=(), max_length=32)
    """What has the broker read them again, program and arguments; no shell is involved."""

    @model_validator(mode="after")
    def _has_host(self) -> "BrokerSettings":
        if self.kind is BrokerKind.MQTT and not self.host:
            raise ValueError("a broker of kind mqtt needs its host")
        return self

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The host as DNS names and as addresses, for the broker's certificate."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return (self.host,), ()
        return (), (self.host,)


class AcceptSettings(Settings):
    """How many providers may connect each second, over MQTT and for sessions over HTTPS each."""

    per_second: float = Field(default=200.0, gt=0, le=100_000)
    burst: int = Field(default=200, ge=1, le=100_000)

    @model_validator(mode="after")
    def _is_possible(self) -> "AcceptSettings":
        self.rate()
        return self

    def rate(self) -> AcceptRate:
        """Return a new bucket with these bounds."""
        return AcceptRate(self.per_second, self.burst)


class PlanSettings(Settings):
    """Recovery plans."""

    groups_max: int = Field(default=7, ge=1, le=100)
    """Most Boot groups of a plan (behaviour.md, 2.7)."""


class JobSettings(Settings):
    """How jobs are held and kept."""

    lease_seconds: float = Field(default=15.0, ge=1, le=300)
    """How long a hub that says nothing keeps its jobs before another takes them over."""

    retention_days: int = Field(default=180, ge=1, le=36_500)
    """How long a job that has ended stays in the database; then it goes into the archive."""

    archive_directory: Path | None = None
    """Where the archive of jobs is; by default `archive` in the data directory."""


class EventSettings(Settings):
    """What happened, as operators see it."""

    retention_days: int = Field(default=90, ge=1, le=36_500)
    """How long an event is kept."""


class HubSettings(Settings):
    """All that a hub is told."""

    data_directory: Path
    key_file: Path
    public_url: str
    operator: ListenSettings
    provider: ProviderListenSettings
    mqtt: MqttListenSettings
    broker: BrokerSettings = BrokerSettings()
    accept: AcceptSettings = AcceptSettings()
    database: DatabaseSettings = DatabaseSettings()
    jobs: JobSettings = JobSettings()
    events: EventSettings = EventSettings()
    laboratory: LaboratorySettings = LaboratorySettings()
    mail: MailSettings | None = None
    plans: PlanSettings = PlanSettings()
    oidc: OidcSettings | None = None
    """Who issues tokens beside the hub itself; nobody by default."""

    hub_name: str = Field(default_factory=socket.gethostname, min_length=1, max_length=253)
    """A label in logs and in /health: several hubs of one database are told apart by it."""

    region: str = "local"
    organization: str = Field(default="Site Recovery Hub", min_length=1, max_length=60)
    retry_after_seconds: int = Field(default=30, ge=1, le=3600)
    heartbeat_seconds: int = Field(default=60, ge=1, le=3600)
    inventory_seconds: int = Field(default=300, ge=1, le=86_400)
    missed_heartbeats_max: int = Field(default=5, ge=1, le=100)
    management_certificate_days: int = Field(default=30, ge=7, le=90)
    provider_version: str | None = Field(default=None, pattern=r"^[0-9]{1,9}(\.[0-9]{1,9}){1,3}$")
    log: LogSettings = LogSettings()
    ready_file: Path | None = None

    @field_validator("public_url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        return https_url(value)

    @model_validator(mode="after")
    def _issuers_differ(self) -> "HubSettings":
        if self.oidc is not None and self.oidc.issuer == self.public_url:
            raise ValueError("oidc.issuer must be another than public_url, the hub's own issuer")
        return self

    @property
    def lease(self) -> timedelta:
        """How long a provider counts as connected after its last contact."""
        return timedelta(seconds=self.heartbeat_seconds * self.missed_heartbeats_max)

    @property
    def database_file(self) -> Path:
        """The database of kind sqlite."""
        return self.data_directory / "hub.db"

    @property
    def archive_directory(self) -> Path:
        """Where jobs go that ended long ago."""
        return self.jobs.archive_directory or self.data_directory / "archive"

    @property
    def trust_directory(self) -> Path:
        """Where the trust chain lies: certificates in clear, keys encrypted."""
        return self.data_directory / "trust"

    @property
    def mqtt_url(self) -> str:
        """Where providers subscribe, as a URL."""
        port = self.mqtt.public_port or self.mqtt.port
        return f"mqtts://{self.mqtt.public_host}:{port}"

    @property
    def public_hosts(self) -> tuple[str, ...]:
        """Every host name or address that the hub's certificate must name."""
        urls = (self.public_url, self.provider.public_url, self.mqtt_url)
        return tuple(sorted({host_of(url) for url in urls}))


def host_of(url: str) -> str:
    """Return the host part of a URL."""
    host = urlsplit(url).hostname
    assert host is not None, "checked when the configuration was read"
    return host


def https_url(value: str) -> str:
    """Return the URL without a trailing slash; ValueError when it is not https with a host."""
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https:// URL with a host, for example https://hub:8443")
    if parts.port == 0:  # reading it raises ValueError for what is no number up to 65535
        raise ValueError("port 0 cannot be connected to")
    return value.rstrip("/")
