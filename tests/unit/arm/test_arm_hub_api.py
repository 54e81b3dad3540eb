"""The hub's own routes beside the ARM surface."""

import pytest

from tests.unit.arm.arm_estate import GROUP, SUBSCRIPTION, VAULT
from tests.unit.arm.conftest import Surface


async def test_health_is_told_to_everyone_and_tells_nothing_else(surface: Surface) -> None:
    response = await surface.ask("GET", "/health", token=None)
    assert response.status == 200
    assert await response.json() == {"state": "ok"}


async def test_the_trust_root_is_public(surface: Surface) -> None:
    response = await surface.ask("GET", "/hub/v1/trust/root", token=None)
    assert (response.status, await response.text()) == (200, "ROOT")


async def test_vaults_are_listed_with_their_ids(surface: Surface) -> None:
    body = await surface.body("/hub/v1/vaults")
    assert body == {
        "vaults": [
            {
                "vault_id": "v",
                "name": VAULT,
                "subscription_id": SUBSCRIPTION,
                "resource_group": GROUP,
                "region": "japaneast",
                "state": "Active",
                "provisioning_state": "Succeeded",
                "operator_signature_required": False,
            }
        ]
    }


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("stranger", 403)])
async def test_vaults_are_shown_to_operators_only(
    surface: Surface, token: str | None, status: int
) -> None:
    response = await surface.ask("GET", "/hub/v1/vaults", token=token)
    assert response.status == status
    assert VAULT not in await response.text()
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"
