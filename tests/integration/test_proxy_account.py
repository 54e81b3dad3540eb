"""A proxy that is accepted, and its password in VMM: real squid, real simulator."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from provider_agent.agent import vmm_driver
from provider_agent.domain.proxies import Proxy, ProxyCredentials, ProxyRules
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.proxy import REGISTERED_FILE, HubRoute, load_rules
from provider_agent.proxy_account import ProxyAccount, accept_proxy
from provider_agent.wake import Wake
from service_shell.errors import ProgramError
from tests.integration import proxy_servers
from tests.integration.proxy_servers import PASSWORD, USER, RealProxy
from tests.support.setup_world import SetupWorld, setup_world
from tests.support.simulator_estate import make_estate, trust
from wire_contract.vmm_service import PROXY_ACCOUNT, RunAsCredential


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SetupWorld]:
    async with setup_world(make_estate(tmp_path)) as made:
        yield made


@pytest.fixture
def squid(free_port: Callable[[], int]) -> Iterator[RealProxy]:
    with proxy_servers.squid(free_port()) as proxy:
        yield proxy


def account_with(password: str) -> RunAsCredential:
    return RunAsCredential(user_name=USER, password=password)


def rules(port: int, password: str) -> ProxyRules:
    return ProxyRules(Proxy("127.0.0.1", port, ProxyCredentials(USER, password)))


@pytest.mark.needs("squid", "openssl")
async def test_an_accepted_proxy_has_its_run_as_account_and_is_kept(
    world: SetupWorld, squid: RealProxy
) -> None:
    data = world.folder / "agent"
    async with vmm_driver(world.settings().vmm) as driver:
        service = VmmService(driver)
        good, wrong = rules(squid.port, PASSWORD), rules(squid.port, "wrong")
        root = trust().root_pem
        with pytest.raises(ProgramError, match=r"not accepted: .*refused your credentials \(407"):
            await accept_proxy(wrong, world.hub.url, root, data, service)
        assert await service.run_as_credential(PROXY_ACCOUNT) is None
        assert not (data / REGISTERED_FILE).exists()
        assert world.hub.asked == 0
        await accept_proxy(good, world.hub.url, root, data, service)
        assert world.hub.asked == 1
        account = await service.run_as_credential(PROXY_ACCOUNT)
        assert account == account_with(PASSWORD)
        assert load_rules(None, data, {}) == good


@pytest.mark.needs("squid", "openssl")
async def test_a_proxy_that_vmm_cannot_keep_is_not_accepted(
    world: SetupWorld, squid: RealProxy
) -> None:
    data = world.folder / "agent"
    async with vmm_driver(world.settings().vmm) as driver:
        service = VmmService(driver)
        await service.control(running=False)
        with pytest.raises(ProgramError, match=f"does not take the RunAs account {PROXY_ACCOUNT}"):
            await accept_proxy(
                rules(squid.port, PASSWORD), world.hub.url, trust().root_pem, data, service
            )
        assert not (data / REGISTERED_FILE).exists()


async def test_a_password_changed_in_vmm_holds_from_the_services_next_start(
    world: SetupWorld,
) -> None:
    route = HubRoute(rules(1, "first"))
    async with vmm_driver(world.settings().vmm) as driver:
        service = VmmService(driver)
        account = ProxyAccount(service, route, Wake())

        async def said() -> str:
            await account.adopt()
            assert route.credentials is not None
            return route.credentials.password

        assert await said() == "first"  # there is no account yet
        await service.put_run_as(PROXY_ACCOUNT, account_with("first"))
        await service.put_run_as(PROXY_ACCOUNT, account_with("second"))
        assert await said() == "first"
        await service.control(running=False)
        assert await said() == "first"  # VMM cannot be asked now
        await service.control(running=True)
        assert await said() == "second"
        proxy = route.proxy_for("hub.example", 9443)
        assert proxy is not None
        assert proxy.headers() == Proxy("x", 1, ProxyCredentials(USER, "second")).headers()


async def test_a_proxy_that_asks_for_nothing_is_told_nothing(world: SetupWorld) -> None:
    route = HubRoute(ProxyRules(Proxy("127.0.0.1", 1)))
    async with vmm_driver(world.settings().vmm) as driver:
        service = VmmService(driver)
        await service.put_run_as(PROXY_ACCOUNT, account_with("x"))
        await ProxyAccount(service, route, Wake()).adopt()
    assert route.credentials is None
