"""The part of the VMM interface that set-up and registration use, and its management routes."""

import re
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from vmm_simulator.https import parsed, rendered
from vmm_simulator.lookout import Lookout
from vmm_simulator.problems import bad_arguments
from vmm_simulator.service import VmmService
from wire_contract.paths import (
    VMM_CLOUD_SYNCHRONIZATION,
    VMM_NODE_PROVIDER,
    VMM_RUN_AS_ACCOUNT,
    VMM_RUN_AS_ACCOUNTS,
    VMM_RUN_AS_CREDENTIAL,
    VMM_SERVICE,
)
from wire_contract.vmm_service import (
    ACCOUNT_NAME_PATTERN,
    ActiveNode,
    CloudSynchronization,
    NodeProvider,
    RunAsAccounts,
    RunAsCredential,
    ServiceControl,
)

_ACCOUNT_NAME: Final = re.compile(ACCOUNT_NAME_PATTERN)


class ServiceInterface:
    """Handlers of service control, nodes, RunAs accounts and the clouds' property."""

    def __init__(self, service: VmmService, lookout: Lookout) -> None:
        self._service = service
        self._lookout = lookout

    def routes(self) -> Iterable[web.RouteDef]:
        """Return what a provider uses; the first three answer also while the service is stopped."""
        yield web.get(VMM_SERVICE, self.show)
        yield web.put(VMM_SERVICE, self.control)
        yield web.put(VMM_NODE_PROVIDER, self.note_provider)
        yield web.get(VMM_RUN_AS_ACCOUNTS, self.accounts)
        yield web.put(VMM_RUN_AS_ACCOUNT, self.put_account)
        yield web.delete(VMM_RUN_AS_ACCOUNT, self.delete_account)
        yield web.get(VMM_RUN_AS_CREDENTIAL, self.credential)
        yield web.put(VMM_CLOUD_SYNCHRONIZATION, self.synchronize)

    def management_routes(self) -> Iterable[web.RouteDef]:
        """Return what a laboratory, in the place of the VMM console, uses as well."""
        yield web.get("/service", self.show)
        yield web.put("/service", self.control)
        yield web.put("/service/active-node", self.move_role)
        yield web.put("/service/nodes/{node}/provider", self.note_provider)
        yield web.get("/run-as-accounts", self.accounts)
        yield web.put("/run-as-accounts/{name}", self.put_account)
        yield web.put("/clouds/{cloud_id}/synchronization", self.synchronize)

    async def show(self, request: web.Request) -> web.Response:
        """The VMM service."""
        del request
        return rendered(self._service.view())

    async def control(self, request: web.Request) -> web.Response:
        """Start or stop it."""
        wanted = await parsed(request, ServiceControl)
        await self._service.control(running=wanted.running)
        return rendered(self._service.view())

    async def move_role(self, request: web.Request) -> web.Response:
        """Move the cluster role."""
        await self._service.move_role((await parsed(request, ActiveNode)).node)
        return rendered(self._service.view())

    async def note_provider(self, request: web.Request) -> web.Response:
        """Note the provider of a node."""
        installed = await parsed(request, NodeProvider)
        await self._service.note_provider(request.match_info["node"], installed.provider_version)
        return rendered(self._service.view())

    async def accounts(self, request: web.Request) -> web.Response:
        """RunAs accounts, without passwords."""
        del request
        self._service.check_running()
        return rendered(RunAsAccounts(accounts=self._service.run_as.views()))

    async def put_account(self, request: web.Request) -> web.Response:
        """Create or change a RunAs account."""
        self._service.check_running()
        name = _account_name(request)
        await self._service.run_as.put(name, await parsed(request, RunAsCredential))
        return rendered(RunAsAccounts(accounts=self._service.run_as.views()))

    async def delete_account(self, request: web.Request) -> web.Response:
        """Delete a RunAs account."""
        self._service.check_running()
        await self._service.run_as.delete(_account_name(request))
        return rendered(RunAsAccounts(accounts=self._service.run_as.views()))

    async def credential(self, request: web.Request) -> web.Response:
        """What is in force: the provider acts with the account, as a part of the VMM service."""
        self._service.check_running()
        answer = rendered(self._service.run_as.in_force(_account_name(request)))
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def synchronize(self, request: web.Request) -> web.Response:
        """Set a cloud's property."""
        self._service.check_running()
        cloud_id = request.match_info["cloud_id"]
        wanted = await parsed(request, CloudSynchronization)
        await self._service.synchronize(cloud_id, synchronize=wanted.synchronize)
        return rendered(self._lookout.cloud(cloud_id))


def _account_name(request: web.Request) -> str:
    name = request.match_info["name"]
    if _ACCOUNT_NAME.fullmatch(name) is None:
        raise bad_arguments(
            "an account's name has 1 to 128 letters, digits, spaces, `.`, `_` or `-`,"
            " and begins with a letter or digit"
        )
    return name
