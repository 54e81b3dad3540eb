"""A simulated VMM server, a hub that tells its time, and a server to set up, on loopback."""

import contextlib
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509

from certs.identity import new_private_key, private_key_pem
from certs.profiles import Profile
from certs.tls import server_context
from certs.vault_credentials import VaultCredentials, make_pfx, render
from provider_agent.config import AgentSettings
from provider_agent.setup.command import SetupOptions, Surface, run_setup
from provider_agent.setup.service_unit import ServiceManager
from service_shell.clock import SystemClock
from tests.support.simulator_estate import Estate, RunningSite, trust
from wire_contract import paths

NODES = ("vmm-a.tokyo.example", "vmm-b.tokyo.example")
ROLE = "vmm.tokyo.example"


@dataclass
class TimeOfHub:
    """A hub as far as set-up asks it; `ahead` moves its clock."""

    ahead: timedelta = timedelta()
    url: str = ""
    asked: int = 0

    async def health(self, _: web.Request) -> web.Response:
        """Answer as the provider API does."""
        self.asked += 1
        return web.json_response(
            {"state": "serving", "time": (datetime.now(UTC) + self.ahead).isoformat()}
        )


@dataclass
class SetupWorld:
    """What a test of set-up holds."""

    folder: Path
    tokyo: RunningSite
    hub: TimeOfHub
    config: Path
    credentials: Path
    lines: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    says_yes: bool = True
    systemd: ServiceManager = field(default_factory=ServiceManager)

    def settings(self, **changes: Any) -> AgentSettings:
        """Return the agent's configuration."""
        return AgentSettings.model_validate(self.configuration(**changes))

    def configuration(self, **changes: Any) -> dict[str, Any]:
        """Return it as it stands in a file."""
        return {
            "data_directory": str(self.folder / "agent"),
            "ready_file": str(self.folder / "agent.ready"),
            "vmm": {
                "url": f"https://127.0.0.1:{self.tokyo.vmm_port}",
                "ca_file": str(self.folder / "ca.pem"),
                "token_file": str(self.folder / "token"),
            },
            **changes,
        }

    async def set_up(self, settings: AgentSettings | None = None, **options: Any) -> None:
        """Run set-up."""
        values = {"config": self.config, "credentials": self.credentials, **options}
        surface = Surface(self.lines.append, self._answer, self.systemd)
        await run_setup(settings or self.settings(), SetupOptions(**values), surface, SystemClock())

    async def service(self) -> dict[str, Any]:
        """Return the VMM service's view."""
        return await self.tokyo.get(paths.VMM_SERVICE)

    def said(self) -> str:
        """Return all that set-up has said."""
        return "\n".join(self.lines)

    def use_systemd(self, script: str) -> Path:
        """Play a systemd whose systemctl is this script; returns the folder of its units."""
        runtime, units = self.folder / "run", self.folder / "units"
        runtime.mkdir()
        units.mkdir()
        systemctl = self.folder / "systemctl"
        systemctl.write_text(f"#!/bin/sh\n{script}\n")
        systemctl.chmod(systemctl.stat().st_mode | stat.S_IXUSR)
        self.systemd = ServiceManager(runtime, units, str(systemctl))
        return units

    def _answer(self, question: str) -> bool:
        self.questions.append(question)
        return self.says_yes


@contextlib.asynccontextmanager
async def setup_world(estate: Estate, **vmm: Any) -> AsyncIterator[SetupWorld]:
    """Run the VMM server and the hub's clock; the VMM settings of the site may be changed."""
    folder = estate.folder
    (folder / "ca.pem").write_text(trust().root_pem)
    settings = {"id": "vmm-tokyo", "fqdn": ROLE, **vmm}
    async with estate.running("tokyo", vmm=settings) as tokyo, _hub() as hub:
        credentials = folder / "vault.VaultCredentials"
        credentials.write_bytes(vault_credentials(hub.url))
        config = folder / "agent.yaml"
        config.write_text("written by the test")
        yield SetupWorld(folder, tokyo, hub, config, credentials)


@contextlib.asynccontextmanager
async def _hub() -> AsyncIterator[TimeOfHub]:
    hub = TimeOfHub()
    key = new_private_key()
    issued = trust().issue(
        Profile.HUB_SERVER, key.public_key(), "hub", datetime.now(UTC), ip_addresses=["127.0.0.1"]
    )
    application = web.Application()
    application.router.add_get(paths.PROVIDER_HEALTH, hub.health)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        tls = server_context(issued.chain_pem, private_key_pem(key))
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        hub.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield hub
    finally:
        await runner.cleanup()


def vault_credentials(hub_url: str) -> bytes:
    """Return a vault credentials file for that hub."""
    key = new_private_key()
    now = datetime.now(UTC)
    issued = trust().issue(Profile.VAULT_REGISTRATION, key.public_key(), "vault-1", now)
    extra = [
        x509.load_pem_x509_certificate(pem.encode())
        for pem in (trust().registration_ca_pem, trust().root_pem)
    ]
    return render(
        VaultCredentials(
            subscription_id="sub",
            resource_group="group",
            vault_name="Contoso vault",
            resource_id=7,
            location="japaneast",
            management_pfx=make_pfx(key, issued.certificate, extra),
            aad_authority="https://login.example",
            aad_tenant_id="tenant",
            service_principal_client_id="client",
            vault_audience="https://RecoveryServiceVault/japaneast/Contoso/7",
            provider_url=hub_url,
            channel_integrity_key="",
        )
    )
