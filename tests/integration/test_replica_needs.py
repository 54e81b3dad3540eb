"""What a replica takes of its host: what its primary has, whatever its placing was told."""

from pathlib import Path

import pytest

from tests.support.simulator_estate import REPLICA, make_estate
from tests.support.simulator_steps import protect


async def test_a_replica_is_as_large_as_its_primary(tmp_path: Path) -> None:
    estate = make_estate(tmp_path, processors=6, memory_megabytes=3072)
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        replica = osaka.site.fabric.store.machine(REPLICA)
        assert (replica.processors, replica.memory_megabytes) == (6, 3072)


async def test_a_host_without_room_for_the_primary_as_it_is_makes_no_replica(
    tmp_path: Path,
) -> None:
    estate = make_estate(tmp_path, processors=6)
    inventory = estate.configuration("osaka")["inventory"]
    inventory["hosts"] = [{**each, "processors": 5} for each in inventory["hosts"]]
    async with (
        estate.running("tokyo") as tokyo,
        estate.running("osaka", inventory=inventory) as osaka,
    ):
        # Placed with the least a machine may have: the primary's host knows better.
        with pytest.raises(AssertionError, match="no room for machine SQL-01: 6 processors"):
            await protect(estate, tokyo, osaka)
        replica = osaka.site.fabric.store.machine(REPLICA)
        assert (replica.reserved, replica.relationship) == (True, None)
        assert not list((estate.folder / "osaka").glob("*/Hyper-V Replica/*/*.img"))
