"""What the hub is told about updates: the policy that set-up recorded, and a waiting version."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from provider_agent import VERSION
from provider_agent.setup.record import load_record, sole_node

DISTRIBUTION: Final = "site-recovery-hub"


@dataclass(slots=True)
class UpdatePolicy:
    """`auto_update` null: set-up has not run on this node; `offered`: what the hub last offered."""

    auto_update: Literal["on", "off"] | None
    offered: str | None = None

    def hear(self, offered: str | None) -> bool:
        """Take in what the hub offers; return whether the hub is to be told something new."""
        before = self.available_version()
        self.offered = offered
        return self.available_version() != before

    def available_version(self) -> str | None:
        """Return a newer version that the hub offers, or one that waits on the disk, or null."""
        if self.offered is not None and _numbers(self.offered) > _numbers(VERSION):
            return self.offered
        installed = importlib.metadata.version(DISTRIBUTION)
        return installed if installed != VERSION else None


def load_policy(data_directory: Path, node: str | None) -> UpdatePolicy:
    """Return what set-up recorded for this node."""
    name = node or sole_node(data_directory)
    record = None if name is None else load_record(data_directory, name)
    if record is None:
        return UpdatePolicy(None)
    return UpdatePolicy("on" if record.auto_update else "off")


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version's leading numbers; what is no number counts as the oldest."""
    numbers = []
    for part in version.split("."):
        if not (part.isascii() and part.isdigit()):
            break
        numbers.append(int(part[:9]))
    return tuple(numbers)
