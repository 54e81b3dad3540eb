"""The whole lab as a newcomer runs it: killed half-way, then run to the end in the same folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.layout import Layout
from lab.process_table import marked_processes
from lab.processes import exclusive

pytestmark = [pytest.mark.needs("mkfs.ext4"), pytest.mark.timeout(450)]

ROOT = Path(__file__).resolve().parents[2]
GONE_SECONDS_MAX = 30.0
STORY_SECONDS_MAX = 150.0
LINE_SECONDS_MAX = 90.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("story") / ".lab"
    yield path
    for pid in marked_processes(path):
        os.kill(pid, signal.SIGKILL)


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab", "run", "--lab", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    deadline = time.monotonic() + LINE_SECONDS_MAX
    for line in process.stdout:
        assert time.monotonic() < deadline
        if words in line:
            return
    raise AssertionError(f"the lab ended before it said {words!r}")


def listeners_of(folder: Path) -> list[str]:
    """Return the URLs of a lab that still take connections."""
    configuration = (folder / "hub.yaml").read_text() if (folder / "hub.yaml").exists() else ""
    open_ones = []
    for line in configuration.splitlines():
        if "public_url" not in line:
            continue
        host, port = line.rpartition("//")[2].split(":")
        with socket.socket() as probe:
            probe.settimeout(2)
            if probe.connect_ex((host, int(port))) == 0:
                open_ones.append(line)
    return open_ones


def wait_gone(folder: Path) -> None:
    deadline = time.monotonic() + GONE_SECONDS_MAX
    while left := marked_processes(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert listeners_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_lab_that_is_killed_leaves_no_process_and_no_port(
    folder: Path, number: signal.Signals
) -> None:
    process = start(folder)
    try:
        read_until(process, "Every provider registers")
        assert marked_processes(folder)
        process.send_signal(number)
        process.communicate(timeout=GONE_SECONDS_MAX)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    wait_gone(folder)


def test_the_story_ends_green_after_a_killed_one(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab", "run", "--lab", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=STORY_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    wait_gone(folder)
    assert not (folder / "operator.json").exists()
    report = json.loads((folder / "report.json").read_text())
    judge(report)


def judge(report: dict[str, Any]) -> None:
    operations = report["operations"]
    assert report["totals"]["findings"] == []
    names = [each["operation"] for each in operations]
    assert names.count("unplanned_failover") == 3
    assert names.count("reverse_replicate") == 5
    for each in operations:
        assert each["seconds"] > 0
        assert len(each["job"]) == 36
        lossless = each["operation"] in ("planned_failover", "failback")
        assert each["bytes_equal"] is (True if lossless else None)
        assert each["filesystem_clean"] is (
            None if each["operation"] == "reverse_replicate" else True
        )
        if lossless:
            assert each["records_lost"] == 0
        if each["operation"] == "unplanned_failover":
            assert each["records_lost"] >= 0
            assert each["newest_record_age_s"] > 0
    assert report["totals"]["seconds_to_first_failover"] > 0


def test_a_second_command_in_the_same_folder_says_who_is_there(folder: Path) -> None:
    with exclusive(Layout.at(folder)):
        done = subprocess.run(
            [sys.executable, "-m", "lab", "up", "--lab", str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"pid {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr
