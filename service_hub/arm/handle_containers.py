"""Clouds, the machines in them, and mappings between clouds."""

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import (
    MappingInput,
    MappingRemovalInput,
    UnusedInput,
    read,
    refuse_other_providers,
)
from service_hub.arm.calls import Answer, Call
from service_hub.arm.errors import OperationNotSupportedError
from service_hub.arm.event_filter import asked_filter, without_filter
from service_hub.arm.ids import CONTAINERS, FABRICS, MAPPINGS, POLICIES, VaultIds, names_in_id
from service_hub.arm.long_running import accepted, operation_result
from service_hub.arm.paging import page
from service_hub.arm.render_containers import (
    container_body,
    in_vault_list,
    mapping_body,
    protectable_item_body,
    protectable_machines,
)
from service_hub.arm.surroundings import Surroundings, clouds, surroundings
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.records import ContainerMapping
from service_hub.ports.use_cases import FabricFacts
from wire_contract.vmm_interface import CloudView


class ContainerHandlers:
    """What operators ask of clouds."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def list(self, call: Call) -> Answer:
        """Answer with the synchronised clouds of all fabrics of a vault (seed, step 3)."""
        around = await surroundings(self._api, await self._api.vault(call))
        bodies = [
            container_body(around, fabric, cloud)
            for fabric in around.fabrics
            for cloud in clouds(fabric)
            if in_vault_list(around, fabric, cloud)
        ]
        return page(call, bodies, self._api.public_url)

    async def list_by_fabric(self, call: Call) -> Answer:
        """Answer with all clouds of one fabric: pairing offers also those not synchronised."""
        around = await surroundings(self._api, await self._api.vault(call))
        fabric = named_fabric(around, call)
        bodies = [container_body(around, fabric, cloud) for cloud in clouds(fabric)]
        return page(call, bodies, self._api.public_url)

    async def get(self, call: Call) -> Answer:
        """Answer with one cloud."""
        around = await surroundings(self._api, await self._api.vault(call))
        fabric, cloud = named_cloud(around, call)
        return Answer(body=container_body(around, fabric, cloud))

    async def create(self, call: Call) -> Answer:
        """Answer with a cloud that is there; clouds are made in VMM."""
        read(call.body, UnusedInput)
        try:
            return await self.get(call)
        except NotFoundError:
            raise OperationNotSupportedError(
                "A cloud isn't made through this interface: create it in VMM. It shows here with"
                " the server's next inventory; 'refreshProvider' asks for it at once."
            ) from None

    async def remove(self, call: Call) -> Answer:
        """Refuse: what VMM has is taken away in VMM; 204 where there is no such cloud."""
        try:
            await self.get(call)
        except NotFoundError:
            return Answer(HTTPStatus.NO_CONTENT)
        raise OperationNotSupportedError(
            "A cloud isn't deleted through this interface: remove its mappings here, then delete it"
            " in VMM."
        )

    async def discover(self, call: Call) -> Answer:
        """Answer 202: the cloud's server is asked for what it manages now."""
        read(call.body, UnusedInput)
        vault = await self._api.vault(call)
        around = await surroundings(self._api, vault)
        fabric, cloud = named_cloud(around, call)
        name = fabric.provider.fabric_name
        job = await self._api.servers.refresh(vault, name, call.identity)
        return accepted(self._api, vault, job, around.ids.container(name, cloud.cloud_id))

    async def result(self, call: Call) -> Answer:
        """Answer with the cloud that an operation was about."""
        return await operation_result(self._api, call, self.get)

    async def list_protectable(self, call: Call) -> Answer:
        """Answer with the machines of a cloud that are or could be protected."""
        around = await surroundings(self._api, await self._api.vault(call))
        fabric, cloud = named_cloud(around, call)
        bodies = [
            protectable_item_body(around, fabric, machine)
            for machine in protectable_machines(around, fabric, cloud.cloud_id)
        ]
        wanted = asked_filter(call)
        shown = [body for body in bodies if _is_wanted(body["properties"], wanted)]
        return page(without_filter(call), shown, self._api.public_url)

    async def get_protectable(self, call: Call) -> Answer:
        """Answer with one machine."""
        around = await surroundings(self._api, await self._api.vault(call))
        fabric, cloud = named_cloud(around, call)
        for machine in protectable_machines(around, fabric, cloud.cloud_id):
            if machine.machine_id.lower() == call.folded("protectable_item"):
                return Answer(body=protectable_item_body(around, fabric, machine))
        raise NotFoundError(call.name("protectable_item"))


_FILTERED: Final = {
    "name": "friendlyName",
    "friendlyname": "friendlyName",
    "state": "protectionStatus",
    "protectionstatus": "protectionStatus",
}
"""By what protectable items are filtered, and the property that is compared."""


def _is_wanted(properties: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Return whether a machine is asked for; InvalidRequestError for what can't be asked."""
    unknown = wanted.keys() - _FILTERED.keys()
    if unknown:
        raise InvalidRequestError(
            f"Protectable items can't be filtered by '{min(unknown)}'. Use Name or State.",
            "$filter",
        )
    return all(
        str(properties[_FILTERED[name]]).lower() == text.lower() for name, text in wanted.items()
    )


class MappingHandlers:
    """What operators do with mappings: pair two clouds under a policy, look, separate them."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def create(self, call: Call) -> Answer:
        """Begin to pair the cloud of the path with the one of the body."""
        vault = await self._api.vault(call)
        wanted = read(call.body, MappingInput).properties
        refuse_other_providers(wanted.provider_specific_input, "properties.providerSpecificInput")
        fabric_name, cloud_id = names_in_id(
            wanted.target_protection_container_id,
            vault,
            (FABRICS, CONTAINERS),
            "properties.targetProtectionContainerId",
        )
        (policy_name,) = names_in_id(wanted.policy_id, vault, (POLICIES,), "properties.policyId")
        primary = (call.folded("fabric"), call.folded("container"))
        name = call.name("mapping")
        job = await self._api.pairing.pair(
            vault,
            name=name,
            primary=primary,
            recovery=(fabric_name.lower(), cloud_id.lower()),
            policy_name=policy_name,
            identity=call.identity,
        )
        resource_id = VaultIds(vault).in_container(*primary, MAPPINGS, name)
        return accepted(self._api, vault, job, resource_id)

    async def list(self, call: Call) -> Answer:
        """Answer with all mappings of a vault."""
        around = await surroundings(self._api, await self._api.vault(call))
        bodies = [mapping_body(around, mapping) for mapping in around.mappings]
        return page(call, bodies, self._api.public_url)

    async def list_by_container(self, call: Call) -> Answer:
        """Answer with the mappings of a cloud, whichever end of them it is."""
        around = await surroundings(self._api, await self._api.vault(call))
        bodies = [mapping_body(around, mapping) for mapping in _of_cloud(around, call)]
        return page(call, bodies, self._api.public_url)

    async def get(self, call: Call) -> Answer:
        """Answer with one mapping."""
        around = await surroundings(self._api, await self._api.vault(call))
        for mapping in _of_cloud(around, call):
            if mapping.name.lower() == call.folded("mapping"):
                return Answer(body=mapping_body(around, mapping))
        raise NotFoundError(call.name("mapping"))

    async def remove(self, call: Call) -> Answer:
        """Answer 202: both sites separate the clouds, then the mapping is forgotten."""
        vault = await self._api.vault(call)
        if call.body:
            wanted = read(call.body, MappingRemovalInput).properties.provider_specific_input
            refuse_other_providers(wanted, "properties.providerSpecificInput")
        cloud, name = _cloud(call), call.name("mapping")
        job = await self._api.pairing.remove(vault, cloud, name, call.identity)
        resource_id = VaultIds(vault).in_container(*cloud, MAPPINGS, name)
        return accepted(self._api, vault, job, resource_id)

    async def purge(self, call: Call) -> Answer:
        """Answer 204 once a mapping is forgotten, also where there is none."""
        vault = await self._api.vault(call)
        with suppress(NotFoundError):
            await self._api.pairing.purge(vault, _cloud(call), call.name("mapping"))
        return Answer(HTTPStatus.NO_CONTENT)

    async def result(self, call: Call) -> Answer:
        """Answer with the mapping that an operation was about, 204 where that is removed."""
        try:
            return await operation_result(self._api, call, self.get)
        except NotFoundError:
            # The operation itself is found, or this raises once more.
            vault = await self._api.vault(call)
            await self._api.jobs.find(vault, call.folded("operation"))
            return Answer(HTTPStatus.NO_CONTENT)


def _cloud(call: Call) -> tuple[str, str]:
    return call.folded("fabric"), call.folded("container")


def named_fabric(around: Surroundings, call: Call) -> FabricFacts:
    """Return the fabric that a path names; NotFoundError."""
    for fabric in around.fabrics:
        if fabric.provider.fabric_name.lower() == call.folded("fabric"):
            return fabric
    raise NotFoundError(call.name("fabric"))


def named_cloud(around: Surroundings, call: Call) -> tuple[FabricFacts, CloudView]:
    """Return the cloud that a path names; NotFoundError."""
    fabric = named_fabric(around, call)
    for cloud in clouds(fabric):
        if cloud.cloud_id.lower() == call.folded("container"):
            return fabric, cloud
    raise NotFoundError(call.name("container"))


def _of_cloud(around: Surroundings, call: Call) -> list[ContainerMapping]:
    fabric, cloud = named_cloud(around, call)
    place = (fabric.provider.id, cloud.cloud_id)
    return [
        mapping
        for mapping in around.mappings
        if place
        in {
            (mapping.primary_provider_id, mapping.primary_cloud_id),
            (mapping.recovery_provider_id, mapping.recovery_cloud_id),
        }
    ]
