import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lab import disk_templates
from lab.disk_images import copy_sparse, image_digest
from lab.disk_templates import DiskError, DiskPlan, ensure_template
from lab.disks import machine_plans, prepare_machine_disks, prepare_user_disk
from vmm_simulator.guest import filesystem

NEEDED = pytest.mark.needs("mke2fs", "debugfs", "tune2fs", "e2fsck")


def holes(path: Path, size: int, data: dict[int, bytes]) -> Path:
    with path.open("wb") as image:
        os.truncate(image.fileno(), size)
        for offset, content in data.items():
            os.pwrite(image.fileno(), content, offset)
    return path


def test_a_copy_keeps_content_and_holes(tmp_path: Path) -> None:
    source = holes(tmp_path / "a", 64 << 20, {5000: b"x" * 100, 40 << 20: b"y" * 9000})
    target = tmp_path / "b"
    copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_digest_takes_a_hole_for_zeros_and_nothing_else(tmp_path: Path) -> None:
    one = holes(tmp_path / "a", 5 << 20, {100: b"x", 3 << 20: b"y" * 9000})
    other = tmp_path / "b"
    other.write_bytes(one.read_bytes())
    assert image_digest(one) == image_digest(other)
    longer = holes(tmp_path / "c", (5 << 20) + 512, {100: b"x", 3 << 20: b"y" * 9000})
    moved = holes(tmp_path / "d", 5 << 20, {100: b"x", 2 << 20: b"y" * 9000})
    assert len({image_digest(path) for path in (one, longer, moved)}) == 3


def test_a_digest_leaves_out_what_is_masked(tmp_path: Path) -> None:
    masked = [(4096, 4096), ((1 << 20) - 10, 20)]
    one = holes(tmp_path / "a", 3 << 20, {5000: b"x", 1 << 20: b"in the mask"[:10], 9000: b"z"})
    other = holes(tmp_path / "b", 3 << 20, {9000: b"z"})
    assert image_digest(one) != image_digest(other)
    assert image_digest(one, masked) == image_digest(other, masked)
    assert image_digest(one, masked[:1]) != image_digest(other, masked[:1])


@NEEDED
def test_machines_differ_in_seed_and_uuid_and_are_clean(
    disk_plans: Sequence[DiskPlan], template_cache: Path, tmp_path: Path
) -> None:
    made = [
        prepare_machine_disks(
            [tmp_path / name / "0.raw", tmp_path / name / "1.raw"],
            disk_plans,
            name.encode() * 8,
            template_cache,
        )
        for name in ("m1", "m2")
    ]
    disks = [disk for machine in made for disk in machine]
    assert len({disk.file_system_uuid for disk in disks}) == 4
    assert len({image_digest(disk.path) for disk in disks}) == 4
    for disk in disks:
        done = subprocess.run(
            ["e2fsck", "-fn", disk.path], check=False, capture_output=True, timeout=30
        )
        assert done.returncode == 0, done.stdout
        assert disk.path.stat().st_size == disk.size_bytes
    text = subprocess.run(
        ["debugfs", "-R", "cat /files/0/folder/text.txt", disks[0].path],
        check=True, capture_output=True, timeout=30,
    ).stdout  # fmt: skip
    assert text == b"a file\n" * 5000


@NEEDED
def test_two_labs_at_the_same_time_build_one_template(
    disk_plans: Sequence[DiskPlan], tmp_path: Path
) -> None:
    left = tmp_path / ".building-killed"
    left.mkdir()
    (left / "image.raw").write_bytes(b"half")
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: ensure_template(disk_plans[0], 0, 2, tmp_path), range(4)))
    (template,) = found
    inode = template.stat().st_ino
    assert ensure_template(disk_plans[0], 0, 2, tmp_path).stat().st_ino == inode
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", template.name]


@NEEDED
def test_a_template_changes_its_name_with_its_content(
    disk_plans: Sequence[DiskPlan], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_text("one")
    plan = replace(disk_plans[0], sources=(source,))
    cache = tmp_path / "cache"
    first = ensure_template(plan, 0, 2, cache)
    (source / "two").write_text("two")
    assert ensure_template(plan, 0, 2, cache) != first
    assert ensure_template(plan, 1, 2, cache) != ensure_template(plan, 0, 2, cache)


def test_a_cache_that_is_held_for_too_long_is_named(
    disk_plans: Sequence[DiskPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_templates, "LOCK_SECONDS_MAX", 0.1)
    with disk_templates._cache_lock(tmp_path), pytest.raises(DiskError, match="another lab"):
        ensure_template(disk_plans[0], 0, 2, tmp_path)


def test_missing_tools_name_the_debian_package(
    disk_plans: Sequence[DiskPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(filesystem, "TOOL_FOLDERS", ())
    with pytest.raises(DiskError, match="Debian package e2fsprogs"):
        prepare_machine_disks([tmp_path / "0.raw"], disk_plans[:1], bytes(16), tmp_path)


@NEEDED
def test_a_tool_that_fails_says_why(disk_plans: Sequence[DiskPlan], tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="tune2fs failed"):
        disk_templates.run_tool("tune2fs", "-U", "clear", str(tmp_path / "none.raw"))
    with pytest.raises(DiskError, match="16 bytes"):
        prepare_machine_disks([tmp_path / "0.raw"], disk_plans[:1], b"short", tmp_path)


def test_a_users_raw_image_is_copied_with_its_digest(tmp_path: Path) -> None:
    image = holes(tmp_path / "mine.raw", 8 << 20, {512: b"my data", 4 << 20: b"more"})
    disk = prepare_user_disk(image, tmp_path / "vm" / "user.raw")
    assert disk.path.read_bytes() == image.read_bytes()
    assert disk.digest == image_digest(image)
    assert (disk.size_bytes, disk.file_system_uuid) == (8 << 20, None)


@NEEDED
def test_a_users_image_with_a_file_system_shows_its_uuid(
    new_machine: Callable[[], object], tmp_path: Path
) -> None:
    new_machine()
    disk = prepare_user_disk(tmp_path / "system.raw", tmp_path / "user.raw")
    assert disk.file_system_uuid is not None


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"QFI\xfb".ljust(1024), "qcow2"),
        (b"vhdxfile".ljust(1024), "VHDX"),
        (b"KDMV".ljust(1024), "VMDK"),
        (b"x" * 1000, "512-byte sectors"),
        (b"", "0 bytes"),
    ],
)
def test_what_is_no_raw_image_is_refused_by_name(
    tmp_path: Path, content: bytes, named: str
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(content)
    with pytest.raises(DiskError, match=named):
        prepare_user_disk(image, tmp_path / "vm" / "user.raw")
    with pytest.raises(DiskError, match="none"):
        prepare_user_disk(tmp_path / "none", tmp_path / "vm" / "user.raw")
    with pytest.raises(DiskError, match="DISK="):
        prepare_user_disk(tmp_path, tmp_path / "vm" / "user.raw")


def test_a_machine_of_the_lab_has_a_system_and_a_smaller_data_disk() -> None:
    system, data = machine_plans()
    assert (system.name, data.name) == ("system", "data")
    assert data.files_bytes_max < system.files_bytes_max
    assert system.sources[0].is_dir()
