"""The echo that a provider asks for, to see that events reach it."""

from pathlib import Path

import pytest

from service_hub.domain.errors import ConflictError
from service_hub.services.providers import ECHO_WAITING_MAX
from tests.support.hub_world import hub_world
from wire_contract.vocabulary import EventType


async def test_an_echo_is_one_refresh_above_the_told_place(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        provider = next(iter(world.providers.values()))
        first, second = [await world.reports.echo(provider) for _ in range(2)]
        events = await world.store.events_after(provider.id, first.after.seq, 10)
        assert [each.id for each in events] == [first.event_id, second.event_id]
        assert {each.type for each in events} == {EventType.REFRESH}
        assert second.after.seq == first.after.seq + 1


async def test_who_takes_nothing_is_not_given_ever_more(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        provider = next(iter(world.providers.values()))
        for _ in range(ECHO_WAITING_MAX):
            await world.reports.echo(provider)
        with pytest.raises(ConflictError, match=f"{ECHO_WAITING_MAX} events wait"):
            await world.reports.echo(provider)
