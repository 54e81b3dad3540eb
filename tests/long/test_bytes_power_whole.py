"""A kill, and power cuts of several seeds, at every step that changes a file of a replica."""

import random
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.recorded_files import by_content
from tests.unit.hyperv_bytes.replica_story import (
    Told,
    cut_power_and_verify,
    kill_and_verify,
    tell,
)
from tests.unit.hyperv_bytes.source_story import kill_source
from vmm_simulator.hyperv.replica_record import FileGuard

SEEDS = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("whole"))


@pytest.mark.timeout(1800)
def test_a_kill_at_any_step_loses_nothing_that_was_answered(whole: Told, tmp_path: Path) -> None:
    for kill_at in range(len(whole[0].steps)):
        kill_and_verify(tmp_path / str(kill_at), kill_at)


@pytest.mark.timeout(1800)
def test_a_power_cut_at_any_step_loses_nothing_that_was_answered(
    whole: Told, tmp_path: Path
) -> None:
    for steps in range(len(whole[0].steps) + 1):
        for _ in range(SEEDS):
            seed = random.randrange(2**32)  # noqa: S311 -- no secret
            cut_power_and_verify(whole, tmp_path / f"{steps}-{seed}", steps, seed)


@pytest.mark.timeout(1800)
async def test_a_kill_of_the_source_at_any_step_loses_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileGuard, "of", by_content)
    kill_at = 0
    while await kill_source(tmp_path / str(kill_at), kill_at):
        kill_at += 1
