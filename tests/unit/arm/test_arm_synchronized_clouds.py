import dataclasses

import pytest

from service_hub.ports.use_cases import FabricFacts
from tests.unit.arm.arm_estate import CLOUDS, FREE_CLOUD
from tests.unit.arm.arm_hub import MemoryHub
from tests.unit.arm.conftest import Surface
from wire_contract.vocabulary import Side


@pytest.fixture
def nothing_synchronized(monkeypatch: pytest.MonkeyPatch) -> None:
    told = MemoryHub.fabric

    def fabric(hub: MemoryHub, side: Side) -> FabricFacts:
        facts = told(hub, side)
        assert facts.inventory is not None
        view = facts.inventory.view
        clouds = tuple(cloud.model_copy(update={"synchronized": False}) for cloud in view.clouds)
        inventory = facts.inventory.model_copy(
            update={"view": view.model_copy(update={"clouds": clouds})}
        )
        return dataclasses.replace(facts, inventory=inventory)

    monkeypatch.setattr(MemoryHub, "fabric", fabric)


async def names(surface: Surface, path: str) -> set[str]:
    return {each["name"] for each in (await surface.body(path))["value"]}


@pytest.mark.usefixtures("nothing_synchronized")
async def test_the_vault_lists_what_is_synchronised_or_paired(surface: Surface) -> None:
    path = f"{surface.vault}/replicationProtectionContainers"
    assert await names(surface, path) == {CLOUDS[Side.PRIMARY], CLOUDS[Side.RECOVERY]}
    surface.hub.items.clear()
    surface.hub.mappings.clear()
    assert await names(surface, path) == set()


@pytest.mark.usefixtures("nothing_synchronized")
async def test_pairing_offers_all_clouds_of_a_server(surface: Surface) -> None:
    path = f"{surface.fabric}/replicationProtectionContainers"
    assert await names(surface, path) == {CLOUDS[Side.PRIMARY], FREE_CLOUD}
    assert (await surface.body(f"{path}/{FREE_CLOUD}"))["name"] == FREE_CLOUD
