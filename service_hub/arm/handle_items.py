"""Protected items: enable, look, fail over, test, commit, reverse."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from pydantic import JsonValue

from service_hub.arm.api import ArmApi
from service_hub.arm.bodies import (
    ApplyRecoveryPointInput,
    CleanupInput,
    DisableInput,
    EnableInput,
    FailoverInput,
    ReverseInput,
    TestFailoverInput,
    TestFailoverProperties,
    UnplannedFailoverInput,
    read,
    refuse_other_providers,
)
from service_hub.arm.calls import Answer, Call
from service_hub.arm.chosen_points import point_named, point_of_details
from service_hub.arm.ids import (
    CONTAINERS,
    FABRICS,
    LOGICAL_NETWORKS,
    NETWORKS,
    POLICIES,
    PROTECTABLE_ITEMS,
    PROTECTED_ITEMS,
    VaultIds,
    names_in_id,
)
from service_hub.arm.item_updates import check_resolvable, chosen_adapters
from service_hub.arm.long_running import accepted, operation_result
from service_hub.arm.paging import page
from service_hub.arm.render_items import (
    item_body,
    item_health,
    item_id,
    recovery_point_body,
    recovery_points,
)
from service_hub.domain.drill_networks import (
    NETWORK_PROPERTY,
    TestedMachine,
    network_of_machine,
)
from service_hub.domain.errors import InvalidRequestError, NotFoundError
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import ItemFacts
from wire_contract.vocabulary import Direction, Side

Arguments = Mapping[str, JsonValue]
ReadArguments = Callable[[Call, Vault, ItemFacts], Arguments]

_DETAILS = "properties.providerSpecificDetails"
_PROVIDER_INPUT = "properties.replicationProviderInput"
_FILTER: Final = "$filter"
_PLAN_FILTER: Final = re.compile(r"RecoveryPlanName +eq +'((?:[^']|'')+)'", re.IGNORECASE)


class ItemHandlers:
    """What operators do with protected items."""

    def __init__(self, api: ArmApi) -> None:
        self._api = api

    async def enable(self, call: Call) -> Answer:
        """Begin to protect a machine."""
        vault = await self._api.vault(call)
        wanted = read(call.body, EnableInput).properties
        refuse_other_providers(wanted.provider_specific_details, _DETAILS)
        container = (call.folded("fabric"), call.folded("container"))
        (policy_name,) = names_in_id(wanted.policy_id, vault, (POLICIES,), "properties.policyId")
        *place, machine_id = (
            name.lower()
            for name in names_in_id(
                wanted.protectable_item_id,
                vault,
                (FABRICS, CONTAINERS, PROTECTABLE_ITEMS),
                "properties.protectableItemId",
            )
        )
        if tuple(place) != container:
            raise InvalidRequestError(
                "The machine must lie in the cloud that the path names.",
                "properties.protectableItemId",
            )
        name = call.folded("item")
        job = await self._api.protection.enable(
            vault,
            container=container,
            item_name=name,
            machine_id=machine_id,
            policy_name=policy_name,
            identity=call.identity,
        )
        resource_id = VaultIds(vault).in_container(*container, PROTECTED_ITEMS, name)
        return accepted(self._api, vault, job, resource_id)

    async def update(self, call: Call) -> Answer:
        """Begin to change the networks of a machine's copy; 200 where nothing is changed."""
        vault, facts = await self._named(call)
        arguments = chosen_adapters(call, vault, facts)
        if not arguments:
            return Answer(body=item_body(vault, facts, self._api.clock.now()))
        return await self._begin(call, (vault, facts), Operation.UPDATE_NETWORKS, arguments)

    async def resolve(self, call: Call) -> Answer:
        """Begin what resolves the named health errors: the two copies are compared."""
        vault, facts = await self._named(call)
        _, errors = item_health(facts, self._api.clock.now())
        check_resolvable(call, errors)
        return await self._begin(call, (vault, facts), Operation.REPAIR, {})

    async def get(self, call: Call) -> Answer:
        """Answer with one item."""
        vault, facts = await self._named(call)
        return Answer(body=item_body(vault, facts, self._api.clock.now()))

    async def list(self, call: Call) -> Answer:
        """Answer with all items of a vault, or with those of one recovery plan."""
        vault = await self._api.vault(call)
        items = await self._api.protection.list(vault)
        named = _PLAN_FILTER.fullmatch(call.query.get(_FILTER, "").strip())
        if named is not None:
            # What the recorded client asks after each look at a plan (recorded.md, section 11).
            facts = await self._api.plans.find(vault, named[1].replace("''", "'"))
            items = [each for each in items if each.item.id in facts.items]
            rest = {key: text for key, text in call.query.items() if key != _FILTER}
            call = replace(call, query=rest)
        return self._page(call, vault, items)

    async def list_by_container(self, call: Call) -> Answer:
        """Answer with the items of a cloud, which is their first primary's for good."""
        vault = await self._api.vault(call)
        # A cloud that isn't there is an error, one without items an empty list.
        fabric = await self._api.fabrics.find(vault, call.folded("fabric"))
        known = fabric.inventory.view.clouds if fabric.inventory else ()
        if call.folded("container") not in {cloud.cloud_id.lower() for cloud in known}:
            raise NotFoundError(call.name("container"))
        items = [each for each in await self._api.protection.list(vault) if _lies_in(each, call)]
        return self._page(call, vault, items)

    async def list_recovery_points(self, call: Call) -> Answer:
        """Answer with the moments that an item can be started from."""
        vault, facts = await self._named(call)
        bodies = [recovery_point_body(vault, facts, point) for point in recovery_points(facts)]
        return page(call, bodies, self._api.public_url)

    async def get_recovery_point(self, call: Call) -> Answer:
        """Answer with one of them."""
        vault, facts = await self._named(call)
        for point in recovery_points(facts):
            if point.point_id.lower() == call.folded("recovery_point"):
                return Answer(body=recovery_point_body(vault, facts, point))
        raise NotFoundError(call.name("recovery_point"))

    async def result(self, call: Call) -> Answer:
        """Answer with the item that an operation worked on, 204 where it is protected no more."""
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
        """Return the handler that begins one operation on an item."""

        async def begin(call: Call) -> Answer:
            vault, facts = await self._named(call)
            wanted = arguments(call, vault, facts)
            return await self._begin(call, (vault, facts), operation, wanted)

        return begin

    async def _begin(
        self, call: Call, found: tuple[Vault, ItemFacts], operation: Operation, wanted: Arguments
    ) -> Answer:
        vault, facts = found
        job = await self._api.protection.request(
            vault, facts.item.id, operation.value, wanted, call.identity
        )
        return accepted(self._api, vault, job, item_id(vault, facts))

    async def _named(self, call: Call) -> tuple[Vault, ItemFacts]:
        vault = await self._api.vault(call)
        facts = await self._api.protection.find(vault, call.folded("item"))
        if not _lies_in(facts, call):
            raise NotFoundError(call.name("item"))
        return vault, facts

    def _page(self, call: Call, vault: Vault, items: Sequence[ItemFacts]) -> Answer:
        now = self._api.clock.now()
        bodies = [item_body(vault, facts, now) for facts in items]
        return page(call, bodies, self._api.public_url)


def planned_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of a planned failover."""
    del vault, facts
    wanted = read(call.body, FailoverInput).properties
    refuse_other_providers(wanted.provider_specific_details, _DETAILS)
    return {"failover_direction": wanted.failover_direction}


def reverse_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of a reverse replication."""
    del vault, facts
    wanted = read(call.body, ReverseInput).properties
    refuse_other_providers(wanted.provider_specific_details, _DETAILS)
    chosen = wanted.source_changes
    choice: dict[str, JsonValue] = {} if chosen is None else {"source_changes": chosen}
    return {"failover_direction": wanted.failover_direction, **choice}


def unplanned_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of an unplanned failover."""
    wanted = read(call.body, UnplannedFailoverInput).properties
    refuse_other_providers(wanted.provider_specific_details, _DETAILS)
    return {
        "failover_direction": wanted.failover_direction,
        "source_operations_required": wanted.source_site_operations == "Required",
        **_chosen(point_of_details(wanted.provider_specific_details, vault, facts)),
    }


def point_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of a change of the recovery point."""
    wanted = read(call.body, ApplyRecoveryPointInput).properties
    refuse_other_providers(wanted.provider_specific_details, _DETAILS)
    named = wanted.recovery_point_id
    if not named:
        return _chosen(point_of_details(wanted.provider_specific_details, vault, facts))
    return _chosen(point_named(named, vault, facts, "properties.recoveryPointId"))


def _chosen(point_id: str | None) -> dict[str, JsonValue]:
    """Name a point only where one was chosen: none is the newest."""
    return {} if point_id is None else {"recovery_point": point_id}


def test_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of a test failover; a network must be one of the side that it starts on."""
    wanted = read(call.body, TestFailoverInput).properties
    refuse_other_providers(wanted.provider_specific_details, _DETAILS)
    return {
        "failover_direction": wanted.failover_direction,
        **_test_network(wanted, vault, facts),
        **_chosen(point_of_details(wanted.provider_specific_details, vault, facts)),
    }


def cleanup_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of a test clean-up, which may be left out."""
    del vault, facts
    if not call.body:
        return {"comments": ""}
    return {"comments": read(call.body, CleanupInput).properties.comments}


def disable_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Read the body of a removal; whether the replica goes is said by the policy."""
    del vault, facts
    if not call.body:
        return {}
    wanted = read(call.body, DisableInput).properties
    refuse_other_providers(wanted.replication_provider_input, _PROVIDER_INPUT)
    return {"reason": wanted.disable_protection_reason}


def no_arguments(call: Call, vault: Vault, facts: ItemFacts) -> Arguments:
    """Take no body: the recorded client sends none."""
    del call, vault, facts
    return {}


def _test_network(
    wanted: TestFailoverProperties, vault: Vault, facts: ItemFacts
) -> dict[str, JsonValue]:
    """Return the existing network of the test, or what is to be made for it on a logical one."""
    logical = wanted.network_type == "LogicalNetworkAsInput"
    if wanted.network_type == "NoNetworkAttachAsInput" or wanted.network_id is None:
        if logical or wanted.network_type == "VmNetworkAsInput":
            kind = "logical network" if logical else "VM network"
            raise InvalidRequestError(
                f"{wanted.network_type} needs the id of a {kind} of the recovery side.",
                NETWORK_PROPERTY,
            )
        return {"network_id": None}
    kinds = (FABRICS, LOGICAL_NETWORKS if logical else NETWORKS)
    fabric_name, network_id = names_in_id(wanted.network_id, vault, kinds, NETWORK_PROPERTY)
    direction = Direction(wanted.failover_direction)
    side = direction.place(Side.RECOVERY)
    fabric = facts.primary if side is Side.PRIMARY else facts.recovery
    if fabric_name.lower() != fabric.provider.fabric_name.lower():
        raise InvalidRequestError(
            "The network must be one of the server on which the test machine starts.",
            NETWORK_PROPERTY,
        )
    source = facts.recovery_machine if side is Side.PRIMARY else facts.primary_machine
    replica = facts.primary_machine if side is Side.PRIMARY else facts.recovery_machine
    networks = {
        Side.PRIMARY: facts.primary.inventory.view.networks if facts.primary.inventory else (),
        Side.RECOVERY: facts.recovery.inventory.view.networks if facts.recovery.inventory else (),
    }
    machine = TestedMachine(
        facts.item,
        () if source is None else source.machine.nics,
        () if replica is None else replica.machine.nics,
    )
    named = {"network_id": network_id, "logical": logical}
    return network_of_machine(named, direction, networks, machine)


def _lies_in(facts: ItemFacts, call: Call) -> bool:
    return (
        facts.primary.provider.fabric_name.lower(),
        facts.item.primary_cloud_id.lower(),
    ) == (call.folded("fabric"), call.folded("container"))
