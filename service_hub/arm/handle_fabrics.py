"""VMM servers and what they are made of: providers, networks, storage. All of it is observed."""

from collections.abc import Callable
from typing import Any

from service_hub.arm.api import ArmApi
from service_hub.arm.calls import Answer, Call
from service_hub.arm.paging import page
from service_hub.arm.render_fabrics import (
    classification_body,
    fabric_body,
    logical_network_bodies,
    network_body,
    provider_body,
)
from service_hub.arm.surroundings import networks
from service_hub.domain.errors import NotFoundError
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import FabricFacts

Rendering = Callable[[Vault, FabricFacts], list[dict[str, Any]]]
"""What of one kind lies in a fabric."""


def fabric_bodies(vault: Vault, fabric: FabricFacts) -> list[dict[str, Any]]:
    """Return the fabric itself."""
    return [fabric_body(vault, fabric)]


def provider_bodies(vault: Vault, fabric: FabricFacts) -> list[dict[str, Any]]:
    """Return the provider of a fabric; there is one."""
    return [provider_body(vault, fabric)]


def network_bodies(vault: Vault, fabric: FabricFacts) -> list[dict[str, Any]]:
    """Return the VM networks of a fabric."""
    return [network_body(vault, fabric, network) for network in networks(fabric)]


def classification_bodies(vault: Vault, fabric: FabricFacts) -> list[dict[str, Any]]:
    """Return the storage classifications of a fabric."""
    known = fabric.inventory.view.classifications if fabric.inventory else ()
    return [classification_body(vault, fabric, each) for each in known]


class FabricPartHandlers:
    """One kind of thing in fabrics: of a vault, of a fabric, and a single one."""

    def __init__(self, api: ArmApi, rendering: Rendering, segment: str) -> None:
        self._api = api
        self._rendering = rendering
        self._segment = segment

    async def list(self, call: Call) -> Answer:
        """Answer with those of all fabrics of a vault."""
        vault = await self._api.vault(call)
        fabrics = await self._api.fabrics.list(vault)
        bodies = [body for fabric in fabrics for body in self._rendering(vault, fabric)]
        return page(call, bodies, self._api.public_url)

    async def list_by_fabric(self, call: Call) -> Answer:
        """Answer with those of one fabric."""
        vault = await self._api.vault(call)
        fabric = await self._api.fabrics.find(vault, call.folded("fabric"))
        return page(call, self._rendering(vault, fabric), self._api.public_url)

    async def get(self, call: Call) -> Answer:
        """Answer with one of them."""
        vault = await self._api.vault(call)
        fabric = await self._api.fabrics.find(vault, call.folded("fabric"))
        name = call.folded(self._segment)
        for body in self._rendering(vault, fabric):
            if str(body["name"]).lower() == name:
                return Answer(body=body)
        raise NotFoundError(call.name(self._segment))


def fabric_handlers(api: ArmApi) -> FabricPartHandlers:
    """Return the handlers of the fabrics themselves."""
    return FabricPartHandlers(api, fabric_bodies, "fabric")


def provider_handlers(api: ArmApi) -> FabricPartHandlers:
    """Return the handlers of providers."""
    return FabricPartHandlers(api, provider_bodies, "provider")


def network_handlers(api: ArmApi) -> FabricPartHandlers:
    """Return the handlers of VM networks."""
    return FabricPartHandlers(api, network_bodies, "network")


def logical_network_handlers(api: ArmApi) -> FabricPartHandlers:
    """Return the handlers of logical networks."""
    return FabricPartHandlers(api, logical_network_bodies, "logical_network")


def classification_handlers(api: ArmApi) -> FabricPartHandlers:
    """Return the handlers of storage classifications."""
    return FabricPartHandlers(api, classification_bodies, "classification")
