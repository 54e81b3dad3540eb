from pathlib import Path

import aiohttp
import pytest

from tests.support.simulator_estate import MACHINE, REPLICA, Estate, make_estate
from tests.support.simulator_steps import protect
from vmm_simulator.problems import Code
from wire_contract import paths
from wire_contract.vocabulary import Verb

POWER = "/power"


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def test_a_site_without_power_answers_nobody_and_comes_back_with_what_it_had(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        guest = tokyo.guests[MACHINE]
        assert await tokyo.manage("GET", POWER) == (200, {"on": True})
        assert await tokyo.manage("PUT", POWER, {"on": False}) == (200, {"on": False})
        assert not guest.running
        with pytest.raises(aiohttp.ClientError):
            await tokyo.get(paths.VMM_INVENTORY)
        # Who looks is answered, who would change something is told why not.
        assert (await tokyo.manage("GET", f"/machines/{MACHINE}"))[0] == 200
        host = estate.fqdns("tokyo")[0]
        status, problem = await tokyo.manage("POST", f"/hosts/{host}/restart")
        assert (status, problem["code"]) == (503, Code.NOT_AVAILABLE)
        # Saying it again changes nothing, and the other site is as it was.
        assert await tokyo.manage("PUT", POWER, {"on": False}) == (200, {"on": False})
        assert (await osaka.machine(REPLICA))["host"] in estate.fqdns("osaka")

        assert await tokyo.manage("PUT", POWER, {"on": True}) == (200, {"on": True})
        view = await tokyo.machine(MACHINE)
        assert (view["run_state"], view["epoch_confirmed"]) == ("Off", False)
        await tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, {"authoritative": True, "item": MACHINE})
        assert (await tokyo.machine(MACHINE))["run_state"] == "Running"
        assert tokyo.guests[MACHINE] is not guest


async def test_power_is_on_or_off(estate: Estate) -> None:
    async with estate.running("tokyo") as tokyo:
        for body in ({}, {"on": "perhaps"}, {"on": True, "off": False}):
            assert (await tokyo.manage("PUT", POWER, body))[0] == 400
        assert await tokyo.manage("PUT", POWER, {"on": True}) == (200, {"on": True})
        assert (await tokyo.machine(MACHINE))["host"] in estate.fqdns("tokyo")
