"""A vault as a whole: its health, what it holds, and which operations there are."""

from service_hub.arm.handle_operations import operation_name
from service_hub.domain.errors import NOT_CONNECTED
from service_hub.domain.jobs import JobState
from tests.unit.arm.arm_estate import CLOUDS, GROUP, SUBSCRIPTION
from tests.unit.arm.conftest import PLANNED, Surface
from wire_contract.vocabulary import Side


async def test_a_vault_where_all_is_well_has_no_issues(surface: Surface) -> None:
    body = await surface.body(f"{surface.vault}/replicationVaultHealth")
    properties = body["properties"]
    assert body["name"] == "Default"
    assert body["type"] == "Microsoft.RecoveryServices/vaults/replicationVaultHealth"
    assert properties["vaultErrors"] == []
    assert [
        (properties[kind]["resourceCount"], properties[kind]["issues"])
        for kind in ("protectedItemsHealth", "fabricsHealth", "containersHealth")
    ] == [(1, []), (2, []), (3, [])]
    assert properties["fabricsHealth"]["categorizedResourceCounts"] == {"Normal": 2}


async def test_a_refresh_answers_at_once_with_what_is_true_now(surface: Surface) -> None:
    surface.hub.connected = False
    (mapping,) = surface.hub.mappings
    surface.hub.mappings[:] = [mapping.model_copy(update={"mapping_state": "UnpairingFailed"})]
    response = await surface.ask("POST", f"{surface.vault}/replicationVaultHealth/default/refresh")
    assert response.status == 200
    properties = (await response.json())["properties"]
    issue, _ = properties["fabricsHealth"]["issues"]
    assert issue["summaryCode"] == str(NOT_CONNECTED)
    assert issue["severity"] == "Error"
    assert issue["affectedResourceType"] == "replicationFabrics"
    assert issue["affectedResourceCorrelationIds"] == [
        surface.hub.fabric(Side.PRIMARY).provider.vmm_id
    ]
    assert properties["fabricsHealth"]["categorizedResourceCounts"] == {"Critical": 2}
    (pairing,) = properties["containersHealth"]["issues"]
    assert pairing["summaryCode"] == "UnpairingFailed"
    assert set(pairing["affectedResourceCorrelationIds"]) == set(CLOUDS.values())


async def test_usages_count_what_is_there(surface: Surface) -> None:
    body = await surface.body(f"{surface.vault}/usages")
    counted = {each["name"]["value"]: each["currentValue"] for each in body["value"]}
    assert counted["ProtectedItemCount"] == 1
    assert counted["RegisteredServersCount"] == 2
    assert counted["PairedCloudsCount"] == 2
    assert {each["limit"] for each in body["value"]} == {-1}


async def test_replication_usages_count_jobs_by_state(surface: Surface) -> None:
    await surface.ask("POST", f"{surface.item}/plannedFailover", json=PLANNED)
    (job,) = surface.hub.jobs.values()
    states = (JobState.FAILED, JobState.SUSPENDED, JobState.IN_PROGRESS, JobState.NOT_STARTED)
    surface.hub.jobs = {
        state.value: job.model_copy(update={"id": state.value, "state": state}) for state in states
    }
    (entry,) = (await surface.body(f"{surface.vault}/replicationUsages"))["value"]
    assert entry["jobsSummary"] == {"failedJobs": 1, "suspendedJobs": 1, "inProgressJobs": 2}
    assert entry["protectedItemCount"] == 1
    assert entry["registeredServersCount"] == 2
    assert entry["monitoringSummary"]["unHealthyProviderCount"] == 0


async def test_the_only_vault_setting_is_found_and_no_other(surface: Surface) -> None:
    (setting,) = (await surface.body(f"{surface.vault}/replicationVaultSettings"))["value"]
    assert await surface.body(f"{surface.vault}/replicationVaultSettings/DEFAULT") == setting
    other = await surface.ask("GET", f"{surface.vault}/replicationVaultSettings/other")
    assert other.status == 404


async def test_operations_are_those_of_the_table(surface: Surface) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
    listed = (await surface.body(f"{path}/Microsoft.RecoveryServices/operations"))["value"]
    names = [each["name"] for each in listed]
    assert len(names) == len(set(names))
    item = "Microsoft.RecoveryServices/vaults/replicationFabrics/replicationProtectionContainers"
    assert f"{item}/replicationProtectedItems/plannedFailover/action" in names
    assert f"{item}/replicationProtectedItems/write" in names
    assert "Microsoft.RecoveryServices/vaults/usages/read" in names
    assert not [name for name in names if "operationresults" in name.lower()]
    shown = next(each for each in listed if each["name"].endswith("plannedFailover/action"))
    assert shown["display"]["operation"].startswith("plannedFailover ")


def test_what_is_no_operation_of_the_provider_has_no_name() -> None:
    assert operation_name("GET", "/subscriptions/{subscription}") is None
