"""The route that shows what a network may be mapped to."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.network_mapping import CloudOffer, NetworkOffer
from service_hub.domain.records import Vault
from service_hub.hub_api.offer_routes import OffersApi
from service_hub.hub_api.server_routes import OperatorCall
from wire_contract.vmm_interface import NetworkView, SubnetView

VAULT = Vault(
    id="v",
    vault_id="v",
    subscription_id="s",
    resource_group="g",
    name="n",
    location="here",
    resource_number=1,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
ASKED = {"fabric": "tokyo", "network": "corp", "recovery_fabric": "osaka"}


class Offering:
    """Offers one network, for one of two clouds."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def offers(
        self, vault: Vault, *, primary: tuple[str, str], recovery_fabric: str
    ) -> tuple[NetworkOffer, ...]:
        """Note who asked."""
        self.asked.append((vault.id, primary, recovery_fabric))
        network = NetworkView(
            network_id="n2",
            friendly_name="corp",
            network_type="VLANNetwork",
            logical_network_id="l",
            cloud_ids=("gold2",),
            subnets=(SubnetView(name="a", friendly_name="a", address_list=("10.1.0.0/24-1 0",)),),
        )
        clouds = (
            CloudOffer("gold", "gold2", available=True),
            CloudOffer("silver", "silver2", available=False),
        )
        return (NetworkOffer(network, clouds),)


def api(networks: Any) -> OffersApi:
    door: Any = None
    return OffersApi(door=door, networks=networks)


async def test_offers_show_subnets_and_clouds() -> None:
    networks = Offering()
    call = OperatorCall(principal="anna", vault=VAULT, names={}, query=ASKED)
    answer = await api(networks).list(call)
    body = json.loads(answer.text or "")
    assert networks.asked == [("v", ("tokyo", "corp"), "osaka")]
    (offer,) = body["offers"]
    assert offer["subnets"] == [{"name": "a", "addresses": ["10.1.0.0/24-1 0"]}]
    assert offer["offered"] is True
    assert [(each["primary_cloud"], each["available"]) for each in offer["clouds"]] == [
        ("gold", True),
        ("silver", False),
    ]


@pytest.mark.parametrize("missing", list(ASKED))
async def test_what_is_not_named_is_asked_for(missing: str) -> None:
    query = {name: value for name, value in ASKED.items() if name != missing}
    call = OperatorCall(principal="anna", vault=VAULT, names={}, query=query)
    with pytest.raises(InvalidRequestError, match=missing):
        await api(Offering()).list(call)
