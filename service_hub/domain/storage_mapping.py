"""Storage mapping: which classification a new replica's disks go to (behaviour 2.6); pure.

The map counts when protection is enabled, not for machines that replicate already. Which store of
the classification is the best one, the VMM server decides; without a map, or without a store that
fits, the disks go to the host's default location.
"""

from collections.abc import Sequence
from datetime import datetime

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.jobs import JobError
from service_hub.domain.mapping_records import StorageMapping
from service_hub.domain.records import ContainerMapping
from wire_contract.vmm_interface import ClassificationView, MachineView


def classification_of(machine: MachineView) -> str | None:
    """Return the classification of a machine's disks: where they differ, the first disk's."""
    return next((each.classification_id for each in machine.disks), None)


def mapped_classification(machine: MachineView, mappings: Sequence[StorageMapping]) -> str | None:
    """Return the classification that the replica's disks go to; None: the default location."""
    own = classification_of(machine)
    for mapping in mappings:
        if own is not None and mapping.primary_classification_id == own:
            return mapping.recovery_classification_id
    return None


def refusal_of_mapping(
    source: ClassificationView | None,
    target: ClassificationView | None,
    pairs: Sequence[ContainerMapping],
    now: datetime,
) -> JobError | None:
    """Return why a classification may not be mapped to another, or None.

    Storage of it must be in reach of the hosts of both clouds of a pair (seed, step 6.1); its kind
    may be another one there.
    """
    if source is None or target is None:
        which = "on the source server" if source is None else "on the target server"
        return job_error(errors.CLASSIFICATION_NOT_FOUND, now, name="", detail=which)
    for pair in pairs:
        if pair.primary_cloud_id in source.cloud_ids and pair.recovery_cloud_id in target.cloud_ids:
            return None
    detail = f"'{source.friendly_name}' to '{target.friendly_name}'"
    return job_error(
        errors.CLASSIFICATION_NOT_AVAILABLE, now, name=source.friendly_name, detail=detail
    )
