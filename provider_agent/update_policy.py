"""What the hub is told about updates: the policy that set-up recorded, and a waiting version."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from provider_agent import VERSION
from provider_agent.setup.record import load_record, sole_node

DISTRIBUTION: Final = "site-recovery-hub"


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """`auto_update` null: set-up has not run on this node."""

    auto_update: Literal["on", "off"] | None

    def available_version(self) -> str | None:
        """Return the version that is installed on the disk and not the one that runs."""
        installed = importlib.metadata.version(DISTRIBUTION)
        return installed if installed != VERSION else None


def load_policy(data_directory: Path, node: str | None) -> UpdatePolicy:
    """Return what set-up recorded for this node."""
    name = node or sole_node(data_directory)
    record = None if name is None else load_record(data_directory, name)
    if record is None:
        return UpdatePolicy(None)
    return UpdatePolicy("on" if record.auto_update else "off")
