"""The record format of a guest: numbered, chained, checksummed, in a ring over several disks.

Pure: bytes in, values out. After a failover no gap below the top and no broken chain mean that the
disks hold a prefix of what the guest wrote, in write order (design: replication, "Proving loss and
order"). The ring lets an estate run for days: a record replaces the one a whole ring before it.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

RECORD_BYTES: Final = 512
MAGIC: Final = b"SRHREC1\0"
HASH_BYTES: Final = 32
SEED_BYTES: Final = 16
NUMBER_MAX: Final = 2**62
EPOCH_MAX: Final = 2**31
# Microseconds since 1970 up to the year 9999: what a datetime can show.
TIME_MICROSECONDS_MAX: Final = 253_402_300_799_000_000
RING_DISKS_MAX: Final = 16
SLOTS_PER_DISK_MAX: Final = 1 << 16
FAULTS_MAX: Final = 64

_HEADER: Final = struct.Struct("<8sQQQ32s")
PAYLOAD_BYTES: Final = RECORD_BYTES - _HEADER.size - HASH_BYTES
_CHECKED_BYTES: Final = RECORD_BYTES - HASH_BYTES

# A slot that no record has used yet. Not zero: mke2fs -d leaves zero-filled files without extents.
EMPTY_SLOT: Final = b"\xa5" * RECORD_BYTES


class RecordDamagedError(ValueError):
    """A slot that holds neither an intact record nor the filler of an unused slot."""


@dataclass(frozen=True, slots=True)
class Record:
    """One acknowledged unit of a guest's work; `checksum` covers all the rest of it."""

    number: int
    epoch: int
    time_microseconds: int
    previous: bytes
    payload: bytes
    checksum: bytes

    @property
    def hash(self) -> str:
        """The record's name in the chain and in the ledger, in hexadecimal."""
        return self.checksum.hex()


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a record goes: the guest's own count of disks, and the slot in the record file."""

    disk: int
    slot: int


@dataclass(frozen=True, slots=True)
class RecordRing:
    """The slots of all record files together; numbers begin at 1 and go round the disks."""

    disks: int
    slots_per_disk: int

    def __post_init__(self) -> None:
        if not 1 <= self.disks <= RING_DISKS_MAX:
            raise ValueError(f"a ring spreads over 1 to {RING_DISKS_MAX} disks, not {self.disks}")
        if not 2 <= self.slots_per_disk <= SLOTS_PER_DISK_MAX:  # noqa: PLR2004 -- one cannot chain
            raise ValueError(
                f"a record file has 2 to {SLOTS_PER_DISK_MAX} slots, not {self.slots_per_disk}"
            )

    @property
    def size(self) -> int:
        """How many of the newest records the disks hold."""
        return self.disks * self.slots_per_disk

    def place(self, number: int) -> RecordPlace:
        """Return where record `number` goes; neighbours in number lie on different disks."""
        index = number - 1
        return RecordPlace(index % self.disks, index // self.disks % self.slots_per_disk)

    def expected(self, place: RecordPlace, top: int) -> int:
        """Return the number that `place` holds once `top` is the newest record, or 0 for none."""
        first = place.slot * self.disks + place.disk + 1
        if first > top:
            return 0
        return first + (top - first) // self.size * self.size


@dataclass(frozen=True, slots=True)
class RecordFault:
    """One way in which the disks are not a prefix of what the guest wrote."""

    kind: str
    number: int
    detail: str


@dataclass(frozen=True, slots=True)
class RecordWindow:
    """What the record files hold: the newest record, all readable ones, and what is wrong."""

    top: Record | None
    records: Mapping[int, Record]
    faults: tuple[RecordFault, ...]

    @property
    def top_number(self) -> int:
        """The newest record's number, 0 where there is none."""
        return 0 if self.top is None else self.top.number


def genesis(seed: bytes) -> bytes:
    """Return what the first record names as its predecessor: chains of two guests never join."""
    return blake3(b"site-recovery-genesis" + seed).digest()


def payload_of(seed: bytes, number: int) -> bytes:
    """Return the payload of record `number`: a pure function, so that anybody can check it."""
    return blake3(b"site-recovery-payload" + seed + number.to_bytes(8, "little")).digest(
        PAYLOAD_BYTES
    )


def encode_record(
    *, seed: bytes, number: int, epoch: int, time_microseconds: int, previous: bytes
) -> bytes:
    """Return the 512 bytes of a record; the last 32 are its checksum."""
    assert 1 <= number <= NUMBER_MAX, "record numbers begin at 1"
    assert len(previous) == HASH_BYTES, "a chain hash has 32 bytes"
    checked = _HEADER.pack(MAGIC, number, epoch, time_microseconds, previous) + payload_of(
        seed, number
    )
    return checked + blake3(checked).digest()


def parse_record(data: bytes) -> Record | None:
    """Return the record in a slot, or None for an unused slot; RecordDamagedError otherwise."""
    if len(data) != RECORD_BYTES:
        raise RecordDamagedError(f"a record has {RECORD_BYTES} bytes, not {len(data)}")
    if data == EMPTY_SLOT:
        return None
    magic, number, epoch, time_microseconds, previous = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise RecordDamagedError("the slot begins with neither a record nor the filler")
    if blake3(data[:_CHECKED_BYTES]).digest() != data[_CHECKED_BYTES:]:
        raise RecordDamagedError(f"the checksum of record {number} does not fit its content")
    if (
        not 1 <= number <= NUMBER_MAX
        or epoch > EPOCH_MAX
        or time_microseconds > TIME_MICROSECONDS_MAX
    ):
        raise RecordDamagedError("the record's number, epoch or time is out of range")
    return Record(
        number=number,
        epoch=epoch,
        time_microseconds=time_microseconds,
        previous=previous,
        payload=data[_HEADER.size : _CHECKED_BYTES],
        checksum=data[_CHECKED_BYTES:],
    )


def read_window(ring: RecordRing, record_files: Sequence[bytes], seed: bytes) -> RecordWindow:
    """Return what the record files hold, judged as a prefix in write order."""
    if len(record_files) != ring.disks:
        raise ValueError(f"{ring.disks} record files are needed, {len(record_files)} were given")
    faults: list[RecordFault] = []
    held: dict[RecordPlace, Record] = {}
    for disk, content in enumerate(record_files):
        if len(content) != ring.slots_per_disk * RECORD_BYTES:
            raise ValueError(
                f"record file {disk} has {len(content)} bytes, "
                f"its ring has {ring.slots_per_disk * RECORD_BYTES}"
            )
        _parse_file(disk, content, held, faults)
    in_place = {record.number: record for place, record in held.items()
                if ring.place(record.number) == place}  # fmt: skip
    top = max(in_place.values(), key=lambda record: record.number, default=None)
    faults += _misplaced(ring, held, 0 if top is None else top.number)
    faults += _broken_chain(in_place, seed)
    return RecordWindow(top, in_place, tuple(sorted(faults, key=lambda f: f.number)[:FAULTS_MAX]))


def _parse_file(
    disk: int, content: bytes, held: dict[RecordPlace, Record], faults: list[RecordFault]
) -> None:
    for slot in range(len(content) // RECORD_BYTES):
        data = content[slot * RECORD_BYTES : (slot + 1) * RECORD_BYTES]
        try:
            record = parse_record(data)
        except RecordDamagedError as error:
            faults.append(RecordFault("damaged", 0, f"disk {disk}, slot {slot}: {error}"))
            continue
        if record is not None:
            held[RecordPlace(disk, slot)] = record


def _misplaced(
    ring: RecordRing, held: Mapping[RecordPlace, Record], top: int
) -> Sequence[RecordFault]:
    """Return a fault for each slot that does not hold what a ring with this top holds there."""
    faults = []
    for disk in range(ring.disks):
        for slot in range(ring.slots_per_disk):
            place = RecordPlace(disk, slot)
            wanted = ring.expected(place, top)
            record = held.get(place)
            found = 0 if record is None else record.number
            if found == wanted:
                continue
            if wanted:
                kind = "missing" if found < wanted else "reordered"
                detail = f"disk {disk}, slot {slot} holds {found or 'nothing'} instead"
                faults.append(RecordFault(kind, wanted, f"record {wanted} is missing: {detail}"))
            else:
                detail = f"record {found} stands at disk {disk}, slot {slot}, where none belongs"
                faults.append(RecordFault("reordered", found, detail))
    return faults


def _broken_chain(records: Mapping[int, Record], seed: bytes) -> Sequence[RecordFault]:
    faults = []
    for number, record in records.items():
        before = records.get(number - 1)
        expected = genesis(seed) if number == 1 else None if before is None else before.checksum
        if expected is not None and record.previous != expected:
            detail = f"record {number} does not name record {number - 1} as its predecessor"
            faults.append(RecordFault("chain", number, detail))
        if before is not None and record.epoch < before.epoch:
            detail = f"record {number} of epoch {record.epoch} follows one of epoch {before.epoch}"
            faults.append(RecordFault("epoch", number, detail))
        if record.payload != payload_of(seed, number):
            faults.append(
                RecordFault("payload", number, f"record {number} has the payload of another")
            )
    return faults
