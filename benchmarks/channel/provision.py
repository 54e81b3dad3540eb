"""A hub with many registered providers, made as fast as possible: rows and certificates at once.

The rows are what enrolment stores; certificates and tokens are issued by the hub's own trust. All
providers share one private key, so that a machine of two cores can play a thousand of them.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from certs.identity import new_private_key, private_key_pem, thumbprint
from certs.profiles import Profile
from certs.tokens import issue_provider_token
from service_hub.config import HubSettings
from service_hub.domain.records import ManagementCertificate, Provider, ProviderStream, Vault
from service_hub.ports.changes import NEW, Change, Save
from service_hub.store.database import open_store
from service_hub.trust import HubTrust, initialise, load
from service_shell.clock import Clock
from service_shell.configuration import load_configuration

HOST: Final = "127.0.0.1"
TOKEN_HOURS: Final = 12
HEARTBEAT_SECONDS: Final = 60
"""The default; the figure for lost publishes is measured with it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one simulated provider holds."""

    provider_id: str
    stream: str
    chain_pem: str
    token: str


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything that the processes of a run share."""

    root_pem: str
    key_pem: str
    server_chain_pem: str
    server_key_pem: str
    management_ca_pem: str
    mqtt_port: int
    provider_url: str
    vault_id: str
    providers: list[Credentials]

    def save(self, path: Path) -> None:
        """Write it for the other processes."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Ground":
        """Read it back."""
        fields = json.loads(path.read_text())
        fields["providers"] = [Credentials(**each) for each in fields["providers"]]
        return cls(**fields)


def write_configuration(folder: Path, ports: tuple[int, int, int]) -> Path:
    """Write the hub's configuration and return its path."""
    operator, provider, mqtt = ports
    path = folder / "hub.yaml"
    path.write_text(
        f"data_directory: hub\nkey_file: hub/hub.key\npublic_url: https://{HOST}:{operator}\n"
        f"operator: {{host: {HOST}, port: {operator}}}\n"
        f"provider: {{host: {HOST}, port: {provider},"
        f" public_url: 'https://{HOST}:{provider}'}}\n"
        f"mqtt: {{host: {HOST}, port: {mqtt}, public_host: {HOST}}}\n"
        f"heartbeat_seconds: {HEARTBEAT_SECONDS}\n"
        # What is measured is how fast it can be, not how fast it lets itself be.
        "accept: {per_second: 100000, burst: 100000}\n"
        "log: {file: hub.log, level: warning}\nready_file: ready.json\n"
    )
    return path


async def provision(config: Path, count: int, clock: Clock) -> Ground:
    """Make the hub's trust, and `count` registered providers in its database."""
    settings, now = load_configuration(config, HubSettings), clock.now()
    initialise(settings, now)
    trust, vault_id, key = load(settings, clock.now()), clock.new_id(), new_private_key()
    vault = Vault(
        id=vault_id,
        vault_id=vault_id,
        subscription_id="bench",
        resource_group="bench",
        name="bench",
        location="local",
        resource_number=1,
        created_at=now,
    )
    saves, providers = [Save(vault, NEW)], []
    for number in range(count):
        provider_id, stream = clock.new_id(), clock.new_id()
        issued = trust.chain.issue(Profile.PROVIDER_MANAGEMENT, key.public_key(), provider_id, now)
        saves += [
            Save(record, NEW)
            for record in (
                _provider(provider_id, vault_id, number, now),
                ProviderStream(id=provider_id, vault_id=vault_id, stream=stream),
                ManagementCertificate(
                    id=thumbprint(issued.certificate),
                    vault_id=vault_id,
                    provider_id=provider_id,
                    issued_at=now,
                ),
            )
        ]
        token = issue_provider_token(
            trust.token_key,
            issuer=settings.public_url,
            provider_id=provider_id,
            vault_id=vault_id,
            certificate=issued.certificate,
            now=now,
            lifetime=timedelta(hours=TOKEN_HOURS),
        )
        providers.append(Credentials(provider_id, stream, issued.chain_pem, token))
    async with open_store(settings.database_file) as store:
        await store.apply([Change(saves=saves)])
    return _ground(
        settings=settings,
        trust=trust,
        key_pem=private_key_pem(key).decode(),
        vault_id=vault_id,
        providers=providers,
        now=now,
    )


def _provider(provider_id: str, vault_id: str, number: int, now: datetime) -> Provider:
    return Provider(
        id=provider_id,
        vault_id=vault_id,
        vmm_id=provider_id,
        vmm_fqdn=f"vmm{number}.bench",
        friendly_name=f"vmm{number}.bench",
        fabric_name=f"{number:064x}",
        enrolled_at=now,
        registered_at=now,
    )


def _ground(
    *,
    settings: HubSettings,
    trust: HubTrust,
    key_pem: str,
    vault_id: str,
    providers: list[Credentials],
    now: datetime,
) -> Ground:
    server_key = new_private_key()
    server = trust.chain.issue(
        Profile.HUB_SERVER, server_key.public_key(), HOST, now, ip_addresses=[HOST]
    )
    return Ground(
        root_pem=trust.chain.root_pem,
        key_pem=key_pem,
        server_chain_pem=server.chain_pem,
        server_key_pem=private_key_pem(server_key).decode(),
        management_ca_pem=trust.chain.management_ca_pem,
        mqtt_port=settings.mqtt.port,
        provider_url=settings.provider.public_url,
        vault_id=vault_id,
        providers=providers,
    )
