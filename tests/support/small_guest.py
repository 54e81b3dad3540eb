"""A guest inside a test: it locks its images and writes through its host, as the real one does.

So a test decides what is written and when.
"""

import fcntl
import os

from blake3 import blake3

from vmm_simulator.guest.interface import GuestHandle, GuestSpec, GuestState, GuestStorage


class SmallGuest(GuestHandle):
    """A guest inside the test: it locks its images and writes through its host."""

    def __init__(self, spec: GuestSpec, storage: GuestStorage) -> None:
        self.spec = spec
        self.storage = storage
        self.refuses_to_stop = False
        self.refuses_to_freeze = False
        self.loses_its_freeze = False
        self.freezes = 0
        self._images = [os.open(path, os.O_RDONLY) for path in spec.disks]
        self._running = True
        self._paused = False
        for image in self._images:
            fcntl.flock(image, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._running

    @property
    def paused(self) -> bool:
        """Whether it is held where it stands."""
        return self._running and self._paused

    @property
    def exit_code(self) -> int | None:
        """How it ended."""
        return None if self._running else 0

    async def write(self, disk: int, offset: int, data: bytes, record: int) -> None:
        """Write and flush, as a guest with one record after the other."""
        self.storage.write(disk, offset, data, record)
        await self.storage.flush()

    async def challenge(self, nonce: str, seconds: float) -> GuestState:
        """Answer with a hash over the images."""
        del seconds
        if not self._running:
            raise TimeoutError("it has ended")
        proof = blake3(nonce.encode() + self.spec.disks[0].read_bytes()).hexdigest()
        return GuestState(
            pid=self.pid,
            nonce=nonce,
            proof=proof,
            verified=True,
            file_system_uuid=None,
            last_record=0,
            epoch=self.spec.epoch,
        )

    async def pause(self) -> None:
        """Be held; what a test writes meanwhile is its own affair."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False

    async def freeze(self, seconds: float) -> None:
        """Hold still, unless told otherwise."""
        del seconds
        if self.refuses_to_freeze:
            raise TimeoutError("it does not hold still")
        self.freezes += 1

    async def thaw(self, seconds: float) -> bool:
        """Go on; whether it held still as long as it had to."""
        del seconds
        return not self.loses_its_freeze

    async def stop(self, seconds: float) -> bool:
        """End, unless told otherwise."""
        del seconds
        if self.refuses_to_stop:
            return False
        self._end()
        return True

    async def kill(self) -> None:
        """End."""
        self._end()

    async def wait(self) -> int:
        """Return at once; nothing here ends by itself."""
        return 0

    def _end(self) -> None:
        self._running = False
        while self._images:
            os.close(self._images.pop())
