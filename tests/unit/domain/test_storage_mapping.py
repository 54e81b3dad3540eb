"""Storage mapping's rules (behaviour 2.6)."""

from datetime import UTC, datetime

import pytest

from service_hub.domain import errors
from service_hub.domain.mapping_records import StorageMapping
from service_hub.domain.storage_mapping import mapped_classification, refusal_of_mapping
from tests.support.site_views import machine
from tests.unit.domain.test_network_mapping import PAIRS
from wire_contract.vmm_interface import ClassificationView, MachineView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAPPING = StorageMapping(
    id="x",
    vault_id="v",
    name="x",
    primary_provider_id="tokyo",
    primary_classification_id="fast",
    recovery_provider_id="osaka",
    recovery_classification_id="slow",
)


def on(*classifications: str | None) -> MachineView:
    bare = machine("vm", "tokyo")
    disks = tuple(
        bare.disks[0].model_copy(update={"disk_id": str(number), "classification_id": each})
        for number, each in enumerate(classifications)
    )
    return bare.model_copy(update={"disks": disks})


@pytest.mark.parametrize(
    ("machine", "target"),
    [
        (on("fast"), "slow"),
        (on("fast", None), "slow"),  # the first disk decides for all
        (on(None, "fast"), None),
        (on("other"), None),  # not mapped: the default location
        (on(None), None),
        (on(), None),
    ],
)
def test_new_replicas_go_to_the_mapped_classification(
    machine: MachineView, target: str | None
) -> None:
    assert mapped_classification(machine, (MAPPING,)) == target


def kind(name: str, *clouds: str) -> ClassificationView:
    return ClassificationView(classification_id=name, friendly_name=name, cloud_ids=clouds)


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        (kind("fast", "gold"), kind("slow", "gold2"), None),
        (kind("fast", "silver"), kind("slow", "gold2", "silver2"), None),
        # No pair has storage of it at both ends.
        (kind("fast", "silver"), kind("slow", "gold2"), errors.CLASSIFICATION_NOT_AVAILABLE),
        (kind("fast"), kind("slow", "gold2"), errors.CLASSIFICATION_NOT_AVAILABLE),
        (None, kind("slow", "gold2"), errors.CLASSIFICATION_NOT_FOUND),
        (kind("fast", "gold"), None, errors.CLASSIFICATION_NOT_FOUND),
    ],
)
def test_both_ends_of_a_pair_need_storage_of_it(
    source: ClassificationView | None, target: ClassificationView | None, code: str | None
) -> None:
    error = refusal_of_mapping(source, target, PAIRS, NOW)
    assert (None if error is None else error.code) == code
