"""Which recovery point a request means: an id, a word for one, or none for the newest."""

from service_hub.arm.bodies import ProviderInput
from service_hub.arm.ids import (
    CONTAINERS,
    FABRICS,
    PROTECTED_ITEMS,
    RECOVERY_POINTS,
    VaultIds,
    names_in_id,
)
from service_hub.arm.render_items import item_id, recovery_points
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.records import Vault
from service_hub.domain.recovery_points import newest_application_consistent
from service_hub.ports.use_cases import ItemFacts

_IN_DETAILS = "properties.providerSpecificDetails.recoveryPointId"
_TYPE = "properties.providerSpecificDetails.recoveryPointType"


def point_of_details(details: ProviderInput | None, vault: Vault, facts: ItemFacts) -> str | None:
    """Return the point that the provider-specific part of a request names; None: the newest."""
    if details is None:
        return None
    if details.recovery_point_id:
        return point_named(details.recovery_point_id, vault, facts, _IN_DETAILS)
    if details.recovery_point_type != "LatestApplicationConsistent":
        return None
    point = newest_application_consistent(recovery_points(facts))
    if point is None:
        raise InvalidRequestError(
            "The replica has no application-consistent recovery point. Choose another one, or"
            " Latest.",
            _TYPE,
        )
    return point.point_id


def point_named(text: str, vault: Vault, facts: ItemFacts, target: str) -> str:
    """Return the id of a point that the item's replica lists; InvalidRequestError for another."""
    name = text
    if "/" in text:
        kinds = (FABRICS, CONTAINERS, PROTECTED_ITEMS, RECOVERY_POINTS)
        *place, name = names_in_id(text, vault, kinds, target)
        own = item_id(vault, facts).lower()
        if (
            VaultIds(vault).in_container(place[0], place[1], PROTECTED_ITEMS, place[2]).lower()
            != own
        ):
            raise InvalidRequestError("The recovery point belongs to another item.", target)
    for point in recovery_points(facts):
        if point.point_id.lower() == name.lower():
            return point.point_id
    raise InvalidRequestError(
        f"The item has no recovery point '{name}' now. List its recoveryPoints and choose one of"
        " them, or leave it out for the newest.",
        target,
    )
