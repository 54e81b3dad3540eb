"""The lab by its own command, again and again: `make test-long` runs this, minutes long."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.process_table import marked_processes

pytestmark = [pytest.mark.needs("mkfs.ext4", "git"), pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS_MAX = 400
GONE_SECONDS_MAX = 30.0
KILLS = 8
SEED = 20_261_123


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Give two fresh clones; each makes its own environment."""
    folders = [tmp_path_factory.mktemp(name) / "clone" for name in ("first", "second")]
    for folder in folders:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True, timeout=60)
    yield folders
    for folder in folders:
        for pid in marked_processes(folder / ".lab"):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder.parent / "output").open("ab") as output:
        return subprocess.Popen(["make", "lab"], cwd=folder, stdout=output, stderr=output)


def assert_green(folder: Path, code: int) -> None:
    output = (folder.parent / "output").read_text()
    assert code == 0, output[-4000:]
    assert json.loads((folder / ".lab/report.json").read_text())["totals"]["green"] is True
    assert marked_processes(folder / ".lab") == []


def test_twice_at_the_same_time_from_two_clones(clones: list[Path]) -> None:
    running = [start(folder) for folder in clones]
    for folder, process in zip(clones, running, strict=True):
        assert_green(folder, process.wait(RUN_SECONDS_MAX))


def test_three_times_in_a_row(clones: list[Path]) -> None:
    for _ in range(3):
        assert_green(clones[0], start(clones[0]).wait(RUN_SECONDS_MAX))


def test_killed_at_any_time_and_run_again(clones: list[Path]) -> None:
    chance = random.Random(SEED)  # noqa: S311 -- moments to kill at, not secrets
    folder = clones[0]
    for number in range(KILLS):
        process = start(folder)
        time.sleep(chance.uniform(0.2, 30.0))
        # Even numbers: make alone is killed, as a person does; odd ones: Ctrl-C.
        process.send_signal(signal.SIGKILL if number % 2 == 0 else signal.SIGINT)
        process.wait(RUN_SECONDS_MAX)
        deadline = time.monotonic() + GONE_SECONDS_MAX
        while left := marked_processes(folder / ".lab"):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
    assert_green(folder, start(folder).wait(RUN_SECONDS_MAX))
