"""An applied redo log leaves its room to the next one, which is none the different for it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.hyperv_bytes.test_bytes_frames import PAGE, ended
from tests.unit.hyperv_bytes.test_bytes_transfer_header import HELD
from vmm_simulator.hyperv.frames import FrameKind
from vmm_simulator.hyperv.redo_log import (
    SPARE_SHARE,
    RedoLog,
    RedoWriter,
    committed_logs,
    drop_logs,
)

STEP = len(PAGE)
SIZES = (64 * STEP,)
LARGE = SPARE_SHARE * 64 * STEP
"""Disks that are large enough for the logs here to be kept."""


def written(folder: Path, cut: int, pages: int) -> Path:
    """Commit a log of so many pages."""
    writer = RedoWriter(folder, replace(HELD, cut=cut), SIZES)
    try:
        writer.append(ended(*((0, page * STEP, PAGE) for page in range(pages))))
        writer.commit()
    finally:
        writer.close()
    return committed_logs(folder)[-1]


@pytest.mark.parametrize("pages", [1, 7, 30])
def test_a_log_over_another_holds_itself_and_no_more(tmp_path: Path, pages: int) -> None:
    drop_logs(tmp_path, [written(tmp_path, 1, 3), written(tmp_path, 2, 7)], LARGE)
    assert committed_logs(tmp_path) == []
    (spare,) = tmp_path.iterdir()
    kept = spare.stat().st_ino
    path = written(tmp_path, 3, pages)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_ino == kept
    log = RedoLog(path)
    assert log.header.cut == 3
    found = [(frame.kind, frame.offset, frame.length) for frame in log.frames()]
    assert found == [(FrameKind.DATA, page * STEP, STEP) for page in range(pages)]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert written(fresh, 3, pages).read_bytes() == path.read_bytes()


def test_a_log_that_is_given_up_takes_the_room_with_it(tmp_path: Path) -> None:
    drop_logs(tmp_path, [written(tmp_path, 1, 3)], LARGE)
    RedoWriter(tmp_path, replace(HELD, cut=2), SIZES).close()
    assert list(tmp_path.iterdir()) == []


def test_no_room_is_kept_that_is_large_for_the_disks(tmp_path: Path) -> None:
    drop_logs(tmp_path, [written(tmp_path, 1, 3)], 3 * STEP * SPARE_SHARE)
    assert list(tmp_path.iterdir()) == []
    drop_logs(tmp_path, [], LARGE)
