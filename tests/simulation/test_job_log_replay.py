"""The kept logs of each release replay to exactly the jobs that were stored; damage is named."""

import json
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from service_hub.domain.errors import DamagedLogError
from service_hub.domain.job_log import decode, decode_first, replay
from service_hub.domain.jobs import Event, Job
from service_hub.domain.scenarios import PLANS, SCENARIOS
from tests.support.hub_stories import protected
from tests.support.hub_world import hub_world
from tests.support.job_log_stories import FOLDER, LEASE, STORIES, jobs_of

FILES = sorted(FOLDER.glob("*/*.json"))
NEWEST = max(FOLDER.iterdir(), key=lambda folder: [int(part) for part in folder.name.split(".")])
NOT_IN_A_STORY = {"EpochRaised"}
"""A higher epoch comes from a provider alone, after a restore."""


@cache
def kept(file: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(file.read_text())
    return content


def replayed(log: list[Any]) -> Job:
    texts = [json.dumps(entry) for entry in log]
    return replay(decode_first(texts[0]), [decode(text) for text in texts[1:]])


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_kept_log_replays_to_exactly_the_stored_job(file: Path) -> None:
    for each in kept(file):
        assert replayed(each["log"]) == Job.model_validate_json(json.dumps(each["job"]))


def test_every_story_every_scenario_and_every_event_is_in_the_newest_logs() -> None:
    assert {file.stem for file in NEWEST.glob("*.json")} == set(STORIES)
    jobs = [each for file in NEWEST.glob("*.json") for each in kept(file)]
    assert {each["job"]["scenario_key"] for each in jobs} - PLANS.keys() == set(SCENARIOS)
    types = {entry["type"] for each in jobs for entry in each["log"][1:]}
    assert types == {kind.__name__ for kind in get_args(Event)} - NOT_IN_A_STORY


async def test_a_log_written_now_replays_to_the_stored_job(tmp_path: Path) -> None:
    async with hub_world(tmp_path, LEASE) as world:
        await protected(world)
        for job in await jobs_of(world):
            log = await world.store.log_of(job.id)
            assert [each.number for each in log] == list(range(len(log)))
            first, *events = [each.event for each in log]
            assert replay(decode_first(first), [decode(text) for text in events]) == job


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is no JSON"),
        (lambda text: text.replace('"v": 1', '"v": 99'), "has version 99; this hub reads 1 to 1"),
        (lambda text: text.replace('"v": 1', '"v": 0'), "has version 0; this hub reads 1 to 1"),
        (lambda text: text.replace('"type": "', '"type": "Un'), "the unknown type 'Un"),
        (lambda text: text.replace('"attempt": 1', '"attempt": "x"'), "cannot be read"),
        (lambda text: text.replace('"attempt": 1', '"tries": 1'), "the unknown field 'tries'"),
        (lambda _: "[]", "is no JSON object"),
        (lambda _: "{}", "names no version or no type"),
        (lambda text: text + " " * 2_000_000, "characters"),
    ],
)
def test_a_damaged_entry_is_named(change: Any, said: str) -> None:
    (first, *_) = kept(NEWEST / "taken_up.json")
    entry = next(each for each in first["log"] if each["type"] == "PartSucceeded")
    with pytest.raises(DamagedLogError, match=said):
        decode(change(json.dumps(entry)))


def test_a_log_that_does_not_begin_with_its_job_is_named() -> None:
    (first, *_) = kept(NEWEST / "taken_up.json")
    with pytest.raises(DamagedLogError, match="does not begin with the job as it was made"):
        replayed(first["log"][1:])
