"""A proxy that is given by the operator: tested first, then kept, its password in VMM as well.

The password is changed in VMM's RunAs account DRAProxyAccount, and holds from the next start of
the VMM service on (design: channel, proxy).
"""

import asyncio
from pathlib import Path

import structlog

from certs.tls import client_context
from provider_agent.domain.proxies import ProxyCredentials, ProxyError, ProxyRules
from provider_agent.fabric.driver import FabricError
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.hub_https import HubError, HubHttps, HubRequest
from provider_agent.proxy import HubRoute, save_registered
from provider_agent.wake import Wake
from service_shell.errors import ProgramError
from wire_contract import paths
from wire_contract.vmm_service import PROXY_ACCOUNT, RunAsCredential

log = structlog.get_logger(__name__)


async def test_proxy(rules: ProxyRules, hub_url: str, root_pem: str) -> None:
    """Return when the hub itself answers by this way; ProgramError names what stands in it."""
    request = HubRequest("GET", paths.PROVIDER_HEALTH)
    try:
        async with HubHttps.connect(hub_url, client_context(root_pem), rules) as https:
            await https.send(request)
    except HubError as error:
        raise ProgramError(f"the proxy {rules.proxy} is not accepted: {error}") from error


async def accept_proxy(
    rules: ProxyRules, hub_url: str, root_pem: str, data_directory: Path, vmm: VmmService
) -> None:
    """Test the proxy, create its RunAs account in VMM, and keep it for later starts."""
    await test_proxy(rules, hub_url, root_pem)
    credentials = rules.proxy.credentials if rules.proxy is not None else None
    if credentials is not None:
        account = RunAsCredential(user_name=credentials.username, password=credentials.password)
        try:
            await vmm.put_run_as(PROXY_ACCOUNT, account)
        except FabricError as error:
            raise ProgramError(
                f"the VMM server does not take the RunAs account {PROXY_ACCOUNT}: {error};"
                " the proxy was not accepted, mend this and run the same again"
            ) from error
    await asyncio.to_thread(save_registered, data_directory, rules)


class ProxyAccount:
    """Keeps the proxy's credentials as VMM's RunAs account has them in force."""

    def __init__(self, vmm: VmmService, route: HubRoute, fabric_returned: Wake) -> None:
        self._vmm = vmm
        self._route = route
        self._fabric_returned = fabric_returned

    async def run(self) -> None:
        """Look at the start, and for ever each time the VMM server comes back."""
        while True:
            await self.adopt()
            await self._fabric_returned.wait()

    async def adopt(self) -> None:
        """Take over what is in force; without an account, or without VMM, all stays as it is."""
        before = self._route.credentials
        if before is None:
            return  # the proxy asks for nothing
        try:
            account = await self._vmm.run_as_credential(PROXY_ACCOUNT)
            if account is None:
                return
            now = ProxyCredentials(account.user_name, account.password)
        except (FabricError, ProxyError) as error:
            log.warning("proxy_account_not_readable", account=PROXY_ACCOUNT, cause=str(error))
            return
        if now != before:
            self._route.use_credentials(now)
            log.info("proxy_credentials_changed", account=PROXY_ACCOUNT, username=now.username)
