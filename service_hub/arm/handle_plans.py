"""Recovery plans: saved, looked at, deleted, run."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import read
from service_hub.arm.calls import Answer, Call
from service_hub.arm.ids import FABRICS, LOGICAL_NETWORKS, NETWORKS, VaultIds, names_in_id
from service_hub.arm.long_running import accepted, operation_result
from service_hub.arm.paging import page
from service_hub.arm.plan_bodies import (
    PlanChangeInput,
    PlanCleanupInput,
    PlanFailoverInput,
    PlanInput,
    PlanTestInput,
    PlanUnplannedInput,
    fabric_of,
    groups_of,
    with_signatures,
)
from service_hub.arm.render_plans import plan_body
from service_hub.domain.drill_networks import TEST_NETWORK
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.plan_ports import PlanContent

Arguments = Mapping[str, JsonValue]
ReadArguments = Callable[[Call, Vault], Arguments]

_NAME_MAX: Final = 64
_NETWORK: Final = "properties.networkId"


class PlanHandlers:
    """What operators do with recovery plans."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def create(self, call: Call) -> Answer:
        """Save a plan between two servers; one that is there gets these groups."""
        vault = await self._api.vault(call)
        wanted = read(call.body, PlanInput).properties
        content = PlanContent(
            groups=groups_of(wanted.groups, vault),
            primary_fabric=fabric_of(wanted.primary_fabric_id, vault, "properties.primaryFabricId"),
            recovery_fabric=fabric_of(
                wanted.recovery_fabric_id, vault, "properties.recoveryFabricId"
            ),
        )
        return await self._save(call, vault, content)

    async def update(self, call: Call) -> Answer:
        """Replace all groups of a plan."""
        vault = await self._api.vault(call)
        wanted = read(call.body, PlanChangeInput).properties
        await self._api.plans.find(vault, call.name("plan"))
        return await self._save(call, vault, PlanContent(groups_of(wanted.groups, vault)))

    async def _save(self, call: Call, vault: Vault, content: PlanContent) -> Answer:
        name = call.name("plan")
        if len(name) > _NAME_MAX or not name.isprintable():
            raise InvalidRequestError(
                f"The name of a plan has at most {_NAME_MAX} characters that can be printed.",
                "recoveryPlanName",
            )
        job = await self._api.plans.save(vault, name, content, call.identity)
        return accepted(self._api, vault, job, VaultIds(vault).plan(name))

    async def get(self, call: Call) -> Answer:
        """Answer with one plan."""
        vault = await self._api.vault(call)
        return Answer(body=plan_body(vault, await self._api.plans.find(vault, call.name("plan"))))

    async def list(self, call: Call) -> Answer:
        """Answer with all plans of a vault."""
        vault = await self._api.vault(call)
        bodies = [plan_body(vault, each) for each in await self._api.plans.list(vault)]
        return page(call, bodies, self._api.public_url)

    async def delete(self, call: Call) -> Answer:
        """Delete a plan, 204 where there is none; its machines stay as they are."""
        vault = await self._api.vault(call)
        name = call.name("plan")
        try:
            job = await self._api.plans.delete(vault, name, call.identity)
        except NotFoundError:
            return Answer(HTTPStatus.NO_CONTENT)
        return accepted(self._api, vault, job, VaultIds(vault).plan(name))

    async def result(self, call: Call) -> Answer:
        """Answer with the plan that an operation was about, 204 where that is deleted."""
        try:
            return await operation_result(self._api, call, self.get)
        except NotFoundError:
            # The operation itself is found, or this raises once more.
            vault = await self._api.vault(call)
            await self._api.jobs.find(vault, call.folded("operation"))
            return Answer(HTTPStatus.NO_CONTENT)

    def requests(
        self, operation: Operation, arguments: ReadArguments
    ) -> Callable[[Call], Awaitable[Answer]]:
        """Return the handler that begins one operation on all machines of a plan."""

        async def begin(call: Call) -> Answer:
            vault = await self._api.vault(call)
            name = call.name("plan")
            read_arguments = arguments(call, vault)
            who = with_signatures(call.identity, call.body)
            job = await self._api.plans.run(vault, name, operation, read_arguments, who)
            return accepted(self._api, vault, job, VaultIds(vault).plan(name))

        return begin


def planned_arguments(call: Call, vault: Vault) -> Arguments:
    """Read the body of a planned failover."""
    del vault
    return {"failover_direction": read(call.body, PlanFailoverInput).properties.failover_direction}


def unplanned_arguments(call: Call, vault: Vault) -> Arguments:
    """Read the body of an unplanned failover."""
    del vault
    wanted = read(call.body, PlanUnplannedInput).properties
    return {
        "failover_direction": wanted.failover_direction,
        "source_operations_required": wanted.source_site_operations == "Required",
    }


def test_arguments(call: Call, vault: Vault) -> Arguments:
    """Read the body of a test failover."""
    wanted = read(call.body, PlanTestInput).properties
    arguments: dict[str, JsonValue] = {"failover_direction": wanted.failover_direction}
    logical = wanted.network_type == "LogicalNetworkAsInput"
    if wanted.network_type == "NoNetworkAttachAsInput" or wanted.network_id is None:
        if logical or wanted.network_type == "VmNetworkAsInput":
            kind = "logical network" if logical else "VM network"
            raise InvalidRequestError(
                f"{wanted.network_type} needs the id of a {kind} of the recovery side.", _NETWORK
            )
        return {**arguments, "network_id": None}
    kinds = (FABRICS, LOGICAL_NETWORKS if logical else NETWORKS)
    fabric, network_id = names_in_id(wanted.network_id, vault, kinds, _NETWORK)
    named: JsonValue = {"fabric": fabric, "network_id": network_id, "logical": logical}
    return {**arguments, TEST_NETWORK: named}


def cleanup_arguments(call: Call, vault: Vault) -> Arguments:
    """Read the body of a test clean-up, which may be left out."""
    del vault
    if not call.body:
        return {"comments": ""}
    return {"comments": read(call.body, PlanCleanupInput).properties.comments}


def no_arguments(call: Call, vault: Vault) -> Arguments:
    """Take no body: the recorded client sends none."""
    del call, vault
    return {}
