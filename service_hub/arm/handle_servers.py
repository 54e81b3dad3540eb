"""What operators do with registered servers: remove, purge, refresh."""

from http import HTTPStatus

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import UnusedInput, read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.errors import OperationNotSupportedError
from service_hub.arm.handle_fabrics import fabric_handlers, provider_handlers
from service_hub.arm.ids import PROVIDERS, VaultIds
from service_hub.arm.long_running import accepted, operation_result
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import Vault


class ServerHandlers:
    """Changes of a VMM server; its fabric and its provider are two names of the same."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api
        self._fabrics = fabric_handlers(api)
        self._providers = provider_handlers(api)

    async def remove(self, call: Call) -> Answer:
        """Answer 202: the provider cleans up, then the server is deleted."""
        vault = await self._vault(call)
        name = call.folded("fabric")
        job = await self._api.servers.remove(vault, name, call.identity)
        return accepted(self._api, vault, job, self._resource(call, vault))

    async def purge(self, call: Call) -> Answer:
        """Answer 204 once a disconnected server is forgotten, also where there is none."""
        vault = await self._api.vault(call)
        try:
            vault = await self._vault(call)
        except NotFoundError:
            return Answer(HTTPStatus.NO_CONTENT)
        await self._api.servers.purge(vault, call.folded("fabric"))
        return Answer(HTTPStatus.NO_CONTENT)

    async def refresh(self, call: Call) -> Answer:
        """Answer 202: the server is asked for what it manages now."""
        vault = await self._vault(call)
        job = await self._api.servers.refresh(vault, call.folded("fabric"), call.identity)
        return accepted(self._api, vault, job, self._resource(call, vault))

    async def create(self, call: Call) -> Answer:
        """Answer with a server, or its provider, that is there; nothing makes another one.

        A VMM server comes by its provider's registration (arm-api.md, section 2.2).
        """
        read(call.body, UnusedInput)
        shown = self._providers.get if "provider" in call.names else self._fabrics.get
        try:
            return await shown(call)
        except NotFoundError:
            raise OperationNotSupportedError(
                "A VMM server isn't made through this interface: register its provider with a"
                " registration key of this vault ('provider-agent register'). It then has the name"
                " that the list of replicationFabrics shows."
            ) from None

    async def unregister(self, call: Call) -> Answer:
        """Answer 204 once a disconnected server is forgotten, named by whatever names it."""
        vault = await self._api.vault(call)
        named = call.folded("identity")
        for fabric in await self._api.fabrics.list(vault):
            server = fabric.provider
            if named in {
                each.lower()
                for each in (server.vmm_id, server.id, server.vmm_fqdn, server.fabric_name)
            }:
                await self._api.servers.purge(vault, server.fabric_name)
        return Answer(HTTPStatus.NO_CONTENT)

    async def result(self, call: Call) -> Answer:
        """Answer with the server that an operation was about, 204 where that is deleted."""
        shown = self._providers.get if "provider" in call.names else self._fabrics.get
        try:
            return await operation_result(self._api, call, shown)
        except NotFoundError:
            # The operation itself is found, or this raises once more.
            vault = await self._api.vault(call)
            await self._api.jobs.find(vault, call.folded("operation"))
            return Answer(HTTPStatus.NO_CONTENT)

    async def _vault(self, call: Call) -> Vault:
        """Return the vault once the server is found in it under both of its names."""
        vault = await self._api.vault(call)
        fabric = await self._api.fabrics.find(vault, call.folded("fabric"))
        if "provider" in call.names and call.folded("provider") != fabric.provider.vmm_id.lower():
            raise NotFoundError(call.name("provider"))
        return vault

    def _resource(self, call: Call, vault: Vault) -> str:
        ids = VaultIds(vault)
        fabric = call.folded("fabric")
        if "provider" in call.names:
            return ids.in_fabric(fabric, PROVIDERS, call.folded("provider"))
        return ids.fabric(fabric)
