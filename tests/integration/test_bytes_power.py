"""A kill, or a power cut, at steps that change a file of a replica; all of them: tests/long.

The source is killed at every step of a transfer.
"""

import os
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

pytestmark = pytest.mark.timeout(300)

KILL_STRIDE = 11
CUT_STRIDE = 5
SOURCE_STRIDE = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return tell(tmp_path_factory.mktemp("whole"))


def test_a_kill_loses_nothing_that_was_answered(whole: Told, tmp_path: Path) -> None:
    assert whole[1][-1].ended
    for kill_at in range(0, len(whole[0].steps), KILL_STRIDE):
        kill_and_verify(tmp_path / str(kill_at), kill_at)


def test_a_power_cut_loses_nothing_that_was_answered(whole: Told, tmp_path: Path) -> None:
    for steps in range(0, len(whole[0].steps) + 1, CUT_STRIDE):
        cut_power_and_verify(whole, tmp_path / str(steps), steps, seed=steps)


def test_a_commit_that_is_not_synced_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model can fail: logs are renamed without waiting for their bytes."""
    (tmp_path / "told").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("vmm_simulator.hyperv.frame_log.os", _WithoutSync())
        told = tell(tmp_path / "told")
    caught = 0
    for steps in range(len(told[0].steps)):
        try:
            cut_power_and_verify(told, tmp_path / str(steps), steps, seed=steps)
        except AssertionError:
            caught += 1
            break
    assert caught


async def test_a_kill_of_the_source_loses_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileGuard, "of", by_content)
    kill_at = 0
    while await kill_source(tmp_path / str(kill_at), kill_at):
        kill_at += SOURCE_STRIDE
    assert kill_at > 5 * SOURCE_STRIDE


class _WithoutSync:
    def __getattr__(self, name: str) -> object:
        return (lambda _: None) if name == "fdatasync" else getattr(os, name)
