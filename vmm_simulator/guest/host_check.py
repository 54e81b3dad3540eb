"""The host's reckoning of a guest's answer: it reads the same blocks itself (blocks: a thread)."""

import os
from collections.abc import Mapping
from typing import Any

import structlog

from vmm_simulator.guest.filesystem import FileSystemError
from vmm_simulator.guest.interface import GuestSpec
from vmm_simulator.guest.layout import GuestLayout, find_layout
from vmm_simulator.guest.manifest import ManifestError

log = structlog.get_logger(__name__)


class HostCheck:
    """Checks the answers of one guest; where its records lie is found once.

    A guest of this very process has found it already (`layout`): to find it twice would prove
    nothing, and runs debugfs twice for each disk.
    """

    def __init__(self, spec: GuestSpec, layout: GuestLayout | None = None) -> None:
        self._spec = spec
        self._layout = layout

    def holds(self, nonce: str, answer: Mapping[str, Any], pid: int) -> bool:
        """Return whether the host, reading the same blocks itself, comes to the guest's figure."""
        images: list[int] = []
        try:
            images += [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in self._spec.disks]
            if self._layout is None:
                self._layout = find_layout(list(self._spec.disks), images)
            proof, record = self._layout.proof(images, nonce, answer["last_record"])
        except (OSError, FileSystemError, ManifestError) as error:
            log.warning(
                "guest_answer_unchecked", machine_id=self._spec.machine_id, cause=str(error)
            )
            return False
        finally:
            for image in images:
                os.close(image)
        found = 0 if record is None else record.number
        return bool(
            proof == answer["proof"]
            and found == answer["last_record"]
            and answer["pid"] == pid
            and answer["epoch"] == self._spec.epoch
            and answer["file_system_uuid"] == self._layout.file_system_uuid
        )
