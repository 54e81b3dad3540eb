"""The whole hub on a disk that is full, breaks, or holds a damaged database.

Reads are answered, writes are refused in one sentence, nothing is lost, and it goes on by itself.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service_hub.cli import application
from service_shell.errors import ProgramError
from tests.support.real_hub import VAULTS, Answer, RealHub, real_hub, run_again
from tests.support.small_disk import BreakingDisk, SmallDisk, breaking_disk, small_disk
from wire_contract import paths

DISK_KIBIBYTES = 8192
TRIES_MAX = 200
VAULT = {"location": "local", "sku": {"name": "RS0", "tier": "Standard"}, "properties": {}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", DISK_KIBIBYTES) as given:
        yield given


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[BreakingDisk]:
    with breaking_disk(tmp_path) as given:
        yield given


def make(hub: RealHub, name: str) -> Answer:
    return hub.operator("PUT", f"{VAULTS}/{name}?api-version=2024-04-01", VAULT)


def make_until_refused(hub: RealHub) -> list[str]:
    """Make vaults until one is refused; the names of those that were made."""
    made: list[str] = []
    for number in range(TRIES_MAX):
        answer = make(hub, f"v{number}")
        if answer.code == 503:
            error = answer.content["error"]
            assert error["code"] == "ServiceUnavailable"
            assert "nothing was stored" in error["message"]
            assert "make room on its disk" in error["message"]
            return made
        assert answer.code in {200, 201, 202}, answer
        made.append(f"v{number}")
    raise AssertionError("the disk never became full")


def listed(hub: RealHub) -> list[str]:
    answer = hub.operator("GET", "/hub/v1/vaults")
    assert answer.code == 200, answer
    return sorted(each["name"] for each in answer.content["vaults"])


def faults(hub: RealHub) -> list[Any]:
    """What is the program's own fault: that a commit failed is the disk's."""
    return [each for each in hub.failures if each["event"] != "commit_failed"]


def test_on_a_full_disk_reads_are_answered_and_writes_refused_until_there_is_room(
    disk: SmallDisk, free_port: Callable[[], int]
) -> None:
    with real_hub(disk.folder, free_port) as hub:
        server = hub.registered("prod")
        disk.fill()
        made = ["prod", *make_until_refused(hub)]
        assert listed(hub) == sorted(made)
        beat = b'{"boot_id": "b", "last": null, "fabric_reachable": true}'
        refused = hub.provider("POST", paths.HEARTBEAT, server, beat)
        assert (refused.code, refused.content["code"]) == (503, "ServiceUnavailable")
        assert int(refused.headers["Retry-After"]) > 0
        disk.make_room()
        assert make(hub, "afterwards").code in {200, 201, 202}
        assert hub.provider("POST", paths.HEARTBEAT, server, beat).code == 200
        assert listed(hub) == sorted([*made, "afterwards"])
        assert faults(hub) == []
    with run_again(hub) as again:
        assert listed(again) == sorted([*made, "afterwards"])


def test_on_a_disk_that_breaks_reads_are_answered_and_all_is_there_when_it_is_mended(
    broken: BreakingDisk, free_port: Callable[[], int]
) -> None:
    with real_hub(broken.folder, free_port) as hub:
        assert make(hub, "prod").code in {200, 201, 202}
        broken.break_down()
        assert make_until_refused(hub) == []
        assert listed(hub) == ["prod"]
    with pytest.raises(ProgramError, match=r"(?i)read-only"), run_again(hub):
        pass
    broken.mend()
    with run_again(hub) as again:
        assert listed(again) == ["prod"]
        assert make(again, "afterwards").code in {200, 201, 202}


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_such_a_disk_is_named_at_the_start(
    disk: SmallDisk, free_port: Callable[[], int], how: str
) -> None:
    with real_hub(disk.folder, free_port) as hub:
        assert make(hub, "prod").code in {200, 201, 202}
    disk.fill() if how == "full" else disk.forbid_writing()
    with (
        pytest.raises(ProgramError, match=r"(?i)disk I/O|no space left|read-?only"),
        run_again(hub),
    ):
        pass
    disk.make_room() if how == "full" else disk.allow_writing()
    with run_again(hub) as again:
        assert listed(again) == ["prod"]


def test_a_damaged_database_is_refused_and_a_backup_brings_it_back(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    with real_hub(tmp_path, free_port) as hub:
        assert make(hub, "prod").code in {200, 201, 202}
        config, copy = tmp_path / "hub.json", tmp_path / "copy.db"
        arguments = ("--config", str(config), "--output", str(copy))
        assert CliRunner().invoke(application, ["database", "backup", *arguments]).exit_code == 0
    database = tmp_path / "hub" / "hub.db"
    content = database.read_bytes()
    database.write_bytes(content[:8192] + b"\xff" * 16_384 + content[24_576:])
    with pytest.raises(ProgramError, match="restore a backup"), run_again(hub):
        pass
    arguments = ("--config", str(config), "--input", str(copy))
    assert CliRunner().invoke(application, ["database", "restore", *arguments]).exit_code == 0
    with run_again(hub) as again:
        assert listed(again) == ["prod"]
        assert make(again, "afterwards").code in {200, 201, 202}
