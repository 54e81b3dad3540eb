"""The hub's own route about networks: what one may be mapped to, cloud by cloud (seed, step 5)."""

import json
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from service_hub.domain.access import Right
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.network_mapping import NetworkOffer
from service_hub.hub_api.server_routes import OperatorCall, ServersApi
from service_hub.mapping_ports import NetworkMappingUseCases
from service_hub.operator_door import GuardedRoute

OFFERS: Final = "/hub/v1/vaults/{vault_id}/network-offers"
ASKED: Final = ("fabric", "network", "recovery_fabric")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffersApi:
    """What this route needs; `door` lets operators in and renders refusals."""

    door: ServersApi
    networks: NetworkMappingUseCases

    async def list(self, call: OperatorCall) -> web.Response:
        """Give the networks of a server, each with the clouds for which it is available."""
        for name in ASKED:
            if not call.query.get(name):
                raise InvalidRequestError(
                    f"The query needs '{name}': fabric and recovery_fabric are names of servers,"
                    " network the id of a network of the first.",
                    name,
                )
        found = await self.networks.offers(
            call.vault,
            primary=(call.query["fabric"], call.query["network"]),
            recovery_fabric=call.query["recovery_fabric"],
        )
        return web.Response(
            body=json.dumps({"offers": [_body(each) for each in found]}).encode(),
            content_type="application/json",
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )


def offer_routes(api: OffersApi) -> list[GuardedRoute]:
    """Return the whole surface; read this to know it."""
    return [api.door.route("GET", OFFERS, api.list, Right.READ)]


def _body(offer: NetworkOffer) -> dict[str, Any]:
    network = offer.network
    return {
        "network": network.network_id,
        "name": network.friendly_name,
        "type": network.network_type,
        "subnets": [
            {"name": each.name, "addresses": list(each.address_list)} for each in network.subnets
        ],
        "offered": offer.is_offered,
        "clouds": [
            {
                "primary_cloud": each.primary_cloud_id,
                "recovery_cloud": each.recovery_cloud_id,
                "available": each.available,
            }
            for each in offer.clouds
        ],
    }
