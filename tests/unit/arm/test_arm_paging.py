from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from yarl import URL

from service_hub.arm.calls import Call
from service_hub.arm.paging import PAGE_ENTRIES_MAX, page
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.jobs import JobState
from service_hub.ports.use_cases import RequestIdentity
from tests.support.store_world import NOW, job
from tests.unit.arm.conftest import Surface, error_of

HUB = "https://hub.example"
CALL = Call(
    identity=RequestIdentity("anna", "c", "d", "GET", "/list", ""),
    names={},
    query={},
    body=b"",
    url="/list?api-version=2025-08-01",
)


def entries(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"/jobs/{number}"} for number in range(first, first + count)]


def follow(listed: list[dict[str, Any]], call: Call) -> tuple[list[Any], str | None]:
    body = page(call, listed, HUB).body
    assert body is not None
    return [entry["id"] for entry in body["value"]], body["nextLink"]


def at(link: str) -> Call:
    url = URL(link)
    return replace(CALL, url=url.raw_path_qs, query=dict(url.query))


def test_all_entries_come_once_over_all_pages() -> None:
    listed = entries(2 * PAGE_ENTRIES_MAX + 1)
    seen: list[str] = []
    call = CALL
    for _ in range(3):
        shown, link = follow(listed, call)
        seen += shown
        if link is not None:
            assert link.startswith(f"{HUB}/list?")
            assert URL(link).query["api-version"] == "2025-08-01"
            call = at(link)
    assert link is None
    assert seen == [entry["id"] for entry in listed]


def test_a_list_that_fits_has_no_next_page() -> None:
    assert follow(entries(PAGE_ENTRIES_MAX), CALL)[1] is None
    assert follow([], CALL) == ([], None)


def test_new_entries_in_front_show_nothing_twice() -> None:
    listed = entries(PAGE_ENTRIES_MAX + 5, first=10)
    shown, link = follow(listed, CALL)
    assert link is not None
    later, _ = follow([*entries(10), *listed], at(link))
    assert not set(shown) & set(later)
    assert len(later) == 5


def test_when_the_last_entry_is_gone_the_position_serves() -> None:
    listed = entries(PAGE_ENTRIES_MAX + 5)
    _, link = follow(listed, CALL)
    assert link is not None
    del listed[PAGE_ENTRIES_MAX - 1]
    shown, _ = follow(listed, at(link))
    assert shown == [f"/jobs/{PAGE_ENTRIES_MAX + number}" for number in range(1, 5)]


def test_take_makes_pages_smaller_never_larger() -> None:
    listed = entries(PAGE_ENTRIES_MAX + 1)
    shown, link = follow(listed, replace(CALL, query={"$take": "2"}, url="/list?$take=2"))
    assert len(shown) == 2
    assert link is not None
    assert len(follow(listed, at(link))[0]) == 2
    assert len(follow(listed, replace(CALL, query={"$TAKE": "999999"}))[0]) == PAGE_ENTRIES_MAX


@pytest.mark.parametrize(
    "query",
    [
        {"$skipToken": "ReplicationGroup:Begin"},
        {"skipToken": "-1"},
        {"$skipToken": "1-" + "g" * 16},
        {"$skipToken": "9" * 5000},
        {"$take": "0"},
        {"$take": "-1"},
        {"$take": "\u0663"},
        {"$take": "9" * 5000},
        {"$filter": "State eq 'Failed'"},
    ],
)
def test_what_a_list_cannot_do_is_refused_by_name(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        page(replace(CALL, query=query), entries(3), HUB)
    assert refused.value.target is not None


async def test_a_filter_is_refused_not_ignored(surface: Surface) -> None:
    path = f"{surface.vault}/replicationJobs?$filter=State%20eq%20'Failed'"
    response = await surface.ask("GET", path)
    assert response.status == 400
    assert (await response.json())["error"]["target"] == "$filter"


async def test_jobs_are_filtered_by_state_time_and_kind(surface: Surface) -> None:
    for number, state in enumerate((JobState.SUCCEEDED, JobState.FAILED, JobState.FAILED)):
        at = NOW + timedelta(hours=number)
        made = job(f"{number:08x}", state, NOW).model_copy(update={"started_at": at})
        surface.hub.jobs[made.id] = made
    kind = job("any").scenario
    two = (NOW + timedelta(hours=2)).isoformat()
    for text, names in (
        ("JobStatus eq 'failed'", ["00000002", "00000001"]),
        (f"JobStatus eq 'Failed' and StartTime eq '{two}'", ["00000002"]),
        (f"jobname eq '{kind.name.upper()}' and EndTime eq '{NOW.isoformat()}'", ["00000000"]),
        (f"AffectedObjectTypes eq '{kind.target_type}'", ["00000002", "00000001", "00000000"]),
        ("AffectedObjectTypes eq 'Network'", []),
    ):
        query = urlencode({"$FILTER": text, "$take": "5"})
        body = await surface.body(f"{surface.vault}/replicationJobs?{query}")
        assert [each["name"] for each in body["value"]] == names, text
    for text in ("JobStatus eq 'Odd'", "StartTime eq 'noon'", "State eq 'Failed'", "JobStatus"):
        query = urlencode({"$filter": text})
        status, error = await error_of(surface, "GET", f"{surface.vault}/replicationJobs?{query}")
        assert (status, error["target"]) == (400, "$filter"), text


async def test_protectable_items_are_filtered_by_name_and_state(surface: Surface) -> None:
    listed = f"{surface.container}/replicationProtectableItems"
    for text, count in (
        ("State eq 'Protected'", 1),
        ("State eq 'Unprotected'", 0),
        ("Name eq 'vm1' and ProtectionStatus eq 'protected'", 1),
        ("Name eq 'other'", 0),
    ):
        body = await surface.body(f"{listed}?{urlencode({'$filter': text})}")
        assert len(body["value"]) == count, text
    status, error = await error_of(surface, "GET", f"{listed}?%24filter=Size%20eq%20'1'")
    assert (status, error["target"]) == (400, "$filter")


def made_job(surface: Surface, number: int) -> str:
    """Have one more job, the newest; return its name."""
    made = job(f"{number:08x}", JobState.SUCCEEDED, NOW)
    surface.hub.jobs[made.id] = made
    return made.id


async def test_jobs_come_once_over_all_pages_whatever_begins_meanwhile(surface: Surface) -> None:
    made = [made_job(surface, number) for number in range(5)]
    seen: list[str] = []
    path: str | None = f"{surface.vault}/replicationJobs?$take=2"
    for number in range(3):
        assert path is not None
        body = await surface.body(path)
        seen += [each["name"] for each in body["value"]]
        made_job(surface, 5 + number)
        path = body["nextLink"] and URL(body["nextLink"]).raw_path_qs
    assert path is None
    assert seen == made[::-1]


@pytest.mark.parametrize("token", ["x", "1-" + "g" * 16, "-1", "1-", "9" * 5000, "1-a'b"])
async def test_a_token_of_another_list_is_refused(surface: Surface, token: str) -> None:
    url = URL(f"{surface.vault}/replicationJobs").with_query({"$skipToken": token})
    response = await surface.ask("GET", str(url))
    assert response.status == 400
    assert (await response.json())["error"]["target"] == "$skipToken"
