"""The VM's Datacenter Recovery property, as the console of the simulated VMM sets it."""

from pathlib import Path

from tests.support.simulator_estate import MACHINE, make_estate
from wire_contract.vocabulary import Verb


async def test_an_administrator_asks_and_the_answer_ends_it(tmp_path: Path) -> None:
    async with make_estate(tmp_path).both() as (tokyo, _):
        view = await tokyo.machine(MACHINE)
        assert view["protection_asked_at"] is None
        await tokyo.manage("POST", f"/machines/{MACHINE}/protection")
        asked = (await tokyo.machine(MACHINE))["protection_asked_at"]
        assert asked is not None
        item = {"item": MACHINE, "role": "Primary", "active": True}
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, item)
        view = await tokyo.machine(MACHINE)
        assert (view["protected_item"], view["protection_asked_at"]) == (MACHINE, None)
        path = f"/machines/{MACHINE}/protection"
        await tokyo.manage("DELETE", path)
        assert (await tokyo.machine(MACHINE))["protection_end_asked_at"] is not None
        await tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, {"item": None})
        view = await tokyo.machine(MACHINE)
        assert (view["protected_item"], view["protection_end_asked_at"]) == (None, None)
        status, problem = await tokyo.manage("DELETE", path)
        assert (status, problem["code"]) == (409, 32775)
