"""Events on the surface: their shape, their pages, and the filter, which is foreign text."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_hub.arm.event_filter import FILTER_CHARACTERS_MAX, read_filter
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.replication_events import EventHealth, EventPlace, ReplicationEvent
from tests.support.store_world import NOW
from tests.unit.arm.conftest import Surface

EVENT = ReplicationEvent(
    id="11111111-1111-4111-8111-111111111111",
    vault_id="v",
    code="SRSJobStatus",
    event_type="JobStatus",
    severity="Critical",
    description="Planned failover - Failed",
    occurred_at=NOW,
    provider_id="tokyo-provider",
    affected_id="item",
    affected_name="web01",
    place=EventPlace(
        container="gold", fabric="tokyo", remote_container="silver", remote_fabric="osaka"
    ),
    job_id="job",
    job_name="Planned failover",
    job_status="Failed",
    job_target_type="ProtectionEntity",
    health=(EventHealth(code="532", level="Error", message="m", causes="c", action="a"),),
)


async def test_an_event_has_the_dialects_shape(surface: Surface) -> None:
    surface.hub.events.append(EVENT)
    path = f"{surface.vault}/replicationEvents/{EVENT.id.upper()}"
    body = await surface.body(path)
    properties = body["properties"]
    assert body["name"] == EVENT.id
    assert body["type"] == "Microsoft.RecoveryServices/vaults/replicationEvents"
    assert properties["severity"] == "Critical"
    assert properties["fabricId"].endswith("/replicationFabrics/" + "a" * 64)
    assert properties["providerSpecificDetails"]["remoteContainerName"] == "silver"
    assert properties["eventSpecificDetails"] == {
        "instanceType": "JobStatus",
        "jobId": "job",
        "jobFriendlyName": "Planned failover",
        "jobStatus": "Failed",
        "affectedObjectType": "ProtectionEntity",
    }
    assert properties["healthErrors"][0]["errorCode"] == "532"
    assert (await surface.ask("GET", f"{surface.vault}/replicationEvents/none")).status == 404


async def test_events_come_in_pages_under_the_same_filter(surface: Surface) -> None:
    for number in range(3):
        at = NOW + timedelta(hours=number)
        surface.hub.events.append(EVENT.model_copy(update={"id": f"e{number}", "occurred_at": at}))
    path = f"{surface.vault}/replicationEvents?$take=2&$filter=Severity%20eq%20'Critical'"
    body = await surface.body(path)
    assert [each["name"] for each in body["value"]] == ["e2", "e1"]
    following = body["nextLink"].split("://", 1)[1].partition("/")[2]
    rest = await surface.body(f"/{following}")
    assert [each["name"] for each in rest["value"]] == ["e0"]
    assert surface.hub.event_filters == [{"severity": "Critical"}] * 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, {}),
        ("", {}),
        ("EventType eq 'VmHealth'", {"eventtype": "VmHealth"}),
        (
            "severity EQ 'OK' AND  FabricName eq 'it''s and so'",
            {"severity": "OK", "fabricname": "it's and so"},
        ),
    ],
)
def test_a_filter_is_read(text: str | None, wanted: dict[str, str]) -> None:
    assert read_filter(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Severity",
        "Severity ne 'OK'",
        "Severity eq OK",
        "Severity eq 'OK' or EventType eq 'x'",
        "Severity eq 'OK' and",
        "Severity eq 'OK' and Severity eq 'OK'",
        "Severity eq 'OK' and EventCode eq 'x",
        "a eq '" + "x" * FILTER_CHARACTERS_MAX + "'",
    ],
)
def test_any_other_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"can't be read"):
        read_filter(text)


@given(st.one_of(st.text(max_size=200), st.text(alphabet="aeq '=and\t", max_size=60)))
def test_foreign_text_is_read_or_refused(text: str) -> None:
    try:
        wanted = read_filter(text)
    except InvalidRequestError:
        return
    assert all(name == name.lower() for name in wanted)
