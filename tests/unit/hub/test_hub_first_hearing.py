"""A hub that has just begun judges nobody away: its own absence let the leases run out."""

import pytest

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.jobs import Job, JobError
from service_hub.services import first_hearing
from service_hub.services.first_hearing import HEARD_SECONDS_MAX, FirstHearing
from tests.support.job_plans import NOW, PLANS, job_of


class Estate:
    """Servers that come back, or do not; time passes by being asked for."""

    def __init__(self, *, code: str = errors.NOT_CONNECTED, back_after: int = 10**6) -> None:
        self.code = code
        self.back_after = back_after
        self.asked = 0
        self.time = 0.0

    async def check(self, job: Job, task_id: str) -> JobError | None:
        """Return an error until the server is back."""
        del job, task_id
        self.asked += 1
        if self.asked > self.back_after:
            return None
        return job_error(self.code, NOW, name="osaka", detail="silent")

    async def connected(self, provider_id: str) -> bool:
        """Return whether the server is back."""
        del provider_id
        return self.asked >= self.back_after

    def boottime(self) -> float:
        """Let a second pass."""
        self.time += 1
        return self.time


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_hearing, "LOOK_SECONDS", 0)


def hearing(estate: Estate) -> FirstHearing:
    """Return what the engine asks, of a hub that begins now."""
    return FirstHearing(checker=estate, liveness=estate, boottime=estate.boottime)


async def test_a_server_that_comes_back_after_the_hubs_start_stops_no_job() -> None:
    estate = Estate(back_after=3)
    assert await hearing(estate).check(job_of(PLANS["pair"]), "task") is None
    assert estate.asked == 4


async def test_a_server_that_stays_away_stops_the_job_once_it_could_be_heard() -> None:
    estate = Estate()
    error = await hearing(estate).check(job_of(PLANS["pair"]), "task")
    assert error is not None
    assert error.code == errors.NOT_CONNECTED
    assert estate.asked == HEARD_SECONDS_MAX


async def test_another_error_stops_the_job_at_once() -> None:
    estate = Estate(code=errors.NOT_ALLOWED)
    error = await hearing(estate).check(job_of(PLANS["pair"]), "task")
    assert error is not None
    assert estate.asked == 1


async def test_nobody_is_given_up_before_he_could_be_heard() -> None:
    estate = Estate()
    first = hearing(estate)
    seconds = int(HEARD_SECONDS_MAX)
    said = [await first.connected("osaka") for _ in range(seconds + 1)]
    assert said == [True] * (seconds - 1) + [False] * 2
