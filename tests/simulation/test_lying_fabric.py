"""A fabric that says ok and does nothing, or breaks off half-way and says so: never a success.

One lie for each verb that a scenario uses, told on both sites all through the story that uses it
first; what is read back afterwards is not what the verb promises, and the job says so.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from service_hub.domain.jobs import Job, JobState, TaskState
from service_hub.domain.scenarios import SCENARIOS
from tests.support.hub_world import HubWorld
from tests.support.kill_matrix import KillMatrix, matrix_folder, quiet_logs
from tests.support.kill_stories import Story, stories
from tests.support.kill_world import KillWorld
from tests.support.played_network import played_network
from wire_contract.faults import Fault
from wire_contract.vocabulary import AGENT_VERBS, FABRIC_VERBS, FaultKind, Verb

HOLDS_BEFORE = frozenset(
    {
        Verb.COMPLETE_INITIAL_REPLICATION,
        Verb.CLEAN_UP,
        Verb.SYNCHRONIZE,
        Verb.CHANGE_RECOVERY_POINT,
        Verb.CONNECT_ADAPTERS,
    }
)
"""What they promise holds in these stories before they are asked, so that a lie about it is none: a
wait, a server that was never paired, nothing to send, the newest point, adapters as they are.
tests/contract/test_fabric_verbs.py has them change something, and finds the lie."""

IN_NO_STORY = frozenset(
    {
        Verb.EXPORT_INITIAL_REPLICATION,
        Verb.IMPORT_INITIAL_REPLICATION,
        Verb.CANCEL_INITIAL_REPLICATION,
        Verb.PAUSE_REPLICATION,
        Verb.RESUME_REPLICATION,
        Verb.CANCEL_RESYNCHRONIZATION,
    }
)
"""Asked for by no task of a scenario's own table: a medium is in the tasks of its job alone, the
others are of the host's administrator. tests/contract/test_fabric_verbs.py finds a lie about each.
What a provider does itself (a script) has no fabric that could lie."""

TOLD_BETTER = {Verb.PREPARE_TEST_MACHINE: ("tested with networks", "test_failover_with_networks")}
"""A story in which the verb changes something."""


LEFT_OUT = frozenset({"no_network_mapping", "states_updated_later"})
"""Tasks with these flags are skipped in the stories."""


def lies() -> Iterator[tuple[str, str, Verb]]:
    """Return each verb with the first story and scenario that use it."""
    seen = set(HOLDS_BEFORE)
    for name, story in stories().items():
        # What the story asks for comes before what the hub begins by itself after it.
        for key in sorted(story.covers, key=lambda each: each.startswith("complete")):
            for spec in SCENARIOS[key].tasks:
                told = spec.skipped_if not in LEFT_OUT
                if spec.verb is not None and spec.verb not in seen and told:
                    seen.add(spec.verb)
                    name_and_key = TOLD_BETTER.get(spec.verb, (name, key))
                    yield *name_and_key, spec.verb


def lied_to(story: Story, key: str, verb: Verb, kind: FaultKind, ended: list[Job]) -> Story:
    """Return the story with such a fault, which is over when the job of that plan has ended."""

    async def ask(world: KillWorld) -> None:
        for site in world.sites.values():
            site.faults.replace((Fault(verb=verb, kind=kind),))
        await story.ask(world)

    async def over(world: HubWorld) -> bool:
        jobs = [each.record for each in await world.store.find(Job)]
        ended[:] = [job for job in jobs if job.scenario_key == key]
        return bool(ended) and all(job.finished for job in jobs)

    return replace(story, name=f"{story.name}, {verb}: {kind}", ask=ask, over=over)


def test_every_verb_of_the_interface_is_lied_about() -> None:
    used = {spec.verb for each in SCENARIOS.values() for spec in each.tasks if spec.verb}
    told = {verb for _, _, verb in lies()}
    assert told == used - HOLDS_BEFORE
    # A verb that is new in the interface is lied about by a story, or stands above with the reason.
    assert told | HOLDS_BEFORE | IN_NO_STORY | AGENT_VERBS == set(Verb)
    assert not used & IN_NO_STORY, "a scenario asks for it: have a story lie about it"
    # tests/contract/test_fabric_verbs.py takes these, and all others, from the interface itself.
    assert set(FABRIC_VERBS) >= HOLDS_BEFORE | IN_NO_STORY


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [FaultKind.LIE, FaultKind.PARTIAL])
def test_what_was_done_not_at_all_or_by_half_is_never_a_success(kind: FaultKind) -> None:
    with matrix_folder() as folder, quiet_logs(), played_network():
        matrix = KillMatrix(folder)
        believed: list[str] = []
        for name, key, verb in lies():
            ended: list[Job] = []
            matrix.reference(lied_to(matrix.stories[name], key, verb, kind, ended))
            job = max(ended, key=lambda each: each.created_at)
            told = [task for task in job.tasks if job.spec(task.task_id).verb is verb]
            assert told, (name, verb)
            if any(task.state is TaskState.SUCCEEDED for task in told):
                believed.append(f"{verb} in '{name}': the task succeeded")
            goes_on = all(job.spec(task.task_id).go_on_after_failure for task in told)
            if job.state is not JobState.FAILED and not goes_on:
                believed.append(f"{verb} in '{name}': the job ended as {job.state}")
        assert not believed, "\n".join(believed)
