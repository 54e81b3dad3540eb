"""What an administrator may ask of the management port: closed, bounded bodies.

Objects that a configuration file has are asked for in its words (`config`), without the id, which
the path names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, model_validator

from service_shell.configuration import Settings
from vmm_simulator import seed
from vmm_simulator.config import (
    AddressPoolSettings,
    ClassificationSettings,
    ClusterSettings,
    FileShareSettings,
    Fqdn,
    HostGroupSettings,
    Identity,
    LibraryShareSettings,
    LogicalNetworkSettings,
    Name,
    NetworkSettings,
    NicSettings,
    StoreSettings,
    Text,
)
from vmm_simulator.vmm.fitness import Status
from vmm_simulator.vmm.record import Record

DISK_BYTES_MAX: Final = 64 * 2**40
"""Largest VHDX."""


@dataclass(frozen=True, slots=True)
class PartForm:
    """How one kind of part is asked for: its model, the key that the path names, its record."""

    model: type[Settings]
    key: str
    record: Callable[[Any], Record]


PART_FORMS: Final[Mapping[str, PartForm]] = {
    "host-groups": PartForm(HostGroupSettings, "id", seed.host_group),
    "clusters": PartForm(ClusterSettings, "name", seed.cluster),
    "logical-networks": PartForm(LogicalNetworkSettings, "id", seed.logical_network),
    "networks": PartForm(NetworkSettings, "id", seed.network),
    "ip-pools": PartForm(AddressPoolSettings, "id", seed.address_pool),
    "classifications": PartForm(ClassificationSettings, "id", seed.classification),
    "stores": PartForm(StoreSettings, "id", seed.store),
    "library-shares": PartForm(LibraryShareSettings, "unc", seed.library_share),
    "file-shares": PartForm(FileShareSettings, "unc", seed.file_share),
}


class NewDisk(Settings):
    """A disk of a new machine: an empty one of `size_bytes`, or an existing raw image at `path`."""

    id: Identity
    name: Name
    kind: str = Field(default="OperatingSystem", pattern="^(OperatingSystem|Data)$")
    size_bytes: int | None = Field(default=None, ge=1, le=DISK_BYTES_MAX)
    path: Path | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.size_bytes is None) == (self.path is None):
            raise ValueError("give either size_bytes, for an empty disk, or the path of an image")
        if self.path is not None and not self.path.is_absolute():
            raise ValueError("the path of an image is absolute")
        return self


class NewMachine(Settings):
    """A machine to create; `store` is where its empty disks go, null: its host's own folder."""

    id: Identity
    name: Name
    host: Fqdn
    cloud: Identity
    generation: int = Field(default=2, ge=1, le=2)
    disks: tuple[NewDisk, ...] = Field(min_length=1, max_length=16)
    nics: tuple[NicSettings, ...] = Field(default=(), max_length=12)
    records_per_second: float = Field(default=0.0, ge=0, le=100_000)
    running: bool = False
    processors: int = Field(default=1, ge=1, le=64)
    memory_megabytes: int = Field(default=1024, ge=32, le=2**20)
    owner: str = Field(default="", max_length=256)
    recovery_points: int | None = Field(default=None, ge=0, le=24)
    store: Identity | None = None


class DiskChange(Settings):
    """A disk's new size, or a disk to add: then with its name."""

    size_bytes: int = Field(ge=1, le=DISK_BYTES_MAX)
    name: Name | None = None
    kind: str = Field(default="Data", pattern="^(OperatingSystem|Data)$")


class MachineState(Settings):
    """What a machine is to be: Running, PowerOff, Saved or Paused."""

    state: Status

    @model_validator(mode="after")
    def _can_be_asked_for(self) -> Self:
        if self.state in (Status.UNDER_MIGRATION, Status.CREATING):
            raise ValueError("a machine can be Running, PowerOff, Saved or Paused")
        return self


class Migration(Settings):
    """Where a machine goes."""

    host: Fqdn


class FreeBytes(Settings):
    """What a store is to have free: others take, or give back, the rest."""

    free_bytes: int = Field(ge=0, le=2**60)


class Broker(Settings):
    """The client access point of a broker made by hand; null: as VMM would name it."""

    name: Fqdn | None = None


class RecoveryPoints(Settings):
    """How many additional recovery points a machine is to have; null: as its cloud has."""

    recovery_points: int | None = Field(ge=0, le=24)


class AddressWish(Settings):
    """The address that an adapter wants; null: any that is free."""

    address: Text | None = None
