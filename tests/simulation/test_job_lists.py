"""Lists of jobs by what is asked for: each is told once over all pages."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from service_hub.domain.jobs import JobState
from service_hub.ports.changes import NEW, Change, Save
from service_hub.ports.stores import JobPlace
from service_hub.services.jobs import READS_MAX
from tests.support.hub_world import HubWorld, hub_world
from tests.support.store_world import job


async def pages(world: HubWorld, wanted: Mapping[str, str], limit: int) -> list[list[str]]:
    """Return the ids of each page."""
    found: list[list[str]] = []
    after: JobPlace | None = None
    while True:
        page = await world.jobs.list(world.vault, wanted, after, limit)
        found.append([each.id for each in page.jobs])
        after = page.last
        if after is None:
            return found


async def test_what_is_wanted_comes_once_over_all_pages(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        begun = world.clock.now()
        for number in range(60):
            state = JobState.FAILED if number % 2 else JobState.SUCCEEDED
            update = {
                "vault_id": world.vault.id,
                "started_at": begun + timedelta(minutes=number),
                "providers": {},
            }
            made = job(f"job{number:02}", state, begun).model_copy(update=update)
            await world.committer.commit(Change(saves=(Save(made, NEW),)))
        failed = [f"job{number:02}" for number in range(59, 0, -2)]
        shown = await pages(world, {"jobstatus": "failed"}, 4)
        assert [each for page in shown for each in page] == failed
        assert {len(each) for each in shown[:-1]} == {4}
        early = (begun + timedelta(minutes=5)).isoformat()
        shown = await pages(world, {"jobstatus": "Failed", "endtime": early}, 1)
        assert [each for page in shown for each in page] == ["job05", "job03", "job01"]
        assert len(shown) > 1, f"what is not wanted is gone through {READS_MAX} reads at a time"
        name = next(iter(world.providers.values())).fabric_name
        assert await pages(world, {"fabricid": f"/x/replicationFabrics/{name}"}, 50) == [[]]
