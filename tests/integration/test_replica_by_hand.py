"""What administrators did by hand at a replica's site."""

from pathlib import Path

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, make_estate
from tests.support.simulator_steps import protect
from wire_contract.vocabulary import Verb


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def test_what_was_removed_by_hand_has_no_relationship_left_to_remove(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA)
        await osaka.done(Verb.UPDATE_PROTECTION, REPLICA, {"item": None})
        assert (await osaka.manage("DELETE", f"/machines/{REPLICA}"))[0] == 200
        # A hub that knows nothing of it asks for its end, and for that of the property.
        await osaka.done(Verb.DISABLE_REPLICATION, REPLICA)
        await osaka.done(Verb.UPDATE_PROTECTION, REPLICA, {"item": None})
        status, problem = await osaka.verb(Verb.UPDATE_PROTECTION, REPLICA, {"item": MACHINE})
        assert (status, problem["code"]) == (404, 32779)
        await tokyo.done(Verb.DISABLE_REPLICATION, MACHINE)
        assert (await tokyo.machine(MACHINE))["replication"] is None
