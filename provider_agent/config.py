"""The provider's configuration file."""

from pathlib import Path

from pydantic import Field, field_validator

from provider_agent.domain.transports import MqttTransport
from provider_agent.proxy import ProxySettings
from service_shell.configuration import LogSettings, Settings


class VmmSettings(Settings):
    """The VMM server beside the provider: its URL, the CA of its certificate, the access token."""

    url: str = Field(max_length=512)
    ca_file: Path
    token_file: Path

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        if not url.startswith("https://"):
            raise ValueError("must begin with https://")
        return url.rstrip("/")


class TaskLimits(Settings):
    """Limits of the work on the fabric."""

    parallel_max: int = Field(default=1024, ge=1, le=10_000)
    """Most items that are worked on at the same time; one item has one task at a time."""

    read_back_seconds: float = Field(default=3.0, ge=0, le=60)
    """How long a verb's post-condition may take to show before the task has failed."""

    answer_grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    """How long after a task's deadline the answer to a verb begun before is still waited for."""


class MqttSettings(Settings):
    """How events are received at once; they are pulled over HTTPS in any case."""

    transport: MqttTransport = MqttTransport.AUTO
    """tls: the hub's MQTT port; websocket: its HTTPS port; auto: the first, else the second."""


class AgentSettings(Settings):
    """Everything that `provider-agent run` needs."""

    data_directory: Path
    ready_file: Path | None = None
    log: LogSettings = LogSettings()
    vmm: VmmSettings
    node: str | None = Field(default=None, min_length=1, max_length=253)
    """This server's name among VMM's nodes; needed where VMM is a cluster, else its host name."""

    proxy: ProxySettings | None = None
    """How to reach the hub; without it as given at registration, else directly."""

    mqtt: MqttSettings = MqttSettings()
    inventory_seconds: float = Field(default=300, gt=0, le=86_400)
    watch_seconds: float = Field(default=1, gt=0, le=3600)
    tasks: TaskLimits = TaskLimits()
