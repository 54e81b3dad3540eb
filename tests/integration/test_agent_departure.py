"""A server that is taken out of its vault: cleaned up, the hub told, its registration forgotten."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from provider_agent.credentials import is_registered
from tests.integration.agent_fakes.estate import Estate, estate
from tests.integration.agent_fakes.fake_vmm import Fault
from tests.integration.agent_fakes.waiting import until
from wire_contract.vocabulary import Verb


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Estate]:
    async with estate(tmp_path) as made:
        made.register()
        yield made


async def test_a_server_that_was_cleaned_up_forgets_its_registration_and_ends(
    site: Estate,
) -> None:
    server = site.vmm.view.vmm.vmm_id
    async with site.agent() as agent:
        site.hub.assign("clean_up", server, "job-1")
        await until(agent.task.done, "the provider has ended by itself")
    outcome = site.hub.outcome("job-1")
    assert outcome is not None
    assert outcome.succeeded, "the hub is told before anything is forgotten"
    assert site.vmm.effect_count(Verb.CLEAN_UP, server) == 1
    assert not is_registered(site.settings().data_directory)
    assert not list(site.settings().data_directory.glob("identity*"))


async def test_a_clean_up_that_is_refused_leaves_the_registration(site: Estate) -> None:
    server = site.vmm.view.vmm.vmm_id
    site.vmm.faults["clean_up"] = Fault("refuse")
    async with site.agent() as agent:
        site.hub.assign("clean_up", server, "job-1")
        await until(lambda: site.hub.outcome("job-1"), "the outcome is reported")
        assert not agent.task.done()
    outcome = site.hub.outcome("job-1")
    assert outcome is not None
    assert not outcome.succeeded
    assert is_registered(site.settings().data_directory)
