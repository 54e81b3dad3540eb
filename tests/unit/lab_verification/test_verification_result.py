import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import verification
from lab.disk_images import image_digest
from lab.verification import VerificationResult, compare_images, red_reasons, verify_machine
from vmm_simulator.guest import filesystem
from vmm_simulator.guest.records import EMPTY_SLOT, RECORD_BYTES
from vmm_simulator.guest.schedule import BLOCK_BYTES

if TYPE_CHECKING:
    from tests.unit.lab_verification.conftest import Machine

pytestmark = pytest.mark.needs("mke2fs", "debugfs", "tune2fs", "e2fsck")

MakeMachine = Callable[[], "Machine"]
RING = 32


def verified(machine: "Machine", paths: Sequence[Path] | None = None) -> VerificationResult:
    return verify_machine(
        paths or machine.paths,
        machine.entries,
        authoritative_epochs={1},
        at=datetime(1970, 1, 1, 0, 10, tzinfo=UTC),
    )


def reasons(machine: "Machine", paths: Sequence[Path] | None = None) -> Sequence[str]:
    return red_reasons(verified(machine, paths), loss_allowed=True)


def copied(machine: "Machine", folder: Path) -> Sequence[Path]:
    folder.mkdir()
    return [Path(shutil.copy(path, folder / path.name)) for path in machine.paths]


@pytest.mark.parametrize("top", [0, 1, 20, RING, 3 * RING + 5])
def test_a_whole_copy_is_green_also_when_the_ring_has_gone_round(
    new_machine: MakeMachine, top: int
) -> None:
    machine = new_machine()
    machine.write(top)
    result = verified(machine)
    assert red_reasons(result, loss_allowed=False) == []
    assert (result.top_record, result.records_lost) == (top, 0)
    assert result.newest_record_age_s == (600 - top if top else None)
    assert result.file_system_clean is True
    assert result.file_systems_clean == (True, True)
    assert len(result.file_hashes) == 4
    assert all(file.right for file in result.file_hashes.values())


@pytest.mark.parametrize("top", [5, RING + 7])
def test_the_one_rewrite_in_flight_is_allowed_and_no_further_one(
    new_machine: MakeMachine, top: int
) -> None:
    machine = new_machine()
    machine.write(top, last_rewrite=top + 1)
    assert reasons(machine) == []
    machine.rewrite(top + 2)
    assert any("does not hold" in reason for reason in reasons(machine))


@pytest.mark.parametrize("kind", ["record", "rewrite"])
@pytest.mark.parametrize("number", [3, 39])
def test_dropping_one_changed_block_turns_it_red(
    new_machine: MakeMachine, kind: str, number: int
) -> None:
    machine = new_machine()
    machine.write(number - 1)
    layout = machine.layout
    if kind == "record":
        place, length = layout.record_place(number), RECORD_BYTES
    else:
        place, length = layout.rewrite_place(number), BLOCK_BYTES
    before = machine.get(place, length)
    machine.write(number + 1)
    if kind == "rewrite" and machine.get(place, length) != layout.schedule.content(number):
        pytest.fail("the seed has the next rewrite in the same block: choose another number")
    assert reasons(machine) == []
    machine.put(place, before)
    found = reasons(machine)
    assert any(("missing" if kind == "record" else "does not hold") in each for each in found)


def test_dropping_a_block_of_the_initial_copy_turns_it_red(new_machine: MakeMachine) -> None:
    machine = new_machine()
    machine.write(5)
    with machine.paths[0].open("r+b") as image:
        content = image.read()
        at = content.index(b"a file\na file\n") // BLOCK_BYTES * BLOCK_BYTES
        os.pwrite(image.fileno(), bytes(BLOCK_BYTES), at)
    result = verified(machine)
    assert result.disk_faults == ("disk 0 differs where its guest never writes",)
    assert red_reasons(result, loss_allowed=True)


@pytest.mark.parametrize("newer", [0, 1])
@pytest.mark.parametrize("top", [9, RING + 9])
def test_skewing_the_cut_between_the_disks_turns_it_red(
    new_machine: MakeMachine, tmp_path: Path, newer: int, top: int
) -> None:
    machine = new_machine()
    machine.write(top)
    early = copied(machine, tmp_path / "early")
    machine.write(top + 6)
    late = copied(machine, tmp_path / "late")
    assert reasons(machine, early) == []
    assert reasons(machine, late) == []
    skewed = [late[disk] if disk == newer else early[disk] for disk in (0, 1)]
    assert any("missing" in reason for reason in reasons(machine, skewed))


@pytest.mark.parametrize(("one", "other"), [(4, 5), (4, 6), (9, 10)])
def test_reordering_two_records_turns_it_red(
    new_machine: MakeMachine, one: int, other: int
) -> None:
    machine = new_machine()
    machine.write(10)
    places = [machine.layout.record_place(number) for number in (one, other)]
    first, second = (machine.get(place, RECORD_BYTES) for place in places)
    machine.put(places[0], second)
    machine.put(places[1], first)
    assert any("missing" in reason or "reordered" in reason for reason in reasons(machine))


def test_a_damaged_record_turns_it_red(new_machine: MakeMachine) -> None:
    machine = new_machine()
    machine.write(10)
    place = machine.layout.record_place(4)
    data = bytearray(machine.get(place, RECORD_BYTES))
    data[100] ^= 1
    machine.put(place, bytes(data))
    assert any(reason.startswith("damaged") for reason in reasons(machine))


def test_records_after_the_cut_are_lost_by_number(new_machine: MakeMachine, tmp_path: Path) -> None:
    machine = new_machine()
    machine.write(10)
    cut = copied(machine, tmp_path / "cut")
    machine.write(14)
    result = verified(machine, cut)
    assert result.records_lost == 4
    assert result.lost_numbers == (11, 12, 13, 14)
    assert result.newest_record_age_s == 590
    assert red_reasons(result, loss_allowed=True) == []
    assert red_reasons(result, loss_allowed=False) == ["4 acknowledged records are lost (11 to 14)"]


def test_a_newest_record_that_is_gone_without_a_gap_is_still_counted(
    new_machine: MakeMachine,
) -> None:
    machine = new_machine()
    machine.write(10)
    machine.put(machine.layout.record_place(10), EMPTY_SLOT)
    result = verified(machine)
    assert result.records_lost == 1
    assert red_reasons(result, loss_allowed=False)


def test_a_broken_file_system_turns_it_red(new_machine: MakeMachine) -> None:
    machine = new_machine()
    machine.write(3)
    with machine.paths[0].open("r+b") as image:
        content = image.read()
        # The name of a file in a directory block: its checksum does not fit any more.
        os.pwrite(image.fileno(), b"tixt.txt", content.index(b"text.txt"))
    result = verified(machine)
    assert result.file_systems_clean == (False, True)
    assert "e2fsck -fn found errors in a file system" in red_reasons(result, loss_allowed=True)


def test_a_disk_that_cannot_be_read_is_red_and_no_figure_is_made_up(
    new_machine: MakeMachine,
) -> None:
    machine = new_machine()
    machine.write(3)
    with machine.paths[1].open("r+b") as image:
        os.pwrite(image.fileno(), bytes(1 << 16), 0)
    result = verified(machine)
    assert red_reasons(result, loss_allowed=True)
    assert (result.records_lost, result.file_system_clean) == (None, None)
    missing = verified(machine, [machine.paths[0], machine.paths[0].with_name("none.raw")])
    assert red_reasons(missing, loss_allowed=True)


def test_without_e2fsprogs_nothing_is_said_to_be_right(
    new_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = new_machine()
    machine.write(3)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(filesystem, "TOOL_FOLDERS", ())
    result = verified(machine)
    assert result.unchecked is not None
    assert "e2fsprogs" in result.unchecked
    assert (result.records_lost, result.file_system_clean) == (None, None)
    assert result.file_systems_clean == (None, None)
    assert red_reasons(result, loss_allowed=False) == []


def test_without_e2fsck_alone_the_rest_is_checked(
    new_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = new_machine()
    machine.write(3)
    monkeypatch.setattr(verification, "find_tool", lambda _name: None)
    result = verified(machine)
    assert (result.top_record, result.file_system_clean) == (3, None)
    assert red_reasons(result, loss_allowed=False) == []


def test_a_users_disk_is_judged_by_its_digest(new_machine: MakeMachine, tmp_path: Path) -> None:
    machine = new_machine()
    machine.write(3)
    user = tmp_path / "user.raw"
    user.write_bytes(b"no file system" * 4096)
    digests = {2: image_digest(user)}

    def judged() -> VerificationResult:
        return verify_machine(
            [*machine.paths, user],
            machine.entries,
            authoritative_epochs={1},
            user_disk_digests=digests,
        )

    assert red_reasons(judged(), loss_allowed=False) == []
    assert judged().file_systems_clean == (True, True, None)
    with user.open("r+b") as image:
        os.pwrite(image.fileno(), b"N", 5000)
    assert red_reasons(judged(), loss_allowed=False) == [
        "disk 2 is not the image that was protected"
    ]


def test_images_are_compared_disk_by_disk(new_machine: MakeMachine, tmp_path: Path) -> None:
    machine = new_machine()
    machine.write(3)
    other = copied(machine, tmp_path / "other")
    assert compare_images(machine.paths, other)
    assert not compare_images(machine.paths, other[:1])
    assert not compare_images(machine.paths, other[::-1])
    machine.write(4)
    assert not compare_images(machine.paths, other)
