"""Makes the disks of all machines of an estate, some at a time, and the copy of the user's own."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from lab.disks import (
    DiskPlan,
    PreparedDisk,
    bare_plan,
    machine_plans,
    prepare_machine_disks,
    prepare_user_disk,
)
from lab.estate import Disk, Estate, Machine, Site
from lab.layout import Layout
from service_shell.errors import ProgramError

SEED_BYTES: Final = 16
MACHINES_AT_A_TIME: Final = 2


@dataclass(frozen=True, slots=True)
class EstateDisks:
    """Paths of the images by site and machine; `own` are copies of the user's image."""

    images: Mapping[str, Mapping[str, tuple[Path, ...]]]
    own: Mapping[str, PreparedDisk] = field(default_factory=dict)

    def own_of_site(self, site: Site) -> dict[str, Path]:
        """Return the machines of a site that have the user's image as a further disk."""
        return {
            machine.name: self.own[machine.name].path
            for machine in site.machines
            if machine.name in self.own
        }


async def make_disks(estate: Estate, layout: Layout, own_image: Path | None) -> EstateDisks:
    """Make all disks; the user's own image goes to the first machine that is protected."""
    plans = _plans(estate)
    room = asyncio.Semaphore(MACHINES_AT_A_TIME)
    images: dict[str, dict[str, tuple[Path, ...]]] = {}
    async with asyncio.TaskGroup() as group:
        for site in estate.sites:
            images[site.name] = {}
            for machine in site.machines:
                folder = _folder(estate, layout, site, machine)
                paths = tuple(folder / f"{disk.name}.img" for disk in machine.disks)
                images[site.name][machine.name] = paths
                disk_plans = [plans[disk] for disk in machine.disks]
                seed = _seed(estate.identity(site.name, "seed", machine.name))
                group.create_task(_make(room, paths, disk_plans, seed, layout.cache))
    own = {}
    if own_image is not None:
        if not estate.pairings:
            raise ProgramError("DISK= needs a machine that is protected; add `pairings`")
        site, _ = estate.cloud(estate.pairings[0].primary)
        name = estate.pairings[0].protect[0]
        machine = next(each for each in site.machines if each.name == name)
        target = _folder(estate, layout, site, machine) / "own.img"
        own[name] = await asyncio.to_thread(prepare_user_disk, own_image, target)
    return EstateDisks(images, own)


async def _make(
    room: asyncio.Semaphore,
    paths: tuple[Path, ...],
    plans: list[DiskPlan],
    seed: bytes,
    cache: Path,
) -> None:
    async with room:
        await asyncio.to_thread(prepare_machine_disks, paths, plans, seed, cache)


def _plans(estate: Estate) -> dict[Disk, DiskPlan]:
    system, data = machine_plans()
    disks = {disk for site in estate.sites for each in site.machines for disk in each.disks}
    found = {}
    for disk in disks:
        if disk.bare:
            found[disk] = bare_plan(disk.name)
            continue
        base = system if disk.kind == "OperatingSystem" else data
        found[disk] = replace(
            base,
            name=disk.name,
            files_bytes_max=base.files_bytes_max if disk.files is None else int(disk.files),
            free_bytes=base.free_bytes if disk.free is None else int(disk.free),
        )
    return found


def _folder(estate: Estate, layout: Layout, site: Site, machine: Machine) -> Path:
    if machine.store is not None:
        stores = layout.site(site.name) / estate.store_folder(site.name, machine.store)
        return stores / machine.name
    return layout.site(site.name) / "hosts" / machine.host / machine.name


def _seed(identity: str) -> bytes:
    """Return the machine's own seed; the same estate gives the same disks every time."""
    return hashlib.sha256(identity.encode()).digest()[:SEED_BYTES]
