"""Everything that is not final has words: what for, since when, what can end it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service_hub.domain.protection import BUSY_STATES, Operation, ProtectionState
from service_hub.domain.records import (
    Alert,
    ContainerMapping,
    CurrentScenario,
    PendingApproval,
    ProtectedItem,
    Provider,
    ProviderContact,
)
from service_hub.domain.root_rotation import NewRoot, RootProgress
from service_hub.domain.waiting import (
    NAMED_MAX,
    WaitingKind,
    of_approval,
    of_item,
    of_job_standing_still,
    of_new_root,
    of_pairing,
    of_server,
    standing_alert_id,
)
from service_hub.ports.changes import NEW, Change, Save
from service_hub.services.waiting import WaitingService
from tests.support.engine_world import new_job
from tests.support.hub_world import BEGIN, hub_world
from tests.support.many_items import Sites, an_item, furnish, item_id

SINCE = datetime(2026, 3, 4, tzinfo=UTC)
FINAL = {ProtectionState.UNPROTECTED, ProtectionState.PROTECTED}


def item_in(state: ProtectionState) -> ProtectedItem:
    """Return an item that a job has left in this state."""
    update = {"test_opened_at": SINCE} if state is ProtectionState.TEST_OPEN else {}
    return an_item(1, state).model_copy(update=update)


@pytest.mark.parametrize("state", sorted(set(ProtectionState) - BUSY_STATES))
def test_every_state_that_is_not_final_says_what_it_waits_for(state: ProtectionState) -> None:
    waiting = of_item(item_in(state), SINCE)
    if state in FINAL:
        assert waiting is None
        return
    assert waiting is not None
    assert waiting.since == SINCE
    assert "waiting for" in waiting.words
    assert "since 2026-03-04T00:00:00Z" in waiting.words
    assert "can be ended by " in waiting.words or "ends by itself" in waiting.words
    assert not waiting.words.endswith("by ")


def test_an_item_that_a_job_works_on_leaves_the_words_to_the_job() -> None:
    holder = CurrentScenario(scenario_name="Commit", job_id="j", started_at=SINCE)
    item = item_in(ProtectionState.PLANNED_FAILED_OVER)
    for field in ("current", "plan"):
        assert of_item(item.model_copy(update={field: holder}), SINCE) is None


def test_a_question_of_authority_comes_before_the_state() -> None:
    item = item_in(ProtectionState.PROTECTED).model_copy(update={"authority_questioned_at": SINCE})
    waiting = of_item(item, None)
    assert waiting is not None
    assert "authority decide" in waiting.words


def approval(decision: str) -> PendingApproval:
    """Return a server's request to come back."""
    return PendingApproval.model_validate(
        {
            "id": "a1",
            "vault_id": "vault",
            "provider_id": "p",
            "vmm_id": "v",
            "friendly_name": "vmm1",
            "request_pem": "",
            "new_key_thumbprint": "",
            "new_address": "",
            "old_certificate_thumbprint": "",
            "old_key_thumbprint": "",
            "old_address": "",
            "requested_at": SINCE + timedelta(days=1),
            "decision": decision,
        }
    )


def test_an_approval_waits_until_it_is_decided() -> None:
    waiting = of_approval(approval("pending"))
    assert waiting is not None
    assert waiting.kind is WaitingKind.APPROVAL
    assert "approve or reject a1" in waiting.words
    assert of_approval(approval("approved")) is None


def pairing(state: str) -> ContainerMapping:
    return ContainerMapping.model_validate(
        {
            "id": "m1",
            "vault_id": "vault",
            "name": "m",
            "policy_id": "p",
            "primary_provider_id": "a",
            "primary_cloud_id": "ca",
            "recovery_provider_id": "b",
            "recovery_cloud_id": "cb",
            "mapping_state": state,
            "job_id": "j1",
        }
    )


def test_a_pairing_that_failed_waits_and_one_under_way_leaves_the_words_to_its_job() -> None:
    waiting = of_pairing(pairing("PairingFailed"), SINCE)
    assert waiting is not None
    assert (waiting.kind, waiting.since) == (WaitingKind.PAIRING, SINCE)
    assert "can be ended by site-recovery job restart j1" in waiting.words
    assert of_pairing(pairing("Paired"), SINCE) is None
    assert of_pairing(pairing("PairingInProgress"), SINCE) is None


ROOT = NewRoot("ab12", SINCE)


def behind(name: str, *, renewed: bool = False) -> RootProgress:
    provider = Provider(
        id=name, vault_id="vault", vmm_id=name, fabric_name=name, enrolled_at=SINCE, vmm_fqdn=name
    )
    return RootProgress(provider, trusts=renewed, renewed=renewed)


def test_a_root_that_is_replaced_waits_for_servers_and_then_for_its_end() -> None:
    waiting = of_new_root(ROOT, [behind("b"), behind("a"), behind("done", renewed=True)])
    assert (waiting.kind, waiting.id, waiting.since) == (WaitingKind.ROOT, "ab12", SINCE)
    assert waiting.words.startswith("waiting for a, b to take the new root over since 2026-03-04")
    assert waiting.words.endswith("and then by service-hub trust finish-rotation")
    many = of_new_root(ROOT, [behind(f"s{each}") for each in range(NAMED_MAX + 2)])
    assert " and 2 more to take" in many.words
    last = of_new_root(ROOT, [behind("done", renewed=True)])
    assert "waiting for somebody to end trust in the former root since 2026-03-04" in last.words
    assert last.words.endswith("can be ended by service-hub trust finish-rotation")


def standing_alert(job_id: str) -> Alert:
    return Alert(
        id=standing_alert_id(job_id),
        vault_id="vault",
        provider_id="p",
        code="JobStandsStill",
        message="m",
        raised_at=SINCE,
    )


def test_a_job_that_stands_still_says_why_and_who_can_end_it() -> None:
    waiting = of_job_standing_still(new_job(1), "Tick: KeyError: 'x'", SINCE)
    assert waiting.kind is WaitingKind.JOB
    assert waiting.since == SINCE
    assert "since 2026-03-04T00:00:00Z: it stands still (Tick: KeyError: 'x')" in waiting.words
    assert "can be ended by restarting the hub" in waiting.words


@pytest.mark.parametrize(
    ("registered", "contact", "words"),
    [
        (False, False, "provider-agent register"),
        (True, False, "heard of; can be ended by starting"),
        (True, True, "heard of since 2026-03-04T00:00:00Z; can be ended by starting"),
        (True, None, "revoked; can be ended by provider-agent register"),
    ],
)
def test_a_server_that_is_not_there_says_what_it_waits_for(
    registered: bool, contact: bool | None, words: str
) -> None:
    provider = Provider(
        id="p",
        vault_id="vault",
        vmm_id="v",
        vmm_fqdn="vmm1.example",
        fabric_name="f",
        enrolled_at=SINCE,
        registered_at=SINCE if registered else None,
    )
    heard = ProviderContact(
        id="p",
        vault_id="vault",
        last_contact_at=SINCE,
        cut_off_at=SINCE if contact is None else None,
    )
    shown = None if contact is False else heard
    waiting = of_server(provider, shown, connected=False)
    assert waiting is not None
    assert words in waiting.words
    assert of_server(provider, shown, connected=True) is None


async def test_all_of_a_vault_is_listed_longest_first(tmp_path: Path) -> None:
    async with hub_world(tmp_path) as world:
        opened = item_in(ProtectionState.TEST_OPEN).model_copy(
            update={"test_opened_at": BEGIN - timedelta(days=1)}
        )
        await furnish(world, opened, an_item(2), an_item(3))
        foreign = an_item(4, ProtectionState.ENABLE_FAILED).model_copy(update={"vault_id": "other"})
        saves = (Save(approval("pending"), None), Save(foreign, None))
        await world.committer.commit(Change(saves=saves))
        job = await world.protection.request(
            world.vault,
            item_id(2),
            Operation.PLANNED_FAILOVER.value,
            {"failover_direction": "PrimaryToRecovery"},
            world.identity(),
        )
        standing: dict[str, str] = {}
        roots: list[NewRoot] = []
        service = WaitingService(
            reader=world.store,
            liveness=world.fabrics,
            clock=world.clock,
            standing_still=lambda: standing,
            new_root=lambda: roots[0] if roots else None,
        )
        found = await service.list(world.vault)
        assert [each.id for each in found] == [item_id(1), job.id, "a1"]
        assert all("since" in each.words for each in found)
        standing[job.id] = "PartSucceeded: KeyError"
        await world.committer.commit(Change(saves=(Save(standing_alert(job.id), NEW),)))
        roots.append(ROOT)
        named = {each.id: each for each in await service.list(world.vault)}
        assert named[job.id].since == SINCE
        assert "PartSucceeded: KeyError" in named[job.id].words
        assert "osaka, tokyo to take the new root over" in named[ROOT.thumbprint].words
        standing.clear()
        roots.clear()
        await Sites(world).ended(job.id)
        after = {each.id: each for each in await service.list(world.vault)}
        assert job.id not in after
        assert "Commit" in after[item_id(2)].words
        assert after[item_id(2)].since == BEGIN
        world.clock.time += timedelta(hours=2)
        servers = [each for each in await service.list(world.vault) if each.kind == "server"]
        assert [each.name for each in servers] == ["osaka", "tokyo"]
