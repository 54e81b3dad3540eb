"""Small real machines: two ext4 images, and a writer that puts down what a guest would."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.disk_images import copy_sparse
from lab.disk_templates import DiskPlan
from lab.disks import prepare_machine_disks
from vmm_simulator.guest.frames import LedgerEntry
from vmm_simulator.guest.layout import GuestLayout, ImagePlace, find_layout
from vmm_simulator.guest.records import encode_record, genesis, parse_record

SEED = b"a machine's seed"
RECORD_SLOTS = 16


@dataclass
class Machine:
    """The disks of a machine, its layout, and the ledger of what was written to it."""

    paths: Sequence[Path]
    layout: GuestLayout
    entries: list[LedgerEntry] = field(default_factory=list)
    top: int = 0
    previous: bytes = genesis(SEED)

    def write(self, until: int, *, epoch: int = 1, last_rewrite: int | None = None) -> None:
        """Write in a guest's order: each rewrite before its record, each record to the ledger."""
        for number in range(self.top + 1, until + 1):
            self.rewrite(number)
            data = encode_record(
                seed=SEED, number=number, epoch=epoch, time_microseconds=number * 1_000_000,
                previous=self.previous,
            )  # fmt: skip
            self.put(self.layout.record_place(number), data)
            record = parse_record(data)
            assert record is not None
            self.top, self.previous = number, record.checksum
            self.entries.append(
                LedgerEntry("vm", epoch, number, record.hash, record.time_microseconds)
            )
        for number in range(until + 1, (last_rewrite or until) + 1):
            self.rewrite(number)

    def rewrite(self, number: int) -> None:
        """Do rewrite `number`."""
        place = self.layout.rewrite_place(number)
        self.put(place, self.layout.schedule.content(number))

    def put(self, place: ImagePlace, data: bytes) -> None:
        """Write bytes into an image."""
        with self.paths[place.disk_index].open("r+b") as image:
            os.pwrite(image.fileno(), data, place.offset)

    def get(self, place: ImagePlace, length: int) -> bytes:
        """Read bytes from an image."""
        with self.paths[place.disk_index].open("rb") as image:
            return os.pread(image.fileno(), length, place.offset)


@pytest.fixture(scope="session")
def disk_plans(tmp_path_factory: pytest.TempPathFactory) -> Sequence[DiskPlan]:
    """Return plans of small disks, with a few real files."""
    source = tmp_path_factory.mktemp("source")
    (source / "folder").mkdir()
    (source / "folder" / "text.txt").write_text("a file\n" * 5000)
    (source / "other.txt").write_text("another\n")
    (source / "link").symlink_to("other.txt")
    return [
        DiskPlan(name, (source,), 1 << 20, RECORD_SLOTS, 2, 8 * 4096, 1 << 20)
        for name in ("system", "data")
    ]


@pytest.fixture(scope="session")
def template_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one cache for all tests."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(scope="session")
def pristine_disks(
    disk_plans: Sequence[DiskPlan],
    template_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Sequence[Path]:
    """Return the fresh disks of one machine, to be copied."""
    folder = tmp_path_factory.mktemp("pristine")
    paths = [folder / "system.raw", folder / "data.raw"]
    prepare_machine_disks(paths, disk_plans, SEED, template_cache)
    return paths


@pytest.fixture
def new_machine(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Machine]:
    """Return a function that makes a machine with fresh disks."""

    def make() -> Machine:
        # Asked for here, not as an argument: without e2fsprogs the test is skipped first.
        pristine: Sequence[Path] = request.getfixturevalue("pristine_disks")
        paths = [tmp_path / path.name for path in pristine]
        for source, target in zip(pristine, paths, strict=True):
            copy_sparse(source, target)
        images = [os.open(path, os.O_RDONLY) for path in paths]
        layout = find_layout(paths, images)
        for image in images:
            os.close(image)
        return Machine(paths, layout)

    return make
