from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service_shell.clock import SystemClock
from vmm_simulator.job_history import JobHistory
from vmm_simulator.journal import SUCCEEDED, Journal
from vmm_simulator.problems import RefusedError
from vmm_simulator.vmm.jobs import (
    JOBS_KEPT,
    JOBS_SHOWN,
    JobRecord,
    ProviderEffect,
    ended_by_restart,
    history,
    kept,
)
from wire_contract.vmm_fabric import JobView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNT = "vmm-service"


def at(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


def job(number: int, **changes: object) -> JobRecord:
    values = {"number": number, "name": "Work", "target": "m", "began_at": at(number), **changes}
    return JobRecord.model_validate(values)


def effect(number: int, outcome: str | None) -> ProviderEffect:
    done = None if outcome is None else at(number + 1)
    return ProviderEffect(number, "start", "m", at(number), done, outcome)


@pytest.mark.parametrize(
    ("record", "status", "percent", "error"),
    [
        (job(1), "Running", 0, None),
        (job(1, ended_at=at(2)), "Completed", 100, None),
        (job(1, ended_at=at(2), error="no room"), "Failed", 0, "no room"),
    ],
)
def test_an_administrators_job(
    record: JobRecord, status: str, percent: int, error: str | None
) -> None:
    (view,) = history([record], [], ACCOUNT)
    assert (view.status, view.progress_percent, view.error) == (status, percent, error)
    assert (view.owner, view.name, view.job_id) == ("administrator", "Work", "console-00000001")


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (None, "Running", None),
        (SUCCEEDED, "Completed", None),
        ("refused 32775", "Failed", "refused 32775"),
    ],
)
def test_a_providers_operation_shows_up_as_well(
    outcome: str | None, status: str, error: str | None
) -> None:
    (view,) = history([], [effect(3, outcome)], ACCOUNT)
    assert (view.status, view.error, view.owner) == (status, error, ACCOUNT)
    assert view.name == "Provider: start"


def test_the_newest_are_shown_first_and_the_oldest_not_kept() -> None:
    views = history([job(1), job(5)], [effect(3, None)], ACCOUNT)
    assert [each.began_at for each in views] == [at(5), at(3), at(1)]
    many = [job(number) for number in range(JOBS_KEPT + 5)]
    assert [each.number for each in kept(many)] == list(range(5, JOBS_KEPT + 5))
    assert len(history(many, [], ACCOUNT)) == JOBS_SHOWN
    assert ended_by_restart(job(1), at(9)).error is not None


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


async def views(journal: Journal) -> tuple[JobView, ...]:
    history_ = JobHistory(journal, SystemClock())
    await history_.load()
    return await history_.views(ACCOUNT)


async def test_jobs_survive_and_what_was_under_way_has_failed(journal: Journal) -> None:
    jobs = JobHistory(journal, SystemClock())
    async with jobs.job("Good", "a"):
        pass
    with pytest.raises(RefusedError):
        async with jobs.job("Bad", "b"):
            raise RefusedError(32768, "no room")
    async with jobs.job("Open", "c"):
        found = {each.name: (each.status, each.error) for each in await views(journal)}
    assert found == {
        "Good": ("Completed", None),
        "Bad": ("Failed", "no room"),
        "Open": ("Failed", "the VMM server went down while it was under way"),
    }


async def test_the_journal_keeps_the_newest_jobs_alone(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmm_simulator.vmm.jobs.JOBS_KEPT", 4)
    jobs = JobHistory(journal, SystemClock())
    for number in range(6):
        async with jobs.job(str(number), "m"):
            pass
    bodies = [JobRecord.model_validate_json(each) for each in await journal.documents("job")]
    assert [each.name for each in bodies] == ["2", "3", "4", "5"]
