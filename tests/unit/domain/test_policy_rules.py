"""What a policy may say, and what a relationship under it gets."""

from datetime import UTC, datetime

import pytest

from service_hub.domain.policies import (
    authentication_of,
    initial_replication_at,
    policy_problem,
    relationship_settings,
    server_of,
    with_defaults,
)
from service_hub.domain.records import ReplicationPolicy

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OFFLINE = {
    "initial_replication_method": "Offline",
    "offline_export_path": r"\\files.example\seeds",
    "offline_import_path": r"\\files2.example\seeds\tokyo",
}


def policy(**changes: object) -> ReplicationPolicy:
    """Return a policy that is right, but for these changes."""
    fields = {
        "id": "p",
        "vault_id": "v",
        "name": "p",
        "provider_type": "HyperVReplica2012R2",
        "replication_frequency_seconds": 30,
        "recovery_points": 2,
        "application_consistent_hours": 1,
    }
    return ReplicationPolicy.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"replication_frequency_seconds": 60}, "replicationFrequencyInSeconds"),
        (
            {"replication_frequency_seconds": 30, "provider_type": "HyperVReplica2012"},
            "replicationFrequencyInSeconds",
        ),
        ({"recovery_points": 25}, "recoveryPoints"),
        (
            {
                "recovery_points": 16,
                "provider_type": "HyperVReplica2012",
                "replication_frequency_seconds": 300,
            },
            "recoveryPoints",
        ),
        ({"recovery_points": -1, "application_consistent_hours": 0}, "recoveryPoints"),
        ({"application_consistent_hours": 2}, "applicationConsistentSnapshotFrequencyInHours"),
        (
            {"application_consistent_hours": 13, "recovery_points": 24},
            "applicationConsistentSnapshotFrequencyInHours",
        ),
        ({"replication_port": 0}, "replicationPort"),
        ({"online_start_time": "24:00:00"}, "onlineReplicationStartTime"),
        ({"online_start_time": "6:30"}, "onlineReplicationStartTime"),
        (
            {"online_start_time": "0\u0666:30:00"},
            "onlineReplicationStartTime",
        ),
        ({**OFFLINE, "online_start_time": "06:30:00"}, "onlineReplicationStartTime"),
        ({**OFFLINE, "offline_export_path": ""}, "offlineReplicationExportPath"),
        ({**OFFLINE, "offline_export_path": r"C:\seeds"}, "offlineReplicationExportPath"),
        ({**OFFLINE, "offline_import_path": r"\\files.example"}, "offlineReplicationImportPath"),
        (
            {**OFFLINE, "offline_import_path": r"\\files.example\seeds\..\all"},
            "offlineReplicationImportPath",
        ),
        (
            {**OFFLINE, "offline_import_path": "\\\\files\\" + "a" * 900},
            "offlineReplicationImportPath",
        ),
        ({"offline_export_path": r"\\files.example\seeds"}, "offlineReplicationExportPath"),
        ({"offline_import_path": r"\\files.example\seeds"}, "offlineReplicationImportPath"),
    ],
)
def test_policy_rules_name_the_property(changes: dict[str, object], target: str) -> None:
    problem = policy_problem(policy(**changes))
    assert problem is not None
    assert (problem.target, problem.message.split()[0]) == (target, target)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        OFFLINE,
        {"online_start_time": "23:59:59"},
        {"allowed_authentication_type": 1, "replication_port": 8083},
        {"recovery_points": 0, "application_consistent_hours": 0},
        {"recovery_points": 24, "application_consistent_hours": 12},
        {
            "provider_type": "HyperVReplica2012",
            "replication_frequency_seconds": 300,
            "recovery_points": 15,
        },
    ],
)
def test_a_policy_may_say_this(changes: dict[str, object]) -> None:
    assert policy_problem(policy(**changes)) is None


@pytest.mark.parametrize(("authentication", "port"), [(1, 8083), (2, 8084), (None, 8084)])
def test_the_port_goes_with_the_authentication(authentication: int | None, port: int) -> None:
    asked = {} if authentication is None else {"allowed_authentication_type": authentication}
    assert with_defaults(asked)["replication_port"] == port
    assert with_defaults({**asked, "replication_port": 9000})["replication_port"] == 9000


def test_hosts_of_2012_and_2012_r2_under_one_policy_get_what_they_know() -> None:
    wide = policy(recovery_points=24, application_consistent_hours=12, compression=True)
    newer, older = (relationship_settings(wide, each) for each in ("2012R2", "2012"))
    assert (newer["interval_seconds"], newer["recovery_points"]) == (30, 24)
    assert (older["interval_seconds"], older["recovery_points"]) == (300, 15)
    assert older["application_consistent_hours"] == newer["application_consistent_hours"] == 12
    assert relationship_settings(wide, None) == newer
    assert newer["compression"] is True


def test_more_points_at_the_machine_count() -> None:
    assert relationship_settings(policy(), "2012R2", 8)["recovery_points"] == 8
    assert relationship_settings(policy(), "2012R2", 1)["recovery_points"] == 2


def test_the_way_of_proof_is_named_as_the_fabric_names_it() -> None:
    assert authentication_of(policy()) == "certificate"
    tickets = policy(allowed_authentication_type=1)
    assert relationship_settings(tickets, "2012R2")["authentication"] == "kerberos"


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", None),
        ("18:30:00", datetime(2026, 3, 1, 18, 30, tzinfo=UTC)),
        ("06:00:05", datetime(2026, 3, 2, 6, 0, 5, tzinfo=UTC)),
        # Now is over: the next one is tomorrow.
        ("12:00:00", datetime(2026, 3, 2, 12, 0, tzinfo=UTC)),
    ],
)
def test_a_first_copy_begins_at_the_time_of_day_within_24_hours(
    text: str, begins: datetime | None
) -> None:
    assert initial_replication_at(policy(online_start_time=text), NOON) == begins


def test_the_server_of_a_path() -> None:
    assert server_of(r"\\files.example\seeds\below") == "files.example"
