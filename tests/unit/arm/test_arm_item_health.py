"""Health of an item from what the providers last saw."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service_hub.arm.item_health import health_errors, replication_health
from service_hub.domain.records import MachineObservation
from service_hub.ports.use_cases import ItemFacts
from tests.unit.arm.arm_estate import MACHINE, NOW
from tests.unit.arm.arm_hub import prepared_hub
from wire_contract.vmm_interface import HealthCodeView
from wire_contract.vocabulary import Health, ReplicationState

MISSED = HealthCodeView(
    code=67518, level="Warning", message="m", possible_causes="c", recommended_action="a"
)


def item_facts() -> ItemFacts:
    hub = prepared_hub()
    return hub.facts(hub.items[MACHINE])


def seen(observation: MachineObservation | None, **update: Any) -> MachineObservation:
    """Return an observation whose relationship reads otherwise."""
    assert observation is not None
    assert observation.machine.replication is not None
    view = observation.machine.replication.model_copy(update=update)
    machine = observation.machine.model_copy(update={"replication": view})
    return observation.model_copy(update={"machine": machine})


@pytest.mark.parametrize(
    ("update", "codes", "health"),
    [
        ({}, [], "Normal"),
        ({"health": Health.WARNING}, [], "Warning"),
        ({"health": Health.CRITICAL}, ["67501"], "Critical"),
        ({"state": ReplicationState.CRITICAL}, ["67501"], "Critical"),
        ({"state": ReplicationState.SUSPENDED}, ["67502"], "Warning"),
        ({"state": ReplicationState.RECOVERED}, ["67506"], "Warning"),
        ({"state": ReplicationState.COMMITTED}, ["67506"], "Warning"),
        ({"last_replication_at": NOW - timedelta(minutes=10)}, [], "Normal"),
        ({"last_replication_at": NOW - timedelta(minutes=10, seconds=1)}, ["67512"], "Critical"),
        ({"last_replication_at": None}, [], "Normal"),
        ({"health_codes": (MISSED,)}, ["67518"], "Warning"),
    ],
)
def test_what_a_host_sees_becomes_the_recorded_codes(
    update: dict[str, Any], codes: list[str], health: str
) -> None:
    facts = item_facts()
    facts = replace(facts, primary_machine=seen(facts.primary_machine, **update))
    errors = health_errors(facts, NOW)
    assert [error["errorCode"] for error in errors] == codes
    assert all(error["errorSource"] == "ReplicationUnitProviderErrorOnPrimary" for error in errors)
    assert replication_health(facts, errors) == health


def test_both_ends_are_told_apart_and_named() -> None:
    facts = item_facts()
    facts = replace(
        facts,
        primary_machine=seen(facts.primary_machine, state=ReplicationState.SUSPENDED),
        recovery_machine=seen(facts.recovery_machine, state=ReplicationState.RECOVERED),
    )
    first, second = health_errors(facts, NOW)
    assert (first["errorCode"], second["errorCode"]) == ("67502", "67506")
    assert second["errorSource"] == "ReplicationUnitProviderErrorOnReplica"
    assert "'VM1' in 'vmm.recovery.example'" in second["errorMessage"]
    assert first["entityId"] == MACHINE


def test_nothing_seen_is_nothing_claimed() -> None:
    facts = replace(item_facts(), primary_machine=None, recovery_machine=None)
    assert health_errors(facts, NOW) == []
    assert replication_health(facts, []) == "None"
