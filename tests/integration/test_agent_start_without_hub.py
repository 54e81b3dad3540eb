"""A restarted host's machine starts by a local operator's word where no hub can give one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider_agent.register_command import Dialogue, RegisterOptions, run_registration
from provider_agent.start_without_hub import LocalWord, start_without_hub
from service_shell.clock import SystemClock
from service_shell.errors import ProgramError
from tests.integration.agent_fakes.fake_hub import FakeHub
from tests.integration.agent_fakes.trust import Trust
from tests.support.setup_world import SetupWorld, setup_world, vault_credentials
from tests.support.simulator_estate import MACHINE, make_estate, trust
from wire_contract.vocabulary import Verb

WORD = LocalWord(MACHINE, " the line to the hub is cut ", "contoso\\anna")
ITEM = {"item": MACHINE, "role": "Primary", "active": True}


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    made = FakeHub(Trust(trust()))
    async with made.serve():
        yield made


@pytest.fixture
async def world(tmp_path: Path, hub: FakeHub) -> AsyncIterator[SetupWorld]:
    """A registered server with a protected machine, whose power has failed and come back."""
    async with setup_world(make_estate(tmp_path)) as made:
        await made.set_up(made.settings(), yes=True)
        made.credentials.write_bytes(vault_credentials(hub.url))
        options = RegisterOptions(made.credentials, "tokyo", yes=True)
        dialogue = Dialogue(made.lines.append, lambda _: False)
        await run_registration(made.settings(), options, dialogue, SystemClock())
        await made.tokyo.done(Verb.UPDATE_PROTECTION, MACHINE, ITEM, epoch=7)
        await made.tokyo.done(Verb.START, MACHINE, epoch=8)
        await made.tokyo.manage("PUT", "/power", {"on": False})
        await made.tokyo.manage("PUT", "/power", {"on": True})
        view = await made.tokyo.machine(MACHINE)
        assert (view["run_state"], view["epoch_confirmed"]) == ("Off", False)
        yield made


async def say(world: SetupWorld, word: LocalWord = WORD, *, sure: bool | None = None) -> None:
    ask = None if sure is None else lambda _: sure
    await start_without_hub(world.settings(), word, world.lines.append, SystemClock(), ask=ask)


async def test_while_the_hub_is_away_it_starts_under_the_epoch_that_it_has(
    world: SetupWorld, hub: FakeHub
) -> None:
    await hub.stop()
    with pytest.raises(ProgramError, match="say why"):
        await say(world, LocalWord(MACHINE, "  ", "anna"))
    with pytest.raises(ProgramError, match="there is no protected machine nobody"):
        await say(world, LocalWord("nobody", "why not", "anna"))
    with pytest.raises(ProgramError, match="nothing was changed"):
        await say(world, sure=False)
    assert (await world.tokyo.machine(MACHINE))["run_state"] == "Off"
    await say(world)
    view = await world.tokyo.machine(MACHINE)
    assert (view["run_state"], view["epoch"], view["epoch_confirmed"]) == ("Running", 8, True)
    noted = view["started_without_hub"]
    assert (noted["by"], noted["reason"]) == ("contoso\\anna", "the line to the hub is cut")
    assert world.lines[-1].endswith("runs under epoch 8; the hub is told of it")
    await say(world)
    assert world.lines[-1] == "it waits for no hub: nothing is to be done"


async def test_a_hub_that_answers_is_not_gone_past(world: SetupWorld) -> None:
    with pytest.raises(ProgramError, match="the hub answers"):
        await say(world)
    assert (await world.tokyo.machine(MACHINE))["started_without_hub"] is None


async def test_a_fence_stays(world: SetupWorld, hub: FakeHub) -> None:
    word = {"authoritative": False, "item": MACHINE}
    await world.tokyo.done(Verb.CONFIRM_EPOCH, MACHINE, word, epoch=9)
    await hub.stop()
    with pytest.raises(ProgramError, match=r"stays as it is.*fenced at epoch 9"):
        await say(world)
    view = await world.tokyo.machine(MACHINE)
    assert (view["run_state"], view["fenced"], view["started_without_hub"]) == ("Off", True, None)
